"""Where the heat of the labels of a model lies, over the validation images of a run."""

import dataclasses

import numpy as np

from keras_patchpu.datasets import Digits
from keras_patchpu.datasets.read_image import original_size, placed
from keras_patchpu.metrics import (
    AttentionHeat,
    ScoreMapHeat,
    box_average_precision,
    localization,
    score_map_heat,
)

_BATCH = 250  # of images in memory
# Labels with a smaller probability give no boxes, and their heat is not kept.
_MIN_SCORE = 0.05
_IOUS = (0.3, 0.5)
# Side of a resized score map on which it is measured: at 640 pixels 30 times as fast.
_MEASURED_SIZE = 112


@dataclasses.dataclass(frozen=True)
class Explained:
    """What a model says about images, and of the labels that matter why.

    Attributes:
        scores: `(N, L)` probabilities.
        why: Dict of `"attention"` `(M, P)`, or of `"score_maps"` `(M, h, w)`.
        index: int `(N, L)`: which row of these is an image's and a label's; -1 for a label
            that is not present and has a probability of less than 0.05.
    """

    scores: np.ndarray
    why: dict
    index: np.ndarray


def explain_validation(config, model, data):
    """`Explained` of all validation images, batch by batch."""
    labels, images = data.validation.labels, data.validation_images(config)
    scores, why, start = [], {}, 0
    for batch in _batches(images):
        outputs = model.explain(batch)
        scores.append(outputs["probabilities"])
        present = labels[start : start + len(batch)] > 0
        kept = present | (outputs["probabilities"] >= _MIN_SCORE)
        for name, values in _reasons(outputs).items():
            why.setdefault(name, []).append(values[kept])
        start += len(batch)
    scores = np.concatenate(scores)
    kept = (labels > 0) | (scores >= _MIN_SCORE)
    index = np.where(kept, kept.ravel().cumsum().reshape(kept.shape) - 1, -1)
    return Explained(scores, {name: np.concatenate(parts) for name, parts in why.items()}, index)


def heat_of(model, outputs, image_size, index=None):
    """Heat maps of labels: of attention, or of a model without, of the places' scores.

    Args:
        model: The model that was explained.
        outputs: What `model.explain` gave, or `Explained.why` with its `index`.
        image_size: `(height, width)` that score maps are resized to.
        index: As of `AttentionHeat`. Defaults to `None`.
    """
    if "attention" in outputs:
        return AttentionHeat(outputs["attention"], model.patch_boxes, model.image_size, index)
    return ScoreMapHeat(score_map_heat(outputs["score_maps"]), image_size, index)


def seen_boxes(config, data):
    """Boxes of the validation images relative to what the model sees, or None.

    As the data has them, but for images that keep their aspect ratio: there is black
    beside them then.
    """
    validation = data.validation
    if validation.boxes is None or isinstance(validation, Digits):
        return validation.boxes
    if config.image_fit == "stretch":
        return validation.boxes
    size, boxes = (config.image_size, config.image_size), []
    for source, original in zip(validation.sources, validation.boxes):
        top, left, height, width = placed(original_size(source), size, config.image_fit)
        scale = np.array([height, width] * 2)
        boxes.append((np.asarray(original) * scale + [top, left] * 2) / (size * 2))
    return boxes


def box_labels_of(validation):
    """The label of each box, or None where each label has one box at most."""
    return getattr(validation, "box_labels", None)


def has_boxes(validation):
    """Whether a validation image has a box, so that localisation can be measured."""
    return validation.boxes is not None and any(np.any(boxes) for boxes in validation.boxes)


def measure_places(model, data, explained, boxes):
    """`localization` and `box_average_precision` of the validation images.

    Returns:
        Dict as of `localization`, its numbers for each label included, with `"box_ap"`, overall
        and for each label: mean AP by the least intersection over union.
    """
    validation = data.validation
    side = min(_MEASURED_SIZE, *model.image_size)
    heat = heat_of(model, explained.why, (side, side), explained.index)
    where = (validation.labels, boxes, box_labels_of(validation))
    places = localization(heat, *where, validation.label_names)
    found = box_average_precision(heat, explained.scores, *where, ious=_IOUS, min_score=_MIN_SCORE)
    names = [str(iou) for iou in _IOUS]
    places["box_ap"] = dict(zip(names, found["mean"][0].tolist()))
    for row, values in zip(places["per_label"], found["per_label"][0].T.tolist()):
        row["box_ap"] = {n: None if np.isnan(v) else v for n, v in zip(names, values)}
    return places


def _batches(images):
    """Batches of an array, or of `FileBatches`."""
    if isinstance(images, np.ndarray):
        for start in range(0, len(images), _BATCH):
            yield images[start : start + _BATCH]
    else:
        for index in range(len(images)):
            yield images[index][0]


def _reasons(outputs):
    """What is kept of the outputs of a model, image and label first."""
    if "attention" in outputs:
        return {"attention": outputs["attention"]}
    return {"score_maps": np.moveaxis(outputs["score_maps"], -1, 1)}
