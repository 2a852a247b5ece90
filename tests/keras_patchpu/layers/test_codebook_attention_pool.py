"""Blocks 3 and 4: eq. (1) and (2) in NumPy."""

import math

import keras
import numpy as np
import pytest
from backend import gradient, numpy, weight_gradients
from keras import ops

from keras_patchpu.layers import CodebookAttentionPool


def gelu(x):
    """Exact GELU, x times the normal distribution's share below x."""
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def softmax(scores):
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return shares / shares.sum(axis=-1, keepdims=True)


def random_weights(layer, seed=1):
    """Replaces every weight, biases included, by random numbers."""
    random = np.random.default_rng(seed)
    layer.set_weights([random.normal(0, 0.5, w.shape).astype("float32") for w in layer.weights])


def test_equations_1_and_2():
    random = np.random.default_rng(0)
    patches = random.normal(size=(2, 5, 4)).astype("float32")
    layer = CodebookAttentionPool(num_labels=3, hidden_units=6)
    layer.build(patches.shape)
    random_weights(layer)
    image_embeddings, attention = layer(patches, return_attention_scores=True)

    codebook = numpy(layer.codebook).astype("float64")
    expected_attention = softmax(np.einsum("lf,bpf->blp", codebook, patches))
    pooled = np.einsum("blp,bpf->blf", expected_attention, patches)
    w1, b1 = (w.astype("float64") for w in layer.mlp_hidden.get_weights())
    w2, b2 = (w.astype("float64") for w in layer.mlp_output.get_weights())
    expected = gelu(pooled @ w1 + b1) @ w2 + b2 + pooled

    assert attention.shape == (2, 3, 5)
    np.testing.assert_allclose(numpy(attention), expected_attention, atol=1e-6)
    np.testing.assert_allclose(numpy(image_embeddings), expected, atol=1e-5)
    np.testing.assert_array_equal(numpy(layer(patches)), numpy(image_embeddings))


def test_gelu_is_the_exact_one():
    # One feature and an MLP of one: the output is gelu(x) + x. At 2 the tanh form differs by 1e-4.
    layer = CodebookAttentionPool(num_labels=1, hidden_units=1)
    layer.build((None, 1, 1))
    one, zero = np.ones((1, 1)), np.zeros(1)
    layer.set_weights([np.zeros((1, 1)), one, zero, one, zero])
    x = np.array([-2.0, -1.0, 0.5, 2.0], "float32").reshape(4, 1, 1)
    np.testing.assert_allclose(numpy(layer(x)), gelu(x.astype("float64")) + x, atol=3e-6)


def test_attention_sums_to_one_and_survives_large_scores():
    patches = np.random.default_rng(0).normal(0, 100, (2, 7, 4)).astype("float32")
    layer = CodebookAttentionPool(num_labels=3, hidden_units=2, codebook_initializer="ones")
    _, attention = layer(patches, return_attention_scores=True)
    attention = numpy(attention)
    assert (attention >= 0).all()
    np.testing.assert_allclose(attention.sum(axis=-1), np.ones((2, 3)), atol=1e-6)
    # Labels have the same codebook here, so the same attention: all on the largest sum.
    assert (attention.argmax(axis=-1) == patches.sum(axis=-1).argmax(axis=-1)[:, None]).all()


def test_a_codebook_of_zeros_attends_uniformly():
    patches = np.random.default_rng(0).normal(size=(2, 5, 4)).astype("float32")
    layer = CodebookAttentionPool(num_labels=3, hidden_units=2, codebook_initializer="zeros")
    _, attention = layer(patches, return_attention_scores=True)
    np.testing.assert_allclose(numpy(attention), np.full((2, 3, 5), 0.2), atol=1e-7)


@pytest.mark.parametrize("num_labels, features", [(20, 256), (200, 64)])
def test_the_codebook_starts_with_a_deviation_of_one_over_the_root_of_features(
    num_labels, features
):
    layer = CodebookAttentionPool(num_labels)
    layer.build((None, None, features))
    codebook = numpy(layer.codebook)
    assert codebook.shape == (num_labels, features)
    # 5 % are 7 standard errors of the deviation of 5,120 numbers.
    np.testing.assert_allclose(codebook.std(), features**-0.5, rtol=0.05)


def test_hidden_and_output_kernels_are_different_draws():
    layer = CodebookAttentionPool(num_labels=2, hidden_units=8)
    layer.build((None, None, 8))
    assert not np.array_equal(numpy(layer.mlp_hidden.kernel), numpy(layer.mlp_output.kernel))


def test_unknown_number_of_patches():
    patches = keras.Input((None, 4))
    layer = CodebookAttentionPool(num_labels=3, hidden_units=2)
    image_embeddings, attention = layer(patches, return_attention_scores=True)
    assert image_embeddings.shape == (None, 3, 4)
    assert attention.shape == (None, 3, None)
    model = keras.Model(patches, [image_embeddings, attention])
    for count in (2, 5):
        embeddings, weights = model(np.ones((1, count, 4), "float32"))
        assert tuple(embeddings.shape) == (1, 3, 4)
        assert tuple(weights.shape) == (1, 3, count)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_attention_is_float32_under_mixed_precision(policy):
    layer = CodebookAttentionPool(num_labels=3, hidden_units=2, dtype=policy)
    patches = np.random.default_rng(0).normal(0, 3, (1, 200, 4)).astype("float32")
    _, attention = layer(patches, return_attention_scores=True)
    assert keras.backend.standardize_dtype(attention.dtype) == "float32"
    # Half-precision weights of 200 patches would miss this by 1e-3 or more.
    np.testing.assert_allclose(numpy(attention).sum(axis=-1), np.ones((1, 3)), atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_the_codebook_is_not_rounded_under_mixed_precision(policy):
    # Patches are powers of two, exact in any precision; a third in the codebook is not.
    layer = CodebookAttentionPool(num_labels=1, hidden_units=2, dtype=policy)
    patches = np.array([[[8.0], [0.0]]], "float32")
    layer.build(patches.shape)
    layer.codebook.assign([[1 / 3]])
    _, attention = layer(patches, return_attention_scores=True)
    expected = 1 / (1 + np.exp(np.array([[[-8, 8]]]) / 3))
    np.testing.assert_allclose(numpy(attention), expected, rtol=1e-5)


# === Sets of unequal size ===


def masked_sets():
    """Sets of 3, 5 and no patches in an array of 5, NaN where there is none; and the mask."""
    patches = np.random.default_rng(0).normal(size=(3, 5, 4)).astype("float32")
    mask = np.arange(5) < np.array([[3], [5], [0]])
    return np.where(mask[..., None], patches, np.nan).astype("float32"), mask


def test_a_masked_set_is_pooled_as_the_set_alone():
    patches, mask = masked_sets()
    layer = CodebookAttentionPool(num_labels=3, hidden_units=6)
    layer.build(patches.shape)
    random_weights(layer)
    embeddings, attention = map(numpy, layer(patches, mask=mask, return_attention_scores=True))
    for index, count in [(0, 3), (1, 5)]:
        alone = layer(patches[index : index + 1, :count], return_attention_scores=True)
        np.testing.assert_allclose(embeddings[index], numpy(alone[0])[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(attention[index, :, :count], numpy(alone[1])[0], rtol=1e-5)
        np.testing.assert_array_equal(attention[index, :, count:], 0)


def test_a_set_without_patches_gives_the_mlp_of_zeros_and_finite_gradients():
    patches, mask = masked_sets()
    layer = CodebookAttentionPool(num_labels=3, hidden_units=6)
    layer.build(patches.shape)
    random_weights(layer)
    embeddings, attention = map(numpy, layer(patches, mask=mask, return_attention_scores=True))
    np.testing.assert_array_equal(attention[2], 0)
    _, _, b1, w2, b2 = (w.astype("float64") for w in layer.get_weights())
    expected = np.broadcast_to(gelu(b1) @ w2 + b2, (3, 4))
    np.testing.assert_allclose(embeddings[2], expected, atol=1e-5)
    for slope in weight_gradients(layer, lambda: ops.sum(layer(patches, mask=mask) ** 2)):
        assert np.isfinite(slope).all() and (slope != 0).any()
    slope = gradient(lambda x: ops.sum(layer(x, mask=mask)), np.nan_to_num(patches))
    np.testing.assert_array_equal(slope[~mask], 0)
    assert (slope[mask] != 0).any()


def test_the_mask_of_a_layer_before_is_taken_and_ends_here():
    patches = np.array([[[1.0, 2.0], [3.0, -1.0], [0.0, 0.0]]], "float32")
    inputs = keras.Input((None, 2))
    pool = CodebookAttentionPool(num_labels=2, hidden_units=3)
    outputs = pool(keras.layers.Masking()(inputs))
    assert getattr(outputs, "_keras_mask", None) is None
    found = numpy(keras.Model(inputs, outputs)(patches))
    np.testing.assert_allclose(found, numpy(pool(patches[:, :2])), rtol=1e-5)
    assert np.abs(found - numpy(pool(patches))).max() > 1e-3


def test_a_mask_as_an_input_of_a_model_survives_saving(tmp_path):
    patches, mask = masked_sets()
    inputs, mask_input = keras.Input((5, 4)), keras.Input((5,), dtype="bool")
    pool = CodebookAttentionPool(num_labels=3, hidden_units=6)
    model = keras.Model([inputs, mask_input], pool(inputs, mask=mask_input))
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    expected = numpy(pool(patches, mask=mask))
    np.testing.assert_allclose(numpy(loaded([patches, mask])), expected, rtol=1e-6)
