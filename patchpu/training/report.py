"""What a finished run tells: numbers as JSON, a page to read, pictures."""

import csv
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

_NUM_PICTURES = 12


def write_report(folder, config, model, data, rows):
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

    Returns:
        The content of `report.json`: `"val_mAP"`, `"best_epoch"`, `"metrics"` (see
        `label_metrics`), `"observed"` (see `observed_metrics`), `"localization"` (see
        `measure_places`), `"weak_negatives"` (the last line of `negatives.csv`), `"settings"`.
        What cannot be told is `None`: mAP and metrics without full annotation, what is observed
        with it, localization without boxes.
    """
    validation, names = data.validation, data.validation.label_names
    monitor = "val_mAP" if data.fully_annotated else "val_reciprocal_rank"
    places = boxes = None
    if has_boxes(validation):
        boxes = seen_boxes(config, data)
        explained = explain_validation(config, model, data)
        scores = explained.scores
    else:
        scores = model.predict(data.validation_images(config), verbose=0)
    metrics = observed = None
    if data.fully_annotated:
        metrics = label_metrics(validation.labels, scores, names)
    else:
        observed = observed_metrics(validation.labels, scores)
    if boxes is not None:
        places = measure_places(config, model, data, explained, boxes)
        picture = _located_picture(config, model, data, explained, boxes, places.pop("pairs"))
        folder.save_picture(picture, "located.png")
    negatives = _read_negatives(folder)
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
    folder.write_text("report.md", _page(config, report))
    return report


def _read_negatives(folder):
    """Lines of `negatives.csv` as numbers, `None` where one is not defined; none without it."""
    if not (folder / "negatives.csv").exists():
        return []
    with (folder / "negatives.csv").open(newline="") as file:
        rows = [
            {name: float(value) if value else None for name, value in row.items()}
            for row in csv.DictReader(file)
        ]
    return [{**row, "epoch": int(row["epoch"])} for row in rows]


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
        heat, name = heat_of(model, model.explain(stack), model.image_size), _heat_name(config)
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
        heat_name=_heat_name(config),
    )


def _heat_name(config):
    return "attention" if config.model == "patch" else "Grad-CAM"


def _page(config, report):
    """`report.md`."""
    metrics, places = report["metrics"], report["localization"]
    ((monitor, best),) = [item for item in report["best_epoch"].items() if item[0] != "epoch"]
    if metrics is not None:
        headline = f"Validation mAP after the last epoch ({report['epochs']}): "
        headline += f"**{report['val_mAP']:.4f}**"
    else:
        headline = f"Recall at 1 of the known labels after the last epoch ({report['epochs']}): "
        headline += f"**{report['observed']['recall_at'].get(1, 1.0):.4f}**"
    lines = [
        f"# {config.dataset}, loss {config.loss}, seed {config.seed}",
        "",
        headline,
        "",
        f"Best epoch, chosen on these same images: {report['best_epoch']['epoch']} with "
        f"{monitor} {best:.4f}. {report['parameters']:,} parameters, "
        f"{report['minutes']:.1f} minutes.",
        "",
    ]
    lines += _observed_lines(report["observed"]) if metrics is None else _metrics_lines(metrics)
    heat = _heat_name(config)
    lines += ["", f"## Where the {heat} of a known label lies", ""]
    if places is not None:
        lines += _places_lines(places)
    lines += [f"![{heat} of known labels, with their probabilities](attention.png)"]
    if places is not None and "sharpened" in places:
        lines += _sharpened_lines(places)
    if report["weak_negatives"] is not None:
        lines += _negatives_lines(report["weak_negatives"])
    lines += ["", "## Training", "", "![loss and validation mAP by epoch](curves.png)", ""]
    return "\n".join(lines)


def _places_lines(places):
    """Pointing game, shares and box AP, and the best and worst located."""
    lines = _heat_lines(places)
    if places["labels_without_box"]:
        lines.append(
            f"- {places['labels_without_box']} present labels have no box and are left out"
        )
    if places["labels_without_heat"]:
        lines.append(f"- {places['labels_without_heat']} labels have no heat anywhere")
    return [*lines, "", "![best and worst located labels](located.png)", ""]


def _sharpened_lines(places):
    """The numbers of the sharpened heat and its picture."""
    return [
        "",
        "Sharpened, beside the attention itself: the attention of each patch times its own "
        "probability of the label, of patches at half the step, and multiplied over the "
        "resolutions instead of added:",
        "",
        *_heat_lines(places["sharpened"]),
        "",
        "![sharpened attention of known labels, with their probabilities](sharpened.png)",
    ]


def _heat_lines(places):
    """The numbers of one kind of heat."""
    found = [f"{value:.3f} at {iou}" for iou, value in places["box_ap"].items()]
    return [
        f"- its peak is in a box of the label: {places['peak_in_box']:.1%} of the labels",
        f"- share of it inside the boxes: {places['attention_in_box']:.1%} "
        f"(even: {places['box_area']:.1%})",
        "- average precision of boxes around what is at least half of the peak, mean of the "
        f"labels, by the least intersection over union: {', '.join(found)}",
    ]


def _negatives_lines(quality):
    """How right the weak negatives were after the last epoch."""
    names = {"precision": "precision", "recall": "recall", "auc": "AUC"}
    values = [
        f"{head} {'not defined' if quality[name] is None else format(quality[name], '.3f')}"
        for name, head in names.items()
    ]
    return [
        "",
        "## Weak negatives of the first training images, after the last epoch",
        "",
        f"{', '.join(values)}; {quality['absent_share']:.1%} of the labels that were not observed "
        "are truly absent, which is the precision of even weights.",
        "",
        "![quality of the weak negatives by epoch](negatives.png)",
    ]


def _observed_lines(observed):
    """What can be said, and what cannot, where not every label is known."""
    lines = [
        "Of the validation images only some labels are known. So precision, F1 and mAP **cannot "
        "be told**: a label predicted beside the known one may be right. Give fully labelled "
        "images by `--validation-table` to get them.",
        "",
        "## Known labels among all labels, by score",
        "",
        f"- {observed['known_labels']} known labels",
    ]
    lines += [f"- recall at {k}: {share:.1%}" for k, share in observed["recall_at"].items()]
    return [
        *lines,
        f"- rank: mean {observed['mean_rank']:.2f}, median {observed['median_rank']:g} (1 is best; "
        "labels before it may be present too)",
        f"- mean reciprocal rank {observed['mean_reciprocal_rank']:.4f}",
        f"- {observed['mean_predicted_labels']:.2f} labels predicted an image at the threshold 0.5",
    ]


def _metrics_lines(metrics):
    """Precision and recall at 0.5, and a table of the labels."""
    lines = []
    if metrics["labels_without_positives"]:
        names = ", ".join(metrics["labels_without_positives"])
        lines += [f"No image has these labels; they count 0 in the mean: {names}.", ""]
    lines += [
        "## At the threshold 0.5",
        "",
        "| mean | precision | recall | F1 |",
        "|---|---|---|---|",
    ]
    for average in ("micro", "macro"):
        values = metrics[average]
        lines.append(
            f"| {average} | {values['precision']:.3f} | {values['recall']:.3f} | "
            f"{values['f1']:.3f} |"
        )
    lines += [
        "",
        f"{metrics['mean_predicted_labels']:.2f} labels predicted an image, "
        f"{metrics['mean_true_labels']:.2f} true.",
        "",
        "## Labels",
        "",
        "| label | images | average precision | precision | recall | F1 |",
        "|---|---|---|---|---|---|",
    ]
    for row in metrics["per_label"]:
        numbers = [row[key] for key in ("average_precision", "precision", "recall", "f1")]
        cells = " | ".join(f"{number:.3f}" for number in numbers)
        lines.append(f"| {row['label']} | {row['positives']} | {cells} |")
    return lines
