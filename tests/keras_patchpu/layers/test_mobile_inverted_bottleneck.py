"""One MBConv block; its values are tested against EfficientNet-B0 in test_patch_embedder."""

import keras
import numpy as np
import pytest
from backend import numpy

from keras_patchpu.layers import MobileInvertedBottleneck


def silu(x):
    return x / (1 + np.exp(-x))


@pytest.mark.parametrize("filters, strides, shortcut", [(4, 1, True), (6, 1, False), (4, 2, False)])
def test_shortcut_only_where_input_and_output_have_one_shape(filters, strides, shortcut):
    # A last batch norm that gives zeros leaves the shortcut alone.
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 4)).astype("float32")
    block = MobileInvertedBottleneck(filters, strides=strides)
    block.build(x.shape)
    block.project_bn.gamma.assign(np.zeros(filters))
    y = numpy(block(x))
    assert y.shape == (2, 6 // strides, 6 // strides, filters)
    np.testing.assert_array_equal(y, x if shortcut else np.zeros_like(y))


def test_value_by_numpy():
    # 1x1 kernels and a 1x1 map: every convolution is a product with a vector or a matrix.
    random = np.random.default_rng(0)
    x = random.normal(size=(2, 1, 1, 4)).astype("float32")
    block = MobileInvertedBottleneck(3, kernel_size=1, expansion=2, squeeze_ratio=0.5)
    block.build(x.shape)
    block.set_weights(
        [random.uniform(0.2, 1, weight.shape).astype("float32") for weight in block.weights]
    )

    def batch_norm(layer, values):
        gamma, beta, mean, variance = layer.get_weights()
        return gamma * (values - mean) / np.sqrt(variance + 1e-3) + beta

    wide = x[:, 0, 0] @ numpy(block.expand_conv.kernel)[0, 0]
    wide = silu(batch_norm(block.expand_bn, wide))
    wide = silu(batch_norm(block.bn, wide * numpy(block.dwconv.kernel)[0, 0, :, 0]))
    reduce_kernel, reduce_bias = block.se_reduce.get_weights()
    expand_kernel, expand_bias = block.se_expand.get_weights()
    assert reduce_kernel.shape == (1, 1, 8, 2)
    gate = silu(wide @ reduce_kernel[0, 0] + reduce_bias) @ expand_kernel[0, 0] + expand_bias
    gated = wide / (1 + np.exp(-gate))
    expected = batch_norm(block.project_bn, gated @ numpy(block.project_conv.kernel)[0, 0])
    np.testing.assert_allclose(numpy(block(x))[:, 0, 0], expected, rtol=1e-4)


def test_without_expansion_there_is_no_expanding_convolution():
    block = MobileInvertedBottleneck(4, expansion=1)
    block.build((None, 6, 6, 4))
    assert {weight.path.split("/")[-2] for weight in block.weights} == {
        "dwconv", "bn", "se_reduce", "se_expand", "project_conv", "project_bn"
    }  # fmt: skip


def test_training_uses_the_statistics_of_the_batch():
    x = np.random.default_rng(0).normal(5, 3, (4, 4, 4, 4)).astype("float32")
    block = MobileInvertedBottleneck(3, batch_norm_momentum=0.5)
    block.build(x.shape)
    assert np.abs(numpy(block(x)).mean()) > 1e-6
    batch_norms = [block.expand_bn, block.bn, block.project_bn]
    all_before = [layer.get_weights()[2:] for layer in batch_norms]
    before = all_before[0][0]
    trained = numpy(block(x, training=True))
    # The last batch norm centres the output of a training step, channel by channel.
    np.testing.assert_allclose(trained.mean(axis=(0, 1, 2)), np.zeros(3), atol=1e-5)
    wide = np.einsum("nhwc,cd->nhwd", x, numpy(block.expand_conv.kernel)[0, 0])
    np.testing.assert_allclose(
        block.expand_bn.get_weights()[2],
        0.5 * before + 0.5 * wide.mean(axis=(0, 1, 2)),
        rtol=1e-4, atol=1e-5,
    )  # fmt: skip
    for layer, old in zip(batch_norms, all_before):
        for own, kept in zip(layer.get_weights()[2:], old):
            assert not np.array_equal(own, kept), layer.name


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="compiling takes minutes on this backend"
)
def test_compiled_training_equals_eager():
    random = np.random.default_rng(0)
    x = random.normal(1, 2, (4, 6, 6, 4)).astype("float32")
    y = random.normal(size=(4, 3, 3, 5)).astype("float32")
    models, before = [], None
    for how in ({"jit_compile": True}, {"run_eagerly": True}):
        inputs = keras.Input((6, 6, 4))
        block = MobileInvertedBottleneck(5, strides=2, expansion=2, batch_norm_momentum=0.5)
        model = keras.Model(inputs, block(inputs))
        if before is None:
            before = [values.copy() for values in model.get_weights()]
        model.set_weights(before)
        model.compile(keras.optimizers.SGD(0.1), "mean_squared_error", **how)
        model.train_on_batch(x, y)
        models.append(model)
    compiled, eager = (model.get_weights() for model in models)
    for own, other, old in zip(compiled, eager, before):
        np.testing.assert_allclose(own, other, rtol=1e-4, atol=1e-5)
        assert not np.array_equal(own, old)


@pytest.mark.parametrize(
    "policy, tolerance",
    [
        ("mixed_float16", 0.02),
        ("mixed_bfloat16", 0.1),
        pytest.param(
            "float64",
            1e-4,
            marks=pytest.mark.skipif(
                keras.backend.backend() == "jax", reason="the backend has no float64 by default"
            ),
        ),
    ],
)
def test_training_in_other_precisions(policy, tolerance):
    x = np.random.default_rng(0).normal(1, 2, (8, 6, 6, 4)).astype("float32")
    outputs, weights = [], None
    for dtype in ("float32", policy):
        block = MobileInvertedBottleneck(4, expansion=2, dtype=dtype)
        block.build(x.shape)
        weights = weights or [values.copy() for values in block.get_weights()]
        block.set_weights(weights)
        output = block(x, training=True)
        assert keras.backend.standardize_dtype(output.dtype) == block.compute_dtype
        outputs.append(numpy(output))
    np.testing.assert_allclose(*outputs, atol=tolerance * np.abs(outputs[0]).max())


def test_the_squeeze_has_at_least_one_neuron():
    block = MobileInvertedBottleneck(4, squeeze_ratio=0.1)
    block.build((None, 6, 6, 4))
    assert block.se_reduce.filters == 1
