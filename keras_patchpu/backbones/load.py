"""Backbones by name."""

from typing import Any

from keras_patchpu.backbones.efficientnet_lite0 import efficientnet_lite0, is_efficientnet_lite0
from keras_patchpu.backbones.keras_application import keras_application, keras_application_names
from keras_patchpu.backbones.model_file import model_file_backbone
from keras_patchpu.backbones.preset import PREFIX, preset_backbone
from keras_patchpu.utils.validation import check_one_of, checked_image_size


def load(
    name: str = "efficientnet_lite0",
    image_size: tuple[int, int] | None = (224, 224),
    stride: int = 32,
    weights: str | None = "imagenet",
) -> Any:
    """A frozen network from images to a map of features, whose places stand for patches.

    Args:
        name: One of

            - `"efficientnet_lite0"`, whose weights come with the extra `pretrained`;
            - a network of `keras.applications`, such as `"resnet50"` or `"efficientnetv2-b0"`, in
              any case, with or without `-` and `_` (see `names`);
            - `"hub:PRESET"`, a preset of KerasHub as its `Backbone.from_preset` takes it (extra
              `keras-hub`), such as `"hub:vit_base_patch16_224_imagenet"` or
              `"hub:./my_preset"`;
            - the path of a `.keras` file, loaded in Keras's safe mode, of a model from images to
              a map `(B, h, w, C)` or to tokens of places alone `(B, T, C)`.

            Defaults to `"efficientnet_lite0"`.
        image_size: `(height, width)` of the images in pixels, or `None` for any. Defaults to
            `(224, 224)`.
        stride: Pixels of the image to a place of the map: 32, 16 or 8. A transformer of KerasHub
            has a place a patch, and a file what its model has, whatever is asked for. Defaults to
            `32`.
        weights: `"imagenet"`, the trained ones: Keras downloads those of its own networks and
            KerasHub those of its presets, whatever these were trained on; or `None` for random
            ones. Defaults to `"imagenet"`.

    Call arguments:
        images: `(B, H, W, 3)`, values from 0 to 255; brought to what the network wants inside
            (but for a `.keras` file, which gets them as they are).

    Returns:
        `keras.Model`. It gives places only: class and register tokens are left out, and the tokens
        of a transformer of KerasHub are laid out as a map. Its weights are frozen;
        `trainable = True` thaws them.

    Raises:
        ValueError: There is no such network, or it has no map of that stride, or takes no images
            of that size.
        FileError: The weights, the preset or the file cannot be had or used, or a package is
            missing. A `ValueError`.
    """
    if not isinstance(name, str):
        raise ValueError(f"Expected `name` to be a string. Received: name={name!r}")
    check_one_of("stride", stride, (32, 16, 8))
    check_one_of("weights", weights, ("imagenet", None))
    if image_size is not None:
        image_size = checked_image_size(image_size, minimum=32)
    if name.startswith(PREFIX):
        backbone = preset_backbone(name.removeprefix(PREFIX), image_size, stride, weights)
    elif name.endswith(".keras"):
        backbone = model_file_backbone(name, image_size, weights)
    elif is_efficientnet_lite0(name):
        backbone = efficientnet_lite0(image_size, stride, weights)
    else:
        backbone = keras_application(name, image_size, stride, weights)
    backbone.trainable = False
    return backbone


def names() -> list[str]:
    """The names that `load` knows, beside presets and files.

    Returns:
        List of strings.
    """
    return ["efficientnet_lite0", *keras_application_names()]
