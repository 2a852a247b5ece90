"""Batch norms folded into the convolutions of any network of Keras's layers, for prediction."""

from collections import Counter
from typing import Any

import keras

from keras_patchpu.models.fold_batch_norms import fold

_CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)


def with_folded_backbone(network: Any) -> Any:
    """A copy of a functional network whose batch norms are folded, where this can be.

    That is where a batch norm follows a convolution without activation, whose map nothing else
    takes; also in networks inside. Its outputs are the same up to rounding.

    Args:
        network: Built Keras model or layer.

    Returns:
        The copy; any other than a functional model as it is.
    """
    if not _is_functional(network):
        return network
    config = network.get_config()
    _fold_config(network, config)
    copy = type(network).from_config(config)
    _copy_weights(network, copy)
    return copy


def _is_functional(layer):
    return isinstance(layer, keras.Model) and "input_layers" in layer.get_config()


def _fold_config(network, config):
    """Gives convolutions a bias, and puts the identity in the place of their batch norms."""
    norms = _norms_of_convolutions(network, config)
    folded = {norm.name for norm in norms.values()}
    for index, entry in enumerate(config["layers"]):
        layer = network.get_layer(entry["name"])
        if _is_functional(layer):
            _fold_config(layer, entry["config"])
        elif layer.name in norms:
            entry["config"]["use_bias"] = True
        elif layer.name in folded:
            identity = keras.layers.Activation("linear", name=layer.name, dtype=layer.dtype_policy)
            nodes = [{"args": node["args"], "kwargs": {}} for node in entry["inbound_nodes"]]
            serialized = keras.saving.serialize_keras_object(identity)
            config["layers"][index] = {**serialized, "name": layer.name, "inbound_nodes": nodes}


def _copy_weights(network, copy):
    norms = _norms_of_convolutions(network, network.get_config())
    folded = {norm.name for norm in norms.values()}
    for layer in network.layers:
        target = copy.get_layer(layer.name)
        if _is_functional(layer):
            _copy_weights(layer, target)
        elif layer.name in norms:
            fold(layer, norms[layer.name], target)
        elif layer.name not in folded:
            target.set_weights(layer.get_weights())


def _norms_of_convolutions(network, config):
    """From the names of convolutions to the batch norms that can be folded into them."""
    taken = Counter(name for entry in config["layers"] for name in _sources(entry))
    taken.update(_names(config["output_layers"]))
    found = {}
    for entry in config["layers"]:
        norm, sources = network.get_layer(entry["name"]), _sources(entry)
        if type(norm) is keras.layers.BatchNormalization and len(sources) == 1:
            source = network.get_layer(sources[0])
            if taken[source.name] == 1 and _can_take(source, norm):
                found[source.name] = norm
    return found


def _can_take(convolution, norm):
    return (
        type(convolution) in _CONVOLUTIONS
        and convolution.activation is keras.activations.linear
        and convolution.data_format == "channels_last"
        and norm.axis in (-1, 3)
        and not norm.renorm
        and getattr(convolution, "quantization_mode", None) is None
        and not getattr(convolution, "lora_enabled", False)
    )


def _sources(entry):
    """Names of the layers whose tensors a layer takes, once for each time."""
    return _names([(node["args"], node["kwargs"]) for node in entry["inbound_nodes"]])


def _names(value):
    """First parts of all histories of tensors in a configuration."""
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            return [value["config"]["keras_history"][0]]
        return [name for item in value.values() for name in _names(item)]
    if isinstance(value, (list, tuple)):
        if len(value) == 3 and isinstance(value[0], str):  # as outputs of a network are written
            return [value[0]]
        return [name for item in value for name in _names(item)]
    return []
