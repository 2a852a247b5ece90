"""Worst errors against float64 formulas, as in benchmarks/results/numerics.csv."""

import numpy as np
import pytest
from backend import numpy

from benchmarks.numerics import OF_LOGITS, OF_PROBABILITIES, measure_head, measure_loss, row
from keras_patchpu.losses import BinaryCrossentropy


def worst(rows):
    """Absolute and relative error of each row, with where they are for messages."""
    return [
        (float(each["worst absolute error"]), float(each["worst relative error"]), each)
        for each in rows
    ]


@pytest.mark.parametrize("name", sorted(OF_LOGITS))
def test_losses_of_log_odds(name):
    (value, relative, where), (slope, _, slope_where) = worst(measure_loss(name, "float32"))
    # At a loss of 10,000 float32 has steps of 1e-3. The square and fourth power in ASL and Hill
    # multiply the rounding of the sigmoid.
    assert value <= 1e-3 and relative <= 3e-5, where
    assert slope <= 5e-7, slope_where


@pytest.mark.parametrize("name", sorted(OF_PROBABILITIES))
def test_losses_of_probabilities(name):
    (value, _, where), (slope, relative, slope_where) = worst(measure_loss(name, "float32"))
    assert value <= 3e-6, where
    # Up to 1 / epsilon = 100,000.
    assert slope <= 0.05 and relative <= 1e-5, slope_where


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", sorted({**OF_LOGITS, **OF_PROBABILITIES}))
def test_losses_of_half_precision_predictions_compute_in_float32(name, dtype):
    (value, _, where), _ = worst(measure_loss(name, dtype))
    assert value <= 1e-3, where


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_log_probabilities_of_the_head(policy):
    # Scores of 10,000 are in steps of 1e-3 in float32.
    for value, relative, where in worst(measure_head(policy)):
        assert value <= 2e-3 and relative <= 1e-3, where


def test_the_table_tells_what_is_not_finite_and_where():
    place = ["a", "b", "c"]
    exact = np.array([1.0, 2.0, 4.0])
    found = row("x", "float32", "", [1.0, 2.5, 4.5], exact, place, "float32")
    assert (found["worst absolute error"], found["worst relative error"]) == ("0.5", "0.25")
    assert found["where"] == "b"
    found = row("x", "float32", "", [1.0, 2.0, np.inf], exact, place, "float32")
    assert (found["worst absolute error"], found["where"]) == ("inf", "c")
    found = row("x", "float32", "", [np.nan, 2.0, np.inf], exact, place, "float32")
    assert (found["worst absolute error"], found["where"]) == ("nan", "a")
    # Below the smallest normal number there is no relative error to speak of.
    found = row("x", "float32", "", [0.0], np.array([1e-39]), place, "float32")
    assert float(found["worst relative error"]) == 0


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(
    "label, p, expected",
    [
        (1, 0.0, 11.512925),  # -log(1e-5)
        (1, 1.1754944e-38, 11.512925),  # the smallest normal number of float32
        (1, 1.0, -9.99995e-06),  # -log(1 + 1e-5)
        (-1, 1.0, 11.512925),
        (-1, 0.0, -9.99995e-06),
        (0, 0.0, 0.0),
        (0, 1.0, 0.0),
    ],
)
def test_probabilities_of_zero_and_one(label, p, expected, dtype):
    loss = BinaryCrossentropy(dtype=dtype)
    value = numpy(loss(np.array([[label]], "int8"), np.array([[p]], "float32")))
    np.testing.assert_allclose(value, expected, rtol=5e-3, atol=2e-7)
