"""What a finished run tells: numbers as JSON, a page to read, pictures."""

import json

import numpy as np

from keras_patchpu.datasets import Digits
from keras_patchpu.metrics import (
    attention_heatmap,
    label_metrics,
    localization,
    observed_metrics,
)
from keras_patchpu.visualize import draw_attention, draw_curves

_NUM_PICTURES = 12
_BATCH = 250


def write_report(folder, config, model, data, rows):
    """Writes `report.json`, `report.md`, `curves.png` and `attention.png`.

    The model is scored as it is after the last epoch, as in the paper. The best epoch
    is named too, but it was chosen on the very images that it is scored on.

    Args:
        folder: `RunFolder` to write into.
        config: `TrainConfig` of the run.
        model: The trained `PatchClassifier`.
        data: `RunData`.
        rows: One dict for each epoch, as in `metrics.csv`.

    Returns:
        The content of `report.json`: `"val_mAP"`, `"best_epoch"`, `"metrics"` (see
        `label_metrics`), `"observed"` (see `observed_metrics`), `"localization"` (see
        `localization`), `"settings"`. Without full annotation mAP and metrics are `None`, with
        it what is observed only; localization is of the digit scenes alone.
    """
    validation, names = data.validation, data.validation.label_names
    monitor = "val_mAP" if data.fully_annotated else "val_reciprocal_rank"
    # Only the digit scenes have one box a label.
    has_boxes = isinstance(validation, Digits)
    if has_boxes:
        scores, attention = _explain_all(model, validation.images)
    else:
        scores = model.predict(data.validation_images(config), verbose=0)
    metrics = observed = None
    if data.fully_annotated:
        metrics = label_metrics(validation.labels, scores, names)
    else:
        observed = observed_metrics(validation.labels, scores)
    places = None
    if has_boxes:
        image_size = validation.images.shape[1:3]
        places = localization(
            attention, model.patch_boxes, validation.labels, validation.boxes, image_size
        )
    best = max(rows, key=lambda row: row[monitor])
    report = {
        "val_mAP": metrics and metrics["mAP"],
        "best_epoch": {"epoch": int(best["epoch"]), monitor: best[monitor]},
        "epochs": len(rows),
        "minutes": round(sum(row["seconds"] for row in rows) / 60, 2),
        "parameters": model.num_parameters,
        "metrics": metrics,
        "observed": observed,
        "localization": places,
        "settings": config.settings(),
    }
    history = {name: [row[name] for row in rows] for name in ("loss", monitor)}
    draw_curves(history, score_columns=(monitor,)).savefig(folder / "curves.png", dpi=100)
    _attention_picture(config, model, data, scores).savefig(folder / "attention.png", dpi=100)
    folder.write_text("report.json", json.dumps(report, indent=2) + "\n")
    folder.write_text("report.md", _page(config, report))
    return report


def _explain_all(model, images):
    """Probabilities `(N, L)` and attention `(N, L, P)` of all images, batch by batch."""
    batches = [
        model.explain(images[start : start + _BATCH]) for start in range(0, len(images), _BATCH)
    ]
    return tuple(
        np.concatenate([batch[name] for batch in batches])
        for name in ("probabilities", "attention")
    )


def _attention_picture(config, model, data, scores):
    """The first validation images, once for each label known present, as in Fig. 3."""
    validation = data.validation
    rows, columns = np.nonzero(validation.labels > 0)
    rows, columns = rows[:_NUM_PICTURES], columns[:_NUM_PICTURES]
    images = {row: data.validation_image(row, config) for row in rows}
    attention = model.explain(np.stack(list(images.values())))["attention"]
    places = {row: place for place, row in enumerate(images)}
    heatmaps = attention_heatmap(
        attention[[places[row] for row in rows], columns],
        model.patch_boxes,
        model.image_size,
        fill="same",
    )
    titles = [
        f"{validation.label_names[column]}: {scores[row, column]:.2f}"
        for row, column in zip(rows, columns)
    ]
    return draw_attention(
        [images[row] for row in rows],
        heatmaps,
        titles,
        boxes=None
        if validation.boxes is None
        else [_boxes_of(validation, row, column) for row, column in zip(rows, columns)],
        lowest=1.0,
    )


def _boxes_of(validation, row, column):
    """Boxes `(K, 4)` of one label in one image."""
    boxes = np.asarray(validation.boxes[row])
    if isinstance(validation, Digits):
        return boxes[column]
    return boxes[np.asarray(validation.box_labels[row]) == column]


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
    lines += ["", "## Where the attention of a known label lies", ""]
    if places is not None:
        lines += [
            f"- its peak is in the label's box: {places['peak_in_box']:.1%} of the labels",
            f"- share of it inside the box: {places['attention_in_box']:.1%} "
            f"(even attention: {places['box_area']:.1%})",
            "",
        ]
    lines += ["![attention of known labels, with their probabilities](attention.png)"]
    lines += ["", "## Training", "", "![loss and validation mAP by epoch](curves.png)", ""]
    return "\n".join(lines)


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
