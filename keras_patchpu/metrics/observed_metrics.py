"""What can be said without full annotation."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_patchpu.metrics.average_precision import check_labels_and_scores


def observed_metrics(
    labels: np.ndarray,
    scores: np.ndarray,
    ks: Sequence[int] = (1, 3, 5),
    threshold: float | Sequence[float] | np.ndarray = 0.5,
) -> dict[str, Any]:
    """How well labels known present are ranked, where other labels are unknown.

    The rank of a known label counts the labels that are not known present with a score at
    least as high: 1 is best. Unknown labels among them may be present too, so a rank is an
    upper bound. Precision and mAP need labels known absent and are not computed.

    Args:
        labels: `(N, L)` in {+1 known present, 0 unknown, -1 known absent}.
        scores: `(N, L)`, higher for more likely.
        ks: Numbers k of the recall at k; those of at least L are left out. Defaults to
            `(1, 3, 5)`.
        threshold: A label is predicted where its score is at least this: a number or L of
            them. Defaults to `0.5`.

    Returns:
        Dict of `"known_labels"`, how many were ranked; `"mean_rank"`, `"median_rank"` and
        `"mean_reciprocal_rank"`; `"recall_at"`, dict of k to the share of known labels with a
        rank of at most k; `"mean_predicted_labels"` an image.

    Raises:
        ValueError: Shapes differ, a score is not finite, or no label is known present.
    """
    labels, scores = check_labels_and_scores(labels, scores)
    known = labels > 0
    rows, columns = np.nonzero(known)
    if not len(rows):
        raise ValueError("Expected at least one label known present in `labels`. Received: none")
    rivals = np.where(known, -np.inf, scores)
    ranks = 1 + (rivals[rows] >= scores[rows, columns][:, None]).sum(1)
    return {
        "known_labels": len(rows),
        "mean_rank": float(ranks.mean()),
        "median_rank": float(np.median(ranks)),
        "mean_reciprocal_rank": float((1.0 / ranks).mean()),
        "recall_at": {k: float((ranks <= k).mean()) for k in ks if k < labels.shape[1]},
        "mean_predicted_labels": float((scores >= np.asarray(threshold)).sum(1).mean()),
    }
