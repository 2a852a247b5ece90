"""What a grid would take: hours and disk, by a few timed steps."""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import yaml

from patchpu.grids.estimate import disk_bytes, hours, num_images, speed_key
from patchpu.grids.run_grid import child_environment, num_cores

_ERROR_LINES = 3


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
        values = {**config.settings(), "xla": config.xla}
        path.write_text(yaml.safe_dump(values))
        process = subprocess.run(
            [sys.executable, "-m", "patchpu.grids.estimate", str(path)],
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
