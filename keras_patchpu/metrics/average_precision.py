"""Mean average precision as the field reports it: scikit-learn's, exact, over all images."""

import warnings

import numpy as np


def average_precision(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Average precision of each label over a whole data set.

    Args:
        labels: `(N, L)` true annotation; values above 0 count as present.
        scores: `(N, L)` scores, higher for more likely.

    Returns:
        float64 array `(L,)` from 0 to 1. A label present nowhere has 0, as in Cole et
        al.'s code.

    Raises:
        ValueError: Shapes differ, or a score is not finite.
    """
    # Here, so that importing the package does not wait for scikit-learn.
    from sklearn.metrics import average_precision_score

    labels, scores = check_labels_and_scores(labels, scores)
    present = labels > 0
    values = np.zeros(labels.shape[1])
    for label in np.flatnonzero(present.any(axis=0)):
        values[label] = average_precision_score(present[:, label], scores[:, label])
    return np.minimum(values, 1.0)  # of which the sum over thresholds may be a rounding too much


def mean_average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Mean of `average_precision` over all labels, mAP.

    A label present nowhere counts 0, which lowers the mean: it is named in a warning.

    Args:
        labels: `(N, L)` true annotation; values above 0 count as present.
        scores: `(N, L)` scores.

    Returns:
        A float from 0 to 1.

    Raises:
        ValueError: Shapes differ, or a score is not finite.
    """
    values = average_precision(labels, scores)
    absent = np.flatnonzero(~(np.asarray(labels) > 0).any(axis=0))
    if absent.size:
        warnings.warn(
            f"No image has the labels number {absent.tolist()}: their average precision counts "
            "as 0 in the mean.",
            stacklevel=2,
        )
    return float(values.mean())


def check_labels_and_scores(labels, scores):
    """Both as arrays, or a ValueError that says what does not fit."""
    labels, scores = np.asarray(labels), np.asarray(scores)
    if labels.ndim != 2 or labels.shape != scores.shape or 0 in labels.shape:
        raise ValueError(
            "Expected `labels` and `scores` of one shape (images, labels), neither being 0. "
            f"Received: labels {labels.shape}, scores {scores.shape}"
        )
    if not np.isfinite(scores).all():
        raise ValueError(
            f"Expected finite `scores`. Received: {int((~np.isfinite(scores)).sum())} values of "
            "NaN or infinity"
        )
    return labels, scores
