"""Thresholds worked out by hand."""

import numpy as np
import pytest

from keras_patchpu.metrics import choose_thresholds

pytestmark = pytest.mark.no_backend

# One label, by falling score. Predicted down to the score: precision, recall, F1:
# 0.9: 1/1 1/3 .5   0.8: 1/2 1/3 .4   0.6: 2/3 2/3 .667   0.5: 3/4 3/3 .857   0.2: 3/5 1 .75
SCORES = np.array([0.9, 0.8, 0.6, 0.5, 0.2])[:, None]
LABELS = np.array([1, -1, 1, 1, -1])[:, None]


@pytest.mark.parametrize(
    "choose, at_least, threshold, precision, recall",
    [
        ("f1", None, (0.5 + 0.2) / 2, 3 / 4, 1),
        ("precision", 0.75, (0.5 + 0.2) / 2, 3 / 4, 1),
        ("precision", 0.6, (0.2 + 0.0) / 2, 3 / 5, 1),
        ("precision", 0.9, (0.9 + 0.8) / 2, 1, 1 / 3),
        ("recall", 1.0, (0.5 + 0.2) / 2, 3 / 4, 1),
        ("recall", 0.5, (0.6 + 0.5) / 2, 2 / 3, 2 / 3),
        ("recall", 0.1, (0.9 + 0.8) / 2, 1, 1 / 3),
    ],
)
def test_by_hand(choose, at_least, threshold, precision, recall):
    result = choose_thresholds(LABELS, SCORES, choose, at_least)
    np.testing.assert_allclose(result["thresholds"], [threshold])
    np.testing.assert_allclose(result["precision"], [precision])
    np.testing.assert_allclose(result["recall"], [recall])
    np.testing.assert_allclose(result["f1"], [2 * precision * recall / (precision + recall)])
    assert result["positives"].tolist() == [3] and result["known"].tolist() == [5]
    assert result["note"] == ("",)


def test_unknown_entries_count_for_their_label_only():
    # Of label 0 the first two images are not known: 0.6 and 0.5 are right, 0.2 is not.
    labels = np.concatenate([LABELS, LABELS], axis=1)
    labels[:2, 0] = 0
    result = choose_thresholds(labels, np.repeat(SCORES, 2, axis=1))
    np.testing.assert_allclose(result["thresholds"], [0.35, 0.35])
    np.testing.assert_allclose(result["precision"], [1, 3 / 4])
    assert result["positives"].tolist() == [2, 3] and result["known"].tolist() == [3, 5]
    # The score of an image that is not known does not move the middle either.
    labels = np.array([[1], [0], [-1]])
    result = choose_thresholds(labels, np.array([[0.9], [0.8], [0.1]]))
    np.testing.assert_allclose(result["thresholds"], [0.5])


def test_labels_without_a_threshold_are_named_and_not_predicted():
    labels = np.array([[-1, 1, -1, 1], [-1, 1, 1, -1], [0, 0, -1, -1]])
    scores = np.array([[0.4, 0.4, 0.9, 0.9], [0.5, 0.5, 0.5, 0.5], [0.6, 0.6, 0.1, 0.1]])
    result = choose_thresholds(labels, scores, "precision", 0.8)
    np.testing.assert_allclose(result["thresholds"], [1, 1, 1, 0.7])
    assert result["note"] == (
        "no image is known to have it",
        "no image is known not to have it",
        "no threshold has a precision of 0.8",
        "",
    )
    for key in ("precision", "recall", "f1"):
        assert result[key].tolist() == [0, 0, 0, 1]


def test_of_equal_f1_the_highest_threshold():
    # Down to 0.9: 1/1 and 1/2, F1 2/3; down to 0.1: 2/4 and 2/2, F1 2/3.
    labels = np.array([[1], [-1], [-1], [1]])
    scores = np.array([[0.9], [0.5], [0.3], [0.1]])
    np.testing.assert_allclose(choose_thresholds(labels, scores)["thresholds"], [0.7])


def test_equal_scores_and_scores_of_zero():
    result = choose_thresholds(np.array([[1], [-1]]), np.zeros((2, 1)))
    assert result["thresholds"].tolist() == [0] and result["recall"].tolist() == [1]
    # Neighbours among float64 have no middle: the score itself.
    scores = np.array([[0.5], [np.nextafter(0.5, 0)]])
    assert choose_thresholds(LABELS[:2], scores)["thresholds"].tolist() == [0.5]


def test_best_of_all_thresholds():
    random = np.random.default_rng(0)
    labels = random.choice([-1, 0, 1], (60, 4))
    scores = random.random((60, 4)).round(2)
    result = choose_thresholds(labels, scores)
    for label in range(4):
        known = labels[:, label] != 0
        present, values = labels[known, label] > 0, scores[known, label]
        f1 = [
            2 * (present & (values >= at)).sum() / (present.sum() + (values >= at).sum())
            for at in np.linspace(0, 1, 1001)
        ]
        assert result["f1"][label] == pytest.approx(max(f1))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"choose": "best"}, "`choose` to be one of"),
        ({"at_least": 0.5}, "no `at_least`"),
        ({"choose": "precision"}, "`at_least`.*None"),
        ({"choose": "recall", "at_least": 0}, "`at_least`.*> 0"),
        ({"choose": "recall", "at_least": 1.1}, "`at_least`.*<= 1"),
        ({"labels": LABELS.T}, "one shape"),
        (
            {"labels": (LABELS > 0).astype(int)},
            r"known to be absent.*np.where\(labels > 0, 1, -1\)",
        ),
        ({"scores": SCORES + 1}, "from 0 to 1.*1.9"),
        ({"scores": SCORES * np.nan}, "finite"),
    ],
)
def test_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        choose_thresholds(**{"labels": LABELS, "scores": SCORES, **change})
