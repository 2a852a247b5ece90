"""Checks of arguments and what they say."""

import math

import numpy as np
import pytest

from keras_patchpu import validation
from keras_patchpu.validation import (
    check_images,
    check_labels,
    check_number,
    check_numbers,
    check_one_of,
    check_patterns,
    check_pixels,
    check_positive_integer,
)


@pytest.mark.parametrize("value", [1, 7, np.int64(3)])
def test_positive_integers_pass(value):
    check_positive_integer("count", value)


@pytest.mark.parametrize("value", [0, -1, 1.0, "1", None, True, math.nan])
def test_anything_else_is_no_positive_integer(value):
    with pytest.raises(ValueError) as error:
        check_positive_integer("count", value)
    kind = type(value).__name__
    assert str(error.value) == (
        f"Expected `count` to be a positive integer. Received: count={value!r} (of type {kind})"
    )


def test_minimum_of_an_integer():
    check_positive_integer("count", 2, minimum=2)
    check_positive_integer("count", 0, minimum=0)
    with pytest.raises(ValueError, match="`count` to be an integer of at least 2.*count=1"):
        check_positive_integer("count", 1, minimum=2)


@pytest.mark.parametrize(
    "value, bounds",
    [
        (0, {"minimum": 0}),
        (1, {"maximum": 1}),
        (0.1, {"above": 0, "below": 1}),
        (np.float32(0.5), {"minimum": 0}),
        (-5, {}),
    ],
)
def test_numbers_within_bounds_pass(value, bounds):
    check_number("rate", value, **bounds)


@pytest.mark.parametrize(
    "value, bounds, wanted",
    [
        (-0.1, {"minimum": 0}, "a number >= 0"),
        (1.1, {"minimum": 0, "maximum": 1}, "a number >= 0 and <= 1"),
        (0, {"above": 0}, "a number > 0"),
        (1, {"minimum": 0, "below": 1}, "a number >= 0 and < 1"),
        (math.nan, {}, "a number"),
        (math.nan, {"minimum": 0}, "a number >= 0"),
        ("1", {}, "a number"),
        (None, {"minimum": 0}, "a number >= 0"),
        (True, {}, "a number"),
        (1j, {}, "a number"),
    ],
)
def test_other_numbers_are_explained(value, bounds, wanted):
    with pytest.raises(ValueError) as error:
        check_number("rate", value, **bounds)
    kind = type(value).__name__
    assert str(error.value) == (
        f"Expected `rate` to be {wanted}. Received: rate={value!r} (of type {kind})"
    )


def test_one_of():
    check_one_of("split", "train", ("train", "validation"))
    with pytest.raises(ValueError, match=r"`split` .*\['train', 'validation'\].*split='test'"):
        check_one_of("split", "test", ("train", "validation"))


def test_several_numbers():
    check_numbers("mean", (0, 0.5, -1), 3)
    check_numbers("mean", [1.0], 1, above=0)


@pytest.mark.parametrize("values", [(1, 2), 1.0, None, "123", (1, 2, "3"), (1, 2, math.nan)])
def test_other_than_three_numbers_is_explained(values):
    with pytest.raises(ValueError, match="`mean`.*number.*mean="):
        check_numbers("mean", values, 3)


def test_bounds_hold_for_each_of_several_numbers():
    with pytest.raises(ValueError, match="`mean` to be a number > 0.*mean=0"):
        check_numbers("mean", (1, 0, 1), 3, above=0)


@pytest.mark.parametrize("patterns", [(), [], ["bias"], ("a|b", "^c")])
def test_lists_of_patterns_pass(patterns):
    check_patterns("exempt", patterns)


@pytest.mark.parametrize("patterns", ["bias", 3, [1], ["bias", None], None])
def test_other_than_a_list_of_patterns_is_explained(patterns):
    with pytest.raises(ValueError, match="`exempt` to be a list of regular expressions.*exempt="):
        check_patterns("exempt", patterns)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((2, 3, 4, 3), "uint8"),
        np.full((1, 3, 4, 3), 255, "int64"),
        np.full((2, 3, 4, 3), 0.5, "float16"),
        np.full((2, 3, 4, 3), 255.0),
        np.asfortranarray(np.full((2, 3, 4, 3), 7.0, "float32"))[::-1],
    ],
)
def test_images_pass(pixels):
    check_images(pixels)
    check_images(pixels, (3, 4))


@pytest.mark.parametrize(
    "shape, advice",
    [
        ((3, 4, 3), ". For one image take `image[None]`"),
        ((2, 3, 4, 1), ". For grey images take `np.repeat(images, 3, axis=-1)`"),
        ((2, 3, 4, 4), ". To leave transparency out take `images[..., :3]`"),
        ((2, 3, 4), ""),
        ((2, 4, 3, 3), ""),  # height and width exchanged
        ((0, 4, 3, 3), ""),
    ],
)
def test_images_of_another_shape_are_explained(shape, advice):
    with pytest.raises(ValueError) as error:
        check_images(np.zeros(shape), (3, 4))
    assert str(error.value) == (
        f"Expected images of the shape (N, 3, 4, 3). Received: shape {shape}{advice}"
    )


def test_no_image_is_explained():
    with pytest.raises(ValueError, match=r"at least one image. Received: shape \(0, 3, 4, 3\)"):
        check_images(np.zeros((0, 3, 4, 3), "uint8"))


@pytest.mark.parametrize("at_once", [1, 36, 72, 2**22])  # images of 36 values
def test_the_first_image_with_bad_pixels_is_named(at_once, monkeypatch):
    monkeypatch.setattr(validation, "_PIXELS_AT_ONCE", at_once)
    pixels = np.full((5, 3, 4, 3), 255, "float32")
    pixels[3, 0, 0, 0] = 256
    pixels[4, 2, 3, 1:] = np.nan
    with pytest.raises(ValueError) as error:
        check_images(pixels)
    assert str(error.value) == (
        "Expected images of finite values from 0 to 255. Received: the image of index 3, the first "
        "such one, has values from 255 to 256. Scale the pixels, or cut them off with "
        "`np.clip(images, 0, 255)`"
    )
    pixels[3] = 0
    with pytest.raises(ValueError, match="index 4, .* has 2 values that are NaN or infinite. Mend"):
        check_pixels(pixels)


def test_other_arrays_than_of_numbers_are_no_images():
    with pytest.raises(ValueError, match="images of numbers. Received: dtype object"):
        check_pixels(np.full((1, 2, 2, 3), None))


def test_labels_without_nan_pass():
    check_labels(np.array([[1, 0, -1]], "int8"))
    check_labels(np.array([[1, 0, -0.3]]))


def test_nan_labels_are_named():
    with pytest.raises(ValueError, match=r"\+1 \(present\).*Received: NaN at index \(1, 0\)"):
        check_labels(np.array([[1, 0], [np.nan, np.nan]]))
