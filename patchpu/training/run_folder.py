"""What a run leaves on disk, and how it goes on from there."""

import csv
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
from importlib import metadata

import keras

from keras_patchpu.utils import distribution
from keras_patchpu.utils.whole_files import remove_unfinished, whole_file, write_whole
from patchpu.training.lock import lock_folder
from patchpu.training.progress import Progress
from patchpu.training.run_files import differences, saved_settings


class RunFolder:
    """The folder of one run.

    `config.yaml` and `environment.json` are written before the first step; after each epoch
    `metrics.csv` (one line an epoch), `best.keras`, and `last/`, the checkpoint; `report.md`,
    `report.json` and pictures at the end. Each file, and `last/`, is written whole, see
    `whole_file`.

    Args:
        path: Path of the folder.
        writes: Whether this process writes; of several that train together one does. The others
            get a folder of their own, which goes with this object. Defaults to `True`.
    """

    def __init__(self, path, writes=True):
        self.writes = writes
        if not writes:
            self._own = tempfile.TemporaryDirectory()
            path = self._own.name
        self.path = pathlib.Path(path)
        self._lock = None

    def __truediv__(self, name):
        return self.path / name

    def start(self, config):
        """Makes the folder of a new run, or opens that of a run to go on with, and holds it."""
        if not self.writes:
            return
        self.check(config)
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = self._locked()
        self.check(config)  # another run may have been quicker
        remove_unfinished(self.path)
        if config.resume:
            return
        self.write_text("environment.json", json.dumps(_environment(), indent=2) + "\n")
        self.write_text("config.yaml", config.to_yaml())

    def release(self):
        """Lets other runs into the folder, in which nothing unfinished is left."""
        if self._lock is not None:
            remove_unfinished(self.path)
            self._lock.close()
            self._lock = None

    def _locked(self):
        return lock_folder(
            self.path,
            f"Another run is writing into {self.path}. Wait until it ends, or give another "
            "folder by --output.",
        )

    def check(self, config):
        """Whether the folder is free for a new run, or holds the one to go on with.

        Raises:
            ValueError: The folder holds a run and `resume` is off; or there is none to
                go on with, or it had other settings; or another run is writing into it.
        """
        if not self.writes:
            return
        if self._lock is None and (self / ".lock").exists():
            self._locked().close()
        saved = saved_settings(self.path)
        if not config.resume:
            if saved is not None:
                raise ValueError(
                    f"{self.path} already holds a run. Go on with it by --resume, or give "
                    "another folder by --output."
                )
            return
        if saved is None:
            raise ValueError(
                f"There is no run to resume in {self.path}: config.yaml is missing. If the run "
                "was stopped before it wrote that, nothing is lost: start it without --resume."
            )
        differing = differences(config, saved)
        if differing:
            raise ValueError(
                f"The run in {self.path} has other settings ({'; '.join(differing)}). Resume it "
                "with its own, or start another folder by --output."
            )

    def write_text(self, name, text):
        write_whole(self / name, text)

    def save_picture(self, figure, name):
        with whole_file(self / name) as temporary:
            figure.savefig(temporary, dpi=100)

    def progress(self):
        """`Progress` of the checkpoint, or `None` where there is none."""
        return Progress.load(self / "last")

    def copy_from_first(self):
        """Gives the other processes of a run that goes on what the one that writes has."""
        for name in ("last/model.keras", "last/progress.json", "metrics.csv"):
            distribution.copy_from_first(self / name)

    def write_metrics(self, rows):
        if not self.writes:
            return
        with whole_file(self / "metrics.csv") as temporary, temporary.open("w", newline="") as file:
            # A run that goes on may know more of its later epochs than of the first.
            names = dict.fromkeys(name for row in rows for name in row)
            writer = csv.DictWriter(file, fieldnames=list(names))
            writer.writeheader()
            writer.writerows({**row, "epoch": int(row["epoch"])} for row in rows)


def _environment():
    """Versions, machine and commit of a run."""
    packages = ["keras_patchpu", "keras", "numpy", "scikit-learn", "tensorflow", "jax", "torch"]
    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    # An environment may lie in a checkout of something else, which does not track its files.
    is_own = bool(_git("ls-files", pathlib.Path(__file__).name))
    return {
        "command": " ".join(sys.argv),
        "commit": _git("rev-parse", "HEAD") if is_own else None,
        # Of the package: a ledger that is being written is no change.
        "uncommitted_changes": bool(
            is_own and _git("status", "--porcelain", "--untracked-files=no", ".")
        ),
        "backend": keras.backend.backend(),
        "devices": distribution.num_devices() or None,  # over which the run is distributed
        "processes": distribution.num_processes(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": versions,
    }


def _git(*arguments):
    """Output of git in the folder of this file; None where there is no checkout."""
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
