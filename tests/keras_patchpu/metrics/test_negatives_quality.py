import numpy as np
import pytest

from keras_patchpu.metrics import negatives_quality

OBSERVED = np.array([[1, 0, 0, 0], [0, 0, 1, -1]])
TRUE = np.array([[1, 1, 0, 0], [0, 1, 1, 0]])
# Absent, not observed: 0.5, 0.75, 0.75. Present, not observed: 0.25, 0.75.
WEIGHTS = np.array([[0.0, 0.25, 0.5, 0.75], [0.75, 0.75, 0.0, 1.0]])


def test_by_hand():
    result = negatives_quality(WEIGHTS, TRUE, OBSERVED)
    # Of 3 * 2 pairs 0.5 > 0.25 and twice 0.75 > 0.25 are right, two are equal, one is wrong.
    assert result == pytest.approx(
        {
            "precision": 2.0 / 3.0,
            "recall": 2.0 / 3,
            "mean_weight_absent": 2.0 / 3,
            "mean_weight_present": 0.5,
            "auc": (3 + 2 * 0.5) / 6,
            "absent_share": 3 / 5,
        }
    )


def test_precision_and_recall_differ():
    result = negatives_quality([[0.5, 0.5, 0.5]], [[0, 1, 1]], [[0, 0, 0]])
    assert (result["precision"], result["recall"]) == (pytest.approx(1 / 3), 0.5)


def test_even_weights_have_the_precision_of_chance():
    result = negatives_quality(np.full((2, 4), 0.3), TRUE, OBSERVED)
    assert result["precision"] == pytest.approx(result["absent_share"])
    assert result["auc"] == 0.5


def test_the_truth_in_the_label_domain():
    as_domain = np.where(TRUE == 1, 1, -1)
    assert negatives_quality(WEIGHTS, as_domain, OBSERVED) == negatives_quality(
        WEIGHTS, TRUE, OBSERVED
    )


def test_what_is_not_defined_is_none():
    zeros = negatives_quality(np.zeros((2, 4)), TRUE, OBSERVED)
    assert zeros["precision"] is None and zeros["recall"] == 0.0
    absent = negatives_quality(WEIGHTS, np.zeros((2, 4)), OBSERVED)
    assert absent["precision"] == 1.0
    assert absent["auc"] is None and absent["mean_weight_present"] is None
    present = negatives_quality(WEIGHTS, np.ones((2, 4)), OBSERVED)
    assert present["precision"] == 0.0
    assert present["recall"] is None and present["mean_weight_absent"] is None


@pytest.mark.parametrize(
    ("weights", "true", "observed", "message"),
    [
        (WEIGHTS[:1], TRUE, OBSERVED, r"one shape.*\(1, 4\), \(2, 4\)"),
        (WEIGHTS, TRUE, np.ones((2, 4)), "at least one unobserved"),
        (WEIGHTS - 0.3, TRUE, OBSERVED, "from 0 to 1.*-0.04"),
        (WEIGHTS * 2, TRUE, OBSERVED, "from 0 to 1.*1.5"),
        (WEIGHTS * np.nan, TRUE, OBSERVED, "from 0 to 1.*nan"),
    ],
)
def test_bad_arguments(weights, true, observed, message):
    with pytest.raises(ValueError, match=message):
        negatives_quality(weights, true, observed)
