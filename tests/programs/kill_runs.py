"""Kills runs at random moments, resumes them, and tells in what they differ from one never killed.

    PYTHONPATH=.:tests/helpers python tests/programs/kill_runs.py FOLDER LOSS NUM SEED [--short]

Each run is a fork of this process, which has imported the framework but never used it: that saves
the import. Half of the kills come from outside at a random time, half from within, before a file
goes to the disk or before a file or folder is renamed; with `--short` all come from within. Prints
a JSON object; its `kills` is a list of dicts with what the kill met and what was wrong after the
resume.
"""

import contextlib
import csv
import dataclasses
import itertools
import json
import os
import pathlib
import random
import select
import signal
import sys
import time
import traceback

import keras
import numpy as np
import pytest
from tiny_runs import of_backbone, one_block, quick_steps, small_backbone_of_any_name, tiny

from keras_patchpu.utils.whole_files import latest_folder
from patchpu.training import features, run
from patchpu.training.run import train
from patchpu.training.run_folder import RunFolder

BACKBONE = "backbone"  # for LOSS: weak negatives over a frozen backbone
SETTINGS = {
    "epochs": 3,
    "num_train": 32,
    "num_validation": 40,
    "deterministic": True,
    "checkpoint_minutes": 0.0,
}


def config_of(folder, loss, **changes):
    """A run of 12 steps that saves after each of them."""
    if loss == BACKBONE:
        return of_backbone(folder, **{**SETTINGS, "loss": "wn", **changes})
    return tiny(folder, **{**SETTINGS, "loss": loss, **changes})


def prepare_backbone():
    """Of a run over a frozen backbone all epochs are saved, and features lie in files."""
    small_backbone_of_any_name()
    run._SECONDS_BETWEEN, features.MEMORY_BYTES = 0.0, 0


@contextlib.contextmanager
def short_runs():
    """While it lasts, runs have 4 steps, which are not compiled, and their pictures are empty."""
    with quick_steps(), pytest.MonkeyPatch.context() as patch:
        for name, value in {"epochs": 2, "num_train": 16, "num_validation": 10}.items():
            patch.setitem(SETTINGS, name, value)
        patch.setattr(RunFolder, "save_picture", lambda run, _, name: run.write_text(name, ""))
        yield


def fork(function, *arguments):
    """Starts a process that calls the function; returns its number."""
    pid = os.fork()
    if pid:
        return pid
    try:
        function(*arguments)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def ended(pid, seconds):
    """Waits for the end of a process; whether it came in time."""
    descriptor = os.pidfd_open(pid)
    try:
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)


def exit_status(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def at_each_write(act):
    """Calls a function before each time that something goes to the disk or is renamed."""
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor):
        act()
        fsync(descriptor)

    def noted_replace(source, target):
        act()
        replace(source, target)

    os.fsync, os.replace = noted_fsync, noted_replace


def count_writes(folder, loss):
    """Trains, and writes how often something went to the disk or was renamed."""
    count = itertools.count()
    at_each_write(lambda: next(count))
    train(config_of(folder, loss), verbose=0)
    folder.with_suffix(".writes").write_text(str(next(count)))


def die_at_write(folder, loss, number):
    """Trains until SIGKILL just before the n-th of these."""
    count = itertools.count(1)

    def act():
        if next(count) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    at_each_write(act)
    train(config_of(folder, loss), verbose=0)


def result(folder):
    """What a run ended with, but for times."""
    report = json.loads((folder / "report.json").read_text())
    del report["minutes"]
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        del row["seconds"]
    return {"report": report, "metrics": rows}


def weights(folder, name):
    model = keras.saving.load_model(folder / name)
    return [
        keras.ops.convert_to_numpy(variable)
        for variable in [*model.weights, *model.optimizer.variables]
    ]


def compare(whole, folder, found):
    """Writes a list of what differs; in a fork, since it uses the framework."""
    wrong = [name for name, value in result(whole).items() if result(folder)[name] != value]
    for name in ("last/model.keras", "best.keras"):
        pairs = zip(weights(whole, name), weights(folder, name), strict=True)
        if not all(np.array_equal(one, other) for one, other in pairs):
            wrong.append(name)
    files = [{str(path.relative_to(of)) for path in of.rglob("*")} for of in (whole, folder)]
    wrong += sorted(files[0] ^ files[1])
    found.write_text(json.dumps(wrong))


def kill(run, loss, at_write=None, after_seconds=None):
    """Begins a run and kills it; returns what the kill met."""
    if at_write is not None:
        exit_status(fork(die_at_write, run, loss, at_write))
    else:
        pid = fork(train, config_of(run, loss), 0)
        ended(pid, after_seconds)
        os.kill(pid, signal.SIGKILL)  # a process that has ended waits for `exit_status`
        exit_status(pid)
    return {
        "begun": (run / "config.yaml").exists(),
        "saved": latest_folder(run / "last").exists(),
        "reported": (run / "report.json").exists(),
        "unfinished": sorted(path.name for path in [*run.glob(".tmp-*"), *run.glob(".former-*")]),
    }


def resume(run, loss, begun, whole):
    """Goes on with a killed run; returns how that ended and what differs from the whole one."""
    again = dataclasses.replace(config_of(run, loss), resume=begun)
    found = run.with_suffix(".json")
    code = exit_status(fork(train, again, 0))
    if code == 0:
        code = exit_status(fork(compare, whole, run, found))
    return {"code": code, "wrong": json.loads(found.read_text()) if code == 0 else None}


def main(folder, loss, num_kills, seed, short=False):
    if loss == BACKBONE:
        prepare_backbone()
    folder = pathlib.Path(folder)
    moment = random.Random(seed)
    whole = folder / "whole"
    started = time.monotonic()
    if exit_status(fork(count_writes, whole, loss)):
        raise SystemExit("the run never killed failed")
    duration = time.monotonic() - started
    num_writes = int(whole.with_suffix(".writes").read_text())

    # From within at writes all over the run, more of them at its start: each kind of moment is met.
    within = [number for number in range(num_kills) if short or number % 2 == 1]
    writes = np.geomspace(1, num_writes, len(within)).round().astype(int).tolist()
    if len(within) == 1:
        writes = [num_writes // 2]
    at_write = dict(zip(within, writes))
    kills = []
    for number in range(num_kills):
        killed = folder / f"run-{number}"
        met = kill(killed, loss, at_write.get(number), moment.uniform(0, duration))
        kills.append({**met, **resume(killed, loss, met["begun"], whole)})
        print(json.dumps(kills[-1]), file=sys.stderr, flush=True)
    print(json.dumps({"kills": kills}))


if __name__ == "__main__":
    arguments = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    if sys.argv[5:] == ["--short"]:
        with short_runs():
            main(*arguments, short=True)
    else:
        one_block()
        main(*arguments)
