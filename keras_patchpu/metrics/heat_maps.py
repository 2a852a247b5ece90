"""Heat maps of labels over images, made when they are asked for, and boxes on them.

A heat map is kept on a grid of rectangles, its cells: pixels, or what the edges of patches
cut an image into. `AttentionHeat` and `ScoreMapHeat` are used alike:

    peaks, masses = heat(rows, columns)  # two times (M, R, C), for M pairs of image and label
    heat.shape                           # (N, L)
    heat.ys, heat.xs                     # edges of the cells, (R + 1,) and (C + 1,), 0 to 1

`peaks` are the values of the map, by which a peak is found and areas are cut out; `masses`
say how much of the attention lies in each cell.
"""

import numpy as np
from numpy.typing import ArrayLike

from keras_patchpu.metrics.heat_grid import heat_grid
from keras_patchpu.utils.validation import check_one_of

# Cells of heat maps made at a time: 64 MB.
_CELLS_AT_ONCE = 2**24


class AttentionHeat:
    """Heat maps of the attention of patches, all levels combined.

    Constant on each of the rectangles that the edges of all patches cut the image into,
    so these are the cells: 100 for 640x640 pixels of the default patches. Levels, which are
    patches of one size, are combined by

    - `"sum"`: the attention of all patches added up. `peaks` are those of `attention_heatmap`
      with `fill="same"`, `masses` sums over pixels of `fill="shared"`;
    - `"product"`: what each level alone adds up to, divided by its mean over the area that it
      covers, multiplied. A place is hot if it is so at all resolutions: coarse levels say
      where about, fine ones where. `masses` are `peaks` times the areas of cells. A level
      without any attention, and where a level has no patch, counts as even.

    Args:
        attention: `(N, L, P)`; or, with `index`, `(M, P)`. Any weights of patches that are not
            negative; they need not sum to 1.
        patch_boxes: `(P, 4)`, as `PatchGrid.boxes` gives.
        image_size: `(height, width)` of the images in pixels.
        index: int `(N, L)`: which row of `attention` is an image's and a label's, -1 for
            none, where not all are kept. Defaults to `None`: all are.
        combine: `"sum"` or `"product"`. Defaults to `"sum"`.

    Raises:
        ValueError: Shapes do not fit, or `combine` is another.
    """

    def __init__(
        self,
        attention: np.ndarray,
        patch_boxes: np.ndarray,
        image_size: tuple[int, int],
        index: np.ndarray | None = None,
        combine: str = "sum",
    ) -> None:
        check_one_of("combine", combine, ("sum", "product"))
        self._attention, self._index = np.asarray(attention, dtype="float32"), index
        expected = 3 if index is None else 2
        patch_boxes = np.asarray(patch_boxes)
        if self._attention.ndim != expected or patch_boxes.shape != (self._attention.shape[-1], 4):
            raise ValueError(
                "Expected `attention` (N, L, P), or (M, P) with `index`, and `patch_boxes` (P, 4). "
                f"Received: shapes {self._attention.shape}, {patch_boxes.shape}"
            )
        self.shape = self._attention.shape[:2] if index is None else np.shape(index)
        grid = heat_grid(patch_boxes, image_size)
        self.ys, self.xs = grid.ys / image_size[0], grid.xs / image_size[1]
        self._covered, self._masses = grid.covered, grid.shared.astype("float32")
        self._areas = (grid.areas / grid.areas.sum()).astype("float32")
        self.combine = combine
        # Sides of patches are those of their level but for rounding.
        sides = np.round(patch_boxes[:, 2:] - patch_boxes[:, :2], 4)
        self._level = np.unique(sides, axis=0, return_inverse=True)[1].ravel()

    def __call__(self, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self._index is None:
            attention = self._attention[rows, columns]
        else:
            attention = self._attention[_places(self._index, rows, columns)]
        if self.combine == "product":
            peaks = self._product(attention)
            return peaks, peaks * self._areas
        peaks, masses = (
            np.tensordot(attention, cells, 1) for cells in (self._covered, self._masses)
        )
        return peaks, masses

    def _product(self, attention):
        heat = np.ones((len(attention), *self._areas.shape), dtype="float32")
        for level in range(self._level.max() + 1):
            patches = self._level == level
            here = np.tensordot(attention[:, patches], self._covered[patches], 1)
            covered = self._covered[patches].any(axis=0)
            mean = (here * self._areas).sum(axis=(1, 2), keepdims=True)
            mean /= self._areas[covered].sum()
            even = ~covered | (mean == 0)
            heat *= np.where(even, 1.0, here / np.where(mean == 0, 1.0, mean))
        return heat * attention.any(axis=1)[:, None, None]


class ScoreMapHeat:
    """Heat maps of a classifier that scores places, such as class activation, resized.

    Resized bilinearly, with half-pixel centres; its cells are the pixels of `image_size`,
    `peaks` and `masses` are the same.

    Args:
        maps: `(N, h, w, L)`, not negative; or, with `index`, `(M, h, w)`. See
            `score_map_heat`.
        image_size: `(height, width)` in pixels that the maps are resized to. Need not be that
            of the images: fewer are faster.
        index: As of `AttentionHeat`. Defaults to `None`.

    Raises:
        ValueError: A shape does not fit, or a value is negative or not finite.
    """

    def __init__(
        self, maps: np.ndarray, image_size: tuple[int, int], index: np.ndarray | None = None
    ) -> None:
        self._maps, self._index = np.asarray(maps, dtype="float32"), index
        if self._maps.ndim != (4 if index is None else 3):
            raise ValueError(
                "Expected `maps` (N, h, w, L), or (M, h, w) with `index`. Received: shape "
                f"{self._maps.shape}"
            )
        # Written so that NaN is refused.
        if self._maps.size and not (self._maps.min() >= 0 and np.isfinite(self._maps.max())):
            raise ValueError(
                "Expected `maps` to be finite and not negative. Received: values from "
                f"{self._maps.min()} to {self._maps.max()}"
            )
        if index is None:
            self._maps = np.moveaxis(self._maps, -1, 1)
            self.shape = self._maps.shape[:2]
        else:
            self.shape = np.shape(index)
        self._down, self._across = (
            _bilinear(new, old) for new, old in zip(image_size, self._maps.shape[-2:])
        )
        self.ys, self.xs = (np.arange(side + 1) / side for side in image_size)

    def __call__(self, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self._index is None:
            maps = self._maps[rows, columns]
        else:
            maps = self._maps[_places(self._index, rows, columns)]
        heat = self._down @ maps @ self._across.T
        return heat, heat


def heat_pixels(
    heat: AttentionHeat | ScoreMapHeat,
    rows: ArrayLike,
    columns: ArrayLike,
    image_size: tuple[int, int],
) -> np.ndarray:
    """Heat maps as pixels, for pictures.

    Args:
        heat: `AttentionHeat` or `ScoreMapHeat`.
        rows, columns: Numbers of M images and their labels.
        image_size: `(height, width)` in pixels.

    Returns:
        float32 `(M, height, width)`, each pixel the value of the cell that its middle is in.
    """
    peaks, _ = heat(np.asarray(rows), np.asarray(columns))
    ys, xs = (
        np.searchsorted(edges, (np.arange(side) + 0.5) / side) - 1
        for edges, side in zip((heat.ys, heat.xs), image_size)
    )
    return peaks[:, ys][:, :, xs]


def heat_by_pair(heat, rows, columns):
    """Yields `(peaks, masses)` `(R, C)` of pairs one by one, made some at a time."""
    step = max(1, _CELLS_AT_ONCE // ((len(heat.ys) - 1) * (len(heat.xs) - 1)))
    for start in range(0, len(rows), step):
        yield from zip(*heat(rows[start : start + step], columns[start : start + step]))


def boxes_of_label(boxes, box_labels, row, column):
    """Boxes `(K, 4)` of one label in one image; a box without area counts as none.

    Args:
        boxes: N arrays `(K, 4)` of `(y_min, x_min, y_max, x_max)` from 0 to 1; or, without
            `box_labels`, `(N, L, 4)`, one a label.
        box_labels: N integer arrays `(K,)`, the label of each box, or `None`.
        row, column: Numbers of the image and the label.
    """
    found = np.asarray(boxes[row], dtype="float64")
    if box_labels is None:
        found = found[[column]]
    else:
        found = found.reshape(-1, 4)[np.asarray(box_labels[row]).ravel() == column]
    return found[(found[:, 2] > found[:, 0]) & (found[:, 3] > found[:, 1])]


def check_boxes(shape, boxes, box_labels):
    """A ValueError unless there are boxes for the images and labels of `shape` (N, L)."""
    if box_labels is None:
        if np.shape(boxes) != (*shape, 4):
            raise ValueError(
                f"Expected `boxes` of shape {(*shape, 4)}, one for each label, or `box_labels` "
                f"beside them. Received: shape {np.shape(boxes)}"
            )
    elif not len(boxes) == len(box_labels) == shape[0]:
        raise ValueError(
            f"Expected `boxes` and `box_labels` of {shape[0]} images. Received: {len(boxes)} and "
            f"{len(box_labels)}"
        )


def _places(index, rows, columns):
    places = np.asarray(index)[rows, columns]
    if (places < 0).any():
        raise ValueError(
            f"Expected only pairs of image and label that `index` holds. Received: "
            f"{int((places < 0).sum())} that it does not"
        )
    return places


def _bilinear(new, old):
    """Matrix `(new, old)` that resizes an axis, half-pixel centres, edges held."""
    places = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    return np.maximum(0.0, 1.0 - np.abs(places[:, None] - np.arange(old))).astype("float32")
