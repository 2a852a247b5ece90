"""The notebooks run, and are committed as they run."""

import csv
import os
import pathlib

import keras
import nbformat
import pytest
from nbclient import NotebookClient
from tiny_data import write_voc

ROOT = pathlib.Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LEDGER = ROOT / "tests" / "data" / "ledger"
MAX_BYTES = 1_000_000


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook, kind):
    return [
        output
        for cell in code_cells(notebook)
        for output in cell.outputs
        if output.output_type == kind
    ]


def num_pictures(notebook):
    return sum("image/png" in output.data for output in outputs(notebook, "execute_result"))


def summary(notebook):
    """The `name: value` lines that the last cell prints, as numbers."""
    text = "".join(output.text for output in code_cells(notebook)[-1].outputs)
    return {name: float(value) for name, value in (line.split(": ") for line in text.splitlines())}


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """What the kernels need: this package, the backend, the short mode, tiny data."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {
        **os.environ,
        "KERAS_BACKEND": keras.backend.backend(),
        "MPLBACKEND": "agg",
        "PATCHPU_NOTEBOOK_SHORT": "1",
        "PATCHPU_LEDGER": str(LEDGER),
        "VOC_DEVKIT": str(write_voc(tmp_path_factory.mktemp("voc"), 24, 12)),
        "PYTHONPATH": path,
    }


@pytest.fixture(scope="module")
def run(environment):
    """A function that runs a notebook in a fresh kernel, once, and returns it with outputs."""
    done = {}

    def run_once(path):
        if path not in done:
            notebook = nbformat.read(path, as_version=4)
            resources = {"metadata": {"path": str(path.parent)}}
            client = NotebookClient(notebook, timeout=600, resources=resources)
            # Raises CellExecutionError, with the traceback, if a cell fails.
            done[path] = client.execute(env=environment)
        return done[path]

    return run_once


def test_there_are_notebooks():
    names = [path.stem for path in NOTEBOOKS]
    assert names == ["01_the_blocks", "02_your_own_images", "03_voc", "04_table1"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_as_run_from_top_to_bottom(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert num_pictures(notebook) > 0 and outputs(notebook, "stream")
    assert outputs(notebook, "error") == []
    assert [output.text for output in outputs(notebook, "stream") if output.name == "stderr"] == []
    assert path.stat().st_size < MAX_BYTES


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_in_a_fresh_kernel(path, run):
    executed, committed = run(path), nbformat.read(path, as_version=4)
    assert outputs(executed, "error") == []
    assert num_pictures(executed) == num_pictures(committed)


def test_the_blocks_agree_with_their_equations(run):
    path = ROOT / "notebooks" / "01_the_blocks.ipynb"
    committed = summary(nbformat.read(path, as_version=4))
    for values in (summary(run(path)), committed):
        assert values["patches"] == 16 + 4 + 1
        # Equations (1), (3), (8) and (9) by hand against the package, in float32.
        for name in ("attention_error", "probability_error", "weight_error", "loss_error"):
            assert values[name] < 1e-4, name
        # Weights of at most 1 add nothing to "assume negative", whose 1e-5 inside each
        # logarithm takes off 2e-4 at the even probabilities of an untrained model.
        assert values["assume_negative_minus_weak"] > -3e-4
        for name in ("val_mAP", "peak_in_box", "weight_hidden", "weight_absent"):
            assert 0 <= values[name] <= 1, name


def test_the_committed_blocks_have_learned():
    values = summary(nbformat.read(ROOT / "notebooks" / "01_the_blocks.ipynb", as_version=4))
    # A guess has 0.2; digits cover an eighth of a scene; see the text of the notebook.
    assert values["val_mAP"] > 0.4
    assert values["peak_in_box"] > 0.25
    assert values["assume_negative_minus_weak"] > 0


def test_own_images_end_in_tags(run):
    path = ROOT / "notebooks" / "02_your_own_images.ipynb"
    committed = summary(nbformat.read(path, as_version=4))
    for values in (summary(run(path)), committed):
        assert values["errors"] == 0
        assert values["hits"] <= values["predicted"]
    # Of ten tags three are a guess of 0.3.
    assert committed["known_recall_at_3"] > 0.6
    assert committed["hits"] > committed["predicted"] / 2 > 0


def test_voc_is_read_as_it_was_written(run):
    path = ROOT / "notebooks" / "03_voc.ipynb"
    for values in (summary(run(path)), summary(nbformat.read(path, as_version=4))):
        # The writer's last image of a split has only a difficult object, and is left out.
        assert (values["train"], values["validation"]) == (23, 11)
        assert values["observed"] == 23
        assert 0 < values["mAP"] <= 1


def test_the_table_is_that_of_its_ledger(run):
    path = ROOT / "notebooks" / "04_table1.ipynb"
    with (LEDGER / "ledger.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    values = summary(run(path))
    assert (values.pop("runs"), values.pop("rows")) == (len(lines), 4) == (8, 4)
    assert 0 <= values.pop("weak_negatives_auc") <= 1
    for name, mean in values.items():
        scores = [float(line["val_mAP"]) for line in lines if line["name"] == name]
        assert mean == pytest.approx(sum(scores) / 2, abs=1e-4) and len(scores) == 2
    committed = summary(nbformat.read(path, as_version=4))
    assert "patch-wn" in committed and committed["runs"] >= committed["rows"] >= 4
