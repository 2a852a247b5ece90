"""The rectangles that the edges of patches cut an image into."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class HeatGrid:
    """The rectangles, or cells, that the edges of all patches cut an image into.

    What patches add up to is constant on each: a map of cells says the same as one of pixels,
    with 100 numbers for 640x640 pixels of the default patches.

    Attributes:
        ys, xs: int edges of the cells in pixels, `(R + 1,)` and `(C + 1,)`.
        covered: float32 `(P, R, C)`, 1 in the cells of a patch and 0 elsewhere.
    """

    ys: np.ndarray
    xs: np.ndarray
    covered: np.ndarray

    @property
    def areas(self):
        """Pixels in each cell, int `(R, C)`."""
        return np.outer(np.diff(self.ys), np.diff(self.xs))

    @property
    def shared(self):
        """float64 `(P, R, C)`: which share of the area of a patch lies in each cell."""
        masses = self.covered * self.areas
        return masses / masses.sum(axis=(1, 2), keepdims=True)


def heat_grid(patch_boxes: np.ndarray, image_size: tuple[int, int]) -> HeatGrid:
    """The cells of patches; edges are rounded to pixels, and a patch keeps at least one.

    Args:
        patch_boxes: `(P, 4)` of `(y_min, x_min, y_max, x_max)` from 0 to 1.
        image_size: `(height, width)` in pixels.
    """
    height, width = image_size
    edges = np.round(np.asarray(patch_boxes) * [height, width, height, width]).astype(int)
    edges[:, :2] = np.minimum(edges[:, :2], [height - 1, width - 1])
    edges[:, 2:] = np.maximum(edges[:, 2:], edges[:, :2] + 1)
    ys = np.unique([0, height, *edges[:, [0, 2]].ravel()])
    xs = np.unique([0, width, *edges[:, [1, 3]].ravel()])
    covered = np.zeros((len(edges), len(ys) - 1, len(xs) - 1), dtype="float32")
    for patch, (top, left, bottom, right) in zip(covered, edges):
        down = (ys[:-1] >= top) & (ys[:-1] < bottom)
        across = (xs[:-1] >= left) & (xs[:-1] < right)
        patch[np.ix_(down, across)] = 1.0
    return HeatGrid(ys, xs, covered)


def pixels_of_cells(heat: np.ndarray, ys: np.ndarray, xs: np.ndarray) -> np.ndarray:
    """A heat map `(..., R, C)` of cells with these edges in pixels as one of pixels."""
    return heat.repeat(np.diff(ys), axis=-2).repeat(np.diff(xs), axis=-1)
