"""A pretrained network's map for patches: places, features computed once, files."""

import keras
import numpy as np
import pytest
from backend import FEW_STEPS
from small import small_backbone, small_backbone_classifier, small_images, small_labels

from keras_patchpu import backbones
from keras_patchpu.losses import WeakNegative
from keras_patchpu.models import load_classifier
from keras_patchpu.utils.validation import FileError


def test_places_of_the_map_are_patches():
    model = small_backbone_classifier()
    outputs = model.explain(small_images())
    assert {name: values.shape[1:] for name, values in outputs.items()} == {
        "patch_features": (16, 6),
        "patch_embeddings": (16, 5),
        "attention": (3, 16),
        "image_embeddings": (3, 5),
        "logits": (3,),
        "probabilities": (3,),
        "patch_logits": (3, 16),
        "score_maps": (4, 4, 3),
    }
    maps = keras.ops.convert_to_numpy(model.backbone(small_images(), training=False))
    np.testing.assert_allclose(
        outputs["patch_features"], maps.reshape(len(maps), 16, 6), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(model.patch_boxes[6], [0.25, 0.5, 0.5, 0.75])


def test_smaller_copies_give_places_beside_those_of_the_image():
    model = small_backbone_classifier(
        small_backbone((None, None)), image_size=(32, 48), num_downsamples=1
    )
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 48, 3)).astype("float32")
    found = model.explain(images, ["patch_features"])["patch_features"]
    assert model.level_grids == [(4, 6), (2, 3)]
    smaller = images.reshape(2, 16, 2, 24, 2, 3).mean(axis=(2, 4))
    expected = keras.ops.convert_to_numpy(model.backbone(smaller, training=False))
    np.testing.assert_allclose(found[:, 24:], expected.reshape(2, 6, 6), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(model.patch_boxes[24 + 4], [0.5, 1 / 3, 1.0, 2 / 3], rtol=1e-6)


def test_tokens_without_those_at_the_front():
    images = keras.Input((32, 64, 3))
    places = keras.layers.Reshape((8, 6))(keras.layers.Conv2D(6, 16, 16)(images))
    first = keras.layers.Rescaling(0.0, offset=7.0)(places[:, :1])
    tokens = keras.layers.Concatenate(axis=1)([first, places])
    model = small_backbone_classifier(keras.Model(images, tokens), num_prefix_tokens=1)
    assert model.level_grids == [(2, 4)]
    found = model.explain(np.zeros((1, 32, 64, 3), "uint8"), ["patch_features"])["patch_features"]
    assert found.shape == (1, 8, 6)
    assert np.abs(found).max() < 7


def test_the_backbone_does_in_training_what_it_does_in_prediction():
    model = small_backbone_classifier()
    model.backbone.layers[-2].moving_mean.assign(np.ones(6))
    trained, predicted = (model(small_images(), training=flag) for flag in (True, False))
    np.testing.assert_array_equal(
        *(keras.ops.convert_to_numpy(x["patch_features"]) for x in (trained, predicted))
    )
    assert np.ptp(keras.ops.convert_to_numpy(model.backbone.layers[-2].moving_mean)) == 0


def test_what_is_learnt_on_features_the_model_knows():
    model = small_backbone_classifier(label_names=["a", "b", "c"])
    model.backbone.trainable = False
    images, labels = small_images(), small_labels()
    features = model.part("patch_features").predict(images, verbose=0)["patch_features"]
    before = model.predict(images, verbose=0)
    head = model.on_features()
    assert head.label_names == ("a", "b", "c")
    np.testing.assert_allclose(head.predict(features, verbose=0), before, atol=1e-5)
    head.compile(keras.optimizers.Adam(0.05), WeakNegative(), **FEW_STEPS)
    head.fit(features, labels, epochs=2, verbose=0)
    after = model.predict(images, verbose=0)
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(head.predict(features, verbose=0), after, atol=1e-5)
    names = {weight.path for weight in head.trainable_weights}
    assert names == {weight.path for weight in model.trainable_weights}


@pytest.mark.parametrize("load", [load_classifier, keras.saving.load_model])
def test_a_file_keeps_what_is_frozen(tmp_path, load):
    model = small_backbone_classifier(thresholds=(0.1, 0.2, 0.3))
    model.backbone.trainable = False
    model.compile("adam", WeakNegative(), **FEW_STEPS)
    model.fit(small_images(), small_labels(), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = load(tmp_path / "model.keras")
    assert not loaded.backbone.trainable
    assert not loaded.backbone.trainable_weights
    assert loaded.thresholds == (0.1, 0.2, 0.3)
    assert len(loaded.trainable_weights) == len(model.trainable_weights)
    np.testing.assert_allclose(
        loaded.predict(small_images(), verbose=0),
        model.predict(small_images(), verbose=0),
        atol=1e-6,
    )
    loaded.fit(small_images(), small_labels(), verbose=0)


def test_a_thawed_part_stays_thawed(tmp_path):
    model = small_backbone_classifier()
    model.backbone.trainable = False
    model.backbone.get_layer("cut").trainable = True
    model.save(tmp_path / "model.keras")
    loaded = load_classifier(tmp_path / "model.keras")
    assert [layer.name for layer in loaded.backbone.layers if layer.trainable_weights] == ["cut"]


class _Mine(keras.layers.Layer):
    def call(self, images):
        return images[:, ::8, ::8]


@pytest.mark.parametrize(
    "layer", [keras.layers.Lambda(lambda x: x[:, ::8, ::8]), _Mine()], ids=["lambda", "mine"]
)
def test_code_in_a_backbone_is_not_loaded(tmp_path, layer):
    images = keras.Input((32, 32, 3))
    small_backbone_classifier(keras.Model(images, layer(images))).save(tmp_path / "model.keras")
    with pytest.raises(FileError, match="contains code|which is no part of a classifier"):
        load_classifier(tmp_path / "model.keras")


def test_backbones_that_give_no_places_are_refused():
    images = keras.Input((32, 32, 3))
    with pytest.raises(ValueError, match=r"map of features \(B, h, w, C\)"):
        small_backbone_classifier(
            keras.Model(images, keras.layers.GlobalAveragePooling2D()(images))
        )
    with pytest.raises(ValueError, match="Expected `image_size`"):
        small_backbone_classifier(small_backbone((None, None)))
    tokens = keras.layers.Reshape((7, 3 * 64))(keras.layers.Cropping2D(((0, 4), (0, 16)))(images))
    with pytest.raises(ValueError, match="tokens of a grid"):
        small_backbone_classifier(keras.Model(images, tokens))


def random_norms(model):
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([random.uniform(0.5, 2, np.shape(w)) for w in layer.get_weights()])
        if isinstance(layer, keras.Model):
            random_norms(layer)


def norms_of(model):
    inner = model._flatten_layers()
    return [layer for layer in inner if isinstance(layer, keras.layers.BatchNormalization)]


def test_fused_has_the_same_probabilities_and_no_batch_norm_in_its_backbone():
    images = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(6, 8, 8, use_bias=False)(images)
    x = keras.layers.BatchNormalization(scale=False)(x)
    x = keras.layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same")(x)
    x = keras.layers.BatchNormalization(center=False)(keras.layers.Rescaling(1 / 99)(x))
    inside = keras.Model(images, x)
    y = keras.layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same", use_bias=False)(
        inside(images)
    )
    y = keras.layers.BatchNormalization()(y)
    z = keras.layers.Conv2D(5, 1)(y)
    # The last map is taken twice: its batch norm has to stay; so has one behind no convolution.
    z = keras.layers.Add()([z, keras.layers.BatchNormalization()(z)])
    model = small_backbone_classifier(keras.Model(images, z))
    random_norms(model.backbone)
    fused = model.fused()
    assert len(norms_of(model.backbone)) == 4 and len(norms_of(fused.backbone)) == 2
    expected, found = (m.explain(small_images()) for m in (model, fused))
    assert np.ptp(expected["patch_features"]) > 1
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenet", "resnet50v2"])
def test_fused_networks(name):
    backbone = backbones.load(name, (64, 64), weights=None)
    random_norms(backbone)
    model = small_backbone_classifier(backbone)
    fused = model.fused()
    assert len(norms_of(fused.backbone)) < len(norms_of(backbone)) / 2
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype="uint8")
    expected, found = (
        m.explain(images, ["patch_features"])["patch_features"] for m in (model, fused)
    )
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.ptp(expected))
