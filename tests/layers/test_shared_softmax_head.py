"""Block 5: eq. (3) in float64 NumPy, and the log-odds."""

import keras
import numpy as np
import pytest
from backend import gradient, numpy
from keras import ops

from keras_patchpu.layers import SharedSoftmaxHead


def head_of_scores(num_labels):
    """A head whose matrix is the identity: an embedding is its own scores."""
    return SharedSoftmaxHead(num_labels, kernel_initializer="identity")


def test_equation_3():
    random = np.random.default_rng(0)
    embeddings = random.normal(0, 2, (3, 4, 5)).astype("float32")
    head = SharedSoftmaxHead(num_labels=4)
    head.build(embeddings.shape)
    kernel = random.normal(size=(5, 4)).astype("float32")
    head.set_weights([kernel])
    probabilities, logits = head(embeddings, return_logits=True)

    scores = np.exp(np.einsum("blf,fk->blk", embeddings.astype("float64"), kernel))
    expected = np.einsum("bll->bl", scores) / scores.sum(axis=-1)
    assert probabilities.shape == (3, 4)
    np.testing.assert_allclose(numpy(probabilities), expected, rtol=1e-5)
    np.testing.assert_allclose(
        numpy(logits), np.log(expected / (1 - expected)), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_array_equal(numpy(head(embeddings)), numpy(probabilities))


@pytest.mark.parametrize("sign", [1, -1])
def test_log_odds_keep_their_digits_where_a_probability_does_not(sign):
    # Label 0 leads (or trails) by 27.6, so p = 1 - 1e-12 (or 1e-12); float32 has 1 - 1e-7 at best.
    lead = sign * np.log(1e12 - 1)
    embeddings = np.zeros((1, 3, 3), "float32")
    embeddings[0, 0] = [lead + np.log(2), 0, 0]
    probabilities, logits = head_of_scores(3)(embeddings, return_logits=True)
    np.testing.assert_allclose(numpy(logits)[0, 0], lead, rtol=1e-6)
    np.testing.assert_allclose(numpy(logits)[0, 1:], np.log([0.5, 0.5]), rtol=1e-6)
    assert numpy(probabilities)[0, 0] == pytest.approx(1 if sign > 0 else 1e-12, rel=1e-5)


def test_huge_scores_stay_finite():
    embeddings = np.zeros((1, 2, 2), "float32")
    embeddings[0, 0] = [2e4, -2e4]
    embeddings[0, 1] = [2e4, -2e4]
    head = head_of_scores(2)
    probabilities, logits = head(embeddings, return_logits=True)
    np.testing.assert_array_equal(numpy(probabilities), [[1, 0]])
    np.testing.assert_allclose(numpy(logits), [[4e4, -4e4]], rtol=1e-6)
    slope = gradient(lambda x: ops.sum(head(x, return_logits=True)[1]), embeddings)
    np.testing.assert_allclose(slope, [[[1, -1], [-1, 1]]], atol=1e-6)


def test_probabilities_of_an_image_need_not_sum_to_one():
    embeddings = (10 * np.eye(3, dtype="float32"))[None]
    probabilities = numpy(head_of_scores(3)(embeddings))
    np.testing.assert_allclose(probabilities, np.full((1, 3), 1 / (1 + 2 * np.exp(-10))), rtol=1e-6)


def test_gradient_of_the_log_odds():
    # d z_l / d score_l = 1, d z_l / d score_k = -softmax over the others.
    scores = np.array([[0.5, 1.0, -2.0], [0.0, 0.0, 0.0], [1.0, 2.0, 3.0]], "float32")[None]
    head = head_of_scores(3)
    slope = gradient(lambda x: ops.sum(head(x, return_logits=True)[1]), scores)
    expected = np.empty((3, 3))
    for label in range(3):
        shares = np.exp(scores[0, label].astype("float64"))
        shares[label] = 0
        expected[label] = -shares / shares.sum()
        expected[label, label] = 1
    np.testing.assert_allclose(slope[0], expected, atol=1e-6)


def test_one_label_is_always_present():
    embeddings = np.array([[[3.0, -1.0]], [[0.0, 0.0]]], "float32")
    head = SharedSoftmaxHead(num_labels=1)
    probabilities, logits = head(embeddings, return_logits=True)
    np.testing.assert_array_equal(numpy(probabilities), [[1], [1]])
    assert np.isfinite(numpy(logits)).all()
    assert np.isfinite(gradient(lambda x: ops.sum(head(x)), embeddings)).all()


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_everything_is_float32_under_mixed_precision(policy):
    head = SharedSoftmaxHead(num_labels=2, kernel_initializer="identity", dtype=policy)
    # 12.25 has no digits to lose; half precision would round its probability to 1.
    outputs = head(np.array([[[12.25, 0.0], [0.0, 0.0]]], "float32"), return_logits=True)
    for output in outputs:
        assert keras.backend.standardize_dtype(output.dtype) == "float32"
    np.testing.assert_allclose(numpy(outputs[1]), [[12.25, 0]], atol=1e-6)
    assert numpy(outputs[0])[0, 0] == pytest.approx(1 / (1 + np.exp(-12.25)), abs=1e-7)
    specs = head(keras.Input((2, 2)), return_logits=True)
    assert [spec.dtype for spec in specs] == ["float32", "float32"]


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_the_matrix_is_not_rounded_under_mixed_precision(policy):
    # Embeddings are powers of two, exact in any precision; a third in the matrix is not.
    head = SharedSoftmaxHead(num_labels=2, dtype=policy)
    head.build((None, 2, 1))
    head.set_weights([np.array([[1 / 3, 0]])])
    _, logits = head(np.array([[[8.0], [16.0]]], "float32"), return_logits=True)
    np.testing.assert_allclose(numpy(logits), [[8 / 3, -16 / 3]], rtol=1e-6)


@pytest.mark.parametrize("shape", [(None, 3, 8), (None, 8), (None, 2, 4, 8)])
def test_an_input_without_one_embedding_per_label_is_explained(shape):
    with pytest.raises(ValueError, match=r"one embedding per label.*num_labels=4.*Received"):
        SharedSoftmaxHead(num_labels=4).build(shape)
