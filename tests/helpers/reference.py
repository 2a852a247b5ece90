"""Comparison of a loss with the values of `data/losses.npz`."""

import numpy as np
from backend import gradient, numpy
from keras import ops

# Of float32: relative and absolute error of the loss, of the gradient as a share of its largest
# value. Case c has probabilities of 1 - 1e-6, whose complement float32 knows to two digits.
ROUNDING = {"a": (2e-5, 1e-6, 2e-6), "b": (2e-5, 1e-6, 2e-6), "c": (3e-4, 0, 7e-3)}
# Losses computed from log-odds do not form that complement.
ROUNDING_OF_LOGITS = {**ROUNDING, "c": ROUNDING["a"]}
FLOAT64 = (1e-9, 1e-12, 1e-9)

CASES = ("a", "b", "c")


def probabilities(logits):
    """What a loss gets that needs nothing by name."""
    return ops.sigmoid(logits)


def log_odds(**others):
    """A function from logits to the dict of a loss that needs them and perhaps others."""
    return lambda logits: {"logits": logits, **others}


def check_reference(
    loss, labels, arrays, case, name, tolerances, predict=probabilities, factor=1.0, dtype="float32"
):
    """Value and gradient are those of the reference, times `factor`.

    Args:
        loss: Of dtype `dtype`.
        labels: `(B, L)`.
        arrays: What `golden("losses")` gives.
        case: `"a"`, `"b"` or `"c"`.
        name: Of the reference's loss.
        tolerances: One of `ROUNDING`'s.
        predict: From the logits to what the loss takes.
        factor: For another reduction than the reference's.
        dtype: Of the logits.
    """
    rtol, atol, gradient_tolerance = tolerances
    logits = arrays[f"{case}/logits"].astype(dtype)
    value = numpy(loss(labels, predict(ops.convert_to_tensor(logits))))
    expected = factor * arrays[f"{case}/{name}/loss"]
    np.testing.assert_allclose(value, expected, rtol=rtol, atol=atol * factor)
    slope = gradient(lambda x: loss(labels, predict(x)), logits)
    expected = factor * arrays[f"{case}/{name}/grad"]
    scale = np.abs(expected).max()
    np.testing.assert_allclose(slope, expected, rtol=0, atol=gradient_tolerance * scale)
