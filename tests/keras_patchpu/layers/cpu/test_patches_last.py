"""The layout for XLA against Keras's own layers: values, gradients, statistics."""

import keras
import numpy as np
import pytest
from backend import gradient, numpy, weight_gradients
from keras import ops

from keras_patchpu.layers import MobileInvertedBottleneck, PatchEmbedder, cpu
from keras_patchpu.layers.cpu.depthwise import depthwise
from keras_patchpu.layers.cpu.embedding import bottleneck, pooled


def last(maps):
    """NHWC to (channels, h, w, N)."""
    return np.ascontiguousarray(np.transpose(maps, (3, 1, 2, 0)))


def first(maps):
    return np.transpose(maps, (3, 1, 2, 0))


def assert_close(ours, other, tolerance=1e-4):
    """Within a share of the largest entry: single entries may cancel to nothing."""
    assert ours.shape == other.shape
    scale = max(np.abs(other).max(), 1e-3)
    np.testing.assert_allclose(ours / scale, other / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize("strides", [1, 2, 3])
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("sides", [(1, 1), (2, 2), (3, 4), (7, 5), (10, 12), (9, 9)])
def test_depthwise_equals_keras_in_value_and_gradients(sides, kernel_size, strides):
    random = np.random.default_rng(0)
    x = random.normal(size=(5, *sides, 3)).astype("float32")
    kernel = random.normal(size=(kernel_size, kernel_size, 3)).astype("float32")
    out = [-(-side // strides) for side in sides]
    direction = random.normal(size=(5, *out, 3)).astype("float32")

    def ours(x, kernel):
        return depthwise(x, kernel, strides)

    def other(x, kernel):
        return ops.depthwise_conv(
            x, kernel[..., None], strides=strides, padding="same", data_format="channels_last"
        )

    def tensors(*arrays):
        return [ops.convert_to_tensor(array) for array in arrays]

    assert_close(first(numpy(ours(*tensors(last(x), kernel)))), numpy(other(*tensors(x, kernel))))
    last_direction, direction = tensors(last(direction), direction)
    for_x = [
        first(gradient(lambda v: ops.sum(ours(v, *tensors(kernel)) * last_direction), last(x))),
        gradient(lambda v: ops.sum(other(v, *tensors(kernel)) * direction), x),
    ]
    for_kernel = [
        gradient(lambda k: ops.sum(ours(*tensors(last(x)), k) * last_direction), kernel),
        gradient(lambda k: ops.sum(other(*tensors(x), k) * direction), kernel),
    ]
    assert_close(*for_x)
    assert_close(*for_kernel)


def randomised(layer, seed=0):
    """The layer with every weight drawn, so that none is at a neutral value."""
    random = np.random.default_rng(seed)
    layer.set_weights(
        [
            random.uniform(0.5, 1.5, w.shape) if w.ndim == 1 else w + random.normal(size=w.shape)
            for w in layer.get_weights()
        ]
    )
    return layer


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("strides, expansion", [(1, 6), (2, 6), (1, 1)])
def test_block_equals_its_plain_call(strides, expansion, batch_norm):
    x = np.random.default_rng(3).normal(1.0, 2.0, (6, 9, 6, 4)).astype("float32")
    block = MobileInvertedBottleneck(
        4, kernel_size=3, strides=strides, expansion=expansion, batch_norm=batch_norm
    )
    block.build(x.shape)
    start = randomised(block).get_weights()
    for training in (True, False):
        block.set_weights(start)
        plain = numpy(block(ops.convert_to_tensor(x), training=training))
        plain_weights = block.get_weights()
        block.set_weights(start)
        ours = numpy(bottleneck(block, ops.convert_to_tensor(last(x)), training))
        assert_close(first(ours), plain)
        for our, other in zip(block.get_weights(), plain_weights):
            assert_close(our, other, 1e-5)  # the running statistics among them
        moved = [not np.array_equal(old, new) for old, new in zip(start, plain_weights)]
        # Running statistics learn in training, and nothing else does.
        assert sum(moved) == (len(block.non_trainable_variables) if training else 0)


def slopes_and_statistics(embedder, pooled, direction):
    """Gradients of every weight, and the running statistics after one training step."""
    start = embedder.get_weights()
    slopes = weight_gradients(embedder, lambda: ops.sum(embedder.projection(pooled()) * direction))
    embedder.set_weights(start)
    pooled()
    statistics = [numpy(variable) for variable in embedder.non_trainable_variables]
    embedder.set_weights(start)
    return slopes, statistics


def assert_same_training(embedder, ours, other):
    slopes, plain = ours[0], other[0]
    assert len(slopes) == len(plain) == len(embedder.trainable_variables)
    largest = max(np.abs(slope).max() for slope in plain)
    for variable, our, their in zip(embedder.trainable_variables, slopes, plain):
        # A weight that a batch norm makes irrelevant has rounding noise for a gradient.
        noise = 1e-6 * largest
        tolerance = 1e-4 * np.abs(their).max() + noise
        np.testing.assert_allclose(our, their, rtol=0, atol=tolerance, err_msg=variable.path)
    for our, their in zip(ours[1], other[1], strict=True):
        assert_close(our, their)


def plain_pooled(embedder, x):
    return ops.mean(embedder.block_outputs(x, True)["block3b"], axis=(1, 2))


@pytest.mark.parametrize("size", [(16, 16), (20, 36)])
def test_embedder_equals_its_plain_call_in_gradients_of_every_weight(size):
    random = np.random.default_rng(1)
    x = ops.convert_to_tensor(random.integers(0, 256, (6, *size, 3)).astype("float32"))
    direction = ops.convert_to_tensor(random.normal(size=(6, 8)).astype("float32"))
    embedder = PatchEmbedder(8, pixel_mean=(0.4, 0.5, 0.6), pixel_variance=(0.2, 0.1, 0.3))
    embedder.build((None, None, *size, 3))
    ours = slopes_and_statistics(embedder, lambda: pooled(embedder, x, True), direction)
    plain = slopes_and_statistics(embedder, lambda: plain_pooled(embedder, x), direction)
    assert_same_training(embedder, ours, plain)


def trace(function, x):
    """Traces a function for XLA, without compiling it; calls it where the backend has no XLA."""
    if keras.backend.backend() == "jax":
        import jax

        def stateless(x):
            with keras.StatelessScope():
                return function(x)

        jax.jit(stateless).trace(x)
    elif keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.function(function, jit_compile=True).get_concrete_function(tf.constant(x))
    else:
        function(x)


def test_the_layout_is_chosen_where_xla_compiles_for_a_cpu(monkeypatch):
    embedder = PatchEmbedder(8)
    x = np.random.default_rng(0).integers(0, 256, (2, 3, 16, 16, 3)).astype("float32")
    calls = []
    original = cpu.embed

    def spy(*args):
        calls.append(args)
        return original(*args)

    monkeypatch.setattr(cpu, "embed", spy)
    embedder(x)
    assert not calls  # not compiled
    trace(embedder, x)
    assert bool(calls) == (keras.backend.backend() != "torch")
    calls.clear()
    trace(lambda x: embedder(x, training=True), x)
    assert bool(calls) == (keras.backend.backend() != "torch")
    calls.clear()
    embedder.blocks[0].bn.trainable = False  # keeps its running statistics in training
    trace(lambda x: embedder(x, training=True), x)
    assert not calls
    calls.clear()
    trace(embedder, x)
    assert bool(calls) == (keras.backend.backend() != "torch")
    calls.clear()
    embedder.blocks[1].se_reduce.dtype_policy = "mixed_bfloat16"  # here all is float32
    trace(embedder, x)
    assert not calls
