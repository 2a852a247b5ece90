"""Backbones from presets of KerasHub."""

import math

import keras

from keras_patchpu.utils.safe_models import foreign_parts, import_keras_hub
from keras_patchpu.utils.validation import FileError

PREFIX = "hub:"
_SIDE = 256
_SHOWN = 300


def preset_backbone(preset, image_size, stride, weights):
    """The backbone of a preset, from images with values from 0 to 255 to a map of features.

    Tokens that are no places, such as class and register tokens, come first in a transformer's
    output. How many there are follows from the size of the images and of its patches; they are
    left out, and the others laid out as a map.

    Args:
        preset: As `keras_hub.models.Backbone.from_preset` takes it: a name, an address or a folder.
        image_size, stride, weights: As of `load`, checked.

    Returns:
        `keras.Model`.

    Raises:
        ValueError: It has no map of that stride, or its images are changed by more than a scale
            and an offset.
        FileError: KerasHub is not installed, or the preset cannot be had, is damaged, is none of
            images, or takes none of that size.
    """
    network, scaled = _loaded(preset, image_size, weights)
    images = keras.Input((*(image_size or (None, None)), 3), name="images")
    maps, tokens = _outputs(network, image_size or (_SIDE, _SIDE))
    if maps:
        part = _part(preset, network, maps, stride)
        features = part(keras.tree.pack_sequence_as(part.input, [scaled(images)]))
    else:
        rows, columns, prefix = _grid(preset, network, tokens, image_size)
        features = network(keras.tree.pack_sequence_as(network.input, [scaled(images)]))
        features = keras.layers.Cropping1D((prefix, 0), name="places")(features)
        features = keras.layers.Reshape((rows, columns, tokens[2]), name="map")(features)
    return keras.Model(images, features, name=f"{network.name}_backbone")


def _part(preset, network, maps, stride):
    """The network up to its map of a stride."""
    if stride not in maps:
        known = [own for own in (32, 16, 8) if own in maps]
        raise ValueError(f"Expected a `stride` of {preset}: {known}. Received: stride={stride}")
    if maps[stride] is None:  # in a file it is of its own class
        return network
    part = keras.Model(network.inputs, maps[stride])
    foreign = foreign_parts(keras.saving.serialize_keras_object(part))
    if foreign:
        own = next(own for own, output in maps.items() if output is None)
        raise ValueError(
            f"Expected stride={own} of {preset}: a part of it could not be loaded from a file "
            f"again, for it has a {foreign[0]}. Received: stride={stride}"
        )
    return part


def _loaded(preset, image_size, weights):
    """A preset's backbone, and the layer that brings pixels to what it wants."""
    keras_hub = import_keras_hub(f"The preset {preset}")
    size = "any size" if image_size is None else f"{image_size} pixels"
    own = ""
    try:
        converter = keras_hub.layers.ImageConverter.from_preset(preset)
        own = f"; the preset's own images have {converter.image_size} pixels"
        network = keras_hub.models.Backbone.from_preset(
            preset,
            load_weights=weights is not None,
            image_shape=(*(image_size or (None, None)), 3),
        )
    except Exception as error:  # of a network, of a damaged or of another preset: many kinds
        reason = " ".join(str(error).split())[:_SHOWN]
        raise FileError(
            f"The preset {preset} cannot be loaded for images of {size}{own}. "
            f"{type(error).__name__}: {reason}"
        ) from error
    if type(converter).call is not keras_hub.layers.ImageConverter.call:
        raise ValueError(
            "Expected a preset whose images are changed by a scale and an offset alone. Received: "
            f"{preset} with a {type(converter).__name__}"
        )
    # A scale or an offset that is missing changes nothing.
    scale = 1.0 if converter.scale is None else converter.scale
    offset = 0.0 if converter.offset is None else converter.offset
    return network, keras.layers.Rescaling(scale, offset=offset, name="scaled")


def _outputs(network, image_size):
    """Maps by stride, with `None` for the network's own output, and the shape of that.

    Which stride a map has is seen by its shape: not all families count their pyramids alike.
    """
    pyramid = list(getattr(network, "pyramid_outputs", {}).values())
    outputs = [*pyramid, *keras.tree.flatten(network.output)]
    whole = keras.Model(network.inputs, outputs)
    shapes = whole.compute_output_shape([(1, *image_size, 3)] * len(network.inputs))
    maps = {}
    for index, (output, shape) in enumerate(zip(outputs, shapes)):
        if len(shape) == 4:
            own = 2 ** round(math.log2(image_size[0] / shape[1]))
            maps[own] = output if index < len(pyramid) else None
    return maps, shapes[-1]


def _grid(preset, network, tokens, image_size):
    """Rows and columns of a transformer's places, and how many tokens come before them."""
    patch = getattr(network, "patch_size", None)
    patch = (patch, patch) if isinstance(patch, int) else patch
    if patch is not None and image_size is not None and len(tokens) == 3:
        for merged in (1, 2, 4, 8):  # some join their patches from stage to stage
            rows, columns = (side // (own * merged) for side, own in zip(image_size, patch))
            if 0 < rows * columns <= tokens[1]:
                return rows, columns, tokens[1] - rows * columns
    raise FileError(
        f"Expected the preset {preset} to give a map of features, or tokens of patches. Received: "
        f"outputs of shape {tokens} for images of {image_size} pixels"
    )
