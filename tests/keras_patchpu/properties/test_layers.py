"""What holds of the layers for every input of their domain."""

import drawn
import numpy as np
import pytest
from backend import gradient, numpy
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from keras_patchpu.layers import (
    CodebookAttentionPool,
    PatchEmbedder,
    PatchExtractor,
    SharedSoftmaxHead,
)

# An image may be one patch.
pytestmark = pytest.mark.filterwarnings("ignore:You are using a softmax over axis -1")

PATCHES = (1, 3, 8)
FEATURES = 2


def pool(num_labels, codebook):
    layer = CodebookAttentionPool(num_labels, hidden_units=3)
    layer.build((None, None, FEATURES))
    layer.codebook.assign(codebook)
    return layer


@st.composite
def pooled(draw):
    """Codebook and patch embeddings, alike for all patches now and then."""
    images, num_labels = draw(drawn.shapes())
    patches = draw(st.sampled_from(PATCHES))
    codebook = draw(drawn.array((num_labels, FEATURES), drawn.floats(100)))
    shape = (images, draw(st.sampled_from([1, patches])), FEATURES)
    embeddings = draw(drawn.array(shape, drawn.floats(100)))
    return codebook, np.broadcast_to(embeddings, (images, patches, FEATURES)).copy()


@drawn.QUICK
@given(pooled(), st.data())
def test_attention_sums_to_one_and_does_not_see_the_order_of_patches(example, data):
    codebook, embeddings = example
    layer = pool(len(codebook), codebook)
    found, attention = map(numpy, layer(embeddings, return_attention_scores=True))
    assert attention.shape == (len(embeddings), len(codebook), embeddings.shape[1])
    assert (attention >= 0).all()
    np.testing.assert_allclose(attention.sum(axis=-1), 1, atol=1e-5)
    assert np.isfinite(found).all()
    order = data.draw(drawn.permutation(embeddings.shape[1]))
    again, turned = map(numpy, layer(embeddings[:, order], return_attention_scores=True))
    np.testing.assert_allclose(turned, attention[:, :, order], atol=1e-6)
    np.testing.assert_allclose(again, found, rtol=1e-4, atol=1e-3)
    one = numpy(layer(embeddings[-1:]))
    np.testing.assert_allclose(one, found[-1:], rtol=1e-4, atol=1e-3)


@drawn.QUICK
@given(pooled())
def test_gradient_of_the_pooling_is_finite(example):
    codebook, embeddings = example
    layer = pool(len(codebook), codebook)
    assert np.isfinite(gradient(lambda x: ops.sum(layer(x)), embeddings)).all()


def head(scores, dtype="float32"):
    """Head whose scores of an embedding are the embedding."""
    layer = SharedSoftmaxHead(scores.shape[-1], dtype=dtype)
    layer.build((None, scores.shape[-1], scores.shape[-1]))
    layer.kernel.assign(np.eye(scores.shape[-1]))
    return layer


@st.composite
def scores(draw):
    images, num_labels = draw(drawn.shapes())
    return draw(drawn.array((images, num_labels, num_labels), drawn.floats(1e4)))


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_probabilities_and_log_odds_are_finite(dtype):
    @drawn.QUICK
    @given(scores())
    def check(values):
        layer = head(values, dtype)
        probabilities, logits = map(numpy, layer(values, return_logits=True))
        assert probabilities.dtype == logits.dtype == "float32"
        assert (probabilities >= 0).all() and (probabilities <= 1).all()
        assert np.isfinite(logits).all()
        # (Of one label the softmax is 1.)
        assert np.abs(logits).max() <= (4e4 if values.shape[1] > 1 else 1e9)
        assert np.isfinite(numpy(layer.log_odds_of_all(values))).all()
        slope = gradient(lambda x: ops.sum(layer(x, return_logits=True)[1]), values)
        assert np.isfinite(slope).all()

    check()


@drawn.QUICK
@given(scores(), st.data())
def test_head_does_not_see_the_order_of_labels_nor_other_images(values, data):
    order = data.draw(drawn.permutation(values.shape[1]))
    _, logits = map(numpy, head(values)(values, return_logits=True))
    turned = values[:, order][:, :, order]
    _, found = map(numpy, head(values)(turned, return_logits=True))
    # (One in float32 at scores of 10,000 is 1e-3.)
    np.testing.assert_allclose(found, logits[:, order], rtol=1e-6, atol=2e-3)
    _, alone = map(numpy, head(values)(values[-1:], return_logits=True))
    np.testing.assert_allclose(alone, logits[-1:], rtol=1e-6, atol=2e-3)


@drawn.QUICK
@given(
    st.sampled_from([(8, 8), (9, 21), (17, 16)]),
    st.sampled_from([None, 3, 8]),
    st.sampled_from([1, 2]),
    st.integers(0, 255),
)
def test_patches_of_a_constant_image_are_constant(size, strides, images, colour):
    layer = PatchExtractor(patch_size=8, num_downsamples=2, strides=strides)
    pixels = np.full((images, *size, 3), colour, "uint8")
    patches = numpy(layer(pixels))
    grids = layer.grid(size).level_grids
    assert patches.shape == (images, sum(r * c for r, c in grids), 8, 8, 3)
    np.testing.assert_allclose(patches, colour, rtol=1e-6)


@drawn.QUICK
@given(st.integers(0, 2**32 - 1), st.sampled_from([(8, 8), (17, 20)]), st.sampled_from([1, 3]))
def test_type_and_layout_of_pixels_do_not_matter(seed, size, images):
    pixels = np.random.default_rng(seed).integers(0, 256, (images, *size, 3)).astype("uint8")
    layer = PatchExtractor(patch_size=8, num_downsamples=1, strides=4)
    expected = numpy(layer(pixels))
    for same in (pixels.astype("float32"), pixels.astype("int64"), drawn.not_contiguous(pixels)):
        np.testing.assert_array_equal(numpy(layer(same)), expected)
    assert expected.min() >= 0 and expected.max() <= 255


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_constant_patches_have_finite_embeddings(dtype, training):
    # In training the variance of a batch of them is 0.
    layer = PatchEmbedder(4, dtype=dtype)
    for colour in (0, 1, 128, 255):
        patches = np.full((1, 2, 16, 16, 3), colour, "uint8")
        assert np.isfinite(numpy(layer(patches, training=training))).all()
    assert all(np.isfinite(weight).all() for weight in layer.get_weights())
