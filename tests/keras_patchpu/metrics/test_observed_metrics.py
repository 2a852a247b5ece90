import numpy as np
import pytest

from keras_patchpu.metrics import observed_metrics

LABELS = np.array([[1, 0, 0, 0], [0, 1, 1, -1], [0, 0, 0, 0], [0, 0, 0, 1]], "int8")
SCORES = np.array(
    [
        [0.9, 0.1, 0.2, 0.3],  # rank 1
        [0.8, 0.4, 0.9, 0.5],  # label 1 behind 0 and 3 (2 is known too): 3; label 2: 1
        [0.9, 0.9, 0.9, 0.9],  # nothing known
        [0.6, 0.1, 0.5, 0.5],  # ties count against: behind 0 and 2: 3
    ]
)


def test_ranks_by_hand():
    result = observed_metrics(LABELS, SCORES, ks=(1, 2, 3, 4, 5))
    # ranks 1, 3, 1, 3
    assert result["known_labels"] == 4
    assert result["mean_rank"] == 2.0 and result["median_rank"] == 2.0
    assert result["mean_reciprocal_rank"] == pytest.approx((1 + 1 / 3 + 1 + 1 / 3) / 4)
    assert result["recall_at"] == {1: 0.5, 2: 0.5, 3: 1.0}  # 4 of 4 labels say nothing
    assert result["mean_predicted_labels"] == pytest.approx((1 + 3 + 4 + 3) / 4)


def test_a_threshold_for_each_label():
    result = observed_metrics(LABELS, SCORES, threshold=(0.85, 0.0, 1.0, 0.5))
    assert result["mean_predicted_labels"] == pytest.approx((2 + 2 + 3 + 2) / 4)


def test_a_constant_score_is_no_find():
    assert observed_metrics(LABELS, np.ones((4, 4)))["recall_at"][1] == 0.0


def test_nothing_known_is_an_error():
    with pytest.raises(ValueError, match="at least one label known present"):
        observed_metrics(np.zeros((2, 3)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="one shape"):
        observed_metrics(LABELS, SCORES[:, :3])
