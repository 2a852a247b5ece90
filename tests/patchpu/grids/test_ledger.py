"""The ledger of a grid: its lines, what stays in it, its table and its curves."""

import csv
import dataclasses
import json
import pathlib

import pytest
from small_grids import TWO_ROWS, files_of, grid_of, ledger_of_two_runs, rows_of, write_run

from patchpu.grids.grid import read_grid
from patchpu.grids.ledger import COLUMNS, write_ledger
from patchpu.training.config import TrainConfig

pytestmark = pytest.mark.no_backend

ROOT = pathlib.Path(__file__).parents[3]


def test_ledger_of_finished_runs(tmp_path):
    grid = grid_of(tmp_path)
    output = tmp_path / "out"
    first, second = grid.run("patch-an", 0), grid.run("patch-wn", 1)
    write_run(output / "patch-an-seed0", first.config, 0.5)
    write_run(output / "patch-wn-seed1", second.config, 0.75, peak=0.5)
    write_run(output / "patch-wn-seed0", grid.run("patch-wn", 0).config, 0.6, epochs=1)
    other = dataclasses.replace(first.config, batch_size=4, seed=1)
    write_run(output / "patch-an-seed1", other, 0.9)
    write_run(output / "patch-wn-seedling", first.config, 0.9)
    write_ledger(grid, output)
    rows = rows_of(output / "ledger.csv")
    assert tuple(rows[0]) == COLUMNS
    # In the order of the grid; without the run that stopped early and the one of other settings.
    assert [(row["name"], row["seed"]) for row in rows] == [("patch-wn", "1"), ("patch-an", "0")]
    settings = json.loads(rows[0].pop("settings"))
    assert TrainConfig(**settings).settings() == second.config.settings()
    assert rows[0] == {
        "name": "patch-wn",
        "dataset": "digits",
        "model": "patch",
        "loss": "wn",
        "seed": "1",
        "val_mAP": "0.75",
        "best_val_mAP": "0.76",
        "best_epoch": "1",
        "peak_in_box": "0.5",
        "attention_in_box": "0.25",
        "box_ap_30": "0.375",
        "box_ap_50": "0.125",
        "sharpened_peak_in_box": "0.75",
        "sharpened_in_box": "0.625",
        "minutes": "1.5",
        "parameters": "215842",
        "commit": "4a25ee9",
        "uncommitted_changes": "False",
        "backend": "tensorflow",
        "machine": "Linux x86_64, 2 cores",
        "keras": "3.15.1",
        "command": "patchpu train --output patch-wn-seed1",
    }
    assert rows[1]["peak_in_box"] == ""
    curves = rows_of(output / "curves.csv")
    assert [list(row.values()) for row in curves] == [
        ["patch-wn", "1", "1", "0.75", "1.5"],
        ["patch-wn", "1", "2", "0.75", "0.5"],
        ["patch-an", "0", "1", "0.5", "1.5"],
        ["patch-an", "0", "2", "0.5", "0.5"],
        ["patch-an", "0", "3", "0.5", "-0.5"],
    ]
    text = (output / "table.md").read_text()
    assert "Not done yet: patch-wn seed 0, patch-an seed 1.\n" in text
    before = {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()}
    write_ledger(grid, output)
    assert before == {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()}


def test_weak_negatives_quality_goes_into_the_curves(tmp_path):
    grid = grid_of(tmp_path)
    for name in ("patch-wn", "patch-an"):
        write_run(tmp_path / "out" / f"{name}-seed0", grid.run(name, 0).config, 0.5)
    path = tmp_path / "out" / "patch-wn-seed0" / "metrics.csv"
    path.write_text("epoch,loss,wn_auc,val_mAP,seconds\n1,2.0,0.625,0.5,7\n")
    write_ledger(grid, tmp_path / "out")
    rows = rows_of(tmp_path / "out" / "curves.csv")
    assert [row["wn_auc"] for row in rows] == ["0.625", "", "", ""]


def test_lines_stay_without_their_folders(tmp_path):
    grid, output = ledger_of_two_runs(tmp_path)
    before = files_of(output)
    write_ledger(grid, output)
    assert files_of(output) == before

    # The next run's line goes to its place in the grid, its curves too.
    write_run(output / "patch-wn-seed0", grid.run("patch-wn", 0).config, 0.25)
    rows = write_ledger(grid, output)
    assert rows["name"].tolist() == ["patch-wn", "patch-wn", "patch-an"]
    assert rows["seed"].tolist() == [0, 1, 0]
    assert [row["val_mAP"] for row in rows_of(output / "ledger.csv")] == ["0.25", "0.75", "0.5"]
    assert [list(row.values()) for row in rows_of(output / "curves.csv")] == [
        ["patch-wn", "0", "1", "0.25", "1.5", ""],
        ["patch-wn", "0", "2", "0.25", "0.5", ""],
        ["patch-wn", "1", "1", "0.75", "2.0", "0.625"],
        ["patch-an", "0", "1", "0.5", "1.5", ""],
        ["patch-an", "0", "2", "0.5", "0.5", ""],
        ["patch-an", "0", "3", "0.5", "-0.5", ""],
    ]
    text = (output / "table.md").read_text()
    assert "| `patch-wn` | 0, 1 | 50.0 ± 35.4 |" in text  # (25, 75): 25 * sqrt(2)
    assert "Not done yet: patch-an seed 1.\n" in text
    assert "uncommitted" not in text and "differ" not in text


def test_a_folder_wins_over_its_line(tmp_path):
    grid, output = ledger_of_two_runs(tmp_path)
    write_run(output / "patch-an-seed0", grid.run("patch-an", 0).config, 0.875)
    write_ledger(grid, output)
    assert [row["val_mAP"] for row in rows_of(output / "ledger.csv")] == ["0.75", "0.875"]
    curves = rows_of(output / "curves.csv")
    assert [row["val_mAP"] for row in curves if row["name"] == "patch-an"] == ["0.875"] * 3


def test_lines_of_other_settings_stay_behind_the_others_and_out_of_the_table(tmp_path):
    _, output = ledger_of_two_runs(tmp_path)
    curves = (output / "curves.csv").read_bytes()
    other = grid_of(tmp_path, TWO_ROWS.replace("xla: never", "batch_size: 4"))
    assert write_ledger(other, output).empty
    rows = rows_of(output / "ledger.csv")
    assert [(row["name"], row["seed"]) for row in rows] == [("patch-wn", "1"), ("patch-an", "0")]
    assert (output / "curves.csv").read_bytes() == curves
    text = (output / "table.md").read_text()
    assert (
        "In the ledger but not in this table: patch-wn seed 1 "
        "(batch_size: 16 in the ledger, 4 now).\n" in text
    )
    # A grid without these rows.
    third = grid_of(tmp_path, "runs: [{name: fly}]")
    write_run(output / "fly-seed2", third.run("fly", 2).config, 0.5)
    assert write_ledger(third, output)["name"].tolist() == ["fly"]
    rows = rows_of(output / "ledger.csv")
    assert [row["name"] for row in rows] == ["fly", "patch-wn", "patch-an"]
    text = (output / "table.md").read_text()
    assert "In the ledger but not in this table: patch-an seed 0 (no row of the grid).\n" in text


def test_a_line_and_a_folder_of_other_settings_are_refused(tmp_path):
    _, output = ledger_of_two_runs(tmp_path)
    before = files_of(output)
    other = grid_of(tmp_path, TWO_ROWS.replace("xla: never", "batch_size: 4"))
    write_run(output / "patch-an-seed0", other.run("patch-an", 0).config, 0.5)
    with pytest.raises(ValueError, match="batch_size: 16 in the ledger, 4 now"):
        write_ledger(other, output)
    assert files_of(output) == before


def test_columns_and_settings_of_another_version(tmp_path):
    grid, output = ledger_of_two_runs(tmp_path)
    rows = rows_of(output / "ledger.csv")
    for row in rows:
        row["was_measured_once"] = "7"
        del row["box_ap_30"]
        settings = json.loads(row["settings"])
        del settings["augment"]  # has its default in the grid
        row["settings"] = json.dumps(settings)
    with (output / "ledger.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert len(write_ledger(grid, output)) == 2
    rows = rows_of(output / "ledger.csv")
    assert tuple(rows[0]) == (*COLUMNS, "was_measured_once")
    assert [(row["was_measured_once"], row["box_ap_30"]) for row in rows] == [("7", ""), ("7", "")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "a,b\n1,2\n", "row 2 is none of a ledger"),
        (
            lambda text: text.replace("patch-an,digits,patch,an,0", "patch-an,digits"),
            "row 3 is none",
        ),
        (
            lambda text: text + text.splitlines()[1] + "\n",
            "row 4 is a second one of patch-wn seed 1",
        ),
    ],
)
def test_what_is_no_ledger_is_refused(change, message, tmp_path):
    grid, output = ledger_of_two_runs(tmp_path)
    path = output / "ledger.csv"
    path.write_text(change(path.read_text()))
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message) as error:
        write_ledger(grid, output)
    assert str(path) in str(error.value)
    assert path.read_bytes() == before


def test_published_files_are_written_again_to_the_byte(tmp_path):
    """The folders of these runs are gone: all three files are made of the ledger and the curves."""
    published = files_of(ROOT / "results" / "table1")
    del published["README.md"]
    for name in ("ledger.csv", "curves.csv"):
        (tmp_path / name).write_bytes(published[name])
    write_ledger(read_grid(ROOT / "patchpu" / "grids" / "table1_digits.yaml"), tmp_path)
    assert files_of(tmp_path) == published
