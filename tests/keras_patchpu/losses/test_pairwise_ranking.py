"""PR: against Cole et al.'s code and by hand."""

import numpy as np
import pytest
from backend import HAS_FLOAT64, gradient, numpy
from reference import CASES, FLOAT64, ROUNDING, check_reference

from keras_patchpu.losses import PairwiseRanking

LABELS = np.array([[1, 0, 1, -1], [0, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]], "int8")
PROBABILITIES = np.random.default_rng(0).uniform(size=(4, 4)).astype("float32")


def all_pairs(labels, probabilities):
    """The hinge of every pair, in float64; one value per image."""
    values = []
    for row, p in zip(labels, probabilities.astype("float64")):
        pairs = [
            max(0, 1 - p[i] + p[j]) for i in range(4) for j in range(4) if row[i] > 0 >= row[j]
        ]
        values.append(sum(pairs))
    return values


@pytest.mark.parametrize("case", CASES)
def test_reference_in_float32(golden, case):
    arrays = golden("losses")
    check_reference(PairwiseRanking(), arrays[f"{case}/z"], arrays, case, "pr", ROUNDING[case])


@pytest.mark.skipif(not HAS_FLOAT64, reason="the backend has no exact float64")
@pytest.mark.parametrize("case", CASES)
def test_reference_in_float64(golden, case):
    arrays = golden("losses")
    loss = PairwiseRanking(dtype="float64")
    check_reference(loss, arrays[f"{case}/z"], arrays, case, "pr", FLOAT64, dtype="float64")


def test_by_hand():
    # 1 - 0.7 + 0.2 and 1 - 0.7 + 0.9
    loss = PairwiseRanking("sum")
    value = loss(np.array([[0, 1, 0]]), np.array([[0.2, 0.7, 0.9]], "float32"))
    assert numpy(value) == pytest.approx(0.5 + 1.2, abs=1e-6)


def test_every_pair():
    # Two positives and an observed negative; one; nothing observed; nothing else.
    expected = all_pairs(LABELS, PROBABILITIES)
    assert expected[2:] == [0, 0]
    loss = PairwiseRanking("sum", reduction=None)
    np.testing.assert_allclose(numpy(loss(LABELS, PROBABILITIES)), expected, rtol=1e-5)
    loss = PairwiseRanking(reduction=None)
    np.testing.assert_allclose(
        numpy(loss(LABELS, PROBABILITIES)), np.array(expected) / 4, rtol=1e-5
    )


def test_gradient_counts_the_pairs():
    slope = gradient(lambda x: PairwiseRanking("sum")(LABELS, x), PROBABILITIES)
    expected = np.array([[-2, 2, -2, 2], [1, -3, 1, 1], [0] * 4, [0] * 4]) / 4
    np.testing.assert_allclose(slope, expected, atol=1e-6)
