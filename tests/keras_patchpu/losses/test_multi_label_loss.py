"""What a loss is given: by name what it needs, in full precision, or why not."""

import keras
import numpy as np
import pytest
from backend import numpy
from keras import ops

from keras_patchpu.losses import AssumeNegative, MultiLabelLoss

LABELS = np.array([[1, 0]], "int8")
GIVEN = {
    "logits": np.array([[3.0, 4.0]], "float32"),
    "epoch": 2,
    "beside": np.zeros((1, 7), "float32"),
}


class Product(MultiLabelLoss):
    """Epoch times the first of the log-odds."""

    needs = {"epoch", "logits"}

    def call(self, y_true, y_pred):
        assert set(y_pred) == {"logits", "epoch"}
        return y_pred["epoch"] * y_pred["logits"][:, 0]


class Ordered(Product):
    needs = ["logits", "epoch"]


class Probabilities(MultiLabelLoss):
    """The sum of what it gets."""

    def call(self, y_true, y_pred):
        return ops.sum(y_pred, axis=-1)


@pytest.mark.parametrize("cls", [Product, Ordered])
def test_a_loss_gets_what_it_needs_by_name_whatever_the_order(cls):
    assert numpy(cls()(LABELS, GIVEN)) == 6.0
    weighted = cls()(LABELS, GIVEN, sample_weight=np.array([0.5], "float32"))
    assert numpy(weighted) == 3.0


def test_a_loss_that_needs_nothing_by_name_gets_probabilities():
    assert MultiLabelLoss.estimator is None and not MultiLabelLoss.needs
    assert numpy(Probabilities()(LABELS, np.array([[0.25, 0.5]], "float32"))) == 0.75


@pytest.mark.parametrize(
    "loss, y_pred, message",
    [
        (Product(), np.zeros((1, 2)), r"a dict with \['epoch', 'logits'\]. Received: ndarray"),
        (Product(), {"logits": 0, "labels": 0}, r"Received: \['labels', 'logits'\]"),
        (Probabilities(), GIVEN, r"probabilities \(B, L\). Received: \['beside', 'epoch'"),
        (AssumeNegative(), GIVEN, "AssumeNegative expects `y_pred` to be probabilities"),
    ],
)
def test_what_does_not_fit_is_explained(loss, y_pred, message):
    with pytest.raises(ValueError, match=message):
        loss(LABELS, y_pred)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_with_in_float32(dtype):
    # Both round 2,049 to 2,048.
    y_pred = ops.cast(ops.convert_to_tensor(np.array([[2048.0, 1.0]], "float32")), dtype)
    for loss in (Probabilities(), Probabilities(dtype=dtype)):
        value = loss(LABELS, y_pred)
        assert keras.backend.standardize_dtype(value.dtype) == "float32" and numpy(value) == 2049
