"""Where the attention of a label lies, against the boxes of its objects."""

import numpy as np

from keras_patchpu.validation import check_one_of


def attention_heatmap(attention, patch_boxes, image_size, fill="shared"):
    """Lays the attention of patches over the pixels of the image, all levels added up.

    Args:
        attention: `(..., P)`.
        patch_boxes: `(P, 4)` of `(y_min, x_min, y_max, x_max)` from 0 to 1, as
            `PatchExtractor.patch_boxes` gives.
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
    height, width = image_size
    edges = np.round(patch_boxes * [height, width, height, width]).astype(int)
    coverage = np.zeros((len(edges), height, width), dtype="float32")
    for row, (top, left, bottom, right) in zip(coverage, edges):
        row[top : max(bottom, top + 1), left : max(right, left + 1)] = 1.0
    if fill == "shared":
        coverage /= coverage.sum(axis=(1, 2), keepdims=True)
    heat = attention @ coverage.reshape(len(edges), -1)
    return heat.reshape(*attention.shape[:-1], height, width)


def localization(attention, patch_boxes, labels, boxes, image_size):
    """Whether the attention of the labels of images lies on their objects.

    Judged for every label present in an image. The peak is that of `attention_heatmap`
    with `fill="same"`, as in the paper's Fig. 3: a patch-sized area of equal values, whose
    middle must lie in the box. Shares are those of the map with `fill="shared"`.

    Args:
        attention: `(N, L, P)` attention of the images.
        patch_boxes: `(P, 4)`, see `attention_heatmap`.
        labels: `(N, L)` true annotation; values above 0 count as present.
        boxes: `(N, L, 4)`, the box of each present label's object, as
            `(y_min, x_min, y_max, x_max)` from 0 to 1.
        image_size: `(height, width)` of the images in pixels.

    Returns:
        Dict of `"peak_in_box"`, share of present labels whose box holds the peak (the
        pointing game); `"attention_in_box"`, mean share of their attention inside the
        box; `"box_area"`, mean share of the image inside the box: what even attention
        would get.

    Raises:
        ValueError: Shapes do not fit, or no label is present.
    """
    attention, labels, boxes = np.asarray(attention), np.asarray(labels), np.asarray(boxes)
    if attention.shape[:2] != labels.shape or boxes.shape != (*labels.shape, 4):
        raise ValueError(
            "Expected `attention` (N, L, P), `labels` (N, L) and `boxes` (N, L, 4). Received: "
            f"shapes {attention.shape}, {labels.shape}, {boxes.shape}"
        )
    rows, columns = np.nonzero(labels > 0)
    if not len(rows):
        raise ValueError("Expected at least one present label in `labels`. Received: none")
    height, width = image_size
    middle_y = (np.arange(height) + 0.5) / height
    middle_x = (np.arange(width) + 0.5) / width
    peaks, shares, areas = [], [], []
    for start in range(0, len(rows), 256):  # heat maps of a whole set would fill the memory
        chunk = rows[start : start + 256], columns[start : start + 256]
        shared, same = (
            attention_heatmap(attention[chunk], patch_boxes, image_size, fill)
            for fill in ("shared", "same")
        )
        for share, heat, (y_min, x_min, y_max, x_max) in zip(shared, same, boxes[chunk]):
            inside_y = (middle_y > y_min) & (middle_y < y_max)
            inside_x = (middle_x > x_min) & (middle_x < x_max)
            shares.append(share[np.ix_(inside_y, inside_x)].sum())
            areas.append(inside_y.mean() * inside_x.mean())
            peak_y, peak_x = _middle_of_peak(heat)
            peaks.append(y_min < peak_y < y_max and x_min < peak_x < x_max)
    return {
        "peak_in_box": float(np.mean(peaks)),
        "attention_in_box": float(np.mean(shares)),
        "box_area": float(np.mean(areas)),
    }


def _middle_of_peak(heat):
    """Middle, from 0 to 1, of the rectangle of equal values that holds the first maximum."""
    height, width = heat.shape
    top, left = np.unravel_index(heat.argmax(), heat.shape)
    # Sums of the same numbers in float32 may differ in the last digits.
    equal = heat >= heat[top, left] * (1 - 1e-5)
    bottom, right = top, left
    while bottom + 1 < height and equal[bottom + 1, left]:
        bottom += 1
    while right + 1 < width and equal[top, right + 1]:
        right += 1
    return (top + bottom + 1) / 2 / height, (left + right + 1) / 2 / width
