"""What holds of every loss for every input of its domain."""

import inspect

import drawn
import numpy as np
import pytest
from backend import numpy
from generic_cases import CASES
from generic_checks import (
    constructor_arguments,
    loss_and_gradients,
    predictions_of,
)
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from keras_patchpu.losses import weak_negatives

LOSSES = [case for case in CASES if case.kind == "loss"]
# Losses in which the images of a batch meet: by a mean over them, or a ranking of all labels.
OF_BATCH = {
    "ExpectedPositiveRegularization",
    "LargeLoss",
    "RegularizedOnlineLabelEstimation",
}
every_loss = pytest.mark.parametrize("case", LOSSES, ids=lambda case: case.cls.__name__)
# Embeddings: constant images give equal ones, dead features zeros.
EMBEDDING_EDGES = (1.0, 1e-30, 1e-20, 1e15, 3e38)


def build(case, num_labels, defaults=False, **kwargs):
    """The loss with the case's arguments, or with its defaults where it has them."""
    arguments = dict(case.arguments)
    if defaults:
        required = constructor_arguments(case.cls)
        arguments = {k: v for k, v in arguments.items() if required[k] is inspect.Parameter.empty}
    if "num_labels" in arguments:
        arguments["num_labels"] = num_labels
    return case.cls(**(arguments | kwargs))


def predicted(loss, logits, embeddings=None):
    y_pred = predictions_of(loss, logits, embeddings)
    return y_pred if isinstance(y_pred, dict) else y_pred.astype("float32")


@st.composite
def examples(draw, embeddings=False):
    """Labels, logits and embeddings of a batch."""
    shape = draw(drawn.shapes())
    logits = draw(drawn.array(shape, drawn.floats(1e4)))
    vectors = None
    if embeddings:
        vectors = draw(drawn.array((*shape, 2), drawn.floats(3e38, EMBEDDING_EDGES)))
    return draw(drawn.labels(shape)), logits, vectors


def reordered(y_pred, loss, order, axis):
    """What a loss takes, its images (axis 0) or labels (axis 1) in another order."""
    last = {"score_maps", "average_maps"}
    if not isinstance(y_pred, dict):
        return np.take(y_pred, order, axis)
    found = {}
    for name, values in y_pred.items():
        if name == "epoch" or name == "image_index" and axis == 1:
            found[name] = values
        else:
            found[name] = np.take(values, order, -1 if axis == 1 and name in last else axis)
    return found


def same_estimates(loss, other, order=None):
    """Gives `other` the state of `loss`, its labels in another order."""
    if getattr(loss, "estimator", None) is not None:
        for target, source in zip(other.estimator.weights, loss.estimator.weights):
            values = numpy(source.value)
            target.assign(values if order is None else values[:, order])


@pytest.mark.parametrize("defaults", [False, True], ids=["arguments", "defaults"])
@every_loss
def test_loss_and_gradients_are_finite(case, defaults):
    @drawn.QUICK
    @given(examples(embeddings="image_embeddings" in case.cls.needs))
    def check(example):
        labels, logits, embeddings = example
        loss = build(case, labels.shape[1], defaults)
        value, slopes = loss_and_gradients(loss, labels, predicted(loss, logits, embeddings))
        assert np.isfinite(value)
        for name, slope in slopes.items():
            assert np.isfinite(slope).all(), name

    check()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@every_loss
def test_loss_of_half_precision_predictions_is_finite(case, dtype):
    @drawn.QUICK
    @given(examples())
    def check(example):
        labels, logits, _ = example
        loss = build(case, labels.shape[1])
        y_pred = predicted(loss, logits)
        named = y_pred if isinstance(y_pred, dict) else {"": y_pred}
        half = {name: ops.cast(values, dtype) for name, values in named.items()}
        value = loss(labels, half if isinstance(y_pred, dict) else half[""])
        assert np.isfinite(numpy(value))

    check()


@every_loss
def test_order_of_labels_does_not_matter(case):
    @drawn.QUICK
    @given(st.data())
    def check(data):
        labels, logits, _ = data.draw(examples())
        order = data.draw(drawn.permutation(labels.shape[1]))
        one, other = (build(case, labels.shape[1], reduction=None) for _ in range(2))
        y_pred = predicted(one, logits)
        same_estimates(one, other, order)
        expected = numpy(one(labels, y_pred))
        found = numpy(other(labels[:, order], reordered(y_pred, one, order, 1)))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)

    check()


@every_loss
def test_order_of_images_does_not_matter_or_they_are_independent(case):
    @drawn.QUICK
    @given(st.data())
    def check(data):
        labels, logits, _ = data.draw(examples())
        chosen = data.draw(drawn.permutation(len(labels)))
        if case.cls.__name__ not in OF_BATCH:  # then what the others are is of no account
            chosen = chosen[: data.draw(st.integers(1, len(labels)))]
        one, other = (build(case, labels.shape[1], reduction=None) for _ in range(2))
        y_pred = predicted(one, logits)
        same_estimates(one, other)
        expected = numpy(one(labels, y_pred))[chosen]
        found = numpy(other(labels[chosen], reordered(y_pred, one, chosen, 0)))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)

    check()


@every_loss
def test_type_and_layout_of_labels_do_not_matter(case):
    labels = np.array([[1, 0, -1], [0, 0, 0]], "int8")
    logits = np.array([[0.5, -1.0, 2.0], [0.0, 3.0, -4.0]], "float32")
    first = build(case, 3)
    y_pred = predicted(first, logits)
    values = []
    for same in (labels, labels.astype("float64"), drawn.not_contiguous(labels)):
        loss = build(case, 3)
        same_estimates(first, loss)
        values.append(numpy(loss(same, y_pred)))
    assert values[0] == values[1] == values[2]


@every_loss
def test_no_image_or_no_label_is_an_error(case):
    for shape in ((0, 3), (2, 0)):
        logits = np.zeros(shape, "float32")
        loss = build(case, max(shape[1], 1))
        y_pred = predicted(loss, logits)
        with pytest.raises(ValueError, match="at least one image and one label.*shape"):
            loss(np.zeros(shape, "int8"), y_pred)


@drawn.MANY
@given(examples(embeddings=True), st.sampled_from([0.0, 0.5, 1.0]))
def test_weak_negatives_are_shares(example, theta):
    labels, _, embeddings = example
    weights = numpy(weak_negatives(labels, embeddings, theta))
    assert weights.shape == labels.shape and weights.dtype == "float32"
    assert (weights >= 0).all() and (weights <= 1).all()
    np.testing.assert_array_equal(weights[labels > 0], 0)
    np.testing.assert_array_equal(weights[labels < 0], 1)
    nothing_observed = ~(labels > 0).any(axis=1, keepdims=True) & (labels == 0)
    np.testing.assert_array_equal(weights[nothing_observed], 0)
