"""What is known of one setting: its default, its help, its range, and what it decides."""

import dataclasses
import typing

from patchpu.training.losses import LOSSES


def setting(default, help, decides="result", of=None, choices=None, in_card=False, **bounds):
    """A field of `TrainConfig`.

    Args:
        default: Its value where nobody gives one.
        help: What it means, in a sentence or two.
        decides: `"result"`, `"speed"` of a step, `"both"`, or `"place"`: where and how the run is
            kept. Defaults to `"result"`.
        of: What alone reads it: one or more of `"patch"`, `"backbone"` and `"resnet"` (models),
            with commas; `"digits"`, `"voc, coco"` or `"table"` (data sets); or `"loss"`: the
            losses whose row names it. Defaults to `None`: every run.
        choices: Dict from allowed values to objects with a `title`. Defaults to `None`: those of
            the type.
        in_card: Whether a model card tells it in words of its own or, as a path, not at all.
            Defaults to `False`.
        **bounds: `minimum`, `maximum`, `above`, `below`: the range of a number.
    """
    metadata = {
        "help": help,
        "decides": decides,
        "of": of,
        "choices": choices,
        "in_card": in_card,
        "bounds": bounds,
    }
    return dataclasses.field(default=default, metadata=metadata)


def help_of(field):
    """The help of a field, with the choices that have a title and what alone reads it."""
    text, choices, of = (field.metadata[name] for name in ("help", "choices", "of"))
    if choices:
        text += ": " + "; ".join(f"`{name}` {row.title}" for name, row in choices.items()) + "."
    if of == "loss":
        of = ", ".join(name for name, row in LOSSES.items() if field.name in row.settings)
    return f"{text.removesuffix('.')} ({of})." if of else text


def check_setting(field, value):
    """Raises a ValueError naming the setting if the value is none of its choices or out of range.

    That it has the type is checked where it is read from text.
    """
    # Not above: they import Keras, for which `patchpu train --help` would wait.
    from keras_patchpu.utils.validation import check_number, check_one_of, check_positive_integer

    name, bounds = field.name, field.metadata["bounds"]
    if value != value:  # NaN, with which a run could not be resumed: no NaN is another's
        raise ValueError(f"Expected `{name}` to be a number. Received: {name}={value!r}")
    choices = field.metadata["choices"]
    if typing.get_origin(field.type) is typing.Literal:
        choices = typing.get_args(field.type)
    if choices:
        check_one_of(name, value, tuple(choices))
    if not bounds or (value is None and field.default is None):
        return
    is_integer = int in (field.type, *typing.get_args(field.type))
    (check_positive_integer if is_integer else check_number)(name, value, **bounds)


def check_loss_arguments(values):
    """Raises a ValueError unless the values are written as YAML and read again the same."""
    plain = (str, int, float, bool, type(None))
    for name, value in values.items():
        listed = value if isinstance(value, list) else [value]
        if not isinstance(name, str) or not all(isinstance(item, plain) for item in listed):
            raise ValueError(
                "Expected `loss_arguments` to be names with numbers, text or lists of them. "
                f"Received: {name!r} with a value of type {type(value).__name__}"
            )
