"""ASL: against the authors' code and by hand."""

import numpy as np
import pytest
from backend import HAS_FLOAT64, gradient, numpy
from reference import CASES, FLOAT64, ROUNDING_OF_LOGITS, check_reference, log_odds

from keras_patchpu.losses import AsymmetricLoss

LABELS = np.array([[1, 0, 0, -1], [0, 0, 0, 0]], "int8")
LOGITS = np.array([[0.5, 2, -1, 2], [-4, 0, 1, 0.25]], "float32")
P = 1 / (1 + np.exp(-LOGITS.astype("float64")))
NAMES = [
    "asl",
    "asl_gp1",
    "focal",
    "asl_bce",
    "asl_gradfocal",
    "asl_gp1_gradfocal",
    "asl_opt",
]


def reference_case(arrays, case, name, **kwargs):
    """Loss object, and the factor from the reference's sum over images and labels."""
    hyperparameters = f"{case}/{name}/hp"
    loss = AsymmetricLoss(
        float(arrays[f"{hyperparameters}/gamma_pos"]),
        float(arrays[f"{hyperparameters}/gamma_neg"]),
        float(arrays[f"{hyperparameters}/clip"]),
        stop_gradient=bool(arrays[f"{hyperparameters}/disable_torch_grad_focal_loss"]),
        **kwargs,
    )
    return loss, 1.0 / float(arrays[f"{case}/B"])


@pytest.mark.parametrize("label_reduction", ["mean", "sum"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", CASES)
def test_reference_in_float32(golden, case, name, label_reduction):
    arrays = golden("losses")
    loss, factor = reference_case(arrays, case, name, label_reduction=label_reduction)
    if label_reduction == "mean":
        factor = factor / float(arrays[f"{case}/L"])
    tolerances = ROUNDING_OF_LOGITS[case]
    check_reference(loss, arrays[f"{case}/z"], arrays, case, name, tolerances, log_odds(), factor)


@pytest.mark.skipif(not HAS_FLOAT64, reason="the backend has no exact float64")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", CASES)
def test_reference_in_float64(golden, case, name):
    arrays = golden("losses")
    loss, factor = reference_case(arrays, case, name, dtype="float64")
    labels = arrays[f"{case}/z"]
    check_reference(loss, labels, arrays, case, name, FLOAT64, log_odds(), factor, "float64")


def by_hand(gamma_positive, gamma_negative, margin):
    shifted = np.maximum(P - margin, 0)
    positive = -((1 - P) ** gamma_positive) * np.log(P)
    return np.where(LABELS == 1, positive, -(shifted**gamma_negative) * np.log(1 - shifted))


@pytest.mark.parametrize(
    "arguments", [(0.0, 4.0, 0.05), (2.0, 2.0, 0.0), (0.0, 0.0, 0.3), (0.5, 0.25, 0.2)]
)
@pytest.mark.parametrize("stop_gradient", [True, False])
def test_by_hand(arguments, stop_gradient):
    loss = AsymmetricLoss(*arguments, stop_gradient=stop_gradient, reduction=None)
    expected = by_hand(*arguments).sum(axis=1)
    np.testing.assert_allclose(numpy(loss(LABELS, {"logits": LOGITS})), expected, rtol=1e-5)


def test_without_focus_and_margin_it_is_cross_entropy_of_any_log_odds():
    loss = AsymmetricLoss(0.0, 0.0, 0.0)
    labels = np.array([[1, 0, 1, 0]], "int8")
    y_pred = {"logits": np.array([[-1e4, 1e4, 1e4, -1e4]], "float32")}
    assert numpy(loss(labels, y_pred)) == pytest.approx(2e4)


def test_easy_negatives_cost_nothing():
    labels, logits = np.zeros((1, 2), "int8"), np.array([[-4.0, -3.0]], "float32")
    loss = AsymmetricLoss()
    assert numpy(loss(labels, {"logits": logits})) == 0  # p = 0.018 and 0.047 < 0.05
    slope = gradient(lambda x: loss(labels, {"logits": x}), logits)
    np.testing.assert_array_equal(slope, [[0, 0]])


def test_stop_gradient_leaves_the_weight_out_of_the_gradient():
    labels, logits = np.array([[1]], "int8"), np.zeros((1, 1), "float32")

    def slope(stop_gradient):
        loss = AsymmetricLoss(2.0, 2.0, 0.0, stop_gradient=stop_gradient)
        return gradient(lambda x: loss(labels, {"logits": x}), logits)[0, 0]

    # (1 - p)^2 (p - 1), and with the weight's own 2 (1 - p)^2 p log p besides, at p = 1/2.
    assert slope(True) == pytest.approx(-1 / 8)
    assert slope(False) == pytest.approx(-1 / 8 + np.log(0.5) / 4)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 4.0])
@pytest.mark.parametrize("margin", [0.0, 0.05])
def test_finite_gradients_through_a_weight_of_zero(gamma, margin):
    labels = np.array([[1, 1, 0, 0, 0]], "int8")
    logits = np.array([[-200, 200, -200, 200, -5]], "float32")
    loss = AsymmetricLoss(gamma, gamma, margin, stop_gradient=False)
    slope = gradient(lambda x: loss(labels, {"logits": x}), logits)
    assert np.isfinite(slope).all()


def test_other_predictions_than_the_dict_are_explained():
    with pytest.raises(ValueError, match=r"AsymmetricLoss expects `y_pred` to be a dict"):
        AsymmetricLoss()(LABELS, LOGITS)
