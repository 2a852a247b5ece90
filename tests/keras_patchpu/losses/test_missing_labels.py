"""Hill and SPLC: against the authors' code and by hand."""

import numpy as np
import pytest
from backend import HAS_FLOAT64, gradient, numpy
from reference import CASES, FLOAT64, ROUNDING_OF_LOGITS, check_reference, log_odds

from keras_patchpu.losses import Hill, SelfPacedLossCorrection

LABELS = np.array([[1, 0, 0, -1], [0, 0, 0, 0]], "int8")
LOGITS = np.array([[0.5, 2, -1, 2], [-2, 0, 1, 0.25]], "float32")
P = 1 / (1 + np.exp(-LOGITS.astype("float64")))
# sigmoid(0.5 - 1)
P_WITH_MARGIN = 1 / (1 + np.exp(0.5))
NAMES = ["hill", "splc", "splc_pre"]


def reference_case(name, **kwargs):
    """Loss object and what it takes of logits."""
    if name == "hill":
        return Hill(**kwargs), log_odds()
    return SelfPacedLossCorrection(**kwargs), log_odds(epoch=0 if name == "splc_pre" else 1)


@pytest.mark.parametrize("label_reduction", ["mean", "sum"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", CASES)
def test_reference_in_float32(golden, case, name, label_reduction):
    arrays = golden("losses")
    loss, predict = reference_case(name, label_reduction=label_reduction)
    factor = 1.0 if label_reduction == "mean" else float(arrays[f"{case}/L"])
    tolerances = ROUNDING_OF_LOGITS[case]
    check_reference(loss, arrays[f"{case}/z"], arrays, case, name, tolerances, predict, factor)


@pytest.mark.skipif(not HAS_FLOAT64, reason="the backend has no exact float64")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", CASES)
def test_reference_in_float64(golden, case, name):
    arrays = golden("losses")
    loss, predict = reference_case(name, label_reduction="mean", dtype="float64")
    check_reference(
        loss, arrays[f"{case}/z"], arrays, case, name, FLOAT64, predict, dtype="float64"
    )


def test_hill_by_hand():
    loss = Hill(weight_offset=2.0, gamma=3.0, reduction=None)
    expected = (2 - P) * P**2
    expected[0, 0] = -((1 - P_WITH_MARGIN) ** 3) * np.log(P_WITH_MARGIN)
    y_pred = {"logits": LOGITS}
    np.testing.assert_allclose(numpy(loss(LABELS, y_pred)), expected.sum(axis=1), rtol=1e-5)
    mean = Hill(weight_offset=2.0, gamma=3.0, label_reduction="mean")
    assert numpy(mean(LABELS, y_pred)) == pytest.approx(expected.mean(), rel=1e-5)


def test_a_confident_negative_is_left_alone_by_hill():
    labels = np.zeros((1, 3), "int8")
    logits = np.array([[-12, 0, 12]], "float32")
    slope = gradient(lambda x: Hill()(labels, {"logits": x}), logits)
    # (2 lambda p - 3 p^2) p (1 - p): at p = 1/2, (1.5 - 0.75) / 4.
    np.testing.assert_allclose(slope, [[0, 0.1875, 0]], atol=1e-5)


@pytest.mark.parametrize("epoch, corrected", [(0, False), (1, False), (2, True), (9, True)])
def test_self_paced_loss_correction_by_hand(epoch, corrected):
    loss = SelfPacedLossCorrection(tau=0.7, first_epoch=2, gamma=3.0, reduction=None)
    expected = -(P**3) * np.log(1 - P)
    expected[0, 0] = -((1 - P_WITH_MARGIN) ** 3) * np.log(P_WITH_MARGIN)
    if corrected:  # log-odds of 2 and 1, but not those of the observed negative
        for place in ((0, 1), (1, 2)):
            expected[place] = -((1 - P[place]) ** 3) * np.log(P[place])
    y_pred = {"logits": LOGITS, "epoch": epoch}
    np.testing.assert_allclose(numpy(loss(LABELS, y_pred)), expected.sum(axis=1), rtol=1e-5)


@pytest.mark.parametrize("tau, slope", [(0.5, 0.5), (0.499, -0.5)])
def test_a_probability_of_tau_is_not_corrected(tau, slope):
    loss = SelfPacedLossCorrection(tau=tau, gamma=0.0)
    logits = np.zeros((1, 1), "float32")
    found = gradient(lambda x: loss(np.zeros((1, 1)), {"logits": x, "epoch": 1}), logits)
    np.testing.assert_allclose(found, [[slope]], rtol=1e-6)


def test_without_focus_margin_and_correction_it_is_cross_entropy():
    loss = SelfPacedLossCorrection(tau=1.0, margin=0.0, gamma=0.0)
    expected = np.where(LABELS == 1, -np.log(P), -np.log(1 - P)).sum() / 2
    value = numpy(loss(LABELS, {"logits": LOGITS, "epoch": 5}))
    assert value == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", [Hill(), SelfPacedLossCorrection()], ids=lambda loss: loss.name)
def test_other_predictions_than_the_dict_are_explained(loss):
    with pytest.raises(ValueError, match=type(loss).__name__ + " expects `y_pred` to be a dict"):
        loss(LABELS, LOGITS)
