"""Trains in a folder whose disk becomes full after the first epoch, then has room again.

    PYTHONPATH=.:tests/helpers python tests/programs/full_disk.py FOLDER LOSS

FOLDER is on a small disk of its own. Prints a JSON object: the exit code and the message of
the command, what was saved and which files were there, and the exit code after the resume.
"""

import contextlib
import io
import json
import os
import pathlib
import sys

from kill_runs import config_of, short_runs

from patchpu.commands.train import main as train_main
from patchpu.training.checkpoint import Checkpoint
from patchpu.training.run_folder import RunFolder


def fill(path):
    """Takes all room that is left on the disk."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def command(options):
    """Exit code of `patchpu train` and what it said on stderr."""
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        try:
            train_main(options)
        except SystemExit as ended:
            return ended.code, errors.getvalue()
    return 0, errors.getvalue()


def main(folder, loss):
    folder = pathlib.Path(folder)
    filler, run = folder / "filler", folder / "run"

    begin = Checkpoint.on_epoch_begin

    def full(checkpoint, epoch, logs=None):
        begin(checkpoint, epoch, logs)
        if epoch == 1 and not filler.exists():
            fill(filler)

    Checkpoint.on_epoch_begin = full
    settings = folder / "settings.yaml"
    settings.write_text(config_of(run, loss, epochs=3).to_yaml())
    options = ["--config", str(settings), "--output", str(run), "--xla", "never"]
    code, message = command(options)
    found = {
        "code": code,
        "message": message,
        "saved": str(RunFolder(run).progress()),
        "files": sorted(os.listdir(run)),
        "lines": len((run / "metrics.csv").read_text().splitlines()) - 1,
    }
    filler.write_bytes(b"")
    found["code after the resume"], found["message after the resume"] = command(
        ["--resume", "--output", str(run), "--xla", "never"]
    )
    found["epochs in the end"] = RunFolder(run).progress().epochs
    print(json.dumps(found))


if __name__ == "__main__":
    with short_runs():
        main(sys.argv[1], sys.argv[2])
