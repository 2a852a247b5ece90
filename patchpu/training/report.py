"""What a finished run tells: numbers as JSON, a page to read, pictures."""

import json

import numpy as np

from keras_patchpu.metrics import heat_pixels, label_metrics, observed_metrics
from keras_patchpu.metrics.heat_maps import boxes_of_label
from keras_patchpu.metrics.model_heat import heat_of, sharpened_heat_of
from keras_patchpu.visualize import (
    draw_attention,
    draw_curves,
    draw_localization_extremes,
    draw_negatives_quality,
)
from patchpu.training.localization import (
    box_labels_of,
    explain_validation,
    has_boxes,
    measure_places,
    seen_boxes,
)
from patchpu.training.metrics_file import score_of
from patchpu.training.report_page import heat_name, report_page

_NUM_PICTURES = 12


def write_report(folder, config, model, data, rows, seen=None):
    """Writes `report.json`, `report.md` and the pictures that it shows.

    `curves.png` and `attention.png`; `located.png` where the validation images have boxes, as
    those of digits, VOC and COCO, and then of the paper's network `sharpened.png` too;
    `negatives.png` where the run has judged its weak negatives.

    The model is scored as it is after the last epoch, as in the paper. The best epoch
    is named too, but it was chosen on the very images that it is scored on.

    Args:
        folder: `RunFolder` to write into.
        config: `TrainConfig` of the run.
        model: The trained model; of one without attention, the heat of a label is its
            Grad-CAM.
        data: `RunData`.
        rows: One dict for each epoch, as in `metrics.csv`.
        seen: Pair of what predicts the same as `model`, and the `RunData` that it predicts from:
            features that are computed already. Defaults to `None`: `model` and `data`.

    Returns:
        The content of `report.json`: `"val_mAP"`, `"best_epoch"`, `"metrics"` (see
        `label_metrics`), `"observed"` (see `observed_metrics`), `"localization"` (see
        `measure_places`), `"weak_negatives"` (of the last row that has them), `"settings"`.
        What cannot be told is `None`: mAP and metrics without full annotation, what is observed
        with it, localization without boxes.
    """
    validation, names = data.validation, data.validation.label_names
    monitor = "val_mAP" if data.fully_annotated else "val_reciprocal_rank"
    places = boxes = None
    if has_boxes(validation):
        boxes = seen_boxes(config, data)
        explained = explain_validation(config, model, data, seen)
        scores = explained.scores
    else:
        predicting, inputs = seen or (model, data)
        scores = predicting.predict(inputs.validation_images(config), verbose=0)
    metrics = observed = None
    if data.fully_annotated:
        metrics = label_metrics(validation.labels, scores, names)
    else:
        observed = observed_metrics(validation.labels, scores)
    if boxes is not None:
        places = measure_places(config, model, data, explained, boxes, seen)
        picture = _located_picture(config, model, data, explained, boxes, places.pop("pairs"))
        folder.save_picture(picture, "located.png")
    negatives = _weak_negatives(rows)
    best = max(rows, key=lambda row: score_of(row, monitor))
    report = {
        "val_mAP": metrics and metrics["mAP"],
        "best_epoch": {"epoch": int(best["epoch"]), monitor: best[monitor]},
        "epochs": len(rows),
        "minutes": round(float(np.nansum([row["seconds"] for row in rows])) / 60, 2),
        "parameters": model.num_parameters,
        "metrics": metrics,
        "observed": observed,
        "localization": places,
        "weak_negatives": negatives[-1] if negatives else None,
        "settings": config.settings(),
    }
    history = {name: [row[name] for row in rows] for name in ("loss", monitor)}
    folder.save_picture(draw_curves(history, score_columns=(monitor,)), "curves.png")
    if negatives:
        folder.save_picture(draw_negatives_quality(negatives), "negatives.png")
    picture = _attention_picture(config, model, data, scores, boxes)
    folder.save_picture(picture, "attention.png")
    if places is not None and "sharpened" in places:
        picture = _attention_picture(config, model, data, scores, boxes, sharpened=True)
        folder.save_picture(picture, "sharpened.png")
    folder.write_text("report.json", json.dumps(report, indent=2) + "\n")
    folder.write_text("report.md", report_page(config, report))
    return report


def _weak_negatives(rows):
    """What of the rows tells of weak negatives, `None` where it is not defined; none without it."""
    kept = []
    for row in rows:
        quality = {
            name.removeprefix("wn_"): None if np.isnan(value) else value
            for name, value in row.items()
            if name.startswith("wn_")
        }
        # All cells are empty in a line that was written by hand, after damage.
        if quality.get("absent_share") is not None:
            kept.append({"epoch": int(row["epoch"]), **quality})
    return kept


def _attention_picture(config, model, data, scores, boxes, sharpened=False):
    """The first validation images, once for each label known present, as in Fig. 3."""
    validation = data.validation
    rows, columns = np.nonzero(validation.labels > 0)
    rows, columns = rows[:_NUM_PICTURES], columns[:_NUM_PICTURES]
    images = {row: data.validation_image(row, config) for row in rows}
    stack = np.stack(list(images.values()))
    if sharpened:
        heat, name = sharpened_heat_of(model, stack), "sharpened attention"
    else:
        heat, name = heat_of(model, model.explain(stack), model.image_size), heat_name(config)
    places = {row: place for place, row in enumerate(images)}
    heatmaps = heat_pixels(heat, [places[row] for row in rows], columns, model.image_size)
    # A label without any heat is drawn as the plain image.
    heatmaps = [heatmap if heatmap.any() else np.ones_like(heatmap) for heatmap in heatmaps]
    titles = [
        f"{validation.label_names[column]}: {scores[row, column]:.2f}"
        for row, column in zip(rows, columns)
    ]
    outlines = None
    if boxes is not None:
        box_labels = box_labels_of(validation)
        outlines = [boxes_of_label(boxes, box_labels, *pair) for pair in zip(rows, columns)]
    return draw_attention(
        [images[row] for row in rows],
        heatmaps,
        titles,
        outlines,
        lowest=1.0,
        heat_name=name,
    )


def _located_picture(config, model, data, explained, boxes, pairs):
    """The labels whose heat lies best and worst on their objects."""
    return draw_localization_extremes(
        lambda row: data.validation_image(row, config),
        heat_of(model, explained.why, model.image_size, explained.index),
        pairs,
        boxes,
        box_labels_of(data.validation),
        data.validation.label_names,
        heat_name=heat_name(config),
    )
