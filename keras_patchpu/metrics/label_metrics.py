"""Everything a multi-label report tells besides localisation."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_patchpu.metrics.average_precision import average_precision, check_labels_and_scores


def label_metrics(
    labels: np.ndarray,
    scores: np.ndarray,
    label_names: Sequence[str] | None = None,
    threshold: float = 0.5,
) -> dict[str, Any]:
    """Average precision, and precision, recall and F1 at a threshold.

    Args:
        labels: `(N, L)` true annotation; values above 0 count as present.
        scores: `(N, L)` scores, higher for more likely.
        label_names: L names. Defaults to `None`: the numbers of the labels.
        threshold: A label is predicted where its score is at least this. Defaults to
            `0.5`.

    Returns:
        Dict of `"mAP"`; `"micro"` and `"macro"`, dicts of `"precision"`, `"recall"`
        and `"f1"` (macro: the mean over labels); `"labels_without_positives"`, names
        whose average precision counts 0; `"mean_predicted_labels"` and
        `"mean_true_labels"` an image; and `"per_label"`, a list of dicts `"label"`,
        `"positives"`, `"average_precision"`, `"precision"`, `"recall"`, `"f1"`. A
        ratio of nothing to nothing is 0.

    Raises:
        ValueError: Shapes differ, a score is not finite, or names are too few or many.
    """
    # Here, so that importing the package does not wait for scikit-learn.
    from sklearn.metrics import precision_recall_fscore_support

    labels, scores = check_labels_and_scores(labels, scores)
    num_labels = labels.shape[1]
    names = [str(name) for name in (range(num_labels) if label_names is None else label_names)]
    if len(names) != num_labels:
        raise ValueError(
            f"Expected `label_names` to hold {num_labels} names. Received: {len(names)}"
        )
    present, predicted = labels > 0, scores >= threshold
    values = average_precision(labels, scores)
    keys = ("precision", "recall", "f1")

    def at_threshold(average):
        result = precision_recall_fscore_support(
            present, predicted, average=average, zero_division=0
        )
        return result[:3]

    per_label = zip(*at_threshold(None)) if num_labels > 1 else [at_threshold("binary")]
    rows = [
        {
            "label": name,
            "positives": int(count),
            "average_precision": float(value),
            **{key: float(number) for key, number in zip(keys, numbers)},
        }
        for name, count, value, numbers in zip(names, present.sum(0), values, per_label)
    ]
    summary: dict[str, Any] = {"mAP": float(values.mean())}
    for average in ("micro", "macro"):
        if num_labels > 1:
            numbers = at_threshold(average)
        else:
            numbers = [rows[0][key] for key in keys]
        summary[average] = {key: float(number) for key, number in zip(keys, numbers)}
    summary["labels_without_positives"] = [row["label"] for row in rows if not row["positives"]]
    summary["mean_predicted_labels"] = float(np.mean(predicted.sum(1)))
    summary["mean_true_labels"] = float(np.mean(present.sum(1)))
    summary["per_label"] = rows
    return summary
