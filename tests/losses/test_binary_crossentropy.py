"""BCE, AN and EPR: against Cole et al.'s code and by hand."""

import numpy as np
import pytest
from backend import HAS_FLOAT64, gradient, numpy
from keras import ops

from keras_patchpu.losses import (
    AssumeNegative,
    BinaryCrossentropy,
    ExpectedPositiveRegularization,
)

LABELS = np.array([[1, 0, 0, -1], [0, 1, 0, 0], [0, 0, 0, 0]], "int8")
PROBABILITIES = np.array(
    [[0.9, 0.2, 0.5, 0.25], [0.1, 0.3, 0.8, 0.6], [0.5, 0.7, 0.2, 0.4]], "float32"
)


def reference_case(golden, case, name, **kwargs):
    """Loss object, its labels and the two results of a case of the reference."""
    arrays = golden("losses")
    if name == "bce":
        loss = BinaryCrossentropy(label_reduction="mean", **kwargs)
        labels = 2 * arrays[f"{case}/y"] - 1  # fully annotated: absent is -1
    elif name == "an":
        loss, labels = AssumeNegative(**kwargs), arrays[f"{case}/z"]
    else:
        k = float(arrays[f"{case}/k"])
        loss = ExpectedPositiveRegularization(k, **kwargs)
        labels = arrays[f"{case}/z"]
    return loss, labels, arrays[f"{case}/{name}/loss"], arrays[f"{case}/{name}/grad"]


@pytest.mark.parametrize("name", ["bce", "an", "epr"])
@pytest.mark.parametrize(
    "case, loss_rtol, loss_atol, gradient_tolerance",
    [("a", 2e-5, 1e-6, 2e-6), ("b", 2e-5, 1e-6, 2e-6), ("c", 3e-4, 0, 7e-3)],
)
def test_reference_in_float32(golden, case, name, loss_rtol, loss_atol, gradient_tolerance):
    loss, labels, expected, expected_gradient = reference_case(golden, case, name)
    logits = golden("losses")[f"{case}/logits"].astype("float32")
    value = numpy(loss(labels, ops.sigmoid(logits)))
    np.testing.assert_allclose(value, expected, rtol=loss_rtol, atol=loss_atol)
    slope = gradient(lambda x: loss(labels, ops.sigmoid(x)), logits)
    scale = np.abs(expected_gradient).max()
    np.testing.assert_allclose(slope, expected_gradient, rtol=0, atol=gradient_tolerance * scale)


@pytest.mark.skipif(not HAS_FLOAT64, reason="the backend has no exact float64")
@pytest.mark.parametrize("name", ["bce", "an", "epr"])
@pytest.mark.parametrize("case", ["a", "b", "c"])
def test_reference_in_float64(golden, case, name):
    loss, labels, expected, expected_gradient = reference_case(golden, case, name, dtype="float64")
    predictions, logits = golden("losses")[f"{case}/preds"], golden("losses")[f"{case}/logits"]
    # 1 - sigmoid(x) keeps some ten digits of the rarest predictions, 1 - 1e-6.
    np.testing.assert_allclose(numpy(loss(labels, predictions)), expected, rtol=1e-9)
    slope = gradient(lambda x: loss(labels, ops.sigmoid(x)), logits)
    scale = np.abs(expected_gradient).max()
    np.testing.assert_allclose(slope, expected_gradient, rtol=0, atol=1e-9 * scale)


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
