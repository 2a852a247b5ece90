"""Grids: what they expand to and what they refuse."""

import pathlib

import pytest
import yaml
from small_grids import grid_of

from patchpu.grids.grid import read_grid

ROOT = pathlib.Path(__file__).parents[3]
GRIDS = ROOT / "patchpu" / "grids"


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
    assert {(run.config.patch_size, run.config.xla) for run in runs} == {(16, "never")}


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
        ("runs: [{name: a, xla: off}]", "row 'a'.*xla"),
        # The first was found by fuzzing: of a wrong tag PyYAML raises anything.
        ("!!int ''", "cannot be read as YAML: IndexError"),
        ("runs: !!timestamp x", "cannot be read as YAML: AttributeError"),
        ("runs: !!bool x", "cannot be read as YAML: KeyError"),
        ("[" * 3000, "cannot be read as YAML: RecursionError"),
        ("runs: [{name: a, loss_arguments: &a {theta: *a}}]", "row 'a'.*one that holds itself"),
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
    folders = [GRIDS, ROOT / "configs"]
    return sorted(path for folder in folders for path in folder.glob("*.yaml"))


@pytest.mark.parametrize("path", committed_grids(), ids=lambda path: path.stem)
def test_committed_grids_can_be_read_and_tell_their_question(path):
    text = path.read_text()
    assert text.startswith("# ")
    grid = read_grid(path)
    assert len(grid.runs()) == len(grid.rows) * len(grid.seeds) >= 6


@pytest.mark.parametrize("dataset", ["digits", "voc", "coco"])
def test_the_table_has_the_papers_rows(dataset):
    path = GRIDS / f"table1_{dataset}.yaml"
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
