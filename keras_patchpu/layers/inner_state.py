"""State of the layers inside a layer that neither its arguments nor its weights tell.

Keras rebuilds a layer from its arguments and then reads weights, so layers made in `build`
would forget that they were frozen, given another dtype policy, quantized, or given LoRA.
"""

from collections.abc import Iterator
from typing import Any

import keras

from keras_patchpu.utils.keras_internals import layers_inside


class LayerOfLayers(keras.layers.Layer):
    """A layer whose inner layers, made in `build`, come back from a file as they were saved."""

    def get_build_config(self):
        config, state = super().get_build_config(), inner_state(self)
        return {**config, "inner_state": state} if config and state else config

    def build_from_config(self, config):
        super().build_from_config(config)
        restore_inner_state(self, config.get("inner_state", {}))


def inner_layers(
    layer: keras.layers.Layer, path: str = ""
) -> Iterator[tuple[str, keras.layers.Layer, keras.layers.Layer]]:
    """Path below `layer`, the layer around it, and itself, of every layer inside; outer first."""
    for inner in layers_inside(layer):
        if isinstance(inner, keras.layers.InputLayer):
            continue
        yield path + inner.name, layer, inner
        yield from inner_layers(inner, f"{path}{inner.name}/")


def inner_state(layer: keras.layers.Layer) -> dict[str, dict[str, Any]]:
    """What of the layers inside a built layer (or model) is not as `build` leaves it.

    Args:
        layer: Built layer; layers just built are trainable and of a dtype policy as it is.

    Returns:
        Dict that JSON can hold, of the path of each such inner layer to a dict of those of
        `"trainable"`, `"dtype"`, `"quantization_config"` and `"lora"` that differ.
    """
    found = {}
    for path, around, inner in inner_layers(layer):
        state: dict[str, Any] = {}
        if inner.trainable != around.trainable:
            state["trainable"] = inner.trainable
        if inner.dtype_policy != around.dtype_policy:
            state["dtype"] = keras.dtype_policies.serialize(inner.dtype_policy)
        if getattr(inner, "quantization_config", None) is not None:
            config = inner.quantization_config
            state["quantization_config"] = keras.saving.serialize_keras_object(config)
        if getattr(inner, "lora_enabled", False):
            state["lora"] = {"rank": inner.lora_rank, "lora_alpha": inner.lora_alpha}
        if state:
            found[path] = state
    return found


def restore_inner_state(layer: keras.layers.Layer, state: dict[str, dict[str, Any]]) -> None:
    """Puts what `inner_state` gave into a layer just built, before its weights are loaded.

    Args:
        layer: Built layer of the same arguments. Changed.
        state: What `inner_state` gave; of files from before there was any, `{}`.
    """
    for path, around, inner in inner_layers(layer):
        own = state.get(path, {})
        # (Once more where nothing differs: a frozen layer freezes what is inside.)
        inner.trainable = own.get("trainable", around.trainable)
        if "dtype" in own:
            policy = keras.dtype_policies.get(own["dtype"])
            if policy.quantization_mode is not None:
                config = keras.saving.deserialize_keras_object(own.get("quantization_config"))
                inner.quantize(policy.quantization_mode, config=config)
            inner.dtype_policy = policy
        if "lora" in own:
            inner.enable_lora(**own["lora"])
