"""Where the attention of a label lies, against the boxes of its objects."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_patchpu.metrics.heat_areas import reaches
from keras_patchpu.metrics.heat_grid import heat_grid, pixels_of_cells
from keras_patchpu.metrics.heat_maps import (
    AttentionHeat,
    ScoreMapHeat,
    boxes_of_label,
    check_boxes,
    heat_by_pair,
)
from keras_patchpu.utils.validation import check_one_of


def attention_heatmap(
    attention: np.ndarray,
    patch_boxes: np.ndarray,
    image_size: tuple[int, int],
    fill: str = "shared",
) -> np.ndarray:
    """Lays the attention of patches over the pixels of the image, all levels added up.

    Args:
        attention: `(..., P)`.
        patch_boxes: `(P, 4)` of `(y_min, x_min, y_max, x_max)` from 0 to 1, as
            `PatchGrid.boxes` gives.
        image_size: `(height, width)` of the map in pixels. Edges of patches are rounded
            to pixels; a patch keeps at least one.
        fill: `"shared"`: the pixels of a patch share its attention evenly, so the map
            sums to what the attention sums to, 1. `"same"`: each pixel of a patch gets
            all of its attention, as in the paper's Fig. 3, so that large patches count
            as much as small ones for where the peak is. Defaults to `"shared"`.

    Returns:
        float32 array `(..., height, width)`.

    Raises:
        ValueError: There is not one box for each patch, or `fill` is another.
    """
    check_one_of("fill", fill, ("shared", "same"))
    attention, patch_boxes = np.asarray(attention, dtype="float32"), np.asarray(patch_boxes)
    if patch_boxes.shape != (attention.shape[-1], 4):
        raise ValueError(
            f"Expected `patch_boxes` of shape ({attention.shape[-1]}, 4), one box for each patch "
            f"of `attention`. Received: shape {patch_boxes.shape}"
        )
    grid = heat_grid(patch_boxes, image_size)
    cells = grid.covered
    if fill == "shared":
        cells = (grid.shared / grid.areas).astype("float32")
    return pixels_of_cells(np.tensordot(attention, cells, 1), grid.ys, grid.xs)


def localization(
    heat: AttentionHeat | ScoreMapHeat,
    labels: np.ndarray,
    boxes: np.ndarray | Sequence[np.ndarray],
    box_labels: Sequence[np.ndarray] | None = None,
    label_names: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Whether the heat of the labels of images lies on their objects.

    Judged for every label present in an image that has a box there. The peak is the first
    maximum of the heat map; where its neighbours are equal, as in all of a patch, the
    middle of them. It is in a box if it is strictly inside (the pointing game, without a
    margin). Shares are exact areas: a cell of the map that a box cuts counts in part, and
    where boxes of a label overlap it counts once. A map of zeros has its peak nowhere and
    a share of 0.

    Args:
        heat: `AttentionHeat` or `ScoreMapHeat` of N images and L labels.
        labels: `(N, L)` true annotation; values above 0 count as present.
        boxes: The boxes of objects as `(y_min, x_min, y_max, x_max)` from 0 to 1, relative to
            what the model sees: N arrays `(K, 4)`; or, without `box_labels`, `(N, L, 4)`, one
            a label. A box without area counts as none.
        box_labels: N integer arrays `(K,)`, the label of each box. Defaults to `None`.
        label_names: L strings. Defaults to `None`: numbers.

    Returns:
        Dict of `"peak_in_box"`, share of the judged labels whose peak is in a box of theirs;
        `"attention_in_box"`, mean share of their heat inside the union of their boxes;
        `"box_area"`, mean share of the image inside the union: what even heat would get;
        `"labels"`, how many were judged; `"labels_without_box"`, present but with no box, left
        out; `"labels_without_heat"`, judged with a map of zeros; `"per_label"`, a list of the
        same numbers for each label, `None` where none was judged; `"pairs"`, the judged ones by
        themselves, a dict of arrays `"row"`, `"column"`, `"peak_in_box"`, `"attention_in_box"`,
        `"box_area"`.

    Raises:
        ValueError: Shapes do not fit, no label is present, or none has a box.

    Reference:
        Zhang et al., "Top-down Neural Attention by Excitation Backprop", ECCV 2016 (the
        pointing game).
    """
    labels = np.asarray(labels)
    if heat.shape != labels.shape:
        raise ValueError(
            f"Expected `heat` of the images and labels of `labels`, {labels.shape}. Received: "
            f"{heat.shape}"
        )
    check_boxes(labels.shape, boxes, box_labels)
    names = range(labels.shape[1]) if label_names is None else label_names
    rows, columns = np.nonzero(labels > 0)
    if not len(rows):
        raise ValueError("Expected at least one present label in `labels`. Received: none")
    true = [boxes_of_label(boxes, box_labels, *pair) for pair in zip(rows, columns)]
    judged = np.array([len(found) > 0 for found in true])
    if not judged.any():
        raise ValueError("Expected a box for at least one present label. Received: none")
    true = [found for found in true if len(found)]
    all_columns, rows, columns = columns, rows[judged], columns[judged]

    found = [
        _judge(peaks, masses, heat, targets)
        for (peaks, masses), targets in zip(heat_by_pair(heat, rows, columns), true)
    ]
    peak_in_box, share, area, has_heat = (np.array(values) for values in zip(*found))
    pairs = {
        "row": rows,
        "column": columns,
        "peak_in_box": peak_in_box,
        "attention_in_box": share,
        "box_area": area,
    }

    def summary(chosen, present):
        means = {
            name: float(pairs[name][chosen].mean()) if chosen.any() else None
            for name in ("peak_in_box", "attention_in_box", "box_area")
        }
        return {
            **means,
            "labels": int(chosen.sum()),
            "labels_without_box": int((~judged[present]).sum()),
            "labels_without_heat": int((~has_heat[chosen]).sum()),
        }

    per_label = [
        {"label": str(name), **summary(columns == label, all_columns == label)}
        for label, name in enumerate(names)
    ]
    every = summary(columns >= 0, all_columns >= 0)
    return {**every, "per_label": per_label, "pairs": pairs}


def _judge(peaks, masses, heat, boxes):
    """Whether the peak is in a box, share of the heat and of the image inside, any heat."""
    inside = _inside(boxes, heat.ys, heat.xs)
    area = (inside * np.outer(np.diff(heat.ys), np.diff(heat.xs))).sum()
    if not peaks.max() > 0:
        return False, 0.0, area, False
    peak_y, peak_x = _middle_of_peak(peaks, heat.ys, heat.xs)
    y_min, x_min, y_max, x_max = boxes.T
    in_box = ((y_min < peak_y) & (peak_y < y_max) & (x_min < peak_x) & (peak_x < x_max)).any()
    masses = masses.astype("float64")
    return bool(in_box), (masses * inside).sum() / masses.sum(), area, True


def _inside(boxes, ys, xs):
    """Share `(R, C)` of the area of each cell that the union of boxes `(K, 4)` covers."""
    # The edges of boxes cut the cells so that each part is inside or outside as a whole.
    all_ys = np.unique(np.concatenate([ys, np.clip(boxes[:, [0, 2]], 0, 1).ravel()]))
    all_xs = np.unique(np.concatenate([xs, np.clip(boxes[:, [1, 3]], 0, 1).ravel()]))
    inside = np.zeros((len(all_ys) - 1, len(all_xs) - 1))
    for y_min, x_min, y_max, x_max in boxes:
        down = (all_ys[:-1] >= y_min) & (all_ys[1:] <= y_max)
        across = (all_xs[:-1] >= x_min) & (all_xs[1:] <= x_max)
        inside[np.ix_(down, across)] = 1.0
    areas = inside * np.outer(np.diff(all_ys), np.diff(all_xs))
    areas = np.add.reduceat(areas, np.searchsorted(all_ys, ys[:-1]), axis=0)
    areas = np.add.reduceat(areas, np.searchsorted(all_xs, xs[:-1]), axis=1)
    return areas / np.outer(np.diff(ys), np.diff(xs))


def _middle_of_peak(heat, ys, xs):
    """Middle, from 0 to 1, of the rectangle of equal values that holds the first maximum."""
    top, left = np.unravel_index(heat.argmax(), heat.shape)
    equal = reaches(heat, 1.0)
    bottom, right = top, left
    while bottom + 1 < len(ys) - 1 and equal[bottom + 1, left]:
        bottom += 1
    while right + 1 < len(xs) - 1 and equal[top, right + 1]:
        right += 1
    return (ys[top] + ys[bottom + 1]) / 2, (xs[left] + xs[right + 1]) / 2
