"""Boxes cut out of heat maps, and their average precision."""

from collections.abc import Sequence

import numpy as np

from keras_patchpu.metrics.average_precision import check_labels_and_scores
from keras_patchpu.metrics.heat_areas import heat_boxes
from keras_patchpu.metrics.heat_maps import (
    AttentionHeat,
    ScoreMapHeat,
    boxes_of_label,
    check_boxes,
    heat_by_pair,
)
from keras_patchpu.utils.validation import check_number


def box_average_precision(
    heat: AttentionHeat | ScoreMapHeat,
    scores: np.ndarray,
    labels: np.ndarray,
    boxes: np.ndarray | Sequence[np.ndarray],
    box_labels: Sequence[np.ndarray] | None = None,
    cuts: float | Sequence[float] = 0.5,
    ious: Sequence[float] = (0.3, 0.5),
    min_score: float = 0.05,
) -> dict[str, np.ndarray]:
    """Average precision of boxes that are cut out of the heat maps of labels.

    Of each image and label the heat map (of attention: all levels combined) is cut at a share
    of its maximum. What is connected by edges becomes a box: the bounding box of the area, its
    confidence the score of the label times the mean heat of the area relative to the maximum,
    so that of the areas of one map the hotter is tried first. By confidence, boxes take the
    free true box of their image and label that they overlap most; one that finds none with the
    least intersection over union is wrong. AP of a label is the area under its precision, made
    monotone, over its recall (all points, not 11); boxes of equal confidence count at once.

    Args:
        heat: `AttentionHeat` or `ScoreMapHeat` of N images and L labels.
        scores: `(N, L)` probabilities.
        labels: `(N, L)` true annotation; values above 0 count as present. A label that is
            present without any box is left out: nobody knows where it is.
        boxes, box_labels: As of `localization`.
        cuts: Share of the maximum, above 0 to 1, from which on a cell belongs to an area; or T
            of them, each judged by itself. Defaults to `0.5`.
        ious: I values of the least intersection over union. Defaults to `(0.3, 0.5)`.
        min_score: Labels of a smaller score give no boxes, to bound the work: a map is made for
            each other pair of image and label. Defaults to `0.05`.

    Returns:
        Dict of `"mean"`, float64 `(T, I)`: mean AP over the labels that have a true box;
        `"per_label"`, `(T, I, L)`, NaN for labels without; `"true_boxes"`, `(L,)` how many
        there are; `"found_boxes"`, `(T,)` how many were cut out.

    Raises:
        ValueError: Shapes do not fit, a number is out of range, or there is no true box.

    Reference:
        Everingham et al., "The Pascal Visual Object Classes Challenge", IJCV 2010, and its
        development kit from 2010 on (all points).
    """
    labels, scores = check_labels_and_scores(labels, scores)
    if heat.shape != labels.shape:
        raise ValueError(
            f"Expected `heat` of the images and labels of `labels`, {labels.shape}. Received: "
            f"{heat.shape}"
        )
    check_boxes(labels.shape, boxes, box_labels)
    shares = np.atleast_1d(cuts).tolist()
    for name, values in (("cuts", shares), ("ious", ious)):
        for value in values:
            check_number(name, value, above=0, maximum=1)

    candidate = scores >= min_score
    true: list[dict] = [{} for _ in range(labels.shape[1])]  # for each label: image to boxes
    for row, column in zip(*np.nonzero(labels > 0)):
        found = boxes_of_label(boxes, box_labels, row, column)
        if len(found):
            true[column][row] = found
        else:
            candidate[row, column] = False
    true_boxes = np.array([sum(map(len, images.values())) for images in true])
    if not true_boxes.any():
        raise ValueError("Expected a box for at least one present label. Received: none")

    found = _cut_all(heat, scores, np.nonzero(candidate), shares)
    per_label = np.full((len(shares), len(ious), labels.shape[1]), np.nan)
    for cut, (columns, rows, cut_boxes, confidences) in enumerate(found):
        for column in np.flatnonzero(true_boxes):
            chosen = columns == column
            for place, iou in enumerate(ious):
                per_label[cut, place, column] = _average_precision(
                    rows[chosen], cut_boxes[chosen], confidences[chosen], true[column], iou
                )
    return {
        "mean": np.nanmean(per_label, axis=-1),
        "per_label": per_label,
        "true_boxes": true_boxes,
        "found_boxes": np.array([len(columns) for columns, *_ in found]),
    }


def _cut_all(heat, scores, pairs, cuts):
    """For each cut: labels, images, boxes `(K, 4)` and confidences of all areas."""
    found = [[] for _ in cuts]
    for row, column, (peaks, _) in zip(*pairs, heat_by_pair(heat, *pairs)):
        for cut, items in zip(cuts, found):
            for box, strength in zip(*heat_boxes(peaks, heat.ys, heat.xs, cut)):
                items.append((column, row, *box, scores[row, column] * strength))
    arrays = [np.array(items, dtype="float64").reshape(-1, 7) for items in found]
    return [(a[:, 0].astype(int), a[:, 1].astype(int), a[:, 2:6], a[:, 6]) for a in arrays]


def _average_precision(rows, boxes, confidences, true, least_iou):
    """AP of the boxes of one label. `true`: image to its boxes `(K, 4)`."""
    if not len(rows):
        return 0.0
    order = np.argsort(-confidences, kind="stable")
    free = {row: np.ones(len(found), bool) for row, found in true.items()}
    hits = np.zeros(len(rows), bool)
    for place, index in enumerate(order):
        row = rows[index]
        if row in true:
            overlaps = np.where(free[row], _iou(boxes[index], true[row]), 0.0)
            best = overlaps.argmax()
            if overlaps[best] >= least_iou:
                hits[place], free[row][best] = True, False
    # Equal confidences have no order: precision and recall are known behind them only.
    ends = np.flatnonzero(np.diff(confidences[order], append=-np.inf))
    found = hits.cumsum()[ends]
    precision = np.maximum.accumulate((found / (ends + 1))[::-1])[::-1]
    recall = found / sum(map(len, true.values()))
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def _iou(box, others):
    """Intersection over union of a box `(4,)` with others `(K, 4)`."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    common = np.clip(high - low, 0, None).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1)
    return common / (areas + (box[2:] - box[:2]).prod() - common)
