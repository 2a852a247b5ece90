"""The command `patchpu card`: the page that goes with a model that is shared."""

import dataclasses
import pathlib
import re
import zipfile

from keras_patchpu.command import add_overwrite, user_errors
from keras_patchpu.validation import FileError
from keras_patchpu.whole_files import check_output, write_whole

# Keras and what imports it stand inside the functions, so that `--help` is quick.


def card(arguments):
    """The command `patchpu card`.

    Args:
        arguments: List of strings, without the command's name.

    Raises:
        SystemExit: Code 2 and a message on stderr for what a user can mend; code 0 after
            `--help`.
    """
    options = _parser().parse_args(arguments)
    with user_errors("patchpu card"):
        _card(options)


def _parser():
    from jsonargparse import ArgumentParser, DefaultHelpFormatter

    parser = ArgumentParser(
        prog="patchpu card",
        description="Write a model card in the format of the Hugging Face Hub. It says, too, what "
        "is not known.",
        formatter_class=DefaultHelpFormatter,
    )
    parser.add_argument(
        "models",
        type=str,
        nargs="+",
        help="A finished run folder; further ones of the same settings and other seeds give the "
        "spread of the results, and the model is the first one's. Or a model alone: a .keras file, "
        "or hf://user/name.",
    )
    parser.add_argument("--output", type=str, default="README.md", help="Where to write.")
    add_overwrite(parser)
    parser.add_argument(
        "--name", type=str | None, default=None, help="Title. null: the name of folder or file."
    )
    parser.add_argument(
        "--repository",
        type=str | None,
        default=None,
        help="user/name on the Hub, for the lines that show how to load the model.",
    )
    parser.add_argument(
        "--license",
        type=str | None,
        default=None,
        help="Licence of the weights as the Hub writes it, such as cc-by-4.0. null: not stated.",
    )
    return parser


def _card(options):
    output = pathlib.Path(options.output)
    check_output(output, options.overwrite)
    for name, pattern in (("repository", r"[\w.-]+/[\w.-]+"), ("license", r"[a-z0-9.-]+")):
        value = options[name]
        if value is not None and not re.fullmatch(pattern, value):
            wanted = "user/name" if name == "repository" else "a short name such as cc-by-4.0"
            raise ValueError(f"Expected --{name} to be {wanted}. Received: {value}")

    from keras_patchpu.experiments.config import TrainConfig
    from keras_patchpu.experiments.ledger import finished_report, read_environment
    from keras_patchpu.model_card import model_card
    from keras_patchpu.models.load_classifier import load_classifier, model_file

    first = options.models[0]
    path = model_file(first)
    is_run = [pathlib.Path(name, "config.yaml").is_file() for name in options.models]
    if len(is_run) > 1 and not all(is_run):
        raise ValueError(
            "Expected one model, or run folders only. Received: "
            f"{options.models[is_run.index(False)]} among {len(is_run)}"
        )
    runs = []
    defaults = {field.name: field.default for field in dataclasses.fields(TrainConfig)}
    for name in options.models if is_run[0] else ():
        try:
            report, environment = finished_report(name), read_environment(name)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FileError(f"report.json or environment.json in {name} is damaged: {error}") from (
                error
            )
        if report is None:
            raise ValueError(
                f"The run in {name} has not ended: it has no report.json of its last epoch. Go on "
                "with it by patchpu train --resume, or give its last.keras alone"
            )
        # Settings that a run of an earlier version did not have had the value of their default.
        report["settings"] = {**defaults, **report["settings"]}
        runs.append((report, environment))
    model = load_classifier(path)
    try:
        _check_runs(options.models, runs, model)
        text = model_card(
            model,
            runs,
            f"hf://{options.repository}" if options.repository else _loaded_as(first, path),
            options.name or _title(first, path, runs),
            options.license,
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
    """What a file says of the progress of its run, as text, or `None`."""
    from keras_patchpu.experiments.save_progress import Progress

    if path.is_dir():
        return None
    with zipfile.ZipFile(path) as archive:
        comment = archive.comment
    try:
        return str(Progress.from_bytes(comment)) if comment else None
    except (TypeError, ValueError):  # a comment of somebody else
        return None


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
