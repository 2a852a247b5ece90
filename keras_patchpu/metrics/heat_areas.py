"""Areas of heat maps around their peaks."""

import numpy as np
from scipy import ndimage


def peak_region(heat: np.ndarray) -> tuple[slice, slice] | None:
    """Bounding box of the area around the peak of a heat map.

    The area is what is connected to the (first) peak, by edges, through values of at least
    half of the peak.

    Args:
        heat: `(H, W)`, not negative.

    Returns:
        Pair of slices, rows and columns; `None` for a map of zeros.
    """
    areas, regions = _areas(heat, 0.5)
    return regions[areas.flat[heat.argmax()] - 1] if regions else None


def heat_boxes(
    heat: np.ndarray, ys: np.ndarray, xs: np.ndarray, cut: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """Bounding boxes of the areas of a heat map from a share of its maximum on.

    Args:
        heat: `(R, C)`, not negative.
        ys, xs: Edges of its cells, `(R + 1,)` and `(C + 1,)`, from 0 to 1.
        cut: Share of the maximum. Defaults to `0.5`.

    Returns:
        Pair of boxes `(K, 4)` of `(y_min, x_min, y_max, x_max)` and the mean heat of each area
        relative to the maximum, `(K,)`. None for a map of zeros.
    """
    areas, regions = _areas(heat, cut)
    if not regions:
        return np.zeros((0, 4)), np.zeros(0)
    sizes = np.outer(np.diff(ys), np.diff(xs)).ravel()
    area = np.bincount(areas.ravel(), sizes)[1:]
    mass = np.bincount(areas.ravel(), sizes * heat.ravel())[1:]
    boxes = [
        (ys[down.start], xs[across.start], ys[down.stop], xs[across.stop])
        for down, across in regions
    ]
    return np.array(boxes), mass / area / heat.max()


def reaches(heat: np.ndarray, share: float) -> np.ndarray:
    """Where a heat map has at least a share of its maximum, as booleans.

    (Sums of the same numbers in float32 may differ in the last digits.)
    """
    return heat >= share * heat.max() * (1 - 1e-5)


def _areas(heat, cut):
    """Map of the numbers, from 1, of areas from `cut` times the peak on, and their slices."""
    if not heat.max() > 0:
        return np.zeros(heat.shape, int), []
    areas, _ = ndimage.label(reaches(heat, cut))
    return areas, ndimage.find_objects(areas)
