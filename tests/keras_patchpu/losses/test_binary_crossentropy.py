"""BCE, AN and EPR: against Cole et al.'s code and by hand."""

import numpy as np
import pytest
from backend import HAS_FLOAT64, gradient, numpy
from keras import ops
from reference import CASES, FLOAT64, ROUNDING, check_reference

from keras_patchpu.losses import (
    AssumeNegative,
    BinaryCrossentropy,
    ExpectedPositiveRegularization,
)

LABELS = np.array([[1, 0, 0, -1], [0, 1, 0, 0], [0, 0, 0, 0]], "int8")
PROBABILITIES = np.array(
    [[0.9, 0.2, 0.5, 0.25], [0.1, 0.3, 0.8, 0.6], [0.5, 0.7, 0.2, 0.4]], "float32"
)


NAMES = ["bce", "bce_ls", "iu", "iun", "iun_ack", "an", "an_ls", "wan", "epr"]


def reference_case(arrays, case, name, **kwargs):
    """Loss object and labels of a case of the reference."""
    true, single = arrays[f"{case}/y"], arrays[f"{case}/z"]
    if name.startswith("b"):
        smoothing = 0.1 if name == "bce_ls" else 0.0
        loss = BinaryCrossentropy("mean", label_smoothing=smoothing, **kwargs)
        return loss, 2 * true - 1  # fully annotated: absent is -1
    if name == "iu":
        return BinaryCrossentropy("mean", **kwargs), arrays[f"{case}/z_iu"]
    if name.startswith("iun"):
        # One observed positive, and every true negative.
        return BinaryCrossentropy("mean", **kwargs), single - (1 - true)
    if name == "epr":
        return ExpectedPositiveRegularization(float(arrays[f"{case}/k"]), **kwargs), single
    weight = "balanced" if name == "wan" else 1.0
    smoothing = 0.1 if name == "an_ls" else 0.0
    return AssumeNegative(weight, label_smoothing=smoothing, **kwargs), single


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", CASES)
def test_reference_in_float32(golden, case, name):
    arrays = golden("losses")
    loss, labels = reference_case(arrays, case, name)
    check_reference(loss, labels, arrays, case, name, ROUNDING[case])


@pytest.mark.skipif(not HAS_FLOAT64, reason="the backend has no exact float64")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", CASES)
def test_reference_in_float64(golden, case, name):
    arrays = golden("losses")
    loss, labels = reference_case(arrays, case, name, dtype="float64")
    check_reference(loss, labels, arrays, case, name, FLOAT64, dtype="float64")


def test_binary_crossentropy_by_hand():
    loss = BinaryCrossentropy(epsilon=1e-9, reduction=None)
    expected = [-np.log(0.9) - np.log(0.75), -np.log(0.3), 0]
    np.testing.assert_allclose(numpy(loss(LABELS, PROBABILITIES)), expected, atol=1e-6)
    mean_of_images = BinaryCrossentropy(epsilon=1e-9)
    np.testing.assert_allclose(
        numpy(mean_of_images(LABELS, PROBABILITIES)), np.mean(expected), atol=1e-6
    )
    mean_of_labels = BinaryCrossentropy(label_reduction="mean", epsilon=1e-9)
    np.testing.assert_allclose(
        numpy(mean_of_labels(LABELS, PROBABILITIES)), np.mean(expected) / 4, atol=1e-6
    )


def test_binary_crossentropy_ignores_unknown_labels():
    loss = BinaryCrossentropy()
    others = np.where(LABELS == 0, 0.999, PROBABILITIES).astype("float32")
    np.testing.assert_array_equal(numpy(loss(LABELS, PROBABILITIES)), numpy(loss(LABELS, others)))
    slope = gradient(lambda x: loss(LABELS, x), PROBABILITIES)
    np.testing.assert_array_equal(slope == 0, LABELS == 0)


def test_epsilon_is_added_inside_the_logarithms():
    loss = BinaryCrossentropy(epsilon=0.25)
    labels, probabilities = np.array([[1, -1]]), np.array([[0.25, 0.25]], "float32")
    assert numpy(loss(labels, probabilities)) == pytest.approx(-np.log(0.5) - np.log(1), abs=1e-6)


@pytest.mark.parametrize("weight", [1.0, 0.25, 0.0])
def test_assume_negative_by_hand(weight):
    # Everything but the observed positives is a negative, the observed negative no other.
    positives = np.array([-np.log(0.9), -np.log(0.3), 0])
    negatives = -np.log([0.8 * 0.5 * 0.75, 0.9 * 0.2 * 0.4, 0.5 * 0.3 * 0.8 * 0.6])
    expected = positives + weight * negatives
    loss = AssumeNegative(weight=weight, label_reduction="sum", epsilon=1e-9, reduction=None)
    np.testing.assert_allclose(numpy(loss(LABELS, PROBABILITIES)), expected, rtol=1e-5, atol=1e-6)
    mean = AssumeNegative(weight=weight, epsilon=1e-9)
    np.testing.assert_allclose(
        numpy(mean(LABELS, PROBABILITIES)), expected.mean() / 4, rtol=1e-5, atol=1e-6
    )


def test_label_smoothing_by_hand():
    # Targets 0.8 and 0.2; an unknown label counts for nothing.
    loss = BinaryCrossentropy(epsilon=1e-9, label_smoothing=0.2, reduction=None)
    logs = -np.log(PROBABILITIES.astype("float64")), -np.log(1 - PROBABILITIES.astype("float64"))
    expected = [
        0.8 * logs[0][0, 0] + 0.2 * logs[1][0, 0] + 0.2 * logs[0][0, 3] + 0.8 * logs[1][0, 3],
        0.8 * logs[0][1, 1] + 0.2 * logs[1][1, 1],
        0,
    ]
    np.testing.assert_allclose(numpy(loss(LABELS, PROBABILITIES)), expected, rtol=1e-5)
    # Assumed negatives keep their weight: of the last image all four.
    loss = AssumeNegative(0.5, "sum", epsilon=1e-9, label_smoothing=0.2, reduction=None)
    expected = 0.5 * (0.2 * logs[0][2] + 0.8 * logs[1][2]).sum()
    assert numpy(loss(LABELS, PROBABILITIES))[2] == pytest.approx(expected, rel=1e-5)


def test_half_smoothing_tells_nothing():
    loss = AssumeNegative(epsilon=1e-9, label_smoothing=0.5)
    other = np.roll(LABELS, 1, axis=1)
    assert numpy(loss(LABELS, PROBABILITIES)) == pytest.approx(
        float(numpy(loss(other, PROBABILITIES))), rel=1e-6
    )


def test_balanced_weight():
    # Four labels: each assumed negative counts a third.
    balanced = AssumeNegative("balanced", reduction=None)
    third = AssumeNegative(1 / 3, reduction=None)
    np.testing.assert_allclose(
        numpy(balanced(LABELS, PROBABILITIES)), numpy(third(LABELS, PROBABILITIES)), rtol=1e-6
    )
    # A single label has no negatives beside a positive.
    value = numpy(balanced(np.array([[1]]), np.array([[0.5]], "float32")))
    np.testing.assert_allclose(value, [np.log(2)], rtol=1e-4)


@pytest.mark.parametrize("label_reduction, factor", [("mean", 1), ("sum", 4)])
def test_expected_positive_regularization_by_hand(label_reduction, factor):
    # Sums of the rows: 1.85, 1.8, 1.8, on average 5.45 / 3.
    penalty = ((5.45 / 3 - 1.2) / 4) ** 2
    images = np.array([-np.log(0.9) - np.log(0.75), -np.log(0.3), 0]) / 4
    loss = ExpectedPositiveRegularization(
        1.2, label_reduction=label_reduction, epsilon=1e-9, reduction=None
    )
    expected = factor * (images + penalty)
    np.testing.assert_allclose(numpy(loss(LABELS, PROBABILITIES)), expected, rtol=1e-5)
    loss = ExpectedPositiveRegularization(1.2, label_reduction=label_reduction, epsilon=1e-9)
    np.testing.assert_allclose(numpy(loss(LABELS, PROBABILITIES)), expected.mean(), rtol=1e-5)


def test_expected_positive_regularization_is_least_at_the_expected_number():
    labels = np.zeros((1, 4), "int8")
    loss = ExpectedPositiveRegularization(1.0)
    at_the_number = np.full((1, 4), 0.25, "float32")
    assert numpy(loss(labels, at_the_number)) == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(
        gradient(lambda x: loss(labels, x), at_the_number), np.zeros((1, 4)), atol=1e-7
    )
    for other in (0.2, 0.3):
        # (0.8 - 1)^2 / 16 and (1.2 - 1)^2 / 16
        assert numpy(loss(labels, np.full((1, 4), other, "float32"))) == pytest.approx(0.0025)


@pytest.mark.parametrize(
    "loss",
    [BinaryCrossentropy(), AssumeNegative(), ExpectedPositiveRegularization(1.38)],
    ids=lambda loss: loss.name,
)
def test_sample_weight(loss):
    weight = np.array([2.0, 0.0, 1.0], "float32")
    unreduced = type(loss)(**{**loss.get_config(), "reduction": None})
    images = numpy(unreduced(LABELS, PROBABILITIES))
    np.testing.assert_allclose(
        numpy(loss(LABELS, PROBABILITIES, sample_weight=weight)),
        (images * weight).sum() / 3,
        rtol=1e-5,
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("label, p, sign", [(1, 1.0, -1), (-1, 0.0, 1), (1, 0.5, -1)])
def test_a_loss_of_half_precision_has_the_gradient_of_float32(dtype, label, p, sign):
    # The other logarithm has a weight of 0 and a slope of 100,000, infinity in float16.
    loss = BinaryCrossentropy(dtype=dtype)
    labels = np.array([[label]], "int8")
    y_pred = ops.cast(ops.convert_to_tensor(np.array([[p]], "float32")), dtype)
    slope = gradient(lambda x: loss(labels, x), y_pred).astype("float32")
    np.testing.assert_allclose(slope, [[sign / (p if label > 0 else 1 - p)]], rtol=1e-2)
