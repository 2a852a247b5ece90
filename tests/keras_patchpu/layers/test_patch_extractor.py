"""Block 1: which pixels end up in which patch."""

import keras
import numpy as np
import pytest
from backend import numpy

from keras_patchpu.layers import PatchExtractor


def coordinates(height, width):
    """Image whose two channels are the row and the column of each pixel: (1, H, W, 2)."""
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    return np.stack([rows, columns], axis=-1)[None].astype("float32")


def random_images(shape, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, shape).astype("float32")


def windows(image, size, step):
    """All whole windows of one level (H, W, C), row by row, in plain NumPy."""
    height, width, _ = image.shape
    return np.stack(
        [
            image[top : top + size, left : left + size]
            for top in range(0, height - size + 1, step)
            for left in range(0, width - size + 1, step)
        ]
    )


def resize_matrix(old, new):
    """Bilinear resize of one axis at half-pixel centres as a matrix (new, old)."""
    matrix = np.zeros((new, old))
    for index in range(new):
        centre = (index + 0.5) * old / new - 0.5
        below = int(np.floor(centre))
        share = centre - below
        matrix[index, np.clip(below, 0, old - 1)] += 1 - share
        matrix[index, np.clip(below + 1, 0, old - 1)] += share
    return matrix


def bilinear(image, height, width):
    """Bilinear resize of (H, W, C) at half-pixel centres in plain NumPy."""
    vertical = resize_matrix(image.shape[0], height)
    horizontal = resize_matrix(image.shape[1], width)
    return np.einsum("ih,hwc,jw->ijc", vertical, image.astype("float64"), horizontal)


def test_640_pixels_give_130_patches_in_level_order():
    patches = numpy(PatchExtractor()(coordinates(640, 640)))
    assert patches.shape == (1, 130, 64, 64, 2)
    # A pixel (i, j) of level n is the mean of the image's rows 2^n i ... 2^n (i + 1) - 1.
    offset = np.arange(64)
    index = 0
    for level, side in enumerate([10, 5, 2, 1]):
        factor = 2**level
        for row in range(side):
            for column in range(side):
                rows = (row * 64 + offset + 0.5) * factor - 0.5
                columns = (column * 64 + offset + 0.5) * factor - 0.5
                expected = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1)
                np.testing.assert_allclose(patches[0, index], expected, atol=1e-3)
                index += 1
    assert index == 130


def test_pixels_of_level_0_and_of_a_level_of_2x2_means():
    images = random_images((2, 8, 12, 3))
    patches = numpy(PatchExtractor(patch_size=4, num_downsamples=1)(images))
    assert patches.shape == (2, 6 + 1, 4, 4, 3)
    for image, own in zip(images, patches):
        np.testing.assert_array_equal(own[:6], windows(image, 4, 4))
        halved = (image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]) / 4
        np.testing.assert_allclose(own[6:], windows(halved, 4, 4), rtol=1e-5)


@pytest.mark.parametrize(
    "height, width, ratio", [(11, 9, 2), (10, 9, 2), (11, 8, 2), (12, 12, 3), (14, 13, 3)]
)
def test_a_level_that_is_no_2x2_mean_is_bilinear_at_half_pixel_centres(height, width, ratio):
    images = random_images((2, height, width, 3))
    extractor = PatchExtractor(patch_size=4, num_downsamples=1, downsample_ratio=ratio)
    patches = numpy(extractor(images))
    fine = (height // 4) * (width // 4)
    for image, own in zip(images, patches):
        np.testing.assert_array_equal(own[:fine], windows(image, 4, 4))
        smaller = bilinear(image, height // ratio, width // ratio)
        np.testing.assert_allclose(own[fine:], windows(smaller, 4, 4), rtol=1e-4)


def test_each_level_is_made_of_the_one_before():
    image = random_images((1, 22, 22, 1))
    patches = numpy(PatchExtractor(patch_size=5, num_downsamples=2)(image))[0]
    first = bilinear(image[0], 11, 11)
    second = bilinear(first, 5, 5)
    assert len(patches) == 16 + 4 + 1
    np.testing.assert_allclose(patches[16:20], windows(first, 5, 5), rtol=1e-4)
    np.testing.assert_allclose(patches[20:], windows(second, 5, 5), rtol=1e-4)


@pytest.mark.parametrize("strides", [1, 3, 5])
def test_strides_other_than_the_patch_size(strides):
    images = random_images((2, 11, 10, 3))
    extractor = PatchExtractor(patch_size=4, num_downsamples=1, strides=strides)
    patches = numpy(extractor(images))
    for image, own in zip(images, patches):
        fine = windows(image, 4, strides)
        coarse = windows(bilinear(image, 5, 5), 4, strides)
        assert own.shape[0] == len(fine) + len(coarse)
        np.testing.assert_array_equal(own[: len(fine)], fine)
        np.testing.assert_allclose(own[len(fine) :], coarse, rtol=1e-4)


def test_levels_smaller_than_a_patch_are_skipped():
    extractor = PatchExtractor(patch_size=4, num_downsamples=9)
    assert extractor.compute_output_shape((None, 8, 16, 3)) == (None, 8 + 2, 4, 4, 3)
    assert numpy(extractor(random_images((1, 8, 16, 3)))).shape == (1, 10, 4, 4, 3)


def test_no_downsamples():
    image = random_images((1, 8, 8, 3))
    patches = numpy(PatchExtractor(patch_size=4, num_downsamples=0)(image))
    np.testing.assert_array_equal(patches[0], windows(image[0], 4, 4))


def test_boxes_of_the_grid_point_at_the_pixels_of_the_patches():
    # With coordinates as pixels, the mean of a patch is the centre of its box.
    extractor = PatchExtractor(patch_size=4, num_downsamples=2, strides=2)
    patches = numpy(extractor(coordinates(16, 32)))[0]
    boxes = extractor.grid((16, 32)).boxes
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 * [16, 32] - 0.5
    np.testing.assert_allclose(patches.mean(axis=(1, 2)), centres, atol=1e-4)


def test_max_patches_per_level_keeps_distinct_real_patches_of_each_level():
    images = random_images((3, 16, 16, 1))
    extractor = PatchExtractor(patch_size=4, num_downsamples=2, max_patches_per_level=3, seed=1)
    whole = numpy(extractor(images, training=False))
    drawn = numpy(extractor(images, training=True))
    assert whole.shape[1] == 16 + 4 + 1
    assert drawn.shape[1] == 3 + 3 + 1
    levels = [
        (slice(0, 3), slice(0, 16)),
        (slice(3, 6), slice(16, 20)),
        (slice(6, 7), slice(20, 21)),
    ]
    choices = []
    for image in range(3):
        chosen = []
        for own, level in levels:
            same = (drawn[image, own, None] == whole[image, None, level]).all(axis=(2, 3, 4))
            assert (same.sum(axis=1) == 1).all()  # each is one patch of its level
            indices = same.argmax(axis=1)
            assert len(set(indices)) == len(indices)  # without repetition
            chosen.append(sorted(indices))
        choices.append(chosen)
    # Of C(16, 3) = 560 and C(4, 3) = 4 draws, three images do not all get the same.
    assert not choices[0] == choices[1] == choices[2]


def test_max_patches_per_level_draws_by_seed_and_anew_each_call():
    images = random_images((4, 16, 16, 1))

    def draws(seed):
        extractor = PatchExtractor(
            patch_size=4, num_downsamples=0, max_patches_per_level=2, seed=seed
        )
        return [numpy(extractor(images, training=True)) for _ in range(2)]

    first, second = draws(1)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, draws(1)[0])
    assert not np.array_equal(first, draws(2)[0])


def test_max_patches_per_level_does_not_touch_inference_or_small_levels():
    images = random_images((1, 8, 8, 1))
    plain = PatchExtractor(patch_size=4, num_downsamples=1)(images)
    limited = PatchExtractor(patch_size=4, num_downsamples=1, max_patches_per_level=1, seed=0)
    generous = PatchExtractor(patch_size=4, num_downsamples=1, max_patches_per_level=4, seed=0)
    np.testing.assert_array_equal(numpy(limited(images)), numpy(plain))
    np.testing.assert_array_equal(numpy(limited(images, training=False)), numpy(plain))
    np.testing.assert_array_equal(numpy(generous(images, training=True)), numpy(plain))


def test_symbolic_call_in_training_counts_the_drawn_patches():
    images = keras.Input((16, 16, 3))
    extractor = PatchExtractor(patch_size=4, num_downsamples=2, max_patches_per_level=3, seed=1)
    assert extractor(images, training=True).shape == (None, 3 + 3 + 1, 4, 4, 3)
    assert extractor(images).shape == (None, 21, 4, 4, 3)


def test_uint8_images_give_the_same_patches():
    images = np.random.default_rng(0).integers(0, 256, (2, 9, 12, 3)).astype("uint8")
    extractor = PatchExtractor(patch_size=4, num_downsamples=1)
    patches = extractor(images)
    assert keras.backend.standardize_dtype(patches.dtype) == "float32"
    np.testing.assert_array_equal(numpy(patches), numpy(extractor(images.astype("float32"))))
    np.testing.assert_array_equal(numpy(patches)[0, 0], images[0, :4, :4].astype("float32"))


@pytest.mark.parametrize("size", [(None, 64), (64, None), (None, None)])
def test_unknown_image_size_is_explained(size):
    with pytest.raises(ValueError, match="known height and width.*image_size="):
        PatchExtractor(patch_size=4)(keras.Input((*size, 3)))


def test_output_shape_of_an_unknown_image_size():
    shape = PatchExtractor(patch_size=4).compute_output_shape((None, None, None, 3))
    assert shape == (None, None, 4, 4, 3)


@pytest.mark.parametrize("size", [(3, 8), (8, 3)])
def test_an_image_smaller_than_a_patch_is_explained(size):
    extractor = PatchExtractor(patch_size=4)
    message = rf"at least as large as a patch.*image_size=\({size[0]}, {size[1]}\), patch_size=4"
    with pytest.raises(ValueError, match=message):
        extractor(keras.Input((*size, 3)))
    with pytest.raises(ValueError, match=message):
        extractor(np.zeros((1, *size, 3), "float32"))
    with pytest.raises(ValueError, match=message):
        extractor.grid(size)
