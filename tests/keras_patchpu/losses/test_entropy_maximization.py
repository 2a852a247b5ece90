"""EM and EM+APL: against the authors' code and by hand."""

import numpy as np
import pytest
from backend import HAS_FLOAT64, gradient, numpy
from keras import ops
from reference import CASES, FLOAT64, ROUNDING, check_reference

from keras_patchpu.losses import EntropyMaximization

NAMES = [
    f"{loss}{dataset}"
    for loss in ("em", "em_apl")
    for dataset in ("", "_pascal", "_coco", "_nuswide", "_cub")
]


def with_pseudo_labels(targets):
    """A function from logits to what the loss takes with pseudo-labels."""
    return lambda logits: {"probabilities": ops.sigmoid(logits), "pseudo_labels": targets}


def check(arrays, case, name, tolerances, dtype="float32"):
    """Compares the loss with the reference."""
    weights = {"alpha": float(arrays[f"{case}/{name}/hp/alpha"]), "dtype": dtype}
    labels = arrays[f"{case}/z"]
    if not name.startswith("em_apl"):
        loss = EntropyMaximization(**weights)
        check_reference(loss, labels, arrays, case, name, tolerances, dtype=dtype)
        return
    loss = EntropyMaximization(
        **weights, beta=float(arrays[f"{case}/{name}/hp/beta"]), pseudo_labels=True
    )
    # In the reference -q stands for a target q.
    z = arrays[f"{case}/z_apl"]
    predict = with_pseudo_labels(np.where(z < 0, -z, -1.0))
    check_reference(loss, labels, arrays, case, name, tolerances, predict, dtype=dtype)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", CASES)
def test_reference_in_float32(golden, case, name):
    check(golden("losses"), case, name, ROUNDING[case])


@pytest.mark.skipif(not HAS_FLOAT64, reason="the backend has no exact float64")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", CASES)
def test_reference_in_float64(golden, case, name):
    check(golden("losses"), case, name, FLOAT64, dtype="float64")


def entropy(p):
    return -p * np.log(p) - (1 - p) * np.log(1 - p)


@pytest.mark.parametrize(
    "label, target, expected",
    [
        (1, -1, -np.log(0.2)),
        (0, -1, -0.5 * entropy(0.2)),
        (-1, -1, -np.log(0.8)),
        (0, 0.25, 2 * (-0.25 * np.log(0.2) - 0.75 * np.log(0.8))),
        (0, 0, -2 * np.log(0.8)),
        (0, 1, -2 * np.log(0.2)),
        (1, 0.25, -np.log(0.2)),  # observed: no pseudo-label
        (-1, 0.25, -np.log(0.8)),
    ],
)
def test_one_label_by_hand(label, target, expected):
    labels, p = np.array([[label]], "int8"), np.array([[0.2]], "float32")
    arguments = {"alpha": 0.5, "beta": 2.0, "epsilon": 1e-9}
    loss = EntropyMaximization(**arguments, pseudo_labels=True)
    value = loss(labels, {"probabilities": p, "pseudo_labels": np.array([[target]], "float32")})
    assert numpy(value) == pytest.approx(expected, rel=1e-5)
    if target == -1:
        value = EntropyMaximization(**arguments)(labels, p)
        assert numpy(value) == pytest.approx(expected, rel=1e-5)


def test_reduction_over_labels():
    labels = np.array([[1, 0, 0, -1]], "int8")
    probabilities = np.array([[0.9, 0.3, 0.6, 0.1]], "float32")
    mean = numpy(EntropyMaximization()(labels, probabilities))
    total = numpy(EntropyMaximization(label_reduction="sum")(labels, probabilities))
    assert total == pytest.approx(4 * float(mean), rel=1e-5)


def test_nothing_observed_is_least_where_nothing_is_known():
    labels = np.zeros((1, 3), "int8")
    loss = EntropyMaximization(alpha=0.1)
    uncertain = np.full((1, 3), 0.5, "float32")
    assert numpy(loss(labels, uncertain)) == pytest.approx(-0.1 * np.log(2), abs=1e-5)
    np.testing.assert_allclose(
        gradient(lambda x: loss(labels, x), uncertain), np.zeros((1, 3)), atol=1e-6
    )


def test_a_pseudo_label_is_met_by_its_own_probability():
    unknown, targets = np.array([[0]], "int8"), np.array([[0.3]], "float32")
    loss = EntropyMaximization(beta=1.0, pseudo_labels=True)
    for probability, sign in ((0.2, -1), (0.3, 0), (0.4, 1)):
        slope = gradient(
            lambda x: loss(unknown, {"probabilities": x, "pseudo_labels": targets}),
            np.array([[probability]], "float32"),
        )
        assert np.sign(np.round(slope[0, 0], 3)) == sign
