"""Small grids, and run folders as finished runs leave them."""

import csv
import json
import shutil

from patchpu.grids.grid import read_grid
from patchpu.grids.ledger import write_ledger

TWO_ROWS = """
dataset: digits
settings: {epochs: 2, xla: never}
runs:
  - {name: patch-wn, loss: wn}
  - {name: patch-an, loss: an, epochs: 3}
seeds: [0, 1]
"""


def grid_of(folder, text=TWO_ROWS, **options):
    path = folder / "grid.yaml"
    path.write_text(text)
    return read_grid(path, **options)


def write_run(folder, config, val_mAP, peak=None, **changes):
    """A run folder as a finished run leaves it, as far as a grid reads it."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(config.to_yaml())
    report = {
        "val_mAP": val_mAP,
        "best_epoch": {"epoch": 1, "val_mAP": val_mAP + 0.01},
        "epochs": config.epochs,
        "minutes": 1.5,
        "parameters": 215842,
        "localization": peak
        and {
            "peak_in_box": peak,
            "attention_in_box": 0.25,
            "box_ap": {"0.3": 0.375, "0.5": 0.125},
            "sharpened": {"peak_in_box": 0.75, "attention_in_box": 0.625},
        },
        "settings": config.settings(),
        **changes,
    }
    (folder / "report.json").write_text(json.dumps(report))
    environment = {
        "command": f"/somewhere/patchpu.py train --output {folder.name}",
        "commit": "4a25ee9",
        "uncommitted_changes": False,
        "backend": "tensorflow",
        "machine": "Linux x86_64, 2 cores",
        "versions": {"keras": "3.15.1"},
    }
    (folder / "environment.json").write_text(json.dumps(environment))
    lines = [f"{epoch},{2.5 - epoch},{val_mAP},7.25" for epoch in range(1, config.epochs + 1)]
    (folder / "metrics.csv").write_text("\n".join(["epoch,loss,val_mAP,seconds", *lines]) + "\n")


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def ledger_of_two_runs(tmp_path):
    """A grid, and a folder with the CSVs of two finished runs but without the runs."""
    grid = grid_of(tmp_path)
    output = tmp_path / "out"
    for name, seed in (("patch-wn", 1), ("patch-an", 0)):
        run = grid.run(name, seed)
        write_run(output / run.folder_name, run.config, 0.5 + seed / 4)
    path = output / "patch-wn-seed1" / "metrics.csv"
    path.write_text("epoch,loss,wn_auc,val_mAP,seconds\n1,2.0,0.625,0.75,7\n")
    write_ledger(grid, output)
    for run in ("patch-wn-seed1", "patch-an-seed0"):
        shutil.rmtree(output / run)
    return grid, output


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
