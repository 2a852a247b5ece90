"""The networks of `keras.applications` as backbones."""

import inspect
import itertools
import math

import keras

from keras_patchpu.backbones.pixels import pixel_layer
from keras_patchpu.backbones.weights_download import explained_download

STRIDES = (32, 16, 8)
# Their convolutions leave out the edges: no map divides the image evenly, and places would be shown
# where they are not.
_WITHOUT_EDGES = ("inception_v3", "inception_resnet_v2")


def keras_application(name, image_size, stride, weights):
    """A network of `keras.applications`, from images to a map of features.

    Args: As of `load`, checked.

    Returns:
        `keras.Model`.

    Raises:
        ValueError: There is no such network, or it has no map of that stride, or takes no images
            of that size.
        FileError: The weights cannot be downloaded.
    """
    function = _function(name)
    if family_of(name) in _WITHOUT_EDGES:
        raise ValueError(
            f"Expected another network: the convolutions of {name} leave out the edges, so that no "
            f"map of it divides the image evenly. Received: name={name!r}"
        )
    if family_of(name) == "nasnet" and image_size is None:  # Keras would make another network
        raise ValueError(f"Expected `image_size` for {name}. Received: image_size=None")
    shape = (*(image_size or (None, None)), 3)
    with explained_download(function.__name__):
        network = function(include_top=False, weights=weights, input_shape=shape)
    features = map_of_stride(name, network, stride)
    network = keras.Model(network.input, features, name=network.name)
    images = keras.Input(shape, name="images")
    pixels = pixel_layer(family_of(name))(images)
    return keras.Model(images, network(pixels), name=f"{network.name}_backbone")


def keras_application_names():
    """Names of the networks of `keras.applications` whose maps divide the image evenly."""
    return sorted(name.lower() for name in _functions() if family_of(name) not in _WITHOUT_EDGES)


def family_of(name):
    """The file of `keras.applications` that a network is in, such as `"resnet_v2"`.

    Raises:
        ValueError: There is no such network.
    """
    return _function(name).__module__.rsplit(".", 1)[-1]


def map_of_stride(name, network, stride):
    """The last map of a network with so many pixels of the image to a place.

    Only maps count that all later ones are made of: the outcome of a whole block, not a branch of
    one.

    Args:
        name: What the user called it.
        network: Functional model from images to a map.
        stride: 32, 16 or 8.

    Returns:
        The map, a symbolic tensor of the network.

    Raises:
        ValueError: There is no such map; the message says of which strides there are some.
    """
    operations = network.operations
    strides, narrow = _strides(operations), _narrow(operations)
    found = {}
    for index in sorted(narrow):
        if not isinstance(operations[index], keras.layers.ZeroPadding2D):
            found[strides[index]] = operations[index].output
    if stride not in found:
        some = [own for own in STRIDES if own in found]
        raise ValueError(f"Expected a `stride` of {name}: {some}. Received: stride={stride}")
    return found[stride]


def _strides(operations):
    """Pixels of the image to a place, after each operation of a network."""
    strides = []
    for inputs, operation in zip(_inputs(operations), operations):
        before = max((strides[index] for index in inputs), default=1)
        strides.append(before * _stride_of(operation))
    return strides


def _stride_of(operation):
    if isinstance(operation, keras.Sequential):
        return math.prod(map(_stride_of, operation.layers))
    own = getattr(operation, "strides", 1)
    return own if isinstance(own, int) else own[0]


def _narrow(operations):
    """Indices of the operations that all paths from the images to the end lead through.

    What comes before such a one is not used behind it.
    """
    last_use = list(range(len(operations)))
    for index, inputs in enumerate(_inputs(operations)):
        for used in inputs:
            last_use[used] = index
    furthest = list(itertools.accumulate(last_use, max, initial=0))
    return {index for index, before in enumerate(furthest[:-1]) if before <= index}


def _inputs(operations):
    """Indices of the operations whose outputs each one takes."""
    made_by = {
        id(tensor): index
        for index, operation in enumerate(operations)
        for tensor in keras.tree.flatten(operation.output)
    }
    return [
        []
        if isinstance(operation, keras.layers.InputLayer)
        else [made_by[id(tensor)] for tensor in keras.tree.flatten(operation.input)]
        for operation in operations
    ]


def _function(name):
    """What makes a network of `keras.applications`, or a ValueError that lists their names."""
    by_name = {_plain(own): function for own, function in _functions().items()}
    if _plain(name) not in by_name:
        known = ["efficientnet_lite0", *keras_application_names()]
        raise ValueError(
            f"Expected `name` to be one of {known}, hub:PRESET or the path of a .keras file. "
            f"Received: name={name!r}"
        )
    return by_name[_plain(name)]


def _plain(name):
    return name.lower().replace("-", "").replace("_", "")


def _functions():
    """The networks of `keras.applications` by name."""
    found = inspect.getmembers(keras.applications, inspect.isfunction)
    return {name: function for name, function in found if name[0].isupper()}
