import keras
import numpy as np
import pytest
from backend import gradient, numpy
from keras import ops

from keras_patchpu.layers.cpu.batch_norm import BatchNorm


def pair(channels=5):
    """Ours and Keras's, with the same weights."""
    random = np.random.default_rng(0)
    layers = [
        BatchNorm(momentum=0.9),
        keras.layers.BatchNormalization(momentum=0.9),
    ]
    weights = [random.uniform(0.5, 1.5, channels).astype("float32") for _ in range(4)]
    for layer in layers:
        layer.build((None, 4, 3, channels))
        layer.set_weights(weights)
    return layers


def test_training_equals_keras_in_output_statistics_and_gradient():
    x = np.random.default_rng(1).normal(3.0, 2.0, (6, 4, 3, 5)).astype("float32")
    direction = np.random.default_rng(2).normal(size=x.shape).astype("float32")
    ours, keras_own = pair()
    results = []
    for layer in (ours, keras_own):
        slope = gradient(
            lambda v, layer=layer: ops.sum(ops.multiply(layer(v, training=True), direction)), x
        )
        results.append([slope, numpy(layer(x, training=True)), *layer.get_weights()])
    for our, other in zip(*results):
        np.testing.assert_allclose(our, other, rtol=1e-4, atol=1e-5)


def test_training_by_hand():
    x = np.random.default_rng(1).normal(3.0, 2.0, (6, 4, 3, 5)).astype("float32")
    layer, _ = pair()
    gamma, beta, mean, variance = layer.get_weights()
    expected = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-3) * gamma + beta
    np.testing.assert_allclose(numpy(layer(x, training=True)), expected, rtol=1e-4, atol=1e-5)
    after = layer.get_weights()
    np.testing.assert_allclose(after[2], 0.9 * mean + 0.1 * x.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(after[3], 0.9 * variance + 0.1 * x.var((0, 1, 2)), rtol=1e-5)


def test_inference_and_frozen_layers_use_the_running_statistics():
    x = np.random.default_rng(1).normal(size=(2, 4, 3, 5)).astype("float32")
    layer, _ = pair()
    before = layer.get_weights()
    gamma, beta, mean, variance = before
    expected = (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta
    np.testing.assert_allclose(numpy(layer(x, training=False)), expected, rtol=1e-4, atol=1e-5)
    layer.trainable = False
    np.testing.assert_allclose(numpy(layer(x, training=True)), expected, rtol=1e-4, atol=1e-5)
    for old, new in zip(before, layer.get_weights()):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    "arguments",
    [
        {"center": False},
        {"scale": False},
        {"center": False, "scale": False},
        {"renorm": True, "renorm_momentum": 0.5},
        {"axis": 1},
        {"epsilon": 0.1, "momentum": 0.5},
        {"gamma_constraint": "non_neg", "dtype": "mixed_bfloat16"},
    ],
)
def test_every_argument_means_what_it_means_to_keras(arguments):
    random = np.random.default_rng(0)
    x = random.normal(3.0, 2.0, (6, 4, 3, 5)).astype("float32")
    results = []
    for cls in (BatchNorm, keras.layers.BatchNormalization):
        layer = cls(**arguments)
        layer.build(x.shape)
        random = np.random.default_rng(1)
        layer.set_weights([random.uniform(0.5, 1.5, w.shape) for w in layer.weights])
        outputs = [numpy(ops.cast(layer(x, training=t), "float32")) for t in (True, True, False)]
        results.append([*outputs, *layer.get_weights()])
    tolerance = 0.05 if "dtype" in arguments else 1e-4
    for ours, keras_own in zip(*results, strict=True):
        np.testing.assert_allclose(ours, keras_own, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("shape", [(1, 3, 2), (1, 1, 3, 2)])
def test_masks_and_other_ranks(shape):
    # (Keras on JAX fails at a mask with a single channel.)
    x = np.array([[1.0, 2.0], [3.0, 6.0], [100.0, 0.0]], "float32").reshape(shape)
    mask = np.array([True, True, False]).reshape(shape[:-1])
    outputs = numpy(BatchNorm(epsilon=0.0)(x, training=True, mask=mask))
    # Means 2 and 4 and deviations 1 and 2 of the two places that count.
    expected = np.array([[-1, -1], [1, 1], [98, -2]]).reshape(shape)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4)
