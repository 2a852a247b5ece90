"""The command that chooses thresholds and stores them in a model."""

import shutil
import types

import keras
import numpy as np
import pytest
from backend import FEW_STEPS
from PIL import Image
from small import calibrated_classifier, small_images

from keras_patchpu import PatchClassifier
from keras_patchpu.datasets import ImageFiles
from keras_patchpu.optimizers import Lamb
from patchpu.commands.thresholds import main
from patchpu.prediction import store_thresholds

pytestmark = pytest.mark.usefixtures("few_blocks")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folder of a compiled model and 4 images, and its scores of them."""
    folder, images = tmp_path_factory.mktemp("saved"), small_images()
    model = calibrated_classifier(label_names=["cat", "dog", "owl"])
    model.compile(Lamb(1e-3), "binary_crossentropy")
    model.save(folder / "model.keras")
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index}.png")
    return folder, model.explain(images)["probabilities"]


@pytest.fixture
def data(saved, tmp_path, monkeypatch):
    """Path of the model, its scores of 4 images, and a table whose labels can be set."""
    fused = PatchClassifier.fused

    def eager(self):  # compiling takes longer than it saves
        model = fused(self)
        model.run_eagerly = FEW_STEPS["run_eagerly"]
        return model

    monkeypatch.setattr(PatchClassifier, "fused", eager)
    folder, scores = saved
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    paths = [str(tmp_path / f"{index}.png") for index in range(4)]
    order = np.argsort(-scores, axis=0)
    labels = np.full((4, 3), -1, "int8")
    labels[order[:2, 0], 0] = 1  # the two of highest score have label 0
    labels[order[:1, 1], 1] = 1
    files = ImageFiles(paths, paths, labels, ("cat", "dog", "owl"))
    result = types.SimpleNamespace(
        path=tmp_path / "model.keras", scores=scores, train=files, validation=None, asked=[]
    )

    def load_table(path, **arguments):
        result.asked.append((path, arguments))
        return result

    monkeypatch.setattr(store_thresholds, "load_table", load_table)
    return result


def test_command_stores_thresholds(data, capsys):
    main([str(data.path), "labels.csv"])
    names = ("cat", "dog", "owl")
    wanted = {"unlisted": "absent", "label_names": names, "allow_outside": False}
    assert data.asked == [("labels.csv", wanted)]
    output = capsys.readouterr().out
    assert "optimistic" in output and str(data.path) in output
    lines = [line.split() for line in output.splitlines()[:4]]
    assert lines[0] == ["label", "positives", "known", "threshold", "precision", "recall", "F1"]
    ranked = -np.sort(-data.scores, axis=0)
    expected = [(ranked[1, 0] + ranked[2, 0]) / 2, (ranked[0, 1] + ranked[1, 1]) / 2, 1]
    assert lines[1] == ["cat", "2", "4", f"{expected[0]:.4f}", "1.000", "1.000", "1.000"]
    assert " ".join(lines[3][3:]) == "1.0000 0.000 0.000 0.000 no image is known to have it"
    model = keras.saving.load_model(data.path)
    np.testing.assert_allclose(model.thresholds, expected, atol=1e-4)
    assert isinstance(model.optimizer, Lamb)  # training can still go on
    assert sorted(path.name for path in data.path.parent.glob("*keras*")) == ["model.keras"]


def test_command_takes_validation_images_and_leaves_broken_ones_out(data, capsys):
    data.validation = data.train.take([0, 1, 2, 3])
    data.train = None
    open(data.validation.sources[3], "w").close()
    with pytest.raises(SystemExit) as stopped:
        main([str(data.path), "t.csv", "--choose", "recall", "--at-least", "0.5"])
    assert stopped.value.code == 1
    output, errors = capsys.readouterr()
    assert "chosen on 3 images, its validation images" in output
    assert "1 images could not be read" in errors and "3.png: the file is empty" in errors
    assert keras.saving.load_model(data.path).thresholds is not None


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["{model}", "t.csv", "--choose", "best"], "`choose` to be one of"),
        (["{model}", "t.csv", "--choose", "recall"], "`at_least`"),
        (["{model}.old", "t.csv"], "There is no model"),
    ],
)
def test_command_tells_what_to_mend(data, capsys, arguments, message):
    before = data.path.read_bytes()
    with pytest.raises(SystemExit) as stopped:
        main([argument.format(model=data.path) for argument in arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert not data.asked
    assert data.path.read_bytes() == before
