"""Checks of arguments and what they say."""

import math

import numpy as np
import pytest

from keras_patchpu.utils.validation import (
    check_number,
    check_numbers,
    check_one_of,
    check_patterns,
    check_positive_integer,
)

pytestmark = pytest.mark.no_backend


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
