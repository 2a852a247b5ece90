"""What is done to the layers inside a layer comes back from a `.keras` file."""

import json
import warnings

import keras
import numpy as np
import pytest
from backend import numpy
from generic_cases import CASES
from generic_checks import as_model, built_layer

from keras_patchpu.layers import CodebookAttentionPool, MobileInvertedBottleneck, PatchEmbedder
from keras_patchpu.layers.inner_state import inner_layers, inner_state, restore_inner_state

LAYERS = (CodebookAttentionPool, MobileInvertedBottleneck, PatchEmbedder)


@pytest.fixture(params=[case for case in CASES if case.cls in LAYERS], ids=lambda c: c.cls.__name__)
def case(request):
    return request.param


def saved_and_loaded(case, layer, path):
    """The layer of a functional model that was saved; predictions and counts are equal."""
    model = as_model(case, layer)
    model.save(path)
    loaded = keras.saving.load_model(path)
    again = loaded.layers[-1]
    assert type(again) is case.cls
    assert [v.path for v in again.trainable_variables] == [
        v.path for v in layer.trainable_variables
    ]
    assert [v.shape for v in again.variables] == [v.shape for v in layer.variables]
    assert all_states(again) == all_states(layer)
    np.testing.assert_allclose(numpy(again(case.data())), numpy(layer(case.data())), rtol=1e-5)
    return again


def all_states(layer):
    return [
        (path, inner.trainable, inner.dtype_policy.name, getattr(inner, "lora_rank", None))
        for path, _, inner in inner_layers(layer)
    ]


def leaves(layer, kind):
    return [inner for _, _, inner in inner_layers(layer) if isinstance(inner, kind)]


def test_nothing_is_written_of_what_is_as_it_was_made(case):
    layer = built_layer(case)
    assert layer.get_build_config() == {"input_shape": (None, *case.inputs)}
    layer.trainable = False  # which its own config says
    assert layer.get_build_config() == {"input_shape": (None, *case.inputs)}
    assert case.build().get_build_config() is None


def test_a_frozen_inner_layer(case, tmp_path):
    layer = built_layer(case)
    first = next(inner for _, _, inner in inner_layers(layer))
    first.trainable = False
    json.dumps(layer.get_build_config())
    again = saved_and_loaded(case, layer, tmp_path / "m.keras")
    assert [trainable for _, trainable, *_ in all_states(again)].count(False) == 1
    assert 0 < len(again.trainable_variables) < len(built_layer(case).trainable_variables)


def test_frozen_outside_and_trainable_inside(case, tmp_path):
    layer = built_layer(case)
    layer.trainable = False
    list(inner_layers(layer))[-1][-1].trainable = True
    again = saved_and_loaded(case, layer, tmp_path / "m.keras")
    assert not again.trainable_variables
    assert [trainable for _, trainable, *_ in all_states(again)].count(True) == 1


def test_another_dtype_policy_inside(case, tmp_path):
    layer = built_layer(case)
    list(inner_layers(layer))[-1][-1].dtype_policy = "mixed_bfloat16"
    again = saved_and_loaded(case, layer, tmp_path / "m.keras")
    assert all_states(again)[-1][2] == "mixed_bfloat16"


def test_a_model_quantized_to_int8(case, tmp_path):
    layer = built_layer(case)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the convolutions, which Keras leaves alone
        as_model(case, layer).quantize("int8")
    again = saved_and_loaded(case, layer, tmp_path / "m.keras")
    quantized = {"int8"} if leaves(layer, keras.layers.Dense) else set()
    assert {keras.backend.standardize_dtype(v.dtype) for v in again.variables} == {
        "float32",
        *quantized,
    }


def test_lora_inside(case, tmp_path):
    layer = built_layer(case)
    count = len(layer.trainable_variables)
    adapted = leaves(layer, (keras.layers.Dense, keras.layers.Conv2D))
    adapted = [each for each in adapted if not isinstance(each, keras.layers.DepthwiseConv2D)]
    for inner in adapted:
        inner.enable_lora(2, lora_alpha=3)
        inner.lora_kernel_b.assign(np.full(inner.lora_kernel_b.shape, 0.01))
    # Two small matrices learn in place of each kernel.
    assert len(layer.trainable_variables) == count + len(adapted)
    again = saved_and_loaded(case, layer, tmp_path / "m.keras")
    assert leaves(again, type(adapted[0]))[0].lora_alpha == 3


def test_lora_of_a_quantized_and_frozen_layer(tmp_path):
    case = next(case for case in CASES if case.cls is CodebookAttentionPool)
    layer = built_layer(case)
    layer.mlp_output.quantize("int8")
    layer.mlp_output.enable_lora(1)
    layer.mlp_hidden.trainable = False
    again = saved_and_loaded(case, layer, tmp_path / "m.keras")
    assert again.mlp_output.quantization_mode == "int8"
    names = [variable.path.split("/")[-1] for variable in again.trainable_variables]
    assert names == ["codebook", "bias", "lora_kernel_a", "lora_kernel_b"]


def test_state_of_a_whole_model_by_path():
    def model():
        inputs = keras.Input((5, 4))
        pool = CodebookAttentionPool(3, hidden_units=2, name="pool")
        return keras.Model(inputs, keras.layers.Flatten(name="flat")(pool(inputs)))

    changed, fresh = model(), model()
    changed.get_layer("pool").mlp_hidden.trainable = False
    state = inner_state(changed)
    assert state == {"pool/mlp_hidden": {"trainable": False}}
    restore_inner_state(fresh, state)
    assert inner_state(fresh) == state
    assert len(fresh.trainable_variables) == 3
