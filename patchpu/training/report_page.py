"""What a finished run tells, as a page to read."""


def report_page(config, report):
    """The text of `report.md`.

    Args:
        config: `TrainConfig` of the run.
        report: As of `write_report`.

    Returns:
        String.
    """
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
    heat = heat_name(config)
    lines += ["", f"## Where the {heat} of a known label lies", ""]
    if places is not None:
        lines += _places_lines(places)
    lines += [f"![{heat} of known labels, with their probabilities](attention.png)"]
    if places is not None and "sharpened" in places:
        lines += _sharpened_lines(config, places)
    if report["weak_negatives"] is not None:
        lines += _negatives_lines(report["weak_negatives"], report["epochs"])
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


def _sharpened_lines(config, places):
    """The numbers of the sharpened heat and its picture."""
    patches, finer = "patch", ", of patches at half the step,"
    if config.model == "backbone":
        patches, finer = "place", ""
    return [
        "",
        f"Sharpened, beside the attention itself: the attention of each {patches} times its own "
        f"probability of the label{finer} and multiplied over the resolutions instead of added:",
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


def _negatives_lines(quality, epochs):
    """How right the weak negatives were after the last epoch of which that is known."""
    epoch = quality["epoch"]
    names = {"precision": "precision", "recall": "recall", "auc": "AUC"}
    values = [
        f"{head} {'not defined' if quality[name] is None else format(quality[name], '.3f')}"
        for name, head in names.items()
    ]
    return [
        "",
        "## Weak negatives of the first training images, after "
        f"{'the last epoch' if epoch == epochs else f'epoch {epoch}'}",
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


def heat_name(config):
    """What tells where a model's labels are."""
    return "Grad-CAM" if config.model == "resnet" else "attention"
