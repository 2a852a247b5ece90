"""The command `patchpu table1`: Table 1 of the paper, or any other grid of runs."""

import importlib.resources
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import yaml

from keras_patchpu.command import add_flag, user_errors
from keras_patchpu.experiments.estimate import disk_bytes, hours, num_images, speed_key
from keras_patchpu.experiments.grid import read_grid
from keras_patchpu.experiments.run_grid import child_environment, num_cores, run_grid

# This process waits for others, maybe for days: nothing here imports a framework.

_DATASETS = ("digits", "voc", "coco")
_BACKENDS = ("tensorflow", "jax", "torch")
_ERROR_LINES = 3


def table1(arguments):
    """The command `patchpu table1`.

    Args:
        arguments: List of strings, without the command's name.

    Raises:
        SystemExit: Code 2 and a message on stderr for what a user can mend; code 1 if runs
            failed; 128 + the signal's number if it was stopped; code 0 after `--help`.
    """
    options = _parser().parse_args(arguments)
    with user_errors("patchpu table1"):
        grid, output = _grid_and_output(options)
        rows = None if options.rows is None else options.rows.split(",")
        seeds = None if options.seeds is None else _integers(options.seeds)
        jobs, backend = options.jobs, options.backend
        if options.dry_run:
            print(dry_run(grid, output, rows, seeds, jobs, backend))
            return
        failures = run_grid(grid, output, rows, seeds, jobs, backend)
    print(f"\n{(output / 'table.md').read_text(encoding='utf-8')}\nledger: {output}/ledger.csv")
    if failures:
        print(f"\n{len(failures)} runs failed:", file=sys.stderr)
        for failure in failures:
            print("\n" + failure.replace("\n", "\n    "), file=sys.stderr)
        raise SystemExit(1)


def _parser():
    from typing import Literal

    from jsonargparse import ArgumentParser, DefaultHelpFormatter
    from jsonargparse.typing import PositiveInt

    parser = ArgumentParser(
        prog="patchpu table1",
        description="Run Table 1 of the paper, or another grid of runs, and write a ledger and a "
        "table. What is done is not run again: after a kill give the same command.",
        formatter_class=DefaultHelpFormatter,
    )
    parser.add_argument(
        "--dataset",
        type=Literal[_DATASETS] | None,
        default=None,
        help="Data set of the table. null: digits, or the one of --config.",
    )
    parser.add_argument(
        "--data-dir", type=str | None, default=None, help="As of `patchpu train` (voc, coco)."
    )
    parser.add_argument(
        "--config",
        type=str | None,
        default=None,
        help="YAML file of a grid. null: the paper's Table 1. Others are in the folder configs.",
    )
    parser.add_argument(
        "--output", type=str | None, default=None, help="Folder of the runs. null: runs/NAME."
    )
    parser.add_argument(
        "--seeds", type=str | None, default=None, help="As 0,1,2. null: those of the grid."
    )
    parser.add_argument(
        "--rows", type=str | None, default=None, help="Names of rows, as a,b. null: all."
    )
    parser.add_argument(
        "--jobs", type=PositiveInt, default=1, help="Runs at a time, sharing the cores."
    )
    parser.add_argument(
        "--backend",
        type=Literal[_BACKENDS],
        default=os.environ.get("KERAS_BACKEND", "tensorflow"),
        help="Keras backend of all runs; KERAS_BACKEND changes the default.",
    )
    add_flag(
        parser,
        "dry-run",
        "Print the grid, and hours and disk that it needs by a few timed steps; run nothing.",
    )
    return parser


def _grid_and_output(options):
    if options.config is None:
        name = f"table1_{options.dataset or 'digits'}"
        path = importlib.resources.files("keras_patchpu.experiments") / "grids" / f"{name}.yaml"
    else:
        path = pathlib.Path(options.config)
        name = path.stem
    grid = read_grid(path, options.data_dir)
    if options.dataset not in (None, grid.dataset):
        raise ValueError(
            f"Expected --dataset {grid.dataset}, which {path} is about. Received: {options.dataset}"
        )
    return grid, pathlib.Path(options.output or pathlib.Path("runs", name))


def _integers(text):
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(f"Expected --seeds as 0,1,2. Received: {text}") from error


def dry_run(grid, output, rows=None, seeds=None, jobs=1, backend="tensorflow", measure=None):
    """What a grid would take, as text. Downloads and writes nothing.

    Every kind of run (model, loss, sizes) is timed once by `estimate.measure`, on random
    images. Reading images, and runs that slow each other down, are not in it.

    Args:
        grid: `Grid`.
        output: Folder that the runs would go to.
        rows, seeds, jobs, backend: As of `run_grid`.
        measure: Function from a `TrainConfig` to the dict of `estimate.measure`, or to a
            string that says why it could not. Defaults to `None`: a process of its own, as
            the runs have.

    Returns:
        String.
    """
    runs = grid.runs(rows, seeds)
    measure = measure or (lambda config: _measure(config, jobs, backend))
    measured, lines = {}, []
    total_hours = total_bytes = 0.0
    unknown = []
    for name in dict.fromkeys(run.name for run in runs):
        own = [run for run in runs if run.name == name]
        config = own[0].config
        key = speed_key(config)
        if key not in measured:
            print(f"timing {name} ...", file=sys.stderr, flush=True)
            measured[key] = measure(config)
        found = measured[key]
        cells = [name, ", ".join(str(run.seed) for run in own), str(config.epochs)]
        if isinstance(found, str) or num_images(config) is None:
            unknown.append(f"{name}: {found if isinstance(found, str) else 'how many images?'}")
            lines.append(cells + ["?"] * 4)
            continue
        row_hours, row_bytes = len(own) * hours(config, found), len(own) * disk_bytes(config, found)
        total_hours += row_hours
        total_bytes += row_bytes
        lines.append(
            [
                *cells,
                f"{found['parameters']:,}",
                f"{1000 * found['step_seconds']:.1f}",
                f"{row_hours:.2f}",
                f"{row_bytes / 1e9:.3f}",
            ]
        )
    heads = ["row", "seeds", "epochs", "parameters", "ms a step", "hours", "GB"]
    free = shutil.disk_usage(_existing(output)).free
    text = [
        f"{grid.dataset}: {len(runs)} runs into {output}, {jobs} at a time, {backend}",
        "",
        *_aligned([heads, *lines]),
        "",
        f"together {total_hours / jobs:.1f} hours with {jobs} at a time on {num_cores()} cores, "
        f"{total_bytes / 1e9:.2f} GB of {free / 1e9:.0f} GB free",
        "Hours are of training steps and predictions on random images, nothing else running.",
        *unknown,
    ]
    return "\n".join(text)


def _measure(config, jobs, backend):
    """`estimate.measure` in a process like a run's; a string if that fails."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "settings.yaml")
        values = {**config.settings(), "xla": config.xla, "rematerialize": config.rematerialize}
        path.write_text(yaml.safe_dump(values))
        process = subprocess.run(
            [sys.executable, "-m", "keras_patchpu.experiments.estimate", str(path)],
            capture_output=True,
            check=False,
            text=True,
            env=child_environment(jobs, backend),
        )
    if process.returncode:
        return "not timed: " + " ".join(process.stderr.strip().splitlines()[-_ERROR_LINES:])
    return json.loads(process.stdout.splitlines()[-1])


def _existing(path):
    """The path, or the nearest folder above it that is there."""
    path = pathlib.Path(path).absolute()
    return next(parent for parent in [path, *path.parents] if parent.exists())


def _aligned(rows):
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]
