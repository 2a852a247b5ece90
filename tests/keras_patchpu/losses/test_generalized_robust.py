"""GR loss: by hand and in NumPy."""

import numpy as np
import pytest
from backend import HAS_FLOAT64, gradient, numpy

from keras_patchpu.losses import GeneralizedRobust

LABELS = np.array([[1, 0, 0, -1], [0, 0, 0, 0]], "int8")
LOGITS = np.array([[0.5, 2, -1, 2], [-4, 0, 1, 0.25]], "float32")
DTYPE = "float64" if HAS_FLOAT64 else "float32"
RTOL = 1e-9 if HAS_FLOAT64 else 1e-5

OTHER = {
    "slope": (1.0, 3.0),
    "bias": (-3.0, -1.0),
    "mean": (0.25, 0.75),
    "deviation": (1.0, 0.5),
    "exponent_present": 0.5,
    "exponent_absent": 0.25,
}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def numpy_values(logits, share_of_labels, share_of_weights, arguments, constants=None):
    """Value of each label in float64; `constants` are the logits that k and v are of."""
    p = sigmoid(np.asarray(logits, "float64"))
    fixed = p if constants is None else sigmoid(np.asarray(constants, "float64"))
    w, b = (np.interp(share_of_labels, (0, 1), arguments[name]) for name in ("slope", "bias"))
    mu, sigma = (
        np.interp(share_of_weights, (0, 1), arguments[name]) for name in ("mean", "deviation")
    )
    k = sigmoid(w * fixed + b)
    v = np.exp(-((fixed - mu) ** 2) / (2 * sigma**2))
    q2, q3 = arguments["exponent_present"], arguments["exponent_absent"]
    unknown = v * (k * (1 - p**q2) / q2 + (1 - k) * (1 - (1 - p) ** q3) / q3)
    return np.where(LABELS == 1, -np.log(p), np.where(LABELS == -1, -np.log(1 - p), unknown))


# Epoch of 4, and how far the pseudo-labels' and the weights' parameters have come.
SHARES = [(0, 0.0, 0.25), (1, 0.25, 0.5), (3, 0.75, 1.0), (4, 1.0, 1.0), (9, 1.0, 1.0)]


@pytest.mark.parametrize("epoch, share_of_labels, share_of_weights", SHARES)
def test_by_numpy(epoch, share_of_labels, share_of_weights):
    expected = numpy_values(LOGITS, share_of_labels, share_of_weights, OTHER)
    y_pred = {"logits": LOGITS.astype(DTYPE), "epoch": epoch}
    loss = GeneralizedRobust(4, **OTHER, label_reduction="sum", reduction=None, dtype=DTYPE)
    np.testing.assert_allclose(numpy(loss(LABELS, y_pred)), expected.sum(axis=1), rtol=RTOL)
    loss = GeneralizedRobust(4, **OTHER, dtype=DTYPE)
    np.testing.assert_allclose(numpy(loss(LABELS, y_pred)), expected.mean(), rtol=RTOL)


def test_by_hand_with_the_defaults():
    # p = 1/2 in the first epoch of 8: w = 0 and b = -2, so k = sigmoid(-2); mu = 0.5 + 0.3 / 8,
    # sigma = 2 - 1.5 / 8; q2 = 0.01, q3 = 1.
    k, v = 0.11920292, np.exp(-0.5 * (0.0375 / 1.8125) ** 2)
    expected = v * (k * 100 * (1 - 0.5**0.01) + (1 - k) * 0.5)
    y_pred = {"logits": np.zeros((1, 1), "float32"), "epoch": 0}
    value = numpy(GeneralizedRobust(8)(np.zeros((1, 1)), y_pred))
    assert value == pytest.approx(expected, rel=1e-5)


def test_pseudo_labels_and_weights_are_constants_for_the_gradient():
    loss = GeneralizedRobust(4, **OTHER, label_reduction="sum")
    slope = gradient(lambda x: loss(LABELS, {"logits": x, "epoch": 1}), LOGITS)
    step = 1e-6
    moved = [
        numpy_values(LOGITS.astype("float64") + sign * step, 0.25, 0.5, OTHER, constants=LOGITS)
        for sign in (1, -1)
    ]
    np.testing.assert_allclose(slope, (moved[0] - moved[1]) / (2 * step) / 2, atol=1e-5)


def test_small_exponents_are_logarithms():
    # With k = 1/2 and no weight (a wide one): half of the two cross entropies.
    loss = GeneralizedRobust(
        1, (0, 0), (0, 0), (0.5, 0.5), (1e6, 1e6), exponent_present=1e-6, exponent_absent=1e-6
    )
    logits = np.array([[-3.0, 2.0]], "float32")
    expected = 0.5 * (np.logaddexp(0, logits) + np.logaddexp(0, -logits)).mean()
    value = numpy(loss(np.zeros((1, 2)), {"logits": logits, "epoch": 0}))
    assert value == pytest.approx(expected, rel=1e-4)


def test_other_predictions_than_the_dict_are_explained():
    with pytest.raises(ValueError, match=r"GeneralizedRobust expects.*Received: \['logits'\]"):
        GeneralizedRobust(4)(LABELS, {"logits": LOGITS})
