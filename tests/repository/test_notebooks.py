"""The notebooks run, and are committed as they run."""

import csv
import os
import pathlib

import nbformat
import pytest
from nbclient import NotebookClient
from tiny_data import write_voc

# The kernels run on TensorFlow; what they call is tested on the other backends where it is.
pytestmark = pytest.mark.no_backend

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


def run(path, folder):
    """Runs a notebook on tiny data in a fresh kernel, and returns it with its outputs."""
    folders = [str(ROOT), str(ROOT / "tests" / "helpers"), os.environ.get("PYTHONPATH")]
    environment = {
        **os.environ,
        "MPLBACKEND": "agg",
        "PATCHPU_NOTEBOOK_SHORT": "1",
        "PATCHPU_LEDGER": str(LEDGER),
        "VOC_DEVKIT": str(write_voc(folder, 24, 12)),
        "PYTHONPATH": os.pathsep.join(filter(None, folders)),
    }
    notebook = nbformat.read(path, as_version=4)
    before = "from without_xla import leave_xla_off\nleave_xla_off()"
    if path.stem != "01_the_blocks":  # one trains the whole model
        before += "\nfrom tiny_runs import one_block\none_block()"
    notebook.cells.insert(0, nbformat.v4.new_code_cell(before))
    resources = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(notebook, timeout=600, resources=resources)
    # Raises CellExecutionError, with the traceback, if a cell fails.
    return client.execute(env=environment)


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


@pytest.mark.docs
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_in_a_fresh_kernel(path, tmp_path):
    executed, committed = run(path, tmp_path), nbformat.read(path, as_version=4)
    assert outputs(executed, "error") == []
    assert num_pictures(executed) == num_pictures(committed)
    HOLDS[path.stem](summary(executed))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_committed_holds(path):
    HOLDS_COMMITTED[path.stem](summary(nbformat.read(path, as_version=4)))


def blocks_agree_with_their_equations(values):
    assert values["patches"] == 16 + 4 + 1
    # Equations (1), (3), (8) and (9) by hand against the package, in float32.
    for name in ("attention_error", "probability_error", "weight_error", "loss_error"):
        assert values[name] < 1e-4, name
    # Weights of at most 1 add nothing to "assume negative", whose 1e-5 inside each
    # logarithm takes off 2e-4 at the even probabilities of an untrained model.
    assert values["assume_negative_minus_weak"] > -3e-4
    for name in ("val_mAP", "peak_in_box", "weight_hidden", "weight_absent"):
        assert 0 <= values[name] <= 1, name


def blocks_have_learned(values):
    blocks_agree_with_their_equations(values)
    # A guess has 0.2; digits cover an eighth of a scene; see the text of the notebook.
    assert values["val_mAP"] > 0.4
    assert values["peak_in_box"] > 0.25
    assert values["assume_negative_minus_weak"] > 0


def own_images_end_in_tags(values):
    assert values["errors"] == 0
    assert values["hits"] <= values["predicted"]


def own_images_have_good_tags(values):
    own_images_end_in_tags(values)
    # Of ten tags three are a guess of 0.3.
    assert values["known_recall_at_3"] > 0.6
    assert values["hits"] > values["predicted"] / 2 > 0


def voc_is_read_as_it_was_written(values):
    # The writer's last image of a split has only a difficult object, and is left out.
    assert (values["train"], values["validation"]) == (23, 11)
    assert values["observed"] == 23
    assert 0 < values["mAP"] <= 1


def table_is_that_of_its_ledger(values):
    with (LEDGER / "ledger.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert (values.pop("runs"), values.pop("rows")) == (len(lines), 4) == (8, 4)
    assert 0 <= values.pop("weak_negatives_auc") <= 1
    for name, mean in values.items():
        scores = [float(line["val_mAP"]) for line in lines if line["name"] == name]
        assert mean == pytest.approx(sum(scores) / 2, abs=1e-4) and len(scores) == 2


def table_is_of_a_whole_grid(values):
    assert "patch-wn" in values and values["runs"] >= values["rows"] >= 4


# What the last cell of a notebook prints must tell: run on tiny data, and as committed.
HOLDS = {
    "01_the_blocks": blocks_agree_with_their_equations,
    "02_your_own_images": own_images_end_in_tags,
    "03_voc": voc_is_read_as_it_was_written,
    "04_table1": table_is_that_of_its_ledger,
}
HOLDS_COMMITTED = {
    "01_the_blocks": blocks_have_learned,
    "02_your_own_images": own_images_have_good_tags,
    "03_voc": voc_is_read_as_it_was_written,
    "04_table1": table_is_of_a_whole_grid,
}
