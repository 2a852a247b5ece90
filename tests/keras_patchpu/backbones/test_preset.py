"""Presets of KerasHub: small random ones, saved and loaded by their folder."""

import importlib.util

import keras
import numpy as np
import pytest
from backend import numpy

from keras_patchpu.backbones import load
from keras_patchpu.models import BackboneClassifier, load_classifier
from keras_patchpu.utils.validation import FileError

needs_hub = pytest.mark.skipif(
    importlib.util.find_spec("keras_hub") is None, reason="needs the extra `keras-hub`"
)
SCALE, OFFSET = [0.01, 0.02, 0.03], [-1.0, 0.0, 1.0]


def images_of(*size):
    return np.random.default_rng(0).uniform(0, 255, (2, *size, 3)).astype("float32")


def resnet():
    import keras_hub

    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 8, 8, 8],
        stackwise_num_blocks=[1, 1, 1, 1],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="bottleneck_block",
        image_shape=(None, None, 3),
    )
    return backbone, keras_hub.layers.ResNetImageConverter(scale=SCALE, offset=OFFSET)


def vit():
    import keras_hub

    backbone = keras_hub.models.ViTBackbone(
        image_shape=(32, 64, 3), patch_size=16, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=8
    )
    return backbone, keras_hub.layers.ViTImageConverter(image_size=(32, 64), scale=1 / 255)


def dinov2():
    import keras_hub

    backbone = keras_hub.models.DINOV2Backbone(
        patch_size=14,
        num_layers=1,
        hidden_dim=8,
        num_heads=2,
        intermediate_dim=8,
        num_register_tokens=4,
        image_shape=(42, 42, 3),
        position_embedding_shape=(42, 42, 3),
    )
    return backbone, keras_hub.layers.DINOV2ImageConverter(scale=SCALE, offset=OFFSET)


def swin():
    import keras_hub

    backbone = keras_hub.models.SwinTransformerBackbone(
        image_shape=(64, 64, 3),
        patch_size=4,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 1, 1],
        window_size=2,
    )
    return backbone, keras_hub.layers.SwinTransformerImageConverter(scale=1 / 255)


def mit():
    import keras_hub

    backbone = keras_hub.models.MiTBackbone(
        layerwise_depths=[1, 1, 1, 1],
        image_shape=(64, 64, 3),
        hidden_dims=[4, 8, 8, 8],
        num_layers=4,
        layerwise_num_heads=[1, 1, 1, 1],
        layerwise_sr_ratios=[8, 4, 2, 1],
        max_drop_path_rate=0.1,
        layerwise_patch_sizes=[7, 3, 3, 3],
        layerwise_strides=[4, 2, 2, 2],
    )
    return backbone, keras_hub.layers.MiTImageConverter(scale=1 / 255)


def text():
    import keras_hub

    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=5, num_layers=1, num_heads=1, hidden_dim=2, intermediate_dim=2
    )
    return backbone, None


def saved(made, folder):
    backbone, converter = made
    backbone.save_to_preset(str(folder / "preset"))
    if converter is not None:
        converter.save_to_preset(str(folder / "preset"))
    return backbone, f"hub:{folder / 'preset'}"


@needs_hub
@pytest.mark.parametrize("stride, level", [(32, "P5"), (16, "P4"), (8, "P3")])
def test_maps_of_a_pyramid(stride, level, tmp_path):
    backbone, name = saved(resnet(), tmp_path)
    model = load(name, (64, 96), stride)
    assert model.output_shape == (None, 64 // stride, 96 // stride, 32)
    assert not model.trainable_weights
    images = images_of(64, 96)
    pyramid = keras.Model(backbone.inputs, backbone.pyramid_outputs)
    expected = pyramid(images * np.float32(SCALE) + np.float32(OFFSET), training=False)[level]
    np.testing.assert_allclose(model.predict(images, verbose=0), numpy(expected), 1e-3, 1e-4)


@needs_hub
def test_images_of_any_size(tmp_path):
    model = load(saved(resnet(), tmp_path)[1], None, weights=None)
    assert model(images_of(64, 32)).shape == (2, 2, 1, 32)


# The first tokens are those of the class, and four registers.
@needs_hub
@pytest.mark.parametrize(
    "make, size, grid, prefix",
    [(vit, (32, 64), (2, 4), 1), (dinov2, (42, 42), (3, 3), 5), (swin, (64, 64), (2, 2), 0)],
)
def test_tokens_are_laid_out_without_those_that_are_no_places(make, size, grid, prefix, tmp_path):
    made = make()
    backbone, name = saved(made, tmp_path)
    model = load(name, size)
    images = images_of(*size)
    tokens = numpy(
        backbone(
            keras.tree.pack_sequence_as(backbone.input, [made[1](images)]),
            training=False,
        )
    )
    assert tokens.shape[1] == prefix + grid[0] * grid[1]
    expected = tokens[:, prefix:].reshape(2, *grid, -1)
    np.testing.assert_allclose(model.predict(images, verbose=0), expected, rtol=1e-3, atol=1e-4)


@needs_hub
def test_position_embeddings_of_another_size(tmp_path):
    name = saved(dinov2(), tmp_path)[1]
    assert load(name, (56, 56)).output_shape == (None, 4, 4, 8)  # as DINOv2 can
    name = saved(vit(), tmp_path)[1]
    with pytest.raises(FileError, match=r"of \(64, 64\) pixels; .* own images have \(32, 64\)"):
        load(name, (64, 64))


@needs_hub
@pytest.mark.parametrize("make, size", [(resnet, (64, 64)), (vit, (32, 64))])
def test_a_classifier_on_it_loads_in_safe_mode(make, size, tmp_path):
    backbone = load(saved(make(), tmp_path)[1], size)
    model = BackboneClassifier(3, backbone, features=4, hidden_units=4)
    model.save(tmp_path / "model.keras")
    images = images_of(*size)
    np.testing.assert_allclose(
        load_classifier(tmp_path / "model.keras").predict(images, verbose=0),
        model.predict(images, verbose=0),
        atol=1e-6,
    )
    backbone.save(tmp_path / "backbone.keras")
    again = load(str(tmp_path / "backbone.keras"), size)
    np.testing.assert_allclose(
        again.predict(images, verbose=0), backbone.predict(images, verbose=0), atol=1e-6
    )


@needs_hub
def test_no_other_class_of_its_package_is_loaded(tmp_path):
    import keras_hub

    images = keras.Input((32, 32, 3))
    features = keras.layers.Conv2D(4, 8, 8)(keras_hub.layers.ImageConverter()(images))
    keras.Model(images, features).save(tmp_path / "own.keras")
    with pytest.raises(FileError, match="ImageConverter, which is no part of a backbone"):
        load(str(tmp_path / "own.keras"), (32, 32))


@needs_hub
@pytest.mark.parametrize(
    "make, stride, message",
    [
        (resnet, 8, None),
        (mit, 32, None),
        (mit, 16, "Expected stride=32 of .* could not be loaded from a file again"),
        (text, 32, "BertBackbone|cannot be loaded"),
    ],
)
def test_what_cannot_be(make, stride, message, tmp_path):
    name = saved(make(), tmp_path)[1]
    if message is None:
        assert load(name, (64, 64), stride).output_shape[1] == 64 // stride
    else:
        with pytest.raises(ValueError, match=message):
            load(name, (64, 64), stride)


@needs_hub
def test_there_is_no_such_preset(tmp_path):
    for name in ("no_such_preset", str(tmp_path)):
        with pytest.raises(FileError, match=f"The preset {name} cannot be loaded for images of"):
            load(f"hub:{name}")


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileError, match=r"pip install 'keras_patchpu\[keras-hub\]'"):
        load("hub:vit_base_patch16_224_imagenet")
