"""Block 5: eq. (3) in float64 NumPy, and the log-odds."""

import keras
import numpy as np
import pytest
from backend import gradient, numpy
from keras import ops

from keras_patchpu.layers import SharedSoftmaxHead, log_odds


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


# === Scores in blocks, as above 1024 labels ===


@pytest.fixture(params=[49, 27, 3])
def in_blocks(request, monkeypatch):
    """One block of all 7 labels, three of 3 with padding, seven of 1. The labels of a block."""
    monkeypatch.setattr(log_odds, "_MOST_LABELS_AT_ONCE", 1)
    monkeypatch.setattr(log_odds, "_SCORES_IN_A_BLOCK", request.param)
    return {49: 7, 27: 3, 3: 1}[request.param]


def random_head(seed=0, batch=2, num_labels=7, features=5, **kwargs):
    """A head with a random matrix, that matrix, and embeddings."""
    random = np.random.default_rng(seed)
    head = SharedSoftmaxHead(num_labels, **kwargs)
    head.build((None, num_labels, features))
    kernel = random.normal(size=(features, num_labels)).astype("float32")
    head.set_weights([kernel])
    return head, kernel, random.normal(0, 2, (batch, num_labels, features)).astype("float32")


def numpy_log_odds(embeddings, kernel):
    """Log-odds in float64, and the softmax over the other labels (B, L, L)."""
    scores = np.asarray(embeddings, "float64") @ kernel
    own = np.eye(kernel.shape[1])
    others = np.where(own, 0, np.exp(scores))
    total = others.sum(axis=-1)
    return (scores * own).sum(axis=-1) - np.log(total), others / total[..., None]


def test_log_odds_in_blocks(in_blocks):
    head, kernel, embeddings = random_head()
    probabilities, logits = head(embeddings, return_logits=True)
    expected, _ = numpy_log_odds(embeddings, kernel)
    np.testing.assert_allclose(numpy(logits), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(numpy(probabilities), 1 / (1 + np.exp(-expected)), atol=1e-6)


def test_blocks_equal_all_at_once(in_blocks, monkeypatch):
    head, _, embeddings = random_head(seed=1)
    blocks = numpy(head(embeddings, return_logits=True)[1])
    monkeypatch.setattr(log_odds, "_MOST_LABELS_AT_ONCE", 7)
    at_once = numpy(head(embeddings, return_logits=True)[1])
    np.testing.assert_allclose(blocks, at_once, rtol=1e-6, atol=1e-6)


def test_gradients_in_blocks(in_blocks):
    head, kernel, embeddings = random_head(seed=2)
    upstream = np.random.default_rng(3).normal(size=(2, 7)).astype("float32")
    _, others = numpy_log_odds(embeddings, kernel)
    slopes = upstream[..., None] * (np.eye(7) - others)  # of the scores

    def of_embeddings(x):
        return ops.sum(ops.multiply(upstream, head(x, return_logits=True)[1]))

    result = gradient(of_embeddings, embeddings)
    np.testing.assert_allclose(result, slopes @ kernel.T, atol=1e-5)

    def of_kernel(x):
        (_, logits), _ = head.stateless_call([x], [], embeddings, return_logits=True)
        return ops.sum(ops.multiply(upstream, logits))

    expected = np.einsum("blf,blk->fk", embeddings, slopes)
    np.testing.assert_allclose(gradient(of_kernel, kernel), expected, atol=1e-5)


@pytest.mark.parametrize("in_blocks", [27], indirect=True)
@pytest.mark.parametrize("how", [{"jit_compile": True}, {"jit_compile": False}])
def test_a_compiled_training_step_in_blocks(in_blocks, how):
    # Also with a batch whose size the graph does not know: three images in batches of two.
    head, kernel, embeddings = random_head(seed=4, batch=3)
    inputs = keras.Input((7, 5))
    model = keras.Model(inputs, head(inputs))
    assert model.output_shape == (None, 7)
    model.compile(keras.optimizers.SGD(1.0), "mean_squared_error", **how)
    model.fit(embeddings[:2], np.zeros((2, 7)), verbose=0)
    logits, others = numpy_log_odds(embeddings[:2], kernel)
    p = 1 / (1 + np.exp(-logits))
    slopes = (2 * p * p * (1 - p) / 14)[..., None] * (np.eye(7) - others)
    kernel = kernel - np.einsum("blf,blk->fk", embeddings[:2], slopes)
    np.testing.assert_allclose(numpy(head.kernel), kernel, atol=1e-5)
    expected = 1 / (1 + np.exp(-numpy_log_odds(embeddings, kernel)[0]))
    predicted = model.predict(embeddings, batch_size=2, verbose=0)
    np.testing.assert_allclose(predicted, expected, atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_blocks_are_float32_under_mixed_precision(in_blocks, policy):
    head, kernel, _ = random_head(dtype=policy)
    # Powers of two are exact in any precision, a random matrix is not.
    embeddings = 2.0 ** np.random.default_rng(5).integers(-2, 3, (2, 7, 5))
    probabilities, logits = head(embeddings.astype("float32"), return_logits=True)
    for output in (probabilities, logits):
        assert keras.backend.standardize_dtype(output.dtype) == "float32"
    expected, _ = numpy_log_odds(embeddings, kernel)
    np.testing.assert_allclose(numpy(logits), expected, rtol=1e-5, atol=1e-5)


@pytest.fixture
def score_shapes(monkeypatch):
    """A set that the shapes of all products of matrices are added to."""
    shapes = set()
    matmul = ops.matmul

    def spy(*args):
        product = matmul(*args)
        shapes.add(tuple(product.shape))
        return product

    monkeypatch.setattr(ops, "matmul", spy)
    return shapes


def test_no_more_scores_at_once_than_a_block(in_blocks, score_shapes):
    # Shapes of its own, because JAX traces a block of known shapes only once.
    head, _, embeddings = random_head(features=4)
    head(embeddings)
    assert score_shapes == {(2, in_blocks, 7)}


def test_many_labels_are_done_in_blocks(score_shapes):
    # Labels far apart: each probability is 1 over 1 + 1024 exp(-20).
    probabilities = head_of_scores(1025)(20 * np.eye(1025, dtype="float32")[None])
    expected = np.full((1, 1025), 1 / (1 + 1024 * np.exp(-20.0)))
    np.testing.assert_allclose(numpy(probabilities), expected, rtol=1e-6)
    assert score_shapes == {(1, 205, 1025)}
