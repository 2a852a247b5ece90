"""How right weak negatives are, where the truth is known."""

import numpy as np


def negatives_quality(
    weights: np.ndarray, labels_true: np.ndarray, observed: np.ndarray
) -> dict[str, float | None]:
    """Precision and recall of negatives guessed for unobserved labels.

    Over all labels of all images with `observed` 0, of weight w and truth y (1 present):
    precision `sum w (1 - y) / sum w`, recall `sum w (1 - y) / sum (1 - y)`.

    Args:
        weights: `(N, L)` from 0 to 1, how much each label counts as absent: of
            `keras_patchpu.losses.weak_negatives` with `theta >= 0`.
        labels_true: `(N, L)` true annotation; values above 0 count as present.
        observed: `(N, L)` in {+1 observed present, 0 unknown, -1 observed absent}.

    Returns:
        Dict of `"precision"`; `"recall"`; `"mean_weight_absent"` (the recall once more) and
        `"mean_weight_present"`, of labels truly so; `"auc"`, the area under the ROC curve of
        weights that rank absent labels above present ones (scikit-learn's; equal weights count
        half); `"absent_share"`, the share truly absent, which is the precision of even weights.
        `None` where it is not defined: precision of weights of 0 only, the rest where no label
        is absent, or present.

    Raises:
        ValueError: Shapes differ, a weight is not from 0 to 1, or no label is unobserved.
    """
    # Here, so that importing the package does not wait for scikit-learn.
    from sklearn.metrics import roc_auc_score

    weights, labels_true, observed = (
        np.asarray(values) for values in (weights, labels_true, observed)
    )
    if not weights.shape == labels_true.shape == observed.shape:
        raise ValueError(
            "Expected `weights`, `labels_true` and `observed` of one shape (N, L). Received: "
            f"{weights.shape}, {labels_true.shape}, {observed.shape}"
        )
    unobserved = observed == 0
    if not unobserved.any():
        raise ValueError("Expected at least one unobserved label in `observed`. Received: none")
    weights = weights[unobserved].astype("float64")
    # Written so that NaN is refused.
    if not (weights.min() >= 0 and weights.max() <= 1):
        raise ValueError(
            f"Expected `weights` from 0 to 1. Received: values from {weights.min()} to "
            f"{weights.max()}"
        )
    absent = labels_true[unobserved] <= 0
    both = absent.any() and not absent.all()
    return {
        "precision": _share(weights[absent].sum(), weights.sum()),
        "recall": _share(weights[absent].sum(), absent.sum()),
        "mean_weight_absent": _share(weights[absent].sum(), absent.sum()),
        "mean_weight_present": _share(weights[~absent].sum(), (~absent).sum()),
        "auc": float(roc_auc_score(absent, weights)) if both else None,
        "absent_share": float(absent.mean()),
    }


def _share(part, whole):
    return float(part / whole) if whole > 0 else None
