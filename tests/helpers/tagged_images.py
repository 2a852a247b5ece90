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

NAMES = ["cat", "dog", "owl"]
SIZES = [(32, 32), (48, 20), (20, 64), (90, 70), (33, 31), (32, 40)]
BROKEN = 4  # the number of the image that cannot be read


@pytest.fixture(autouse=True)
def few_steps(monkeypatch, request):
    """Models predict step by step, but for a test that asks for `compiled`: that takes seconds."""
    fused = PatchClassifier.fused

    def eager(self):
        model = fused(self)
        model.run_eagerly = FEW_STEPS["run_eagerly"]
        return model

    if "compiled" not in request.fixturenames:
        monkeypatch.setattr(PatchClassifier, "fused", eager)


@pytest.fixture
def compiled():
    """Marks a test that sees what a user sees."""


@pytest.fixture(scope="session")
def model():
    keras.utils.set_random_seed(0)
    return calibrated_classifier(label_names=NAMES)


@pytest.fixture(scope="session")
def folder(tmp_path_factory, model):
    """Seven images of several sizes and formats, one of them broken, and the model."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for index, size in enumerate(SIZES):
        pixels = random.integers(0, 256, (*size, 3)).astype("uint8")
        Image.fromarray(pixels).save(folder / f"{index}.{'jpg' if index % 2 else 'png'}")
    (folder / "3b.JPG").write_bytes((folder / "1.jpg").read_bytes()[:100])
    model.save(folder / "last.keras")
    return folder


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
    return model.predict(np.stack(images), verbose=0)
