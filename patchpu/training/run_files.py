"""What the folder of a run tells those who only read it."""

import json
import pathlib

from patchpu.training.config import read_settings


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
