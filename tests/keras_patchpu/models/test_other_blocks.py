"""Other layers in the place of the paper's blocks."""

import keras
import numpy as np
import pytest
from backend import FEW_STEPS, numpy
from keras import ops
from small import small_classifier, small_images, small_labels

from keras_patchpu import PatchClassifier
from keras_patchpu.layers import CodebookAttentionPool, PatchEmbedder
from keras_patchpu.losses import WeakNegative

pytestmark = pytest.mark.usefixtures("few_blocks")

SIZES = {"image_size": (32, 32), "patch_size": 16, "num_downsamples": 1}


@keras.saving.register_keras_serializable(package="tests")
class MeanPool(keras.layers.Layer):
    """The mean of the patches as the embedding of every label."""

    def call(self, patch_embeddings):
        return ops.repeat(ops.mean(patch_embeddings, axis=1, keepdims=True), 3, axis=1)


@keras.saving.register_keras_serializable(package="tests")
class FirstFeature(keras.layers.Layer):
    """The sigmoid of an embedding's first feature as the label's probability."""

    def call(self, image_embeddings):
        return ops.sigmoid(image_embeddings[..., 0])


def embedder():
    return keras.Sequential(
        [
            keras.Input((None, 16, 16, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Reshape((-1, 16 * 16 * 3)),
            keras.layers.Dense(4, kernel_initializer="glorot_normal"),
        ]
    )


def others():
    return {"patch_embedder": embedder(), "pool": MeanPool(), "head": FirstFeature()}


def test_the_numbers_of_a_mean_of_linear_embeddings():
    model = PatchClassifier(3, **SIZES, **others())
    outputs = model.explain(small_images())
    assert set(outputs) == {
        "patches",
        "patch_embeddings",
        "image_embeddings",
        "logits",
        "probabilities",
    }
    kernel = numpy(model.patch_embedder.layers[-1].kernel)
    images = small_images().astype("float64") / 255
    quarters = images.reshape(4, 2, 16, 2, 16, 3).transpose(0, 1, 3, 2, 4, 5).reshape(4, 4, -1)
    half = images.reshape(4, 16, 2, 16, 2, 3).mean(axis=(2, 4)).reshape(4, 1, -1)
    embeddings = np.concatenate([quarters, half], axis=1) @ kernel
    logits = np.repeat(embeddings.mean(axis=1)[:, :1], 3, axis=1)
    np.testing.assert_allclose(outputs["logits"], logits, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(outputs["probabilities"], 1 / (1 + np.exp(-logits)), rtol=1e-4)


@pytest.mark.parametrize("name", ["patch_embedder", "pool", "head"])
def test_each_alone_is_trained_saved_and_copied(name, tmp_path):
    keras.utils.set_random_seed(0)
    model = PatchClassifier(3, **SIZES, features=4, hidden_units=4, **{name: others()[name]})
    model.compile("sgd", WeakNegative(), **FEW_STEPS)
    model.fit(small_images(), small_labels(), verbose=0)
    assert ("attention" in model.output) == (name != "pool")
    assert ("patch_logits" in model.output) == (name == "patch_embedder")
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    expected = model.predict(small_images(), verbose=0)
    np.testing.assert_allclose(again.predict(small_images(), verbose=0), expected, atol=1e-6)
    fused = model.fused()
    np.testing.assert_allclose(fused.predict(small_images(), verbose=0), expected, atol=1e-4)
    assert len(fused.weights) == len(model.weights) or name != "patch_embedder"
    assert model.with_strides(8).patch_boxes.shape == (9 + 1, 4)


def test_ours_with_other_arguments():
    keras.utils.set_random_seed(0)
    blocks = {"patch_embedder": PatchEmbedder(6), "pool": CodebookAttentionPool(3, None)}
    model = PatchClassifier(3, **SIZES, **blocks)
    assert model.output["patch_embeddings"].shape == (None, 5, 6)
    fused = model.fused()
    assert not fused.patch_embedder.batch_norm and fused.patch_embedder.features == 6
    np.testing.assert_allclose(
        fused.predict(small_images(), verbose=0),
        model.predict(small_images(), verbose=0),
        atol=1e-4,
    )


def test_without_others_the_configuration_holds_none():
    config = small_classifier().get_config()
    assert [config[name] for name in ("patch_embedder", "pool", "head")] == [None] * 3
