"""The model card of finished runs, or of a model alone."""

import dataclasses
import pathlib
import re

from keras_patchpu.models.load_classifier import load_classifier, model_file
from keras_patchpu.utils.validation import FileError
from keras_patchpu.utils.whole_files import check_output, write_whole
from patchpu.card.model_card import model_card
from patchpu.training.config import TrainConfig
from patchpu.training.progress import Progress
from patchpu.training.run_files import finished_report, read_environment


def write_card(models, output, overwrite, name, repository, license):
    """Writes the card of a model.

    Args:
        models: Finished run folders, the model's first, or one model.
        output: Path to write.
        overwrite: Whether to replace it.
        name, license: As of `model_card`.
        repository: `user/name` on the Hub, or `None`.

    Raises:
        ValueError: An argument is wrong, or the runs do not belong together.
        FileError: A file of a run is damaged.
    """
    output = pathlib.Path(output)
    check_output(output, overwrite)
    for option, value, pattern, wanted in (
        ("repository", repository, r"[\w.-]+/[\w.-]+", "user/name"),
        ("license", license, r"[a-z0-9.-]+", "a short name such as cc-by-4.0"),
    ):
        if value is not None and not re.fullmatch(pattern, value):
            raise ValueError(f"Expected --{option} to be {wanted}. Received: {value}")

    first = models[0]
    path = model_file(first)
    is_run = [pathlib.Path(folder, "config.yaml").is_file() for folder in models]
    if len(is_run) > 1 and not all(is_run):
        raise ValueError(
            "Expected one model, or run folders only. Received: "
            f"{models[is_run.index(False)]} among {len(is_run)}"
        )
    runs = []
    defaults = {field.name: field.default for field in dataclasses.fields(TrainConfig)}
    for folder in models if is_run[0] else ():
        try:
            report, environment = finished_report(folder), read_environment(folder)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FileError(
                f"report.json or environment.json in {folder} is damaged: {error}"
            ) from (error)
        if report is None:
            raise ValueError(
                f"The run in {folder} has not ended: it has no report.json of its last epoch. Go "
                "on with it by patchpu train --resume, or give its last/model.keras alone"
            )
        # Settings that a run of an earlier version did not have had the value of their default.
        report["settings"] = {**defaults, **report["settings"]}
        runs.append((report, environment))
    model = load_classifier(path)
    try:
        _check_runs(models, runs, model)
        text = model_card(
            model,
            runs,
            f"hf://{repository}" if repository else _loaded_as(first, path),
            name or _title(first, path, runs),
            license,
            None if runs else _saved_after(path),
        )
    except (AttributeError, KeyError, IndexError, TypeError) as error:
        raise FileError(
            f"report.json or environment.json in {first} is damaged, or not of this version: "
            f"{type(error).__name__}: {error}"
        ) from error
    write_whole(output, text)
    source = (
        f"written from {len(runs)} run{'s' * (len(runs) > 1)}" if runs else "from the model alone"
    )
    print(f"{output}: {source}")


def _title(name, path, runs):
    if runs:
        return pathlib.Path(name).resolve().name
    return name.removeprefix("hf://") if path.is_dir() else path.stem


def _loaded_as(name, path):
    return name if path.is_dir() else path.name


def _saved_after(path):
    """How far the run of a checkpoint had come, as text, or `None`."""
    if path.is_dir():
        return None
    try:
        progress = Progress.load(path.parent)
    except FileError:  # a file of that name of somebody else
        return None
    return progress and str(progress)


def _check_runs(folders, runs, model):
    """Raises a ValueError unless the runs differ by their seeds alone, and are of the model."""
    settings = [report["settings"] for report, _ in runs]
    for folder, other in zip(folders[1:], settings[1:]):
        differing = [
            f"{name}: {settings[0].get(name)!r} and {other.get(name)!r}"
            for name in {**settings[0], **other}
            if name != "seed" and settings[0].get(name) != other.get(name)
        ]
        if differing:
            raise ValueError(
                f"Expected runs of the same settings but for the seed. Received: {folders[0]} and "
                f"{folder} with {'; '.join(differing)}"
            )
    seeds = [values["seed"] for values in settings]
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"Expected runs of different seeds. Received: {seeds}")
    for report, _ in runs:
        if report["metrics"] is None:
            continue
        names = tuple(row["label"] for row in report["metrics"]["per_label"])
        if len(names) != model.num_labels or model.label_names not in (None, names):
            raise FileError(
                f"The report of a run is of other labels than {folders[0]}: {names[:10]}"
            )
