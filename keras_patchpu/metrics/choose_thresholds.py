"""From which probability each label is predicted."""

from typing import Any

import numpy as np

from keras_patchpu.metrics.average_precision import check_labels_and_scores
from keras_patchpu.utils.validation import check_number, check_one_of

CHOICES = ("f1", "precision", "recall")


def choose_thresholds(
    labels: np.ndarray, scores: np.ndarray, choose: str = "f1", at_least: float | None = None
) -> dict[str, Any]:
    """Chooses the score from which each label is predicted.

    A threshold lies midway between the score chosen and the next lower one (or 0), so that
    small changes of the scores do not change what is predicted.

    A label is left at 1.0, practically never predicted, and named by a note, if no image is
    known to have it, if none is known not to have it (then nothing speaks against
    predicting it everywhere), or if no threshold has the wanted precision.

    Args:
        labels: `(N, L)`: above 0 present, below 0 absent, 0 unknown. What is unknown of one
            label is left out for that label. For a full annotation of 0 and 1 give
            `np.where(labels > 0, 1, -1)`.
        scores: `(N, L)` from 0 to 1.
        choose: `"f1"`: the best F1, of equal ones the highest threshold. `"precision"`: the
            lowest threshold whose precision is at least `at_least`, which has the best
            recall. `"recall"`: the highest one whose recall is at least `at_least`.
            Defaults to `"f1"`.
        at_least: Number above 0, up to 1. Defaults to `None`, as `"f1"` wants it.

    Returns:
        Dict of `"thresholds"`, `"precision"`, `"recall"` and `"f1"` at the threshold, float64
        `(L,)`, a ratio of nothing to nothing being 0; `"positives"`, images known to have
        the label, and `"known"`, images of which it is known, integers `(L,)`; and
        `"note"`, L strings, empty where a threshold was found.

    Raises:
        ValueError: Shapes differ, a score is not from 0 to 1, no label is known to be absent
            anywhere, or an argument is out of range.
    """
    check_one_of("choose", choose, CHOICES)
    if choose == "f1":
        if at_least is not None:
            raise ValueError(
                f'Expected no `at_least` with choose="f1". Received: at_least={at_least!r}'
            )
    else:
        check_number("at_least", at_least, above=0, maximum=1)
    labels, scores = check_labels_and_scores(labels, scores)
    scores = scores.astype("float64")
    if scores.min() < 0 or scores.max() > 1:
        raise ValueError(
            f"Expected `scores` from 0 to 1. Received: from {scores.min()} to {scores.max()}"
        )
    if not (labels < 0).any():
        raise ValueError(
            "Expected some `labels` below 0, known to be absent; 0 stands for unknown. Received "
            f"values from {labels.min()} to {labels.max()}. If 0 means absent, give "
            "np.where(labels > 0, 1, -1)"
        )
    columns = [
        _choose_threshold(labels[:, label], scores[:, label], choose, at_least)
        for label in range(labels.shape[1])
    ]
    keys = ("thresholds", "precision", "recall", "f1", "positives", "known", "note")
    values = dict(zip(keys, zip(*columns)))
    return {key: value if key == "note" else np.array(value) for key, value in values.items()}


def _choose_threshold(labels, scores, choose, at_least):
    """The values of one label, in the order of the result of `choose_thresholds`."""
    known = labels != 0
    present, scores = labels[known] > 0, scores[known]
    threshold, note = 1.0, ""
    if not present.any():
        note = "no image is known to have it"
    elif present.all():
        note = "no image is known not to have it"
    else:
        chosen = _chosen_score(present, scores, choose, at_least)
        if chosen is None:
            note = f"no threshold has a precision of {at_least:g}"
        else:
            lower = scores[scores < chosen].max(initial=0.0)
            threshold = (lower + chosen) / 2
            if threshold <= lower:  # neighbours in float64, or 0
                threshold = chosen
    predicted = scores >= threshold
    hits, positives = int((predicted & present).sum()), int(present.sum())
    precision = hits / max(1, int(predicted.sum()))
    recall = hits / max(1, positives)
    f1 = 2 * hits / max(1, int(predicted.sum()) + positives)
    return float(threshold), precision, recall, f1, positives, int(known.sum()), note


def _chosen_score(present, scores, choose, at_least):
    """The lowest score that is predicted, or None if the wish cannot be met."""
    # Here, so that importing the package does not wait for scikit-learn.
    from sklearn.metrics import precision_recall_curve

    # Rising thresholds; the curve's last point, nothing predicted, has none.
    precision, recall, candidates = precision_recall_curve(present, scores)
    precision, recall = precision[:-1], recall[:-1]
    if choose == "f1":
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
        # Equal ones may differ in the last digits.
        fitting = f1 >= f1.max() * (1 - 1e-12)
    else:
        fitting = (precision if choose == "precision" else recall) >= at_least
    if not fitting.any():
        return None
    fitting = np.flatnonzero(fitting)
    return candidates[fitting[0 if choose == "precision" else -1]]
