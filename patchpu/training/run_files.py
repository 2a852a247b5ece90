"""What the folder of a run tells those who only read it."""

import dataclasses
import json
import pathlib

import yaml


def saved_settings(folder):
    """Settings of the run in a folder, or `None` if none was begun there."""
    return read_settings(pathlib.Path(folder, "config.yaml"))


def run_of_model(path):
    """The run folder whose checkpoint a model is, or `None` for a model alone.

    Args:
        path: As of `model_file`.
    """
    path = pathlib.Path(path)
    in_run = path.parent.name.endswith("last") and path.name == "model.keras"
    return path.parents[1] if in_run else None


def finished_report(folder):
    """The report of a run that came to its end, or `None`."""
    path = pathlib.Path(folder, "report.json")
    if not path.exists():
        return None
    report = json.loads(path.read_text())
    # A run whose loss is no number any more writes its report before its last epoch.
    return report if report["epochs"] == report["settings"]["epochs"] else None


def read_environment(folder):
    """Where a run was begun: its command, commit, backend, machine and versions."""
    return json.loads(pathlib.Path(folder, "environment.json").read_text())


def read_settings(path):
    """The mapping in a run's config.yaml, or `None` if there is no such file.

    Raises:
        FileError: It is damaged, or no mapping.
    """
    # Not above: it imports Keras, for which `patchpu train --help` would wait.
    from keras_patchpu.utils.validation import FileError

    path = pathlib.Path(path)
    if not path.exists():
        return None
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FileError(f"{path} is damaged: {error}") from error
    if not isinstance(settings, dict):
        raise FileError(
            f"Expected {path} to hold the settings of a run. Received: {str(settings)[:80]!r}"
        )
    return settings


def differences(config, saved, place="folder"):
    """How saved settings differ from those of a `TrainConfig`: list of strings."""
    # Settings that a run of an earlier version did not have had the value of their default.
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    saved = {**defaults, **saved}
    return [
        f"{name}: {saved[name]!r} in the {place}, {value!r} now"
        for name, value in config.settings().items()
        if saved[name] != value
    ]
