"""The weak negatives of eq. (7)-(8) and the loss of eq. (6) and (9)."""

import keras
import numpy as np
import pytest
from backend import gradient, numpy
from keras import ops

from keras_patchpu.losses import WeakNegative, weak_negative_loss, weak_negatives

# Directions: cosines with the first 1, 0.6, 0, -1, 0.6; with the third 0, 0.8, 1, 0, 0.8.
EMBEDDINGS = np.array([[1, 0], [0.6, 0.8], [0, 2], [-1, 0], [3, 4]], "float32")


def numpy_weak_negatives(labels, embeddings, theta=0.0):
    """Eq. (7)-(8) label by label in float64; 0 in a row without an observed positive."""
    embeddings = np.asarray(embeddings, "float64")
    weights = np.zeros(labels.shape)
    for b, row in enumerate(labels):
        for label in np.flatnonzero(row == 0):
            betas = []
            for observed in np.flatnonzero(row == 1):
                first, second = embeddings[b, label], embeddings[b, observed]
                cosine = first @ second / (np.linalg.norm(first) * np.linalg.norm(second))
                betas.append(cosine if cosine > theta else 0.0)
            weights[b, label] = max(betas, default=0.0)
        weights[b, row == -1] = 1.0
    return weights


def numpy_loss(labels, logits, embeddings, theta=0.0):
    """Eq. (9), averaged over images, in float64."""
    logits = np.asarray(logits, "float64")
    weights = numpy_weak_negatives(labels, embeddings, theta)
    positives = (labels == 1) * np.logaddexp(0, -logits)
    return (positives + weights * np.logaddexp(0, logits)).sum(axis=-1).mean()


def random_case(seed=0, images=3, num_labels=6, features=4):
    """Labels with one to two positives and some negatives, logits, embeddings."""
    random = np.random.default_rng(seed)
    labels = np.zeros((images, num_labels), "int8")
    for row in labels:
        places = random.permutation(num_labels)
        row[places[: random.integers(1, 3)]] = 1
        row[places[4:5]] = -1
    logits = random.normal(0, 3, (images, num_labels)).astype("float32")
    embeddings = random.normal(size=(images, num_labels, features)).astype("float32")
    return labels, logits, embeddings


@pytest.mark.parametrize(
    "labels, theta, expected",
    [
        ([1, 0, 0, 0, 0], 0.0, [0, 0.6, 0, 0, 0.6]),
        ([0, 0, 1, 0, 0], 0.0, [0, 0.8, 0, 0, 0.8]),
        ([1, 0, 1, 0, 0], 0.0, [0, 0.8, 0, 0, 0.8]),  # the largest of two observed
        ([1, 1, 0, 0, 0], 0.0, [0, 0, 0.8, 0, 1]),
        ([1, 0, 0, -1, 0], 0.0, [0, 0.6, 0, 1, 0.6]),  # observed absent
        ([1, -1, 0, 0, -1], 0.0, [0, 1, 0, 0, 1]),
        ([1, 0, 0, 0, 0], 0.59, [0, 0.6, 0, 0, 0.6]),
        ([1, 0, 0, 0, 0], 0.61, [0, 0, 0, 0, 0]),
        ([1, 0, 1, 0, 0], 0.7, [0, 0.8, 0, 0, 0.8]),
        ([1, 0, 0, 0, 0], -1.0, [0, 0.6, 0, 0, 0.6]),  # -1 is not above -1
        ([0, 0, 0, 0, 0], 0.0, [0, 0, 0, 0, 0]),  # nothing observed
        ([0, -1, 0, 0, 0], 0.0, [0, 1, 0, 0, 0]),
        ([1, 1, 1, 1, 1], 0.0, [0, 0, 0, 0, 0]),
    ],
)
def test_weak_negatives_by_hand(labels, theta, expected):
    weights = weak_negatives(np.array([labels], "int8"), EMBEDDINGS[None], theta)
    np.testing.assert_allclose(numpy(weights), [expected], atol=1e-6)


def test_weak_negatives_of_each_image_are_its_own():
    labels = np.array([[1, 0, 0, 0, 0], [0, 0, 1, 0, 0]], "int8")
    weights = numpy(weak_negatives(labels, np.stack([EMBEDDINGS, EMBEDDINGS])))
    np.testing.assert_allclose(weights, [[0, 0.6, 0, 0, 0.6], [0, 0.8, 0, 0, 0.8]], atol=1e-6)


def test_weak_negatives_do_not_depend_on_the_length_of_embeddings():
    labels, _, embeddings = random_case()
    lengths = 10.0 ** np.random.default_rng(1).uniform(-3, 3, (3, 6, 1))
    np.testing.assert_allclose(
        numpy(weak_negatives(labels, (embeddings * lengths).astype("float32"))),
        numpy_weak_negatives(labels, embeddings),
        atol=1e-5,
    )


@pytest.mark.parametrize("length", [1e-7, 1e-10, 1e6, 1e12])
def test_tiny_and_huge_embeddings_have_a_direction_too(length):
    # An untrained model in inference gives embeddings of length 1e-6.
    labels, _, embeddings = random_case()
    weights = weak_negatives(labels, (embeddings * length).astype("float32"))
    np.testing.assert_allclose(numpy(weights), numpy_weak_negatives(labels, embeddings), atol=1e-5)


def test_an_embedding_of_zeros_is_similar_to_nothing():
    embeddings = np.array([[[1, 0], [0, 0], [1, 0]]], "float32")
    weights = numpy(weak_negatives(np.array([[1, 0, 0]]), embeddings))
    np.testing.assert_allclose(weights, [[0, 0, 1]], atol=1e-6)
    weights = numpy(weak_negatives(np.array([[0, 1, 0]]), embeddings))
    np.testing.assert_array_equal(weights, [[0, 0, 0]])


def test_weak_negatives_never_exceed_one():
    # Unit vectors in float32 can have a product a little above 1.
    embeddings = np.random.default_rng(0).normal(size=(50, 1, 256)).astype("float32")
    weights = numpy(weak_negatives(np.tile([1, 0], (50, 1)), np.repeat(embeddings, 2, axis=1)))
    assert weights.max() <= 1
    np.testing.assert_allclose(weights, np.tile([0.0, 1.0], (50, 1)), atol=1e-5)


@pytest.mark.parametrize("theta", [0.0, 0.4])
@pytest.mark.parametrize("stop_gradient", [True, False])
def test_loss_by_numpy(theta, stop_gradient):
    labels, logits, embeddings = random_case()
    loss = WeakNegative(theta=theta, stop_gradient=stop_gradient)
    value = numpy(loss(labels, {"logits": logits, "image_embeddings": embeddings}))
    np.testing.assert_allclose(value, numpy_loss(labels, logits, embeddings, theta), rtol=1e-5)


def test_loss_of_each_image():
    labels, logits, embeddings = random_case()
    loss = WeakNegative(reduction=None)
    values = numpy(loss(labels, {"logits": logits, "image_embeddings": embeddings}))
    expected = [
        numpy_loss(labels[b : b + 1], logits[b : b + 1], embeddings[b : b + 1]) for b in range(3)
    ]
    np.testing.assert_allclose(values, expected, rtol=1e-5)


@pytest.mark.parametrize("stop_gradient", [True, False])
def test_the_pure_function_is_the_loss_of_each_image(stop_gradient):
    labels, logits, embeddings = random_case()
    arguments = {"theta": 0.4, "stop_gradient": stop_gradient}
    values = numpy(weak_negative_loss(labels, logits, embeddings, **arguments))
    expected = [
        numpy_loss(labels[b : b + 1], logits[b : b + 1], embeddings[b : b + 1], 0.4)
        for b in range(3)
    ]
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    slope = gradient(
        lambda x: ops.sum(weak_negative_loss(labels, logits, x, **arguments)), embeddings
    )
    assert (np.abs(slope).max() > 0.1) != stop_gradient


def test_weights_are_constants_by_default_of_all_three():
    labels, logits, embeddings = random_case()
    y_pred = {"logits": logits}
    for function in (
        lambda x: ops.sum(weak_negatives(labels, x)),
        lambda x: ops.sum(weak_negative_loss(labels, logits, x)),
        lambda x: WeakNegative()(labels, {**y_pred, "image_embeddings": x}),
    ):
        # (A path to the embeddings, so that there is a gradient at all.)
        slope = gradient(lambda x, function=function: function(x) + ops.sum(x), embeddings)
        np.testing.assert_array_equal(slope, np.ones_like(embeddings))


def test_what_is_given_is_not_changed():
    labels, logits, embeddings = (ops.convert_to_tensor(x) for x in random_case())
    before = [numpy(x).copy() for x in (labels, logits, embeddings)]
    weak_negative_loss(labels, logits, embeddings)
    for x, value in zip((labels, logits, embeddings), before):
        np.testing.assert_array_equal(numpy(x), value)


def test_sample_weight():
    labels, logits, embeddings = random_case()
    y_pred = {"logits": logits, "image_embeddings": embeddings}
    value = numpy(WeakNegative()(labels, y_pred, sample_weight=np.array([3.0, 0, 0])))
    np.testing.assert_allclose(value, numpy_loss(labels[:1], logits[:1], embeddings[:1]), rtol=1e-5)


def test_gradient_with_respect_to_logits():
    labels, logits, embeddings = random_case()
    loss = WeakNegative()
    slope = gradient(lambda x: loss(labels, {"logits": x, "image_embeddings": embeddings}), logits)
    probabilities = 1 / (1 + np.exp(-logits.astype("float64")))
    weights = numpy_weak_negatives(labels, embeddings)
    expected = ((labels == 1) * (probabilities - 1) + weights * probabilities) / len(labels)
    np.testing.assert_allclose(slope, expected, atol=1e-6)


def test_stop_gradient_decides_the_gradient_with_respect_to_embeddings():
    labels, logits, embeddings = random_case()

    def slope(stop_gradient):
        loss = WeakNegative(stop_gradient=stop_gradient)
        return gradient(
            lambda x: loss(labels, {"logits": logits, "image_embeddings": x}), embeddings
        )

    np.testing.assert_array_equal(slope(True), np.zeros_like(embeddings))
    expected = np.empty(embeddings.shape)
    step = 1e-5
    for index in np.ndindex(embeddings.shape):
        values = []
        for sign in (1, -1):
            moved = embeddings.astype("float64")
            moved[index] += sign * step
            values.append(numpy_loss(labels, logits, moved))
        expected[index] = (values[0] - values[1]) / (2 * step)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(slope(False), expected, atol=1e-4)


def test_probabilities_of_zero_and_one_cost_their_log_odds():
    # -log p of p = sigmoid(-1e4) is 1e4, though p itself is 0 in any precision.
    labels = np.array([[1, -1]], "int8")
    y_pred = {"logits": np.array([[-1e4, 1e4]], "float32"), "image_embeddings": np.ones((1, 2, 3))}
    assert numpy(WeakNegative()(labels, y_pred)) == pytest.approx(2e4)
    y_pred["logits"] = -y_pred["logits"]
    assert numpy(WeakNegative()(labels, y_pred)) == 0


@pytest.mark.parametrize(
    "y_pred, received",
    [
        (np.zeros((1, 2), "float32"), "Received: "),
        ({"logits": np.zeros((1, 2), "float32")}, r"Received: \['logits'\]"),
    ],
)
def test_other_predictions_than_the_dict_are_explained(y_pred, received):
    with pytest.raises(ValueError, match="expects `y_pred` to be a dict with.*" + received):
        WeakNegative()(np.array([[1, 0]]), y_pred)


def test_the_sum_over_labels_is_not_divided_by_their_number():
    labels, logits, embeddings = random_case(images=1)
    once = numpy(WeakNegative()(labels, {"logits": logits, "image_embeddings": embeddings}))
    twice = numpy(
        WeakNegative()(
            np.tile(labels, 2),
            {"logits": np.tile(logits, 2), "image_embeddings": np.tile(embeddings, (1, 2, 1))},
        )
    )
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-5)


def test_half_precision_embeddings_are_compared_in_float32():
    # The squares of 300 overflow half precision.
    embeddings = (300 * EMBEDDINGS[None]).astype("float16")
    weights = weak_negatives(np.array([[1, 0, 0, 0, 0]]), ops.convert_to_tensor(embeddings))
    np.testing.assert_allclose(numpy(weights), [[0, 0.6, 0, 0, 0.6]], atol=1e-3)


# === Any number of observed labels ===

MANY = 40


def many_labels(counts, seed=0):
    """A row with each count of observed positives among 40 labels, and embeddings (B, 40, 5)."""
    random = np.random.default_rng(seed)
    labels = np.zeros((len(counts), MANY), "int8")
    for row, count in zip(labels, counts):
        places = random.permutation(MANY)
        row[places[:count]] = 1
        row[places[count : count + 4]] = -1
    return labels, random.normal(size=(len(counts), MANY, 5)).astype("float32")


def gradient_by_hand(labels, embeddings, theta, factors):
    """Slope of `sum(factors * weights)`: of the cosine with the most similar observed label."""
    embeddings = np.asarray(embeddings, "float64")
    slope = np.zeros(embeddings.shape)
    for b, label in np.argwhere(labels == 0):
        observed = np.flatnonzero(labels[b] == 1)
        length = np.linalg.norm(embeddings[b], axis=-1)
        cosines = embeddings[b, observed] @ embeddings[b, label] / length[observed] / length[label]
        betas = np.where(cosines > theta, cosines, 0.0)
        if not len(observed) or betas.max() == 0:
            continue
        found, cosine = observed[betas.argmax()], betas.max()
        for own, other in ((label, found), (found, label)):
            unit, direction = (embeddings[b, k] / length[k] for k in (own, other))
            slope[b, own] += factors[b, label] * (direction - cosine * unit) / length[own]
    return slope


COUNTS = [[0, 1, 3, 20, 36, 40], [1, 1], [0, 0], [40], [16, 17]]


@pytest.mark.parametrize("theta", [-0.5, 0.0, 0.25])
@pytest.mark.parametrize("counts", COUNTS)
def test_any_number_of_observed_labels(counts, theta):
    labels, embeddings = many_labels(counts)
    expected = numpy_weak_negatives(labels, embeddings, theta)
    for stop_gradient in (True, False):
        weights = weak_negatives(labels, embeddings, theta, stop_gradient)
        np.testing.assert_allclose(numpy(weights), expected, atol=1e-6)


@pytest.mark.parametrize("theta", [-0.5, 0.0, 0.25])
def test_gradient_of_the_weights_with_any_number_of_observed_labels(theta):
    labels, embeddings = many_labels(COUNTS[0], seed=1)
    factors = np.random.default_rng(2).normal(size=labels.shape)
    expected = gradient_by_hand(labels, embeddings, theta, factors)
    assert np.abs(expected).max() > 0.1
    factors = factors.astype("float32")
    slope = gradient(
        lambda x: ops.sum(ops.multiply(factors, weak_negatives(labels, x, theta, False))),
        embeddings,
    )
    np.testing.assert_allclose(slope, expected, atol=1e-5)


def compiled(function, labels, embeddings):
    """`function` compiled by XLA for batches of any size; as it is on torch."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        signature = [
            tf.TensorSpec((None, *x.shape[1:]), tf.as_dtype(x.dtype)) for x in (labels, embeddings)
        ]
        return tf.function(function, input_signature=signature, jit_compile=True)
    return function


@pytest.mark.parametrize("stop_gradient", [True, False])
def test_compiled_weights_and_their_gradient(stop_gradient):
    labels, embeddings = many_labels(COUNTS[0], seed=3)

    def total(labels, x):
        weights = weak_negatives(labels, x, 0.1, stop_gradient)
        return ops.sum(ops.square(weights)) + ops.sum(x)  # with a gradient in any case

    function = compiled(total, labels, embeddings)
    expected = (numpy_weak_negatives(labels, embeddings, 0.1) ** 2).sum() + embeddings.sum()
    value = numpy(function(ops.convert_to_tensor(labels), ops.convert_to_tensor(embeddings)))
    assert value == pytest.approx(expected, rel=1e-4)
    labels = ops.convert_to_tensor(labels)
    slope = gradient(lambda x: function(labels, x), embeddings)
    np.testing.assert_allclose(slope, gradient(lambda x: total(labels, x), embeddings), atol=1e-5)


def test_equal_similarities_share_one_gradient():
    # Two observed labels in the same direction: how they share it is the backend's.
    labels = np.array([[0, 1, 1]], "int8")
    embeddings = np.array([[[1, 0], [1, 1], [1, 1]]], "float32")
    slope = gradient(lambda x: ops.sum(weak_negatives(labels, x, 0.0, False)), embeddings)[0]
    half = 0.5**1.5  # of cos(a) between (1, 0) and (x, y) at (1, 1): (+, -) / 2 sqrt(2)
    np.testing.assert_allclose(slope[0], [0, 0.5**0.5], atol=1e-6)
    np.testing.assert_allclose(slope[1] + slope[2], [half, -half], atol=1e-6)


def test_two_thousand_labels_and_their_gradient():
    random = np.random.default_rng(0)
    labels = np.zeros((1, 2000), "int8")
    labels[0, [3, 500, 1999]] = 1
    labels[0, 7] = -1
    embeddings = random.normal(size=(1, 2000, 8)).astype("float32")
    logits = random.normal(size=(1, 2000)).astype("float32")
    loss = WeakNegative(stop_gradient=False)
    value = loss(labels, {"logits": logits, "image_embeddings": embeddings})
    assert numpy(value) == pytest.approx(numpy_loss(labels, logits, embeddings), rel=1e-4)
    slope = gradient(lambda x: loss(labels, {"logits": logits, "image_embeddings": x}), embeddings)
    factors = np.logaddexp(0, logits.astype("float64"))
    expected = gradient_by_hand(labels, embeddings, 0.0, factors)
    np.testing.assert_allclose(slope, expected, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("length", [0.0, 1e-45, 1e-38, 1e-31])
def test_embeddings_too_small_for_a_gradient_are_similar_to_nothing(length):
    # The gradient of the direction is the inverse of the length: 1e38 times a loss of 1e4.
    labels = np.array([[1, 0, 0]], "int8")
    embeddings = (length * np.array([[[1, 0], [1, 1], [3, 1]]])).astype("float32")
    np.testing.assert_allclose(numpy(weak_negatives(labels, embeddings)), 0, atol=1e-30)
    loss = WeakNegative(stop_gradient=False)
    logits = np.full((1, 3), 1e4, "float32")
    slope = gradient(lambda x: loss(labels, {"logits": logits, "image_embeddings": x}), embeddings)
    assert np.isfinite(slope).all()
