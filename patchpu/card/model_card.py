"""The page that goes with a model that is shared: what it is, how good, and what is not known."""

import dataclasses
import html
import json
import statistics

import yaml

from keras_patchpu._version import __version__
from patchpu.card.texts import CITATION, DATA, observed_text, split_text
from patchpu.training.config import TrainConfig
from patchpu.training.losses import LOSSES

_TAGS = ("keras_patchpu", "multi-label-classification", "single-positive-labels")
_DATASETS = {
    "digits": ("digit_scenes", "digit scenes of keras_patchpu"),
    "voc": ("pascal_voc_2012", "PASCAL VOC 2012"),
    "coco": ("coco_2014", "COCO 2014"),
    "table": ("own_images", "the author's own images"),
}


def model_card(model, runs=(), file=None, name="model", license=None, epochs=None):
    """A model card in the format of the Hugging Face Hub.

    Args:
        model: The classifier.
        runs: Pairs of report and environment of finished runs with the same settings but for
            the seed; the model is the first one's. Defaults to `()`: nothing is known but
            what the model tells.
        file: What users load: a path or `"hf://user/name"`. Defaults to `None`: "model.keras".
        name: Title. Defaults to `"model"`.
        license: Licence of the weights, as the Hub writes it, such as `"cc-by-4.0"`. Defaults
            to `None`: not stated.
        epochs: Epochs after which the model says it was saved. Defaults to `None`.

    Returns:
        Markdown with a head in YAML.
    """
    settings = runs[0][0]["settings"] if runs else None
    sections = [
        _summary(model, name, runs),
        *([_data(settings), _protocol(settings, runs)] if runs else [_known(model, epochs)]),
        *([_results(runs, _heat(model))] if runs else []),
        _labels(model, runs),
        _use(model, file or "model.keras"),
        _limits(model, runs),
        _unknown(settings, license),
        _licence(license),
        ["## Citation", "", "```bibtex", CITATION, "```"],
    ]
    body = "\n\n".join("\n".join(lines) for lines in sections)
    return f"---\n{_head(name, license, runs)}---\n\n{body}\n"


def _head(name, license, runs):
    head = {"library_name": "keras", "pipeline_tag": "image-classification"}
    if license:
        head["license"] = license
    head["tags"] = list(_TAGS)
    report = runs[0][0] if runs else None
    if report and report["metrics"] is not None:
        kind, title = _DATASETS[report["settings"]["dataset"]]
        metrics = [("mean_average_precision", "mAP after the last epoch", report["val_mAP"])]
        metrics += [
            (
                f"{average}_f1",
                f"{average} F1 at the threshold 0.5",
                report["metrics"][average]["f1"],
            )
            for average in ("micro", "macro")
        ]
        result = {
            "task": {"type": "image-classification", "name": "multi-label image classification"},
            "dataset": {"type": kind, "name": title, "split": "validation"},
            "metrics": [
                {"type": kind, "name": text, "value": round(value, 4)}
                for kind, text, value in metrics
            ],
        }
        head["model-index"] = [{"name": name, "results": [result]}]
    return yaml.safe_dump(head, sort_keys=False, allow_unicode=True)


def _summary(model, name, runs):
    kind = type(model).__name__
    what = (
        "patches pooled by one attention for each label" if _has_attention(model) else "ResNet-50"
    )
    height, width = model.image_size
    lines = [
        f"# {_text(name)}",
        "",
        f"Tells which of {model.num_labels} labels an image has, any number of them: a `{kind}` "
        f"({what}) of `keras_patchpu` {__version__}, for Keras 3. Images of {height} x "
        f"{width} pixels, {model.num_parameters:,} parameters.",
    ]
    if len(runs) > 1:
        seed = runs[0][0]["settings"]["seed"]
        lines[-1] += f" The model is that of seed {seed}; {len(runs)} seeds were trained."
    return lines


def _data(settings):
    return ["## Data", "", DATA[settings["dataset"]].format(**settings)]


def _protocol(settings, runs):
    environment = runs[0][1]
    versions = environment.get("versions", {})
    backend = environment.get("backend", "not recorded")
    given = settings.get("loss_arguments")
    lines = [
        "## Training and protocol",
        "",
        f"- Loss `{settings['loss']}`: {LOSSES[settings['loss']].title}"
        + (f", with {_text(str(given))}." if given else "."),
        f"- Labels that the loss saw: {observed_text(settings)}",
        f"- Split: {split_text(settings)}",
        f"- LAMB, learning rate {settings['learning_rate']:g} ({settings['schedule']}), weight "
        f"decay {settings['weight_decay']:g}, batches of {settings['batch_size']}, "
        f"{settings['epochs']} epochs, {settings['precision']}.",
        f"- Seeds: {', '.join(str(report['settings']['seed']) for report, _ in runs)}.",
        f"- keras_patchpu {versions.get('keras_patchpu')}, Keras {versions.get('keras')}, backend "
        f"{backend} {versions.get(backend) or ''}".rstrip()
        + (f"; commit {environment['commit']}." if environment.get("commit") else "."),
        "- Scored is the model after the last epoch. The run chose nothing on the validation "
        "images; whether its settings were chosen on them before, it cannot tell.",
    ]
    unused = {"patch": "resnet", "resnet": "patch"}[settings["model"]]
    other = {
        field.name: settings[field.name]
        for field in dataclasses.fields(TrainConfig)
        if not field.metadata["in_card"]
        and field.metadata["of"] != unused
        and settings.get(field.name, field.default) != field.default
    }
    text = ", ".join(f"`{key}: {value}`" for key, value in other.items())
    lines.append(f"- Settings other than the package's defaults: {text or 'none'}.")
    return lines


def _known(model, epochs):
    """What a file tells without its run."""
    lines = ["## What the file tells", ""]
    if model.compiled:
        lines.append(
            f"- It was compiled with the loss `{type(model.loss).__name__}` and the optimizer "
            f"`{type(model.optimizer).__name__}`."
        )
    else:
        lines.append("- It holds no loss and no optimizer.")
    if epochs is not None:
        lines.append(f"- It says that it was saved by a run {epochs}.")
    lines.append(
        "- How it was trained, on which images, and how good it is: **not known**. This card was "
        "made of the model file alone, without its run folder."
    )
    return lines


def _results(runs, heat):
    reports = [report for report, _ in runs]
    if reports[0]["metrics"] is None:
        return _observed_results(reports)
    columns = {
        "mAP, last epoch": lambda r: r["val_mAP"],
        "mAP, best epoch": lambda r: r["best_epoch"]["val_mAP"],
        "micro F1 at 0.5": lambda r: r["metrics"]["micro"]["f1"],
        "macro F1 at 0.5": lambda r: r["metrics"]["macro"]["f1"],
    }
    if reports[0]["localization"] is not None:
        columns[f"peak of {heat} in a box"] = lambda r: r["localization"]["peak_in_box"]
        columns[f"share of {heat} inside the boxes"] = lambda r: r["localization"][
            "attention_in_box"
        ]
    lines = ["## Results on the validation images", "", "In percent.", ""]
    lines += _seed_table(reports, columns)
    lines += [
        "",
        "The last epoch is the result; the best epoch was chosen on the very images that it is "
        "scored on. mAP is the mean over labels of the exact average precision.",
    ]
    return lines


def _observed_results(reports):
    columns = {
        f"recall at {k}": lambda r, k=k: r["observed"]["recall_at"][k]
        for k in reports[0]["observed"]["recall_at"]
    }
    columns["mean reciprocal rank"] = lambda r: r["observed"]["mean_reciprocal_rank"]
    return [
        "## Results on the validation images",
        "",
        "Of the validation images only some labels are known, so mAP, precision and F1 **cannot be "
        "told**. In percent, of the known labels among all labels by score:",
        "",
        *_seed_table(reports, columns),
    ]


def _seed_table(reports, columns):
    """A line a seed, and one of mean and spread."""
    rows = [[value(report) for value in columns.values()] for report in reports]
    names = [str(report["settings"]["seed"]) for report in reports]
    cells = [[name, *(f"{100 * value:.1f}" for value in row)] for name, row in zip(names, rows)]
    if len(rows) > 1:
        cells.append(["mean ± standard deviation", *map(_spread, zip(*rows))])
    return _table(["seed", *columns], cells)


def _labels(model, runs):
    names = model.label_names or tuple(map(str, range(model.num_labels)))
    columns, cells = ["label"], [[_text(name)] for name in names]
    reports = [report for report, _ in runs]
    if reports and reports[0]["metrics"] is not None:
        per_label = [report["metrics"]["per_label"] for report in reports]
        columns += ["validation images", "average precision, %"]
        for index, row in enumerate(cells):
            values = [labels[index]["average_precision"] for labels in per_label]
            row += [str(per_label[0][index]["positives"]), _spread(values)]
    if model.thresholds is not None:
        columns.append("threshold")
        for row, threshold in zip(cells, model.thresholds):
            row.append(f"{threshold:.4f}")
    lines = ["## Labels", ""]
    if model.label_names is None:
        lines += ["The model does not know the names of its labels; they are numbered.", ""]
    lines += _table(columns, cells)
    if model.thresholds is None:
        lines += ["", "The model has no thresholds: `patchpu predict` gives the three best labels."]
    return lines


def _use(model, file):
    lines = ["## How to use it", "", "With `keras_patchpu` installed" + _hub_hint(file) + ":", ""]
    if _has_attention(model):
        lines += [
            "```python",
            "from keras_patchpu.tagging import Tagger",
            "",
            f"tagger = Tagger({json.dumps(file)})",
            'for found in tagger(["image.jpg"]):  # paths, bytes or arrays',
            "    print(found.name, found.tags, found.scores, found.error)",
            "```",
            "",
            "or, for a folder of images and with the place of each label, `patchpu predict "
            f"{file} images/ --output tags.csv --boxes`.",
        ]
        return lines
    return [
        *lines,
        "```python",
        "from keras_patchpu.datasets import read_image",
        "from keras_patchpu.models import load_classifier",
        "",
        f"model = load_classifier({json.dumps(file)}, compile=False)",
        'image = read_image("image.jpg", model.image_size, model.image_fit)',
        "names = model.label_names or range(model.num_labels)",
        "print(dict(zip(names, model.predict(image[None])[0])))",
        "```",
    ]


def _hub_hint(file):
    return ", with its extra `hub`" if file.startswith("hf://") else ""


def _limits(model, runs):
    report = runs[0][0] if runs else None
    lines = ["## Limits", ""]
    if report is None or LOSSES[report["settings"]["loss"]].observes != "all labels":
        lines.append(
            "- "
            + ("If it was trained" if report is None else "Trained")
            + " on single positive labels, its probabilities are not calibrated: their order tells "
            "more than their size. They do not sum to 1 over the labels."
        )
    if report and report["metrics"] is not None:
        metrics = report["metrics"]
        lines.append(
            f"- At 0.5 it predicts {metrics['mean_predicted_labels']:.2f} labels an image, where "
            f"{metrics['mean_true_labels']:.2f} are true: precision "
            f"{metrics['micro']['precision']:.1%}, recall {metrics['micro']['recall']:.1%} (micro)."
        )
    if model.thresholds is None:
        lines.append(
            "- Which labels count as predicted is not decided in the model. Choose thresholds by "
            "images of your own with all their labels (`patchpu thresholds`)."
        )
    else:
        lines.append(
            "- A threshold is the probability from which on a label is predicted; 1.0 means that "
            "none could be found. They were chosen on images that the file does not name. On other "
            "images precision and recall differ: choose them again there (`patchpu thresholds`)."
        )
    lines += [
        "- It knows its labels and nothing else, and gives every image a probability of each of "
        "them, whatever is in it.",
        f"- Where a label is, is what {_heat(model)} points at: no outline, and it may lie on what "
        "often comes with the label.",
    ]
    if report and report["settings"]["dataset"] == "digits":
        lines.append("- It was trained on drawn scenes of digits, not on photographs.")
    return lines


def _unknown(settings, license):
    lines = ["## Not known", "", "To be said by who shares the model:", ""]
    if settings is None or settings["dataset"] == "table":
        lines.append("- where the images are from, who labelled them and how, and their licence;")
        lines.append("- how many images it was trained on, and how many show each label;")
    if license is None:
        lines.append("- the licence of the weights;")
    return [
        *lines,
        "- how it does on images of other sources, on rare cases and on different groups of "
        "people;",
        "- what it must not be used for.",
    ]


def _licence(license):
    stated = "is not stated" if license is None else f"is {_text(license)}"
    return [
        "## Licence",
        "",
        f"The licence of the weights {stated}. The code of `keras_patchpu` is under Apache-2.0.",
    ]


def _heat(model):
    return "its attention" if _has_attention(model) else "its Grad-CAM"


def _has_attention(model):
    return hasattr(model, "patch_extractor")


def _spread(values):
    """Mean ± standard deviation in percent, of one value the value."""
    mean = f"{100 * statistics.fmean(values):.1f}"
    return f"{mean} ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else mean


def _table(columns, rows):
    lines = [columns, ["---"] * len(columns), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]


def _text(text):
    """A name as plain text of a table: no Markdown, HTML or line break of its own."""
    text = html.escape(" ".join(str(text).split()), quote=False)
    return "".join(f"\\{letter}" if letter in r"\`*_{}[]()#+!|~$" else letter for letter in text)
