"""Table 1 of the paper, or another grid, from file to printed table."""

import importlib.resources
import pathlib
import sys

from patchpu.grids.dry_run import dry_run as text_of_dry_run
from patchpu.grids.grid import read_grid
from patchpu.grids.run_grid import run_grid


def run_table1(dataset, data_dir, config, output, seeds, rows, jobs, backend, dry_run):
    """Runs a grid and prints its table.

    Args:
        dataset: Name of the table's data set, or `None`.
        data_dir: As of `read_grid`.
        config: Path of a grid's file. `None`: the paper's Table 1.
        output: Folder of the runs. `None`: `runs/NAME`.
        seeds, rows: As `"0,1"` and `"a,b"`, or `None`: all.
        jobs, backend: As of `run_grid`.
        dry_run: Whether only to tell what it would take.

    Raises:
        ValueError: An argument is wrong, or as of `run_grid`.
        SystemExit: Code 1 if runs failed.
    """
    grid, output = _grid_and_output(dataset, data_dir, config, output)
    rows = None if rows is None else rows.split(",")
    seeds = None if seeds is None else _integers(seeds)
    if dry_run:
        print(text_of_dry_run(grid, output, rows, seeds, jobs, backend))
        return
    failures = run_grid(grid, output, rows, seeds, jobs, backend)
    print(f"\n{(output / 'table.md').read_text(encoding='utf-8')}\nledger: {output}/ledger.csv")
    if failures:
        print(f"\n{len(failures)} runs failed:", file=sys.stderr)
        for failure in failures:
            print("\n" + failure.replace("\n", "\n    "), file=sys.stderr)
        raise SystemExit(1)


def _grid_and_output(dataset, data_dir, config, output):
    if config is None:
        name = f"table1_{dataset or 'digits'}"
        path = importlib.resources.files("patchpu.grids") / f"{name}.yaml"
    else:
        path = pathlib.Path(config)
        name = path.stem
    grid = read_grid(path, data_dir)
    if dataset not in (None, grid.dataset):
        raise ValueError(
            f"Expected --dataset {grid.dataset}, which {path} is about. Received: {dataset}"
        )
    return grid, pathlib.Path(output or pathlib.Path("runs", name))


def _integers(text):
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(f"Expected --seeds as 0,1,2. Received: {text}") from error
