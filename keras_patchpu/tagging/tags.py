"""What a model says of one image, and which labels that gives."""

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

_TOP_K = 3  # of a model without thresholds


@dataclasses.dataclass(frozen=True, eq=False)
class Tags:
    """What a model says of one image.

    Attributes:
        name: Path of the image; "image 0", "image 1", ... where it came without one.
        tags: Names of the labels predicted, by falling probability.
        scores: float32 `(L,)` probabilities of all labels; `None` if it cannot be read.
        error: Why the image cannot be read; `None` if it can.
        size: `(height, width)` of the upright image in pixels; `None` if it cannot be read.
        regions: Dict of a tag to the `(y_min, x_min, y_max, x_max)` that its attention points
            at, in pixels of the image; `None` unless asked for. A tag whose attention is
            all outside the image, in the black that `image_fit="pad"` adds, has none.
        heatmaps: Dict of a tag to the float32 `(h, w)` attention over the whole image, at the
            resolution at which the model saw it; `None` unless asked for.
    """

    name: str
    tags: tuple[str, ...] = ()
    scores: np.ndarray | None = None
    error: str | None = None
    size: tuple[int, int] | None = None
    regions: dict[str, tuple[int, int, int, int]] | None = None
    heatmaps: dict[str, np.ndarray] | None = None


def given_labels(
    scores: ArrayLike, thresholds: ArrayLike | None = None, top_k: int | None = None
) -> np.ndarray:
    """Numbers of the labels that are given as tags.

    Args:
        scores: `(L,)`.
        thresholds: L numbers, or one for all labels. Defaults to `None`: the labels of highest
            score are given.
        top_k: Labels, at most. Defaults to `None`: 3 without thresholds, no limit with them.

    Returns:
        Integer array by falling score, the first of equals first.
    """
    # float64: a threshold rounded to float32 could pass a score it should not.
    scores = np.asarray(scores, dtype="float64")
    ranked = np.argsort(-scores, kind="stable")
    if thresholds is None:
        return ranked[: top_k or _TOP_K]
    return ranked[(scores >= thresholds)[ranked]][:top_k]


def check_scores(name, scores):
    """Raises a ValueError naming the image if a model predicts what is no number."""
    if not np.isfinite(scores).all():
        raise ValueError(
            f"{name}: the model predicts NaN or infinity. Its weights are damaged, or its "
            "training diverged: take another checkpoint, such as best.keras"
        )
