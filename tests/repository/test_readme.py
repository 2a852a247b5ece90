"""The README tells the truth: its table is the data's, its example runs, its files exist."""

import csv
import pathlib
import re

import numpy as np
import pytest
from code_blocks import run_python

ROOT = pathlib.Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
RESULTS = ROOT / "results" / "digits"


def read_ledger():
    with (RESULTS / "runs.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_table_is_made_of_the_ledger():
    text = (RESULTS / "table.md").read_text()
    assert text in README
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[2:]]
    columns = ("val_mAP", "best_val_mAP", "peak_in_box", "attention_in_box")
    for (loss, _, *cells), name in zip(rows, ("bce", "wn", "an", "epr"), strict=True):
        assert loss.startswith(f"`{name}`")
        for cell, column in zip(cells, columns, strict=True):
            values = [100 * float(run[column]) for run in read_ledger() if run["loss"] == name]
            assert cell == f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"


def test_ledger_by_hand():
    runs = read_ledger()
    assert {(run["loss"], run["seed"]) for run in runs} == {
        (loss, str(seed)) for loss in ("bce", "wn", "an", "epr") for seed in range(3)
    }
    scores = [100 * float(run["val_mAP"]) for run in runs if run["loss"] == "wn"]
    cell = f"{np.mean(scores):.1f} ± {np.std(scores, ddof=1):.1f}"
    line, _ = [line for line in README.splitlines() if line.startswith("| `wn`")]
    assert line.split("|")[3].strip() == cell
    (first,) = [run for run in runs if (run["loss"], run["seed"]) == ("wn", "0")]
    assert f"`final val mAP {float(first['val_mAP']):.4f}`" in README


def test_table_1_is_made_of_its_ledger():
    with (ROOT / "results" / "table1" / "ledger.csv").open(newline="") as file:
        runs = list(csv.DictReader(file))
    assert len(runs) == 30
    section = README[README.index("**On the digits**") : README.index("**Where is it?**")]
    found = set()
    for line in section.splitlines():
        if not line.startswith("| `"):
            continue
        loss, *cells = [cell.strip() for cell in line.split("|")[1:-1]]
        for model, cell in (("patch", cells[0]), ("resnet", cells[2])):
            if not cell:
                continue
            name = f"{model}-{loss.split('`')[1]}"
            values = [100 * float(run["val_mAP"]) for run in runs if run["name"] == name]
            assert cell == f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"
            found.add(name)
    assert found == {run["name"] for run in runs}


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_links_lead_to_files(target):
    assert (ROOT / target).exists()


def test_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run_python(README, "README.md")
    images = names["validation"].images
    assert names["probabilities"].shape == (100, 10)
    assert names["steps"]["attention"].shape == (8, 10, 21)
    again = names["again"].predict(images, verbose=0)
    np.testing.assert_allclose(again, names["probabilities"], atol=1e-6)
