"""What a run leaves on disk, and how it goes on from there."""

import csv
import dataclasses
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import time
from importlib import metadata

import keras

from keras_patchpu.experiments.config import read_settings


class RunFolder:
    """The folder of one run.

    `config.yaml` and `environment.json` are written before the first step;
    `metrics.csv` (one line an epoch), `last.keras` and `best.keras` after each epoch, with
    loss `wn` also `negatives.csv`; `report.md`, `report.json` and pictures at the end. Each
    file is written whole: to a temporary name first, then renamed.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)

    def __truediv__(self, name):
        return self.path / name

    def start(self, config):
        """Makes the folder of a new run; of a run to go on with there is nothing to do."""
        self.check(config)
        if config.resume:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        self.write_text("environment.json", json.dumps(_environment(), indent=2) + "\n")
        self.write_text("config.yaml", config.to_yaml())

    def check(self, config):
        """Whether the folder is free for a new run, or holds the one to go on with.

        Raises:
            ValueError: The folder holds a run and `resume` is off; or there is none to
                go on with, or it had other settings.
        """
        saved = self.saved_settings()
        if not config.resume:
            if saved is not None:
                raise ValueError(
                    f"{self.path} already holds a run. Go on with it by --resume, or give "
                    "another folder by --output."
                )
            return
        if saved is None:
            raise ValueError(f"There is no run to resume in {self.path}: config.yaml is missing.")
        # Settings that a run of an earlier version did not have had the value of their default.
        defaults = {field.name: field.default for field in dataclasses.fields(config)}
        saved = {**defaults, **saved}
        differing = [
            f"{name}: {saved[name]!r} in the folder, {value!r} now"
            for name, value in config.settings().items()
            if saved[name] != value
        ]
        if differing:
            raise ValueError(
                f"The run in {self.path} has other settings ({'; '.join(differing)}). Resume it "
                "with its own, or start another folder by --output."
            )

    def saved_settings(self):
        """Settings of the run in this folder, or None."""
        return read_settings(self / "config.yaml")

    def write_text(self, name, text):
        temporary = self / f".{name}.tmp"
        temporary.write_text(text)
        os.replace(temporary, self / name)

    def save_model(self, model, name):
        temporary = self / f".tmp-{name}"
        model.save(temporary)
        os.replace(temporary, self / name)

    def copy_model(self, source, target):
        temporary = self / f".tmp-{target}"
        shutil.copyfile(self / source, temporary)
        os.replace(temporary, self / target)

    def read_metrics(self):
        """Rows of `metrics.csv` as dicts of numbers."""
        path = self / "metrics.csv"
        if not path.exists():
            return []
        with path.open(newline="") as file:
            return [
                # A value that an epoch does not have is an empty cell.
                {key: float(value or "nan") for key, value in row.items()}
                for row in csv.DictReader(file)
            ]

    def write_metrics(self, rows):
        temporary = self / ".metrics.csv.tmp"
        with temporary.open("w", newline="") as file:
            # A run that goes on may know more of its later epochs than of the first.
            names = dict.fromkeys(name for row in rows for name in row)
            writer = csv.DictWriter(file, fieldnames=list(names))
            writer.writeheader()
            writer.writerows({**row, "epoch": int(row["epoch"])} for row in rows)
        os.replace(temporary, self / "metrics.csv")


class SaveEpoch(keras.callbacks.Callback):
    """After each epoch: a line of `metrics.csv`, `last.keras`, and `best.keras` where due.

    The line is written first and `last.keras` last, and the epochs done are read off
    `last.keras` alone: a run killed in between repeats the epoch and its line. Put it
    behind the callbacks whose values it saves.

    Args:
        folder: `RunFolder`.
        epochs_done: Epochs that the resumed model has behind it. Defaults to `0`.
        monitor: Value by which the best epoch is chosen, higher is better.
    """

    def __init__(self, folder, epochs_done=0, monitor="val_mAP"):
        super().__init__()
        self.folder = folder
        self.monitor = monitor
        self.rows = folder.read_metrics()[:epochs_done]

    def on_epoch_begin(self, epoch, logs=None):
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        row = {
            "epoch": epoch + 1,
            **(logs or {}),
            "learning_rate": float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)),
            "seconds": round(time.perf_counter() - self._started, 2),
        }
        best_before = max((row[self.monitor] for row in self.rows), default=float("-inf"))
        self.rows.append(row)
        self.folder.write_metrics(self.rows)
        if row[self.monitor] > best_before:
            self.folder.save_model(self.model, "best.keras")
        self.folder.save_model(self.model, "last.keras")


def _environment():
    """Versions, machine and commit of a run."""
    packages = ["keras_patchpu", "keras", "numpy", "scikit-learn", "tensorflow", "jax", "torch"]
    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "command": " ".join(sys.argv),
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "backend": keras.backend.backend(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": versions,
    }


def _git(*arguments):
    """Output of git about this package's own checkout; None where it is none."""
    try:
        result = subprocess.run(
            ["git", "-C", str(pathlib.Path(__file__).parent), *arguments],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()
