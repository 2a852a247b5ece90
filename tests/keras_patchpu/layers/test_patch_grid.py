"""Geometry of the patches, by hand; that it is where the pixels are: test_patch_extractor.py."""

import dataclasses

import numpy as np
import pytest

from keras_patchpu.layers import PatchExtractor, PatchGrid


def test_the_papers_images():
    grid = PatchGrid((640, 640))
    assert grid.level_sizes == [(640, 640), (320, 320), (160, 160), (80, 80)]
    assert grid.level_grids == [(10, 10), (5, 5), (2, 2), (1, 1)]
    assert grid.num_patches == 130
    assert grid.boxes.shape == (130, 4)
    np.testing.assert_array_equal(grid.boxes[0], np.array([0, 0, 0.1, 0.1], "float32"))


def test_odd_sizes_are_rounded_down_at_each_level_and_small_levels_skipped():
    # 47 -> 23 -> 11 -> 5 rows; 90 -> 45 -> 22 -> 11 columns.
    grid = PatchGrid((47, 90), patch_size=10, num_downsamples=9, strides=6)
    assert grid.level_sizes == [(47, 90), (23, 45), (11, 22)]
    # (47 - 10) // 6 + 1 = 7, (90 - 10) // 6 + 1 = 14, ...
    assert grid.level_grids == [(7, 14), (3, 6), (1, 3)]
    assert grid.num_patches == 98 + 18 + 3


def test_boxes_by_hand():
    boxes = PatchGrid((8, 12), patch_size=4, num_downsamples=1).boxes
    assert boxes.dtype == np.float32
    third = 1 / 3
    expected = [
        [0.0, 0, 0.5, third],
        [0.0, third, 0.5, 2 * third],
        [0.0, 2 * third, 0.5, 1],
        [0.5, 0, 1, third],
        [0.5, third, 1, 2 * third],
        [0.5, 2 * third, 1, 1],
        [0, 0, 1, 4 / 6],  # level 1 is 4 x 6
    ]
    np.testing.assert_allclose(boxes, expected, atol=1e-7)


def test_boxes_with_strides_by_hand():
    boxes = PatchGrid((5, 8), patch_size=4, num_downsamples=0, strides=2).boxes
    expected = [[0, 0, 0.8, 0.5], [0, 0.25, 0.8, 0.75], [0, 0.5, 0.8, 1]]
    np.testing.assert_allclose(boxes, expected, atol=1e-7)


def test_an_extractor_gives_the_grid_of_its_own_arguments():
    extractor = PatchExtractor(5, num_downsamples=2, downsample_ratio=3, strides=4)
    expected = PatchGrid((60, 70), 5, num_downsamples=2, downsample_ratio=3, strides=4)
    assert extractor.grid((60, 70)) == expected
    with pytest.raises(dataclasses.FrozenInstanceError):
        expected.strides = 1


@pytest.mark.parametrize(
    "argument, value",
    [("patch_size", 0), ("num_downsamples", -1), ("downsample_ratio", 1), ("strides", 1.5)],
)
def test_arguments_out_of_range_are_named(argument, value):
    with pytest.raises(ValueError, match=f"`{argument}`.*Received"):
        PatchGrid((640, 640), **{argument: value})
