"""What a finished run tells: numbers as JSON, a page to read, pictures."""

import json

import numpy as np

from keras_patchpu.metrics import attention_heatmap, label_metrics, localization
from keras_patchpu.visualize import draw_attention, draw_curves

_NUM_PICTURES = 12
_BATCH = 250


def write_report(folder, config, model, validation, rows):
    """Writes `report.json`, `report.md`, `curves.png` and `attention.png`.

    The model is scored as it is after the last epoch, as in the paper. The best epoch
    is named too, but it was chosen on the very images that it is scored on.

    Args:
        folder: `RunFolder` to write into.
        config: `TrainConfig` of the run.
        model: The trained `PatchClassifier`.
        validation: Data with `images`, `labels`, `boxes` and `label_names`.
        rows: One dict for each epoch, as in `metrics.csv`.

    Returns:
        The content of `report.json`: `"val_mAP"`, `"best_epoch"`, `"metrics"` (see
        `label_metrics`), `"localization"` (see `localization`), `"settings"`.
    """
    scores, attention = _explain_all(model, validation.images)
    metrics = label_metrics(validation.labels, scores, validation.label_names)
    image_size = validation.images.shape[1:3]
    best = max(rows, key=lambda row: row["val_mAP"])
    report = {
        "val_mAP": metrics["mAP"],
        "best_epoch": {"epoch": int(best["epoch"]), "val_mAP": best["val_mAP"]},
        "epochs": len(rows),
        "minutes": round(sum(row["seconds"] for row in rows) / 60, 2),
        "parameters": model.count_params(),
        "metrics": metrics,
        "localization": localization(
            attention, model.patch_boxes, validation.labels, validation.boxes, image_size
        ),
        "settings": config.settings(),
    }
    history = {name: [row[name] for row in rows] for name in ("loss", "val_mAP")}
    draw_curves(history).savefig(folder / "curves.png", dpi=100)
    _attention_picture(model, validation, scores, attention).savefig(
        folder / "attention.png", dpi=100
    )
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


def _attention_picture(model, validation, scores, attention):
    """The first validation images, once for each true label, as in the paper's Fig. 3."""
    rows, columns = np.nonzero(validation.labels > 0)
    rows, columns = rows[:_NUM_PICTURES], columns[:_NUM_PICTURES]
    heatmaps = attention_heatmap(
        attention[rows, columns], model.patch_boxes, validation.images.shape[1:3], fill="same"
    )
    titles = [
        f"{validation.label_names[column]}: {scores[row, column]:.2f}"
        for row, column in zip(rows, columns)
    ]
    return draw_attention(
        validation.images[rows],
        heatmaps,
        titles,
        boxes=list(validation.boxes[rows, columns]),
        lowest=1.0,
    )


def _page(config, report):
    """`report.md`."""
    metrics, places = report["metrics"], report["localization"]
    lines = [
        f"# {config.dataset}, loss {config.loss}, seed {config.seed}",
        "",
        f"Validation mAP after the last epoch ({report['epochs']}): **{report['val_mAP']:.4f}**",
        "",
        f"Best epoch, chosen on these same images: {report['best_epoch']['epoch']} with "
        f"{report['best_epoch']['val_mAP']:.4f}. {report['parameters']:,} parameters, "
        f"{report['minutes']:.1f} minutes.",
        "",
    ]
    if metrics["labels_without_positives"]:
        names = ", ".join(metrics["labels_without_positives"])
        lines += [f"No image has these labels; they count 0 in the mean: {names}.", ""]
    lines += [
        "## Where the attention of a true label lies",
        "",
        f"- its peak is in the label's box: {places['peak_in_box']:.1%} of the labels",
        f"- share of it inside the box: {places['attention_in_box']:.1%} "
        f"(even attention: {places['box_area']:.1%})",
        "",
        "![attention of true labels, with their probabilities](attention.png)",
        "",
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
    lines += ["", "## Training", "", "![loss and validation mAP by epoch](curves.png)", ""]
    return "\n".join(lines)
