import numpy as np
import pytest

from keras_patchpu.utils import array_checks
from keras_patchpu.utils.array_checks import check_images, check_labels, check_pixels

pytestmark = pytest.mark.no_backend


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
    monkeypatch.setattr(array_checks, "_PIXELS_AT_ONCE", at_once)
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
