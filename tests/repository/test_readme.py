"""The README and the tables of results tell the truth: their numbers are the ledgers', the example
runs, the links lead to files.
"""

import csv
import pathlib
import re

import numpy as np
import pytest
from code_blocks import run_python
from tiny_runs import one_block

pytestmark = pytest.mark.no_backend

ROOT = pathlib.Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DIGITS = ROOT / "results" / "digits"
TABLE_1 = ROOT / "results" / "table1"
# Columns of a ledger in the order in which a table shows them.
SCORES = ("val_mAP", "best_val_mAP", "peak_in_box", "attention_in_box")


def read_ledger(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def rows_of(text):
    """Cells of the rows of a table that begin with a name in backquotes, by that name."""
    rows = [[cell.strip() for cell in line.split("|")[1:]] for line in text.splitlines()]
    return {row[0].split("`")[1]: row for row in rows if row and row[0].startswith("`")}


def mean_and_spread(runs, column):
    values = [100 * float(run[column]) for run in runs]
    return f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"


@pytest.mark.parametrize(
    ("folder", "ledger", "column", "names"),
    [
        (DIGITS, "runs.csv", "loss", {"bce", "wn", "an", "epr"}),
        (TABLE_1, "ledger.csv", "name", None),
    ],
    ids=["digits", "table1"],
)
def test_a_table_is_made_of_its_ledger(folder, ledger, column, names):
    runs = read_ledger(folder / ledger)
    rows = rows_of((folder / "table.md").read_text())
    assert set(rows) == {run[column] for run in runs} == (names or set(rows))
    for name, (_, seeds, *cells) in rows.items():
        own = [run for run in runs if run[column] == name]
        assert seeds == ", ".join(sorted(run["seed"] for run in own)) == "0, 1, 2"
        assert cells[: len(SCORES)] == [mean_and_spread(own, score) for score in SCORES]


def test_the_first_number_is_that_of_the_command():
    (run,) = [
        run for run in read_ledger(DIGITS / "runs.csv") if (run["loss"], run["seed"]) == ("wn", "0")
    ]
    assert f"`final val mAP {float(run['val_mAP']):.4f}`" in README


def test_the_rows_that_are_shown_are_of_the_table():
    rows = rows_of((TABLE_1 / "table.md").read_text())
    shown = rows_of(README)
    assert "patch-wn" in shown
    for name, (*cells, end) in shown.items():
        assert end == "..."
        assert cells == rows[name][: len(cells)]


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_links_lead_to_files(target):
    assert (ROOT / target).exists()


@pytest.mark.parametrize("blocks", ["one", pytest.param("all", marks=pytest.mark.docs)])
def test_example_runs(blocks, tmp_path, monkeypatch):
    if blocks == "one":  # of the embedder, which is most of the model's time
        one_block(monkeypatch.setattr)
    monkeypatch.chdir(tmp_path)
    names = run_python(README, "README.md")
    images = names["validation"].images
    assert names["probabilities"].shape == (100, 10)
    assert names["steps"]["attention"].shape == (8, 10, 21)
    again = names["again"].predict(images, verbose=0)
    np.testing.assert_allclose(again, names["probabilities"], atol=1e-6)
