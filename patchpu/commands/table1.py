"""The command `patchpu table1`: Table 1 of the paper, or any other grid of runs."""

import os
from typing import Literal

from jsonargparse.typing import PositiveInt

from patchpu.commands.options import run_command


def main(arguments):
    run_command(table1, arguments)


def table1(
    dataset: Literal["digits", "voc", "coco"] | None = None,
    data_dir: str | None = None,
    config: str | None = None,
    output: str | None = None,
    seeds: str | None = None,
    rows: str | None = None,
    jobs: PositiveInt = 1,
    backend: Literal["tensorflow", "jax", "torch"] = os.environ.get("KERAS_BACKEND", "tensorflow"),
    dry_run: bool = False,
):
    """Run Table 1 of the paper, or another grid of runs, and write a ledger and a table.

    Finished runs are skipped. Interrupted runs resume when the same command is given again.

    Args:
        dataset: Data set of the table. null: digits, or the one of --config.
        data_dir: As of `patchpu train` (voc, coco).
        config: YAML file of a grid. null: the paper's Table 1. Others are in the folder configs.
        output: Folder of the runs. null: runs/NAME.
        seeds: As 0,1,2. null: those of the grid.
        rows: Names of rows, as a,b. null: all.
        jobs: Runs at a time, sharing the cores.
        backend: Keras backend of all runs; KERAS_BACKEND changes the default.
        dry_run: Print the grid, and hours and disk that it needs by a few timed steps; run
            nothing.
    """
    from patchpu.grids.table1 import run_table1

    run_table1(dataset, data_dir, config, output, seeds, rows, jobs, backend, dry_run)
