"""The page that goes with a model that is shared: what it is, how good, and what is not known."""

import dataclasses
import functools
import html
import importlib.resources
import json
import math
import operator
import statistics
import typing

import jinja2
from huggingface_hub import EvalResult, ModelCardData

from keras_patchpu._version import __version__
from patchpu.card.texts import CITATION, DATA, observed_text, pretrained_text, split_text
from patchpu.grids.table import with_spread
from patchpu.training.config import TrainConfig
from patchpu.training.losses import LOSSES

_TAGS = ("keras_patchpu", "multi-label-classification", "single-positive-labels")
_DATASETS = {
    "digits": ("digit_scenes", "digit scenes of keras_patchpu"),
    "voc": ("pascal_voc_2012", "PASCAL VOC 2012"),
    "coco": ("coco_2014", "COCO 2014"),
    "table": ("own_images", "the author's own images"),
}
_ARCHITECTURES = {
    "PatchClassifier": "patches pooled by one attention for each label",
    "BackboneClassifier": "the places of a pretrained network's map pooled by one attention for "
    "each label",
    "ResNetClassifier": "ResNet-50",
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
    reports = [report for report, _ in runs]
    attention = hasattr(model, "patch_boxes")
    heat = "its attention" if attention else "its Grad-CAM"
    values = {
        "head": _head(name, license, reports).to_yaml(),
        "name": name,
        "version": __version__,
        "model": model,
        "kind": type(model).__name__,
        "attention": attention,
        "architecture": _ARCHITECTURES.get(type(model).__name__, "a class of its own"),
        "heat": heat,
        "epochs": epochs,
        "report": None,
        "reports": reports,
        "labels": _labels(model, reports),
        "file": file or "model.keras",
        "full_labels": bool(runs)
        and LOSSES[reports[0]["settings"]["loss"]].observes == "all labels",
        "license": license,
        "pretrained": pretrained_text(reports[0]["settings"]) if runs else None,
        "citation": CITATION,
    }
    if runs:
        values |= _of_runs(reports, runs[0][1], heat)
    return _template().render(values)


def _template():
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown; names go through `text`
    )
    environment.filters |= {"text": _text, "json": json.dumps}
    text = importlib.resources.files(__package__).joinpath("card.md").read_text(encoding="utf-8")
    return environment.from_string(text)


def _head(name, license, reports):
    results = []
    if reports and reports[0]["metrics"] is not None:
        kind, title = _DATASETS[reports[0]["settings"]["dataset"]]
        metrics = reports[0]["metrics"]
        scores = {
            "mean_average_precision": ("mAP after the last epoch", reports[0]["val_mAP"]),
            "micro_f1": ("micro F1 at the threshold 0.5", metrics["micro"]["f1"]),
            "macro_f1": ("macro F1 at the threshold 0.5", metrics["macro"]["f1"]),
        }
        results = [
            EvalResult(
                task_type="image-classification",
                task_name="multi-label image classification",
                dataset_type=kind,
                dataset_name=title,
                dataset_split="validation",
                metric_type=metric,
                metric_name=text,
                metric_value=round(value, 4),
            )
            for metric, (text, value) in scores.items()
        ]
    return ModelCardData(
        library_name="keras",
        pipeline_tag="image-classification",
        license=license,
        tags=list(_TAGS),
        model_name=name if results else None,
        eval_results=results or None,
    )


def _of_runs(reports, environment, heat):
    """What the template says of runs beside their reports."""
    settings = reports[0]["settings"]
    versions, backend = environment.get("versions", {}), environment.get("backend", "not recorded")
    software = [
        f"keras_patchpu {versions.get('keras_patchpu')}, Keras {versions.get('keras')}, backend "
        f"{backend} {versions.get(backend) or ''}".rstrip()
    ]
    if environment.get("commit"):
        software.append(f"commit {environment['commit']}")
    return {
        "report": reports[0],
        "settings": settings,
        "seeds": [report["settings"]["seed"] for report in reports],
        "data": DATA[settings["dataset"]].format(**settings),
        "loss": LOSSES[settings["loss"]].title,
        "observed": observed_text(settings),
        "split": split_text(settings),
        "software": "; ".join(software),
        "other_settings": _other_settings(settings),
        "results": _results(reports, heat),
    }


def _other_settings(settings):
    other = {
        field.name: settings[field.name]
        for field in dataclasses.fields(TrainConfig)
        if not field.metadata["in_card"]
        and _is_read(field.metadata["of"], settings["model"])
        and settings.get(field.name, field.default) != field.default
    }
    return ", ".join(f"`{key}: {value}`" for key, value in other.items())


def _is_read(of, model):
    """Whether a setting that models of these names read is read by a model."""
    models = typing.get_args(TrainConfig.__annotations__["model"])
    of = set((of or "").split(", "))
    return model in of or not of & set(models)


def _results(reports, heat):
    """A line a seed, and one of mean and spread."""
    columns = _observed_scores(reports[0]) if reports[0]["metrics"] is None else _scores(heat)
    if reports[0]["localization"] is None:
        columns = {head: keys for head, keys in columns.items() if keys[0] != "localization"}
    found = [
        [functools.reduce(operator.getitem, keys, report) for keys in columns.values()]
        for report in reports
    ]
    rows = [
        [str(report["settings"]["seed"]), *(_percent([value]) for value in values)]
        for report, values in zip(reports, found)
    ]
    if len(found) > 1:
        rows.append(["mean ± standard deviation", *map(_percent, zip(*found))])
    return _table(["seed", *columns], rows)


def _scores(heat):
    """Dict from a column's head to the keys that lead to its value in a report."""
    return {
        "mAP, last epoch": ("val_mAP",),
        "mAP, best epoch": ("best_epoch", "val_mAP"),
        "micro F1 at 0.5": ("metrics", "micro", "f1"),
        "macro F1 at 0.5": ("metrics", "macro", "f1"),
        f"peak of {heat} in a box": ("localization", "peak_in_box"),
        f"share of {heat} inside the boxes": ("localization", "attention_in_box"),
    }


def _observed_scores(report):
    """As `_scores`, where only some labels are known."""
    recalls = report["observed"]["recall_at"]
    columns = {f"recall at {k}": ("observed", "recall_at", k) for k in recalls}
    return {**columns, "mean reciprocal rank": ("observed", "mean_reciprocal_rank")}


def _labels(model, reports):
    names = model.label_names or tuple(map(str, range(model.num_labels)))
    columns = {"label": [_text(name) for name in names]}
    if reports and reports[0]["metrics"] is not None:
        per_label = [report["metrics"]["per_label"] for report in reports]
        columns["validation images"] = [str(label["positives"]) for label in per_label[0]]
        columns["average precision, %"] = [
            _percent([label["average_precision"] for label in seeds]) for seeds in zip(*per_label)
        ]
    if model.thresholds is not None:
        columns["threshold"] = [f"{threshold:.4f}" for threshold in model.thresholds]
    return _table(columns, zip(*columns.values()))


def _percent(values):
    """Mean ± standard deviation in percent, of one value the value."""
    values = [100 * value for value in values]
    return with_spread(
        statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else math.nan
    )


def _table(columns, rows):
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _text(text):
    """A name as plain text of a table: no Markdown, HTML or line break of its own."""
    text = html.escape(" ".join(str(text).split()), quote=False)
    return "".join(f"\\{letter}" if letter in r"\`*_{}[]()#+!|~$" else letter for letter in text)
