"""Copying weights of a stock EfficientNet-B0; test_patch_embedder compares activations."""

import keras
import numpy as np
import pytest
from backend import numpy
from small import normalization_of, small_classifier, small_images

from keras_patchpu.layers import PatchEmbedder
from keras_patchpu.models import load_efficientnet_weights


@pytest.fixture(scope="module")
def efficientnet():
    """Of another input size and with a top, which must not matter."""
    model = keras.applications.EfficientNetB0(
        weights=None, include_top=True, classes=2, input_shape=(32, 32, 3)
    )
    normalization = normalization_of(model)
    normalization.set_weights(
        [np.array([0.5, 0.4, 0.3]), np.array([0.04, 0.09, 0.16]), np.array(0)]
    )
    normalization.finalize_state()
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # Without this the untrained network shrinks every image to nearly nothing.
            layer.moving_variance.assign(np.full(layer.moving_variance.shape, 0.05))
    return model


def test_a_classifier_gets_the_weights_and_predicts_with_them(efficientnet):
    model = small_classifier()
    images = small_images()
    before = model.predict(images, verbose=0)  # compiles the old normalisation
    kept = {weight.path: numpy(weight) for weight in model.weights}
    assert load_efficientnet_weights(model, efficientnet) is model
    np.testing.assert_allclose(model.patch_embedder.pixel_mean, [0.5, 0.4, 0.3], rtol=1e-6)
    np.testing.assert_allclose(model.patch_embedder.pixel_variance, [0.04, 0.09, 0.16], rtol=1e-6)
    expected = efficientnet.get_layer("block3b_dwconv").get_weights()[0]
    np.testing.assert_array_equal(numpy(model.patch_embedder.blocks[4].dwconv.kernel), expected)
    for weight in model.weights:
        if any(part in weight.path for part in ("projection", "codebook", "shared_softmax_head")):
            np.testing.assert_array_equal(numpy(weight), kept[weight.path])
    after = model.predict(images, verbose=0)
    assert np.abs(after - before).max() > 1e-4
    np.testing.assert_allclose(after, model.explain(images)["probabilities"], atol=1e-5)


def test_the_normalisation_survives_saving(efficientnet, tmp_path):
    model = load_efficientnet_weights(small_classifier(), efficientnet)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.patch_embedder.pixel_mean == model.patch_embedder.pixel_mean
    images = small_images()
    np.testing.assert_allclose(
        numpy(loaded(images)["probabilities"]), numpy(model(images)["probabilities"]), atol=1e-6
    )


@pytest.mark.parametrize(
    "model", [PatchEmbedder(), keras.Sequential(), None], ids=["not built", "other model", "None"]
)
def test_a_model_without_built_embedder_is_explained(model):
    with pytest.raises(ValueError, match="Expected `model` to be a built PatchEmbedder"):
        load_efficientnet_weights(model, None)


@pytest.mark.parametrize(
    "layers, message",
    [
        ([keras.layers.Dense(2)], "no layer 'stem_conv'"),
        (
            [
                keras.layers.Conv2D(32, 3, use_bias=False, name="stem_conv"),
                keras.layers.BatchNormalization(name="stem_bn"),
            ],
            "no layer 'block1a_dwconv'",
        ),
        (
            [keras.layers.Conv2D(40, 3, use_bias=False, name="stem_conv")],
            r"'stem_conv' should have weights of shapes \[\(3, 3, 3, 32\)\].*\[\(3, 3, 3, 40\)\]",
        ),
    ],
    ids=["none", "stem only", "wider stem"],
)
def test_other_networks_are_explained_and_nothing_is_copied(layers, message):
    network = keras.Sequential([keras.Input((16, 16, 3)), *layers])
    embedder = PatchEmbedder(features=2)
    embedder.build((None, 1, 16, 16, 3))
    before = embedder.get_weights()
    with pytest.raises(ValueError, match="`efficientnet`.*" + message):
        load_efficientnet_weights(embedder, network)
    for own, kept in zip(embedder.get_weights(), before):
        np.testing.assert_array_equal(own, kept)
    assert embedder.pixel_mean == (0, 0, 0)
