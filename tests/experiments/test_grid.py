"""Grids: what they expand to, what they refuse, what their ledger says, how they are run."""

import csv
import dataclasses
import fcntl
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import typing

import pytest
import yaml

from keras_patchpu.datasets import coco, voc
from keras_patchpu.experiments import estimate
from keras_patchpu.experiments import run_grid as run_grid_module
from keras_patchpu.experiments.config import TrainConfig
from keras_patchpu.experiments.grid import read_grid
from keras_patchpu.experiments.ledger import COLUMNS, table, write_ledger
from keras_patchpu.experiments.run_grid import child_environment, run_grid

ROOT = pathlib.Path(__file__).parents[2]
TWO_ROWS = """
dataset: digits
settings: {epochs: 2, xla: off}
runs:
  - {name: patch-wn, loss: wn}
  - {name: patch-an, loss: an, epochs: 3}
seeds: [0, 1]
"""
SETTINGS = {field.name for field in dataclasses.fields(TrainConfig)}
LOSSES = set(typing.get_args(typing.get_type_hints(TrainConfig)["loss"]))


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
        "localization": peak and {"peak_in_box": peak, "attention_in_box": 0.25},
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


# === Reading ===


def test_rows_times_seeds_with_settings_below_rows_and_the_preset_below_both(tmp_path):
    runs = grid_of(tmp_path).runs()
    assert [run.folder_name for run in runs] == [
        "patch-wn-seed0",
        "patch-an-seed0",
        "patch-wn-seed1",
        "patch-an-seed1",
    ]
    assert [run.config.epochs for run in runs] == [2, 3, 2, 3]
    assert [run.config.loss for run in runs] == ["wn", "an"] * 2
    assert [run.config.seed for run in runs] == [0, 0, 1, 1]
    assert {(run.config.patch_size, run.config.xla) for run in runs} == {(16, "off")}


def test_product_of_lists(tmp_path):
    text = "settings: {loss: wn}\ngrid: {theta: [-0.5, 0.25], stop_gradient: [true, false]}"
    grid = grid_of(tmp_path, text)
    assert list(grid.rows) == [
        "theta=-0.5+stop_gradient=true",
        "theta=-0.5+stop_gradient=false",
        "theta=0.25+stop_gradient=true",
        "theta=0.25+stop_gradient=false",
    ]
    assert grid.seeds == (0, 1, 2)
    third = grid.run("theta=0.25+stop_gradient=true", 2).config
    assert (third.theta, third.stop_gradient, third.seed) == (0.25, True, 2)


def test_product_with_rows(tmp_path):
    text = "runs: [{name: wn, loss: wn}, {name: an, loss: an}]\ngrid: {epochs: [1, 2]}"
    grid = grid_of(tmp_path, text)
    assert list(grid.rows) == ["wn+epochs=1", "wn+epochs=2", "an+epochs=1", "an+epochs=2"]
    assert grid.run("an+epochs=2", 0).config == grid.run("an+epochs=2", 0).config
    assert grid.run("an+epochs=2", 0).config.loss == "an"


def test_some_rows_and_other_seeds(tmp_path):
    runs = grid_of(tmp_path).runs(rows=["patch-an"], seeds=[7])
    assert [run.folder_name for run in runs] == ["patch-an-seed7"]
    with pytest.raises(ValueError, match="some of .*'patch-an'.*Received: .*'fly'"):
        grid_of(tmp_path).runs(rows=["fly"])
    with pytest.raises(ValueError, match="seeds"):
        grid_of(tmp_path).runs(seeds=[1, 1])


def test_data_dir_reaches_every_run(tmp_path):
    grid = grid_of(tmp_path, "dataset: voc\nruns: [{name: wn}]", data_dir="data/VOCdevkit")
    assert grid.run("wn", 0).config.data_dir == "data/VOCdevkit"
    assert grid.run("wn", 0).config.expected_positives == 1.38


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "mapping"),
        ("- 1", "mapping"),
        ("a: [", "grid.yaml"),
        ("seed: [0]\nruns: [{name: a}]", "unknown: seed"),
        ("runs: [{name: a, epoch: 2}]", "row 'a': unknown: epoch"),
        ("settings: {epoch: 2}\nruns: [{name: a}]", "settings: unknown: epoch"),
        ("grid: {epoch: [2]}", "grid: unknown: epoch"),
        ("runs: [{name: a, epochs: many}]", "row 'a'.*epochs"),
        ("runs: [{name: a, epochs: 0}]", "row 'a'.*`epochs` to be a positive integer"),
        ("runs: [{name: a, loss: nope}]", "row 'a'.*loss"),
        ("runs: [{name: a, seed: 1}]", "row 'a'.*seed"),
        ("runs: [{name: a, output: b}]", "row 'a'.*output"),
        ("dataset: mars\nruns: [{name: a}]", "`dataset`.*mars"),
        ("dataset: digits", "`runs`"),
        ("runs: [{loss: wn}]", "`name`.*None"),
        ("runs: [{name: ../a}]", "`name`.*'../a'"),
        ("runs: [{name: a, epochs: 1}, {name: a, epochs: 2}]", "two rows are named 'a'"),
        ("runs: [{name: a}, {name: b, loss: wn}]", "rows 'a' and 'b' are the same run"),
        ("grid: {theta: [0.0, 0.0]}", "two rows are named 'theta=0.0'"),
        ("grid: {theta: 0.5}", "`theta` of `grid` to be a list"),
        ("settings: {theta: 0.5}\ngrid: {theta: [0.0]}", "theta: given by `grid` and beside"),
        ("grid: {data_dir: [a/b]}", "no name of a folder"),
        ("runs: [{name: a, epochs: 1, epochs: 2}]", "given twice: epochs"),
        ("runs: [{name: a}]\nseeds: [0, 0]", "`seeds` once"),
        ("runs: [{name: a}]\nseeds: [-1]", "seeds"),
        ("runs: [{name: a}]\nseeds: 3", "`seeds` to be a list"),
    ],
)
def test_what_is_refused_names_the_file_and_the_place(text, message, tmp_path):
    with pytest.raises(ValueError, match=message) as error:
        grid_of(tmp_path, text)
    assert str(error.value).startswith(str(tmp_path / "grid.yaml"))


def committed_grids():
    folders = [ROOT / "keras_patchpu" / "experiments" / "grids", ROOT / "configs"]
    return sorted(path for folder in folders for path in folder.glob("*.yaml"))


@pytest.mark.parametrize("path", committed_grids(), ids=lambda path: path.stem)
def test_committed_grids_can_be_read_and_tell_their_question(path):
    text = path.read_text()
    assert text.startswith("# ")
    values = yaml.safe_load(text)
    given = [values.get("settings", {}), values.get("grid", {}), *values.get("runs", [])]
    missing = {key for settings in given for key in settings} - SETTINGS - {"name"}
    missing |= {settings.get("loss", "wn") for settings in given} - LOSSES
    if missing:
        pytest.skip(f"TrainConfig has no {sorted(missing)}")
    grid = read_grid(path)
    assert len(grid.runs()) == len(grid.rows) * len(grid.seeds) >= 6


@pytest.mark.parametrize("dataset", ["digits", "voc", "coco"])
def test_the_table_has_the_papers_rows(dataset):
    path = ROOT / "keras_patchpu" / "experiments" / "grids" / f"table1_{dataset}.yaml"
    values = yaml.safe_load(path.read_text())
    assert values["dataset"] == dataset
    rows = {row["name"]: row for row in values["runs"]}
    assert list(rows) == [
        *(f"patch-{loss}" for loss in ("bce", "an", "epr", "role", "wn")),
        *(f"resnet-{loss}" for loss in ("bce", "an", "role", "en_cl", "en_scl")),
    ]
    for name, row in rows.items():
        assert name == f"{row['model']}-{row['loss']}"
        if dataset != "digits" and row["model"] == "resnet":
            assert (row["epochs"], row["image_size"]) == (100, 448)


# === Ledger and table ===


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
        "box_ap": "",
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


def test_lines_stay_without_their_folders(tmp_path):
    grid, output = ledger_of_two_runs(tmp_path)
    before = files_of(output)
    write_ledger(grid, output)
    assert files_of(output) == before

    # The next run's line goes to its place in the grid, its curves too.
    write_run(output / "patch-wn-seed0", grid.run("patch-wn", 0).config, 0.25)
    rows = write_ledger(grid, output)
    assert [(row["name"], row["seed"]) for row in rows] == [
        ("patch-wn", 0),
        ("patch-wn", 1),
        ("patch-an", 0),
    ]
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
    other = grid_of(tmp_path, TWO_ROWS.replace("xla: off", "batch_size: 4"))
    assert write_ledger(other, output) == []
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
    assert [row["name"] for row in write_ledger(third, output)] == ["fly"]
    rows = rows_of(output / "ledger.csv")
    assert [row["name"] for row in rows] == ["fly", "patch-wn", "patch-an"]
    text = (output / "table.md").read_text()
    assert "In the ledger but not in this table: patch-an seed 0 (no row of the grid).\n" in text


def test_a_line_and_a_folder_of_other_settings_are_refused(tmp_path):
    _, output = ledger_of_two_runs(tmp_path)
    before = files_of(output)
    other = grid_of(tmp_path, TWO_ROWS.replace("xla: off", "batch_size: 4"))
    write_run(output / "patch-an-seed0", other.run("patch-an", 0).config, 0.5)
    with pytest.raises(ValueError, match="batch_size: 16 in the ledger, 4 now"):
        write_ledger(other, output)
    assert files_of(output) == before


def test_columns_and_settings_of_another_version(tmp_path):
    grid, output = ledger_of_two_runs(tmp_path)
    rows = rows_of(output / "ledger.csv")
    for row in rows:
        row["was_measured_once"] = "7"
        del row["box_ap"]
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
    assert [(row["was_measured_once"], row["box_ap"]) for row in rows] == [("7", ""), ("7", "")]


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


def test_table_by_hand():
    # 60, 70, 80 %: mean 70, deviations -10, 0, 10, so (100 + 100) / (3 - 1) = 10 ** 2.
    runs = [
        {"name": "patch-wn", "seed": seed, "val_mAP": value, "best_val_mAP": 0.8, "box_ap": None}
        for seed, value in enumerate((0.6, 0.7, 0.8))
    ]
    runs += [{"name": "other", "seed": 4, "val_mAP": "0.1234", "best_val_mAP": "", "box_ap": ""}]
    assert table(runs).splitlines() == [
        "| row | seeds | val mAP, last epoch | best epoch, chosen on the scored set | paper VOC | "
        "paper COCO |",
        "|---|---|---|---|---|---|",
        "| `patch-wn` | 0, 1, 2 | 70.0 ± 10.0 | 80.0 ± 0.0 | 60.4 | 63.2 |",
        "| `other` | 4 | 12.3 |  |  |  |",
    ]
    assert "paper" not in table(runs[-1:])


def test_numbers_of_the_paper():
    rows = rows_of(ROOT / "keras_patchpu" / "experiments" / "table1_paper.csv")
    assert [(row["name"], row["paper_coco"], row["paper_voc"]) for row in rows] == [
        ("patch-bce", "65.8", "61.6"),
        ("patch-an", "62.6", "60.0"),
        ("patch-epr", "61.4", "58.8"),
        ("patch-role", "33.3", "49.7"),
        ("patch-wn", "63.2", "60.4"),
        ("resnet-bce", "64.8", "53.4"),
        ("resnet-an", "50.2", "45.7"),
        ("resnet-role", "51.9", "45.0"),
        ("resnet-en_cl", "54.3", "47.0"),
        ("resnet-en_scl", "54.0", "50.4"),
    ]


# === Running ===


class Runner:
    """Stands in for `start_process`: writes what a run would, without one.

    Names in `fail` end with code 3. Names in `hang` never end by themselves.
    """

    def __init__(self, fail=(), hang=()):
        self.fail, self.hang = fail, hang
        self.started, self.alive, self.most_alive, self.environments = [], set(), 0, []

    def __call__(self, command, environment, log, lock):
        assert command[1:4] == ["-m", "patchpu", "train"]
        folder = pathlib.Path(command[command.index("--output") + 1])
        self.started.append((folder.name, "--resume" in command))
        self.environments.append(environment)
        log.write_text("first line\nValueError: the reason\n")
        settings = yaml.safe_load(pathlib.Path(command[command.index("--config") + 1]).read_text())
        config = TrainConfig(**settings)
        code = None
        if folder.name in self.fail:
            code = 3
        elif folder.name not in self.hang:
            write_run(folder, config, 0.5 + config.seed / 10)
            code = 0
        self.alive.add(folder.name)
        self.most_alive = max(self.most_alive, len(self.alive))
        return FakeProcess(self, folder.name, code)


class FakeProcess:
    """Ends at the second look, so that jobs overlap."""

    def __init__(self, runner, name, code):
        self.runner, self.name, self.code, self.looks = runner, name, code, 0

    def poll(self):
        self.looks += 1
        if self.looks < 2 or self.code is None:
            return None
        self.runner.alive.discard(self.name)
        return self.code

    def terminate(self):
        self.runner.alive.discard(self.name)
        self.code = -15

    def wait(self, timeout=None):
        return self.code


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(run_grid_module, "_SECONDS_BETWEEN_LOOKS", 0)


def test_runs_all_once_and_never_again(tmp_path, capsys):
    grid, runner = grid_of(tmp_path), Runner()
    assert run_grid(grid, tmp_path / "out", start=runner) == []
    assert runner.started == [
        ("patch-wn-seed0", False),
        ("patch-an-seed0", False),
        ("patch-wn-seed1", False),
        ("patch-an-seed1", False),
    ]
    assert runner.most_alive == 1
    assert len(rows_of(tmp_path / "out" / "ledger.csv")) == 4
    assert "| `patch-wn` | 0, 1 | 55.0 ± 7.1 |" in (tmp_path / "out" / "table.md").read_text()
    output = capsys.readouterr().out
    assert "[4/4] patch-an seed 1: 0.0 min, val mAP 0.600; 0:00 elapsed\n" in output

    again = Runner()
    assert run_grid(grid, tmp_path / "out", start=again) == []
    assert again.started == []


def test_a_part_of_the_grid_leaves_the_rest_in_the_ledger(tmp_path):
    grid = grid_of(tmp_path)
    run_grid(grid, tmp_path / "out", rows=["patch-an"], seeds=[1], start=Runner())
    run_grid(grid, tmp_path / "out", rows=["patch-wn"], seeds=[5], start=Runner())
    rows = rows_of(tmp_path / "out" / "ledger.csv")
    assert [(row["name"], row["seed"]) for row in rows] == [("patch-wn", "5"), ("patch-an", "1")]


def test_what_was_begun_goes_on(tmp_path):
    grid = grid_of(tmp_path)
    begun = grid.run("patch-an", 0)
    write_run(tmp_path / "out" / begun.folder_name, begun.config, 0.5)
    (tmp_path / "out" / begun.folder_name / "report.json").unlink()
    runner = Runner(fail=["patch-an-seed0"])
    run_grid(grid, tmp_path / "out", rows=["patch-an"], start=runner)
    assert runner.started == [("patch-an-seed0", True), ("patch-an-seed1", False)]


def test_settings_of_a_run_are_written_whole(tmp_path):
    grid = grid_of(tmp_path)
    run_grid(grid, tmp_path / "out", start=Runner())
    settings = yaml.safe_load((tmp_path / "out" / "logs" / "patch-an-seed1.yaml").read_text())
    assert settings["xla"] == "off" and settings["seed"] == 1
    assert set(settings) == SETTINGS - {"output", "resume"}


def test_jobs_run_at_a_time_and_share_the_cores(tmp_path, monkeypatch):
    monkeypatch.setattr(run_grid_module, "num_cores", lambda: 6)
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    runner = Runner()
    run_grid(grid_of(tmp_path), tmp_path / "out", jobs=3, backend="tensorflow", start=runner)
    assert len(runner.started) == 4 and runner.most_alive == 3
    for environment in runner.environments:
        assert environment["TF_NUM_INTRAOP_THREADS"] == "2"
        assert environment["OMP_NUM_THREADS"] == "5"  # the user's choice stays
        assert environment["KERAS_BACKEND"] == "tensorflow"
    assert "TF_NUM_INTRAOP_THREADS" not in child_environment(1, "jax")
    assert child_environment(1, "jax")["KERAS_BACKEND"] == "jax"


def test_a_failed_run_is_told_and_does_not_stop_the_others(tmp_path, capsys):
    runner = Runner(fail=["patch-wn-seed0"])
    (failure,) = run_grid(grid_of(tmp_path), tmp_path / "out", start=runner)
    assert failure.startswith("patch-wn seed 0 ended with code 3")
    assert failure.endswith("ValueError: the reason")
    assert len(runner.started) == 4
    assert len(rows_of(tmp_path / "out" / "ledger.csv")) == 3
    assert "[1/4] patch-wn seed 0: FAILED" in capsys.readouterr().out


def test_other_settings_are_refused_before_anything_is_started(tmp_path):
    grid, runner = grid_of(tmp_path), Runner()
    config = dataclasses.replace(grid.run("patch-an", 1).config, batch_size=4)
    write_run(tmp_path / "out" / "patch-an-seed1", config, 0.5)
    with pytest.raises(ValueError, match="patch-an-seed1 .batch_size: 4 in the folder, 16 now"):
        run_grid(grid, tmp_path / "out", start=runner)
    with pytest.raises(ValueError, match="patch-an-seed1"):  # also if it is only begun
        (tmp_path / "out" / "patch-an-seed1" / "report.json").unlink()
        run_grid(grid, tmp_path / "out", start=runner)
    assert runner.started == []


def test_what_the_ledger_has_is_done_without_its_folder(tmp_path, capsys):
    grid, output = ledger_of_two_runs(tmp_path)
    runner = Runner()
    assert run_grid(grid, output, start=runner) == []
    assert runner.started == [("patch-wn-seed0", False), ("patch-an-seed1", False)]
    assert "4 runs, 2 of them done already" in capsys.readouterr().out
    rows = rows_of(output / "ledger.csv")
    assert [row["val_mAP"] for row in rows] == ["0.5", "0.75", "0.5", "0.6"]
    assert "Not done" not in (output / "table.md").read_text()


def test_a_line_of_other_settings_or_backend_is_refused_and_stays(tmp_path):
    grid, output = ledger_of_two_runs(tmp_path)
    other = grid_of(tmp_path, TWO_ROWS.replace("xla: off", "batch_size: 4"))
    before = (output / "ledger.csv").read_bytes()
    runner = Runner()
    with pytest.raises(ValueError, match="patch-wn-seed1 .batch_size: 16 in the ledger, 4 now"):
        run_grid(other, output, start=runner)
    with pytest.raises(ValueError, match="backend: 'tensorflow' in the ledger, 'torch' now"):
        run_grid(grid, output, backend="torch", start=runner)
    assert runner.started == []
    assert (output / "ledger.csv").read_bytes() == before
    # A part of the other grid that the ledger does not speak of.
    assert run_grid(other, output, rows=["patch-an"], seeds=[1], start=runner) == []
    assert runner.started == [("patch-an-seed1", False)]
    assert len(rows_of(output / "ledger.csv")) == 3


def test_another_backend_is_refused(tmp_path):
    grid = grid_of(tmp_path)
    run_grid(grid, tmp_path / "out", start=Runner())
    with pytest.raises(ValueError, match="backend: 'tensorflow' in the folder, 'jax' now"):
        run_grid(grid, tmp_path / "out", backend="jax", start=Runner())


def test_two_grids_in_one_folder_are_refused(tmp_path):
    grid = grid_of(tmp_path)
    (tmp_path / "out").mkdir()
    with open(tmp_path / "out" / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="Another process works in"):
            run_grid(grid, tmp_path / "out", start=Runner())
    run_grid(grid, tmp_path / "out", start=Runner())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_all_runs_and_the_same_call_goes_on(number, code, tmp_path):
    class Stopping(Runner):
        def __call__(self, *arguments):
            process = super().__call__(*arguments)
            if len(self.started) == 2:
                os.kill(os.getpid(), number)
            return process

    grid, runner = grid_of(tmp_path), Stopping(hang=["patch-wn-seed0", "patch-an-seed0"])
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as exit_:
        run_grid(grid, tmp_path / "out", jobs=2, start=runner)
    assert exit_.value.code == code
    assert len(runner.started) == 2 and not runner.alive
    assert signal.getsignal(number) == before
    again = Runner()
    assert run_grid(grid, tmp_path / "out", start=again) == []
    assert len(again.started) == 4


@pytest.mark.slow
def test_a_killed_grid_goes_on_and_ends_as_one_never_killed(tmp_path):
    settings = {
        "batch_size": 8,
        "epochs": 3,
        "image_size": 32,
        "num_downsamples": 1,
        "features": 8,
        "hidden_units": 8,
        "num_train": 32,
        "num_validation": 20,
        "xla": "off",
    }
    runs = [{"name": "wn", "loss": "wn"}, {"name": "an", "loss": "an"}]
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({"settings": settings, "runs": runs, "seeds": [0]}))

    def command(output):
        options = ["table1", "--config", str(path), "--output", str(tmp_path / output)]
        options += ["--backend", "tensorflow", "--jobs", "2"]
        return [sys.executable, str(ROOT / "patchpu.py"), *options]

    whole = subprocess.run(command("whole"), capture_output=True, text=True, check=False)
    assert whole.returncode == 0, whole.stderr
    assert "[2/2]" in whole.stdout

    stopped = subprocess.Popen(command("stopped"))
    checkpoint = tmp_path / "stopped" / "wn-seed0" / "last.keras"
    while not checkpoint.exists() and stopped.poll() is None:
        time.sleep(0.01)
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(60) == 143
    assert not (tmp_path / "stopped" / "wn-seed0" / "report.json").exists()
    again = subprocess.run(command("stopped"), capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    log = (tmp_path / "stopped" / "logs" / "wn-seed0.log").read_text()
    assert log.count("$ ") == 2 and log.count("--resume") == 1

    first, second = (rows_of(tmp_path / output / "ledger.csv") for output in ("whole", "stopped"))
    assert len(first) == len(second) == 2
    for one, other in zip(first, second):
        for column in ("val_mAP", "best_val_mAP", "peak_in_box", "attention_in_box"):
            assert float(other.pop(column)) == pytest.approx(float(one.pop(column)), rel=1e-3)
        del one["minutes"], other["minutes"]
        assert {**one, "command": ""} == {**other, "command": ""}
        assert one["command"].replace("whole", "stopped") == other["command"]


# === Estimate ===


def test_sizes_of_the_published_sets_are_the_readers():
    for dataset, reader, labels in [("voc", voc, 20), ("coco", coco, 80)]:
        counts = reader._COUNTS
        expected = (counts["train"], counts["validation"], labels)
        assert estimate.num_images(TrainConfig(dataset=dataset)) == expected
    assert estimate.num_images(TrainConfig(num_train=40, num_validation=9)) == (40, 9, 10)


def test_hours_and_bytes_by_hand():
    config = TrainConfig(num_train=100, num_validation=40, batch_size=16, epochs=3)
    measured = {"step_seconds": 2.0, "prediction_seconds": 0.5, "model_bytes": 1000}
    # 7 steps of 2 s and 3 predictions of 0.5 s an epoch.
    assert estimate.hours(config, measured) == pytest.approx(3 * 15.5 / 3600)
    assert estimate.disk_bytes(config, measured) == 2000


def test_a_step_is_timed_and_the_model_sized():
    config = TrainConfig(
        image_size=32, patch_size=16, num_downsamples=1, features=8, hidden_units=8, batch_size=4
    )
    measured = estimate.measure(config, steps=1)
    assert measured["step_seconds"] > 0 and measured["prediction_seconds"] > 0
    assert estimate.seconds_per_step(config, steps=1) > 0
    # Weights, and two moments of those that are trained, in float32.
    from keras_patchpu.experiments.run import make_model

    model = make_model(config, 10)
    trained = sum(variable.value.numpy().size for variable in model.trainable_variables)
    assert measured["parameters"] == model.count_params()
    assert measured["model_bytes"] == pytest.approx(4 * (model.count_params() + 2 * trained), 0.01)


def test_runs_of_one_speed_are_timed_once():
    config = TrainConfig()
    same = dataclasses.replace(config, seed=3, theta=0.5, epochs=2)
    assert estimate.speed_key(config) == estimate.speed_key(same)
    for changes in ({"loss": "an"}, {"batch_size": 4}, {"dataset": "voc"}):
        other = dataclasses.replace(config, **changes)
        assert estimate.speed_key(config) != estimate.speed_key(other)
