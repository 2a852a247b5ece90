"""Files saved by an earlier commit of the package, and what their models predicted then."""

import pathlib

import keras
import numpy as np
import pytest
from backend import numpy

from keras_patchpu.losses import AssumeNegative, WeakNegative
from keras_patchpu.models import PatchClassifier, ResNetClassifier, load_classifier
from keras_patchpu.optimizers import Lamb

SAVED = pathlib.Path(__file__).parents[2] / "data" / "saved_at_3af8291"
LABEL_NAMES = ("cat", "dog", "bird")
# Made on TensorFlow: other backends add up in another order.
TOLERANCE = 1e-6 if keras.backend.backend() == "tensorflow" else 1e-5


@pytest.mark.usefixtures("whole_resnet")
@pytest.mark.parametrize("load", [load_classifier, keras.saving.load_model])
@pytest.mark.parametrize(
    ("name", "kind", "thresholds", "image_fit", "loss"),
    [
        ("patch_classifier", PatchClassifier, (0.3, 0.4, 0.5), "pad", WeakNegative),
        ("resnet_classifier", ResNetClassifier, None, "stretch", AssumeNegative),
    ],
)
def test_it_is_the_same_model(load, name, kind, thresholds, image_fit, loss):
    model = load(SAVED / f"{name}.keras")
    assert type(model) is kind and model.label_names == LABEL_NAMES
    assert (model.thresholds, model.image_fit) == (thresholds, image_fit)
    assert type(model.loss) is loss and type(model.optimizer) is Lamb
    with np.load(SAVED / "predictions.npz") as arrays:
        images, expected = arrays["images"], arrays[name]
    found = numpy(model(images, training=False)["probabilities"])
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
