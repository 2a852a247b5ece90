"""Fixtures of images to tag, and of a model that tags them.

`conftest.py` of a folder imports those its tests need.
"""

import keras
import numpy as np
import pytest
from backend import FEW_STEPS
from PIL import Image
from small import calibrated_classifier

from keras_patchpu import PatchClassifier
from keras_patchpu.datasets.read_image import read_image
from keras_patchpu.models.load_classifier import load_classifier, model_digest, model_file
from keras_patchpu.tagging import tagger

NAMES = ["cat", "dog", "owl"]
SIZES = [(32, 32), (48, 20), (20, 64), (90, 70), (33, 31), (32, 40)]
BROKEN = 4  # the number of the image that cannot be read


@pytest.fixture(scope="session")
def made_once():
    """Models by the digest of their file, and pairs of a model and its fused copy."""
    return {}, []


@pytest.fixture(autouse=True)
def few_steps(made_once, monkeypatch, request):
    """A file is loaded once, a model fused once, and predicts step by step.

    Each takes seconds. Not so for a test that asks for `compiled`.
    """
    if "compiled" in request.fixturenames:
        return
    loaded, pairs = made_once
    fused = PatchClassifier.fused

    def fused_once(self):
        for model, copy in pairs:
            if model is self:
                return copy
        copy = fused(self)
        copy.run_eagerly = FEW_STEPS["run_eagerly"]
        pairs.append((self, copy))
        return copy

    def loaded_once(path, **options):
        digest = model_digest(model_file(path))
        if digest not in loaded:
            loaded[digest] = load_classifier(path, **options)
        return loaded[digest]

    monkeypatch.setattr(PatchClassifier, "fused", fused_once)
    monkeypatch.setattr(tagger, "load_classifier", loaded_once)


@pytest.fixture
def compiled():
    """Marks a test that sees what a user sees."""


@pytest.fixture(scope="session")
def model():
    keras.utils.set_random_seed(0)
    return calibrated_classifier(label_names=NAMES)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Seven images of several sizes and formats, one of them broken."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for index, size in enumerate(SIZES):
        pixels = random.integers(0, 256, (*size, 3)).astype("uint8")
        Image.fromarray(pixels).save(folder / f"{index}.{'jpg' if index % 2 else 'png'}")
    (folder / "3b.JPG").write_bytes((folder / "1.jpg").read_bytes()[:100])
    return folder


@pytest.fixture(scope="session")
def saved(tmp_path_factory, model):
    """Path of the model in a file."""
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    model.save(path)
    return path


@pytest.fixture(scope="session")
def paths(folder):
    """Paths of the images; that of number `BROKEN` cannot be read."""
    return [str(folder / name) for name in "0.png 1.jpg 2.png 3.jpg 3b.JPG 4.png 5.jpg".split()]


def set_on(model, **values):
    """A copy of a model with other settings, such as thresholds."""
    copy = type(model).from_config({**model.get_config(), **values})
    copy.set_weights(model.get_weights())
    return copy


def scores_of(model, paths):
    images = [read_image(path, model.image_size, model.image_fit) for path in paths]
    return keras.ops.convert_to_numpy(model(np.stack(images), training=False)["probabilities"])
