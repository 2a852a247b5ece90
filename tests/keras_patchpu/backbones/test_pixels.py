"""Pixels as the networks of `keras.applications` want them: as each file prepares them itself."""

import keras
import numpy as np
import pytest
from backend import numpy

from keras_patchpu.backbones import load
from keras_patchpu.backbones.keras_application import family_of
from keras_patchpu.backbones.pixels import pixel_layer

NETWORKS = [name for name in dir(keras.applications) if name[0].isupper()]
FAMILIES = sorted(set(map(family_of, NETWORKS)))


def random_images(*size):
    return np.random.default_rng(0).uniform(0, 255, (2, *size, 3)).astype("float32")


def prepared(family, images):
    return numpy(getattr(keras.applications, family).preprocess_input(images.copy()))


def test_all_files_are_looked_at():
    assert len(FAMILIES) == 15
    assert {"convnext", "densenet", "mobilenet_v3", "resnet", "resnet_v2", "vgg19"} < set(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_pixels_are_what_the_file_makes_of_them(family):
    images = random_images(4, 5)
    found = numpy(pixel_layer(family)(images))
    np.testing.assert_allclose(found, prepared(family, images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "name, family",
    [
        ("vgg16", "vgg16"),  # Caffe's
        ("mobilenet", "mobilenet"),  # from -1 to 1
        ("densenet121", "densenet"),  # PyTorch's
        ("mobilenetv3small", "mobilenet_v3"),  # scaled by the network
    ],
)
def test_a_backbone_is_its_network_behind_these_pixels(name, family):
    model = load(name, (32, 32), weights=None)
    images = random_images(32, 32)
    expected = model.layers[-1](prepared(family, images), training=False)
    np.testing.assert_allclose(
        model.predict(images, verbose=0), numpy(expected), rtol=1e-3, atol=1e-5
    )
