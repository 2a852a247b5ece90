"""What became of layers inside a classifier comes back with it: frozen, quantized, LoRA."""

import keras
import numpy as np
import pytest
from backend import FEW_STEPS
from keras import ops
from small import small_classifier, small_images, small_labels

from keras_patchpu.losses import AssumeNegative
from keras_patchpu.models import ResNetClassifier, load_classifier
from keras_patchpu.optimizers import Lamb

pytestmark = pytest.mark.usefixtures("few_blocks")


def patches():
    return small_classifier()


def resnet():
    return ResNetClassifier(3, (32, 32), width=0.03125)


def freeze(path):
    def change(model):
        for name in path:
            model = (
                model.get_layer(name) if isinstance(model, keras.Model) else getattr(model, name)
            )
        model.trainable = False

    return change


def freeze_one_block(model):
    model.patch_embedder.blocks[0].trainable = False


def quantize(model):
    for layer in (model.patch_embedder.projection, model.codebook_attention_pool.mlp_hidden):
        layer.quantize("int8")


def add_lora(model):
    model.patch_embedder.projection.enable_lora(2)


CHANGES = [
    (patches, freeze(["patch_embedder"])),
    (patches, freeze(["codebook_attention_pool", "mlp_output"])),
    (patches, freeze_one_block),
    (patches, quantize),
    (patches, add_lora),
    (resnet, freeze(["resnet50"])),
    (resnet, freeze(["resnet50", "conv3_block1_1_conv"])),
]


@pytest.mark.parametrize("make, change", CHANGES)
@pytest.mark.parametrize("load", [keras.saving.load_model, load_classifier])
def test_it_is_saved(make, change, load, tmp_path):
    model = make()
    change(model)
    model.compile(Lamb(1e-3), AssumeNegative(), **FEW_STEPS)
    model.fit(small_images(), small_labels(), verbose=0)
    model.save(tmp_path / "model.keras")
    again = load(tmp_path / "model.keras")
    paths, expected = [
        [variable.path.partition("/")[2] for variable in each.trainable_variables]
        for each in (again, model)
    ]
    assert paths == expected
    assert int(again.optimizer.iterations) == 1
    policies, expected = [
        [layer.dtype_policy.name for layer in each._flatten_layers()] for each in (again, model)
    ]
    assert policies == expected
    for found, value in zip(again.weights, model.weights):
        if change is add_lora and "projection" in value.path:
            continue  # Keras adds LoRA to the kernel when it saves
        np.testing.assert_array_equal(ops.convert_to_numpy(found), ops.convert_to_numpy(value))
    np.testing.assert_allclose(
        again.predict(small_images(), verbose=0),
        model.predict(small_images(), verbose=0),
        atol=1e-6,
    )


def test_copies_have_it():
    model = small_classifier()
    freeze_one_block(model)
    quantize(model)
    for copy in (model.with_strides(8), model.fused()):
        assert [block.trainable for block in copy.patch_embedder.blocks] == [False]
        assert copy.patch_embedder.projection.quantization_mode == "int8"
    np.testing.assert_allclose(
        model.fused().predict(small_images(), verbose=0),
        model.predict(small_images(), verbose=0),
        atol=1e-4,
    )


def test_a_model_as_it_was_made_says_nothing_of_it():
    for model in (patches(), resnet(), small_classifier(dtype="mixed_bfloat16")):
        assert "inner_state" not in model.get_config()
