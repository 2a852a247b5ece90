"""Backbones from files: what is loaded, and what is not."""

import keras
import numpy as np
import pytest
from small import small_classifier

from keras_patchpu.backbones import load
from keras_patchpu.utils.validation import FileError


def map_model(size=(32, 32), kind=keras.layers.Conv2D):
    images = keras.Input((*size, 3))
    return keras.Model(images, kind(4, 8, 8)(images))


def saved(model, folder):
    model.save(folder / "own.keras")
    return str(folder / "own.keras")


def test_a_map(tmp_path):
    model = map_model()
    found = load(saved(model, tmp_path), (32, 32))
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3))
    np.testing.assert_array_equal(
        found.predict(images, verbose=0), model.predict(images, verbose=0)
    )
    assert not found.trainable_weights and len(found.weights) == 2


def test_tokens(tmp_path):
    model = map_model()
    tokens = keras.layers.Reshape((16, 4))(model.output)
    assert load(saved(keras.Model(model.input, tokens), tmp_path), (32, 32)).output_shape == (
        None,
        16,
        4,
    )


def test_sizes(tmp_path):
    path = saved(map_model((None, None)), tmp_path)
    assert load(path, None).input_shape == (None, None, None, 3)
    assert load(path, (32, 64)).output_shape == (None, 4, 8, 4)
    path = saved(map_model((32, 64)), tmp_path)
    for size in ((64, 32), None):
        with pytest.raises(ValueError, match=r"takes: \(32, 64\)\. Received: image_size="):
            load(path, size)
    with pytest.raises(ValueError, match="weights are those of the file"):
        load(path, (32, 64), weights=None)


class _Mine(keras.layers.Layer):
    def call(self, images):
        return images[:, ::8, ::8]


def lambda_model():
    images = keras.Input((32, 32, 3))
    return keras.Model(images, keras.layers.Lambda(lambda x: x[:, ::8, ::8])(images))


def mine_model():
    images = keras.Input((32, 32, 3))
    return keras.Model(images, _Mine()(images))


def vector_model():
    model = map_model()
    return keras.Model(model.input, keras.layers.GlobalAveragePooling2D()(model.output))


def two_maps_model():
    model = map_model()
    return keras.Model(model.input, [model.output, model.output])


def grey_model():
    images = keras.Input((32, 32, 1))
    return keras.Model(images, keras.layers.Conv2D(4, 8, 8)(images))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda_model, "contains code"),
        (mine_model, "_Mine, which is no part of a backbone"),
        (vector_model, r"to a map of features .* Received: .* to \[\(None, 4\)\]"),
        (two_maps_model, "to a map of features"),
        (grey_model, r"from images \(B, H, W, 3\)"),
        (small_classifier, "to a map of features"),
    ],
)
def test_other_models_are_refused(make, message, tmp_path):
    with pytest.raises(FileError, match=message):
        load(saved(make(), tmp_path), (32, 32))


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileError, match="There is no backbone"):
        load(str(tmp_path / "none.keras"), (32, 32))
    (tmp_path / "text.keras").write_text("no model")
    with pytest.raises(FileError, match="is not a Keras model file"):
        load(str(tmp_path / "text.keras"), (32, 32))
