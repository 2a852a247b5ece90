"""Runs a grid: each run in a process of its own, several at a time."""

import dataclasses
import importlib.util
import os
import pathlib
import subprocess
import sys
import time

import yaml

from keras_patchpu.utils.whole_files import write_whole
from patchpu.grids.ledger import line_differences, lines_by_run, read_ledger, write_ledger
from patchpu.grids.progress import GridProgress
from patchpu.training.lock import lock_folder
from patchpu.training.run_files import (
    differences,
    finished_report,
    read_environment,
    saved_settings,
)
from patchpu.training.signals import collected_signals

_SECONDS_BETWEEN_LOOKS = 0.2
_SECONDS_TO_END = 10
_LAST_LINES = 8


def run_grid(grid, output, rows=None, seeds=None, jobs=1, backend="tensorflow", start=None):
    """Runs what is not done yet of a grid, and keeps `ledger.csv` and `table.md` up to date.

    What is done is not run again, and a line in `ledger.csv` with the run's settings and backend
    is enough for that: the run's folder may be gone. What was begun goes on after its last epoch.
    A run that fails does not stop the others. SIGINT, SIGTERM and SIGHUP stop all; the same call
    goes on.

    In `output` are the run folders, NAME-seedSEED; `logs/` with each run's settings and what
    it printed; `ledger.csv`, `table.md` and `curves.csv`, written after every run.

    Args:
        grid: `Grid`.
        output: Folder; made if missing.
        rows, seeds: What to run of the grid, see `Grid.runs`. Default to `None`: all.
        jobs: Runs at a time. With more than one each gets its share of the cores, on
            TensorFlow and PyTorch. Defaults to `1`.
        backend: Keras backend of the runs. Defaults to `"tensorflow"`.
        start: Function from command, environment, log and lock file to a process, as
            `start_process`. Defaults to `None`: that one.

    Returns:
        List of strings, what to tell about each run that failed; empty if none did.

    Raises:
        ValueError: There is no such row, a folder or a line of the ledger is of a run with other
            settings or another backend, or somebody works in `output` already. Nothing is started
            then.
        SystemExit: Code 128 + the signal's number, once all processes have ended.
    """
    runs = grid.runs(rows, seeds)
    output = pathlib.Path(output)
    start = start or start_process
    (output / "logs").mkdir(parents=True, exist_ok=True)
    busy = f"Another process works in {output}: a grid, or a run that a killed one left"
    with lock_folder(output, busy) as lock, collected_signals() as received:
        done = _check(runs, output, backend)
        write_ledger(grid, output)
        queue = [run for run in runs if run not in done]
        progress = GridProgress(runs, done)
        running, failures = [], []
        try:
            while (queue or running) and not received:
                while queue and len(running) < jobs:
                    run, began = queue.pop(0), time.monotonic()
                    process = start(*_prepare(run, output, jobs, backend), lock.fileno())
                    running.append((run, process, began))
                ended = [job for job in running if job[1].poll() is not None]
                for job in ended:
                    running.remove(job)
                    run, process, began = job
                    report = finished_report(output / run.folder_name)
                    if process.poll() == 0 and report is not None:
                        write_ledger(grid, output)
                        progress.finished(run, report["val_mAP"], time.monotonic() - began)
                    else:
                        failures.append(_failure(run, output, process.poll()))
                        progress.failed(run)
                progress.live([(run, output / run.folder_name) for run, _, _ in running])
                if not ended:
                    time.sleep(_SECONDS_BETWEEN_LOOKS)
        finally:
            progress.close()
            _stop([process for _, process, _ in running])
    if received:
        print("stopped; the same command goes on", flush=True)
        raise SystemExit(128 + received[0])
    return failures


def start_process(command, environment, log, lock):
    """Starts one run.

    Args:
        command: List of strings.
        environment: Dict of strings.
        log: Path of the file that gets what the run prints, behind what is there.
        lock: Descriptor of the grid's lock. The run holds it, too: should this process be
            killed, no second grid meets the run that it left.

    Returns:
        `subprocess.Popen`.
    """
    with open(log, "a", encoding="utf-8") as file:
        file.write(f"$ {' '.join(command)}\n")
        file.flush()
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            pass_fds=[lock],
            start_new_session=True,  # Ctrl-C reaches this process alone, which ends the others
        )


def child_environment(jobs, backend):
    """Environment of a run: the backend, its share of the cores, and this very package."""
    program = importlib.util.find_spec("patchpu").origin
    path = [os.path.dirname(os.path.abspath(program)), os.environ.get("PYTHONPATH")]
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
    }
    if jobs > 1:
        threads = max(1, num_cores() // jobs)
        for name in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS"):
            environment.setdefault(name, str(threads))
    return environment


def num_cores():
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _check(runs, output, backend):
    """The runs that are done; an error names those that cannot be gone on with."""
    ledger = lines_by_run(read_ledger(output))
    done, refused = [], []
    for run in runs:
        folder = output / run.folder_name
        saved, report = saved_settings(folder), finished_report(folder)
        line = ledger.get((run.name, run.seed))
        wrong = []
        if saved is not None:
            wrong += differences(run.config, saved if report is None else report["settings"])
            was = read_environment(folder)["backend"]
            if was != backend:
                wrong.append(f"backend: {was!r} in the folder, {backend!r} now")
        if line is not None:
            wrong += line_differences(run, line)
            if line["backend"] != backend:
                wrong.append(f"backend: {line['backend']!r} in the ledger, {backend!r} now")
        if wrong:
            refused.append(f"{folder} ({'; '.join(wrong)})")
        elif report is not None or line is not None:
            done.append(run)
    if refused:
        raise ValueError(
            f"There are runs with other settings: {', '.join(refused)}. Take another folder for "
            "this grid, or delete these, and their lines in ledger.csv"
        )
    return done


def _prepare(run, output, jobs, backend):
    """Command, environment and log of a run; writes its settings."""
    folder = output / run.folder_name
    settings = output / "logs" / f"{run.folder_name}.yaml"
    values = dataclasses.asdict(run.config)
    del values["output"], values["resume"]
    write_whole(settings, yaml.safe_dump(values, sort_keys=False))
    command = [sys.executable, "-m", "patchpu", "train"]
    command += ["--config", str(settings), "--output", str(folder)]
    if saved_settings(folder) is not None:
        command.append("--resume")
    log = output / "logs" / f"{run.folder_name}.log"
    return command, child_environment(jobs, backend), log


def _failure(run, output, code):
    log = output / "logs" / f"{run.folder_name}.log"
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    lines = [line for line in text.splitlines() if line.strip()][-_LAST_LINES:]
    why = f"ended with code {code}" if code else "ended before its last epoch"
    return "\n".join([f"{run.name} seed {run.seed} {why}; {log} ends with", *lines])


def _stop(processes):
    """Ends processes; a run leaves whole files whenever it is ended."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(timeout=_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
