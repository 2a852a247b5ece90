"""Block 2: the embedder against EfficientNet-B0."""

import re

import keras
import numpy as np
import pytest
from backend import numpy
from small import normalization_of

from keras_patchpu.layers import PatchEmbedder
from keras_patchpu.models import load_efficientnet_weights

LAST_LAYERS = {
    "block1a": "block1a_project_bn",
    "block2b": "block2b_add",
    "block3b": "block3b_add",
}
IMAGENET_DEVIATION = np.array([0.229, 0.224, 0.225])


def set_golden_weights(efficientnet, golden):
    """Gives an EfficientNet-B0 the weights of the reference, as far as it has them."""
    used = 0
    for variable in efficientnet.weights:
        path = re.sub("^normalization_[0-9]+/", "normalization/", variable.path)
        if f"w/{path}" in golden:
            variable.assign(golden[f"w/{path}"])
            used += 1
    assert used == sum(name.startswith("w/") for name in golden)
    normalization_of(efficientnet).finalize_state()


@pytest.fixture(scope="module")
def efficientnet(golden):
    """`EfficientNetB0(weights=None)` with the weights of the reference."""
    model = keras.applications.EfficientNetB0(
        weights=None, include_top=False, input_shape=(64, 64, 3), name="efficientnetb0"
    )
    set_golden_weights(model, golden("effnet"))
    return model


@pytest.fixture(scope="module")
def imagenet_variant(efficientnet, tmp_path_factory):
    """`EfficientNetB0(weights="imagenet")`, its download replaced by the reference's weights."""
    path = str(tmp_path_factory.mktemp("weights") / "efficientnet.weights.h5")
    efficientnet.save_weights(path)
    file_utils = keras.applications.EfficientNetB0.__globals__["EfficientNet"].__globals__[
        "file_utils"
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_utils, "get_file", lambda *args, **kwargs: path)
        return keras.applications.EfficientNetB0(
            weights="imagenet", include_top=False, input_shape=(64, 64, 3)
        )


def built_embedder(**kwargs):
    embedder = PatchEmbedder(**kwargs)
    embedder.build((None, 1, 64, 64, 3))
    return embedder


def test_block_outputs_equal_the_reference(golden, efficientnet):
    arrays = golden("effnet")
    embedder = load_efficientnet_weights(built_embedder(), efficientnet)
    outputs = embedder.block_outputs(arrays["x"])
    assert list(outputs) == ["block1a", "block2a", "block2b", "block3a", "block3b"]
    for block, layer in LAST_LAYERS.items():
        np.testing.assert_allclose(numpy(outputs[block]), arrays[f"act/{layer}"], atol=5e-5, rtol=0)


def test_block_outputs_equal_the_imagenet_variant(golden, imagenet_variant):
    # The stock model rescales once more: the reference's values must not come out here.
    rescalings = [
        layer for layer in imagenet_variant.layers if isinstance(layer, keras.layers.Rescaling)
    ]
    assert len(rescalings) == 2
    np.testing.assert_allclose(rescalings[1].scale, IMAGENET_DEVIATION**-0.5)
    arrays = golden("effnet")
    activations = keras.Model(
        imagenet_variant.input,
        {block: imagenet_variant.get_layer(name).output for block, name in LAST_LAYERS.items()},
    )(arrays["x"].astype("float32"))
    embedder = load_efficientnet_weights(built_embedder(), imagenet_variant)
    outputs = embedder.block_outputs(arrays["x"])
    for block, layer in LAST_LAYERS.items():
        expected = numpy(activations[block])
        np.testing.assert_allclose(numpy(outputs[block]), expected, atol=1e-4, rtol=1e-4)
        assert np.abs(expected - arrays[f"act/{layer}"]).max() > 1e-2


def test_input_normalisation_of_both_variants(efficientnet, imagenet_variant):
    mean = np.array([0.485, 0.456, 0.406])
    plain = load_efficientnet_weights(built_embedder(), efficientnet)
    np.testing.assert_allclose(plain.pixel_mean, mean, rtol=1e-6)
    np.testing.assert_allclose(plain.pixel_variance, IMAGENET_DEVIATION**2, rtol=1e-6)
    # (x - mean) / s / sqrt(s) = (x - mean) / sqrt(s^3)
    rescaled = load_efficientnet_weights(built_embedder(), imagenet_variant)
    np.testing.assert_allclose(rescaled.pixel_mean, mean, rtol=1e-6)
    np.testing.assert_allclose(rescaled.pixel_variance, IMAGENET_DEVIATION**3, rtol=1e-6)


def test_embedding_is_the_projected_mean_of_the_last_map(golden, efficientnet):
    arrays = golden("effnet")
    embedder = load_efficientnet_weights(built_embedder(features=7), efficientnet)
    random = np.random.default_rng(0)
    kernel, bias = random.normal(size=(40, 7)), random.normal(size=7)
    embedder.projection.set_weights([kernel, bias])
    expected = arrays["act/block3b_add"].mean(axis=(1, 2)) @ kernel + bias
    # As two images of one patch, as one image of two, and with patches repeated.
    patches = arrays["x"]
    np.testing.assert_allclose(numpy(embedder(patches[:, None]))[:, 0], expected, atol=1e-3)
    np.testing.assert_allclose(numpy(embedder(patches[None]))[0], expected, atol=1e-3)
    both = np.stack([patches, patches[::-1], patches])
    np.testing.assert_allclose(
        numpy(embedder(both)), np.stack([expected, expected[::-1], expected]), atol=1e-3
    )


def test_pixels_are_scaled_shifted_and_divided_by_the_deviation():
    # Weights are equal, so x and its counterpart in other units must give the same.
    plain = built_embedder(features=4)
    shifted = built_embedder(
        features=4, pixel_mean=(0.1, 0.2, 0.3), pixel_variance=(0.25, 1.0, 4.0)
    )
    shifted.set_weights(plain.get_weights())
    x = np.random.default_rng(0).uniform(0, 255, (1, 2, 64, 64, 3)).astype("float32")
    counterpart = (x / 255 * [0.5, 1.0, 2.0] + [0.1, 0.2, 0.3]) * 255
    np.testing.assert_allclose(
        numpy(shifted(counterpart.astype("float32"))), numpy(plain(x)), atol=1e-4
    )


def test_number_of_parameters():
    # 68,642 of stem and blocks, 256 * (40 + 1) of the projection.
    assert built_embedder().count_params() == 68_642 + 10_496


def test_kernels_of_one_shape_start_from_different_draws():
    blocks = {block.name: block for block in built_embedder().blocks}
    for name in ("expand_conv", "se_expand"):
        first, second = (
            numpy(getattr(blocks[block], name).kernel) for block in ("block2b", "block3a")
        )
        assert first.shape == second.shape
        assert not np.array_equal(first, second)


def test_unknown_number_of_patches():
    embedder = PatchEmbedder(features=4)
    patches = keras.Input((None, 16, 16, 3))
    outputs = embedder(patches)
    assert outputs.shape == (None, None, 4)
    model = keras.Model(patches, outputs)
    x = np.random.default_rng(0).uniform(0, 255, (2, 3, 16, 16, 3)).astype("float32")
    whole = numpy(model(x))
    assert whole.shape == (2, 3, 4)
    np.testing.assert_allclose(numpy(model(x[:, :1])), whole[:, :1], atol=1e-5)


@pytest.mark.parametrize(
    "shape",
    [(None, 16, 16, 3), (None, 2, 16, 16, 1), (None, 2, None, 16, 3), (None, 2, 16, None, 3)],
)
def test_other_shapes_than_patches_are_explained(shape):
    with pytest.raises(ValueError, match="PatchEmbedder expects patches.*Received: shape"):
        PatchEmbedder().build(shape)
