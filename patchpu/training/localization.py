"""Where the heat of the labels of a model lies, over the validation images of a run."""

import dataclasses

import numpy as np

from keras_patchpu.datasets import Digits
from keras_patchpu.datasets.read_image import original_size, placed
from keras_patchpu.metrics import AttentionHeat, box_average_precision, localization
from keras_patchpu.metrics.model_heat import finer_model, heat_of, reason_of, sharpened_attention

# Images in memory are explained some at a time: 250 scenes of digits, 10 images of 640 pixels.
_LARGEST_BATCH = 250
_PIXELS_AT_ONCE = 2**22
# Labels with a smaller probability give no boxes; their heat is kept where they are present.
_MIN_SCORE = 0.05
_IOUS = (0.3, 0.5)
# Side of a resized score map on which it is measured: at 640 pixels 30 times as fast.
_MEASURED_SIZE = 112


@dataclasses.dataclass(frozen=True)
class Explained:
    """What a model says about images, and of the labels that matter why.

    Attributes:
        scores: `(N, L)` probabilities.
        why: Dict of `"attention"` `(M, P)`, or of `"score_maps"` `(M, h, w)`: of these labels
            image by image.
        index: int `(N, L)`: which row of these is an image's and a label's; -1 for a label
            that is not present and has a probability of less than 0.05.
    """

    scores: np.ndarray
    why: dict
    index: np.ndarray


def explain_validation(config, model, data, seen=None):
    """`Explained` of all validation images, batch by batch; `seen` as of `write_report`."""
    predicting, inputs = seen or (model, data)
    labels, images = data.validation.labels, inputs.validation_images(config)
    reason = reason_of(model)
    scores, why, start = [], [], 0
    for batch in _batches(images):
        outputs = predicting.explain(batch, ("probabilities", reason))
        values = outputs[reason]
        if reason == "score_maps":
            values = np.moveaxis(values, -1, 1)  # image and label first
        kept = _kept(labels[start : start + len(batch)], outputs["probabilities"])
        scores.append(outputs["probabilities"])
        why.append(values[kept])
        start += len(batch)
    scores = np.concatenate(scores)
    kept = _kept(labels, scores)
    index = np.where(kept, kept.ravel().cumsum().reshape(kept.shape) - 1, -1)
    return Explained(scores, {reason: np.concatenate(why)}, index)


def sharpened_heat(config, model, data, index, seen=None):
    """Heat of the validation images that says more exactly than attention where labels are.

    Each patch's attention times its own probability of the label, of patches at half the step,
    so with others between those that the model was trained on; of every level the sum, and of
    these the product, as of `AttentionHeat` with `combine="product"`.

    Args:
        config: `TrainConfig`.
        model: `PatchClassifier` or `BackboneClassifier`.
        data: `RunData`.
        index: As of `Explained`.
        seen: As of `write_report`, of a `BackboneClassifier`.

    Returns:
        `AttentionHeat` of the labels that `index` has.
    """
    finer = finer_model(model)
    predicting, inputs = (finer, data) if finer is not model else seen or (model, data)
    weights, start = [], 0
    for batch in _batches(inputs.validation_images(config)):
        # There are up to four times as many patches.
        for images in np.array_split(batch, min(4, len(batch))):
            found = sharpened_attention(predicting, images)
            weights.append(found[index[start : start + len(images)] >= 0])
            start += len(images)
    weights = np.concatenate(weights)
    return AttentionHeat(weights, finer.patch_boxes, model.image_size, index, "product")


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


def measure_places(config, model, data, explained, boxes, seen=None):
    """Where the heat of the validation images lies: `measure_heat`, and of what else there is.

    Returns:
        Dict as of `measure_heat`; of a `PatchClassifier` with `"sharpened"`, another such dict,
        of `sharpened_heat`.
    """
    side = min(_MEASURED_SIZE, *model.image_size)
    heat = heat_of(model, explained.why, (side, side), explained.index)
    places = measure_heat(heat, data, explained, boxes)
    if reason_of(model) == "attention":
        heat = sharpened_heat(config, model, data, explained.index, seen)
        places["sharpened"] = measure_heat(heat, data, explained, boxes)
        del places["sharpened"]["pairs"]
    return places


def measure_heat(heat, data, explained, boxes):
    """`localization` and `box_average_precision` of the validation images.

    Returns:
        Dict as of `localization`, its numbers for each label included, with `"box_ap"`, overall
        and for each label: mean AP by the least intersection over union.
    """
    validation = data.validation
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
        size = min(_LARGEST_BATCH, max(1, _PIXELS_AT_ONCE // (images.shape[1] * images.shape[2])))
        for start in range(0, len(images), size):
            yield images[start : start + size]
    else:
        for index in range(len(images)):
            yield images[index][0]


def _kept(labels, scores):
    """The labels of images of which it is kept why."""
    return (labels > 0) | (scores >= _MIN_SCORE)
