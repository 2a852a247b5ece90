"""One image file to an array: every format and orientation, one size."""

import io
import os
import re

import numpy as np
from PIL import ExifTags, Image, ImageEnhance, ImageOps, UnidentifiedImageError

from keras_patchpu.utils.validation import MAX_PIXELS, FileError, check_one_of

FITS = ("stretch", "pad")
EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")
# Decoders that a file may choose, whatever its name: Pillow has many more, and one of them starts
# Ghostscript, which runs PostScript.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")


class ImageError(FileError):
    """An image that cannot be read; the message names it and says why."""


def read_image(
    source: str | os.PathLike | bytes,
    size: tuple[int, int] | None = None,
    fit: str = "stretch",
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
    augment: np.random.Generator | None = None,
) -> np.ndarray:
    """Reads an image as RGB, upright and at one size.

    Decoded and resized by Pillow on every backend, so that all see the same pixels. The
    orientation in EXIF is followed; grey, palette and CMYK images become RGB; what is
    transparent becomes white; of an animation the first frame is taken.

    Args:
        source: Path of a file, or its bytes.
        size: `(height, width)` in pixels. Defaults to `None`: as the file has it.
        fit: `"stretch"` resizes without keeping the aspect ratio, as the paper does; `"pad"`
            keeps it and centres the image on black. Defaults to `"stretch"`.
        name: What messages call the image. Defaults to `None`: the path.
        max_pixels: Largest number of pixels. Defaults to 100 million.
        augment: `numpy.random.Generator` of a random flip, crop and change of colours.
            Defaults to `None`: none.

    Returns:
        uint8 array `(H, W, 3)`.

    Raises:
        ImageError: The file is missing, empty, no image, damaged, or too large.
        ValueError: `fit` is another.
    """
    check_one_of("fit", fit, FITS)
    name = name or (os.fspath(source) if isinstance(source, (str, os.PathLike)) else "image")
    if Image.MAX_IMAGE_PIXELS is not None and Image.MAX_IMAGE_PIXELS < max_pixels:
        Image.MAX_IMAGE_PIXELS = max_pixels  # Pillow's own limit, below ours
    try:
        if not isinstance(source, bytes):
            with open(source, "rb") as file:
                source = file.read()
        if not source:
            raise ImageError(f"{name}: the file is empty (0 bytes)")
        with Image.open(io.BytesIO(source), formats=FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise _too_large(name, f"{width} x {height}", max_pixels)
            image = _rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError as error:
        raise ImageError(f"{name}: there is no such file") from error
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{name}: not an image that can be read ({', '.join(EXTENSIONS)}), whatever its name"
        ) from error
    except Image.DecompressionBombError as error:
        pixels = re.search(r"\d+", str(error))  # Pillow's own words: "Image size (N pixels) ..."
        raise _too_large(name, pixels[0] if pixels else "its", max_pixels) from error
    except ImageError:
        raise
    except Exception as error:  # decoders of damaged files raise anything
        raise ImageError(f"{name}: damaged or unreadable: {error}") from error
    if augment is not None:
        image = _augmented(image, augment)
    return np.asarray(image) if size is None else _fitted(image, size, fit)


def fit_image(image, size, fit="stretch"):
    """An image that was read at its own size as `read_image` makes it of this size.

    Args:
        image: uint8 array `(H, W, 3)`.
        size: `(height, width)` in pixels.
        fit: As of `read_image`.

    Returns:
        uint8 array of the size.
    """
    return _fitted(Image.fromarray(image), size, fit)


def original_size(source):
    """Size of an image as it is shown, from the head of its file; no pixels are decoded.

    Args:
        source: Path of a file, or its bytes, which `read_image` can read.

    Returns:
        `(height, width)` in pixels.
    """
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    with Image.open(file, formats=FORMATS) as image:
        lies = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
        return image.size if lies else image.size[::-1]


def placed(original_size, size, fit="stretch"):
    """Where an image of `original_size` lies in the `size` that it is read at.

    Args:
        original_size: `(height, width)` in pixels.
        size: `(height, width)` in pixels.
        fit: As of `read_image`.

    Returns:
        `(top, left, height, width)` in pixels of `size`.
    """
    if fit == "stretch":
        return 0, 0, *size
    ratio = min(size[0] / original_size[0], size[1] / original_size[1])
    height, width = (
        min(limit, max(1, round(side * ratio))) for side, limit in zip(original_size, size)
    )
    return (size[0] - height) // 2, (size[1] - width) // 2, height, width


def _fitted(image, size, fit):
    top, left, height, width = placed((image.height, image.width), size, fit)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    if (height, width) == tuple(size):
        return np.asarray(image)
    canvas = np.zeros((*size, 3), dtype="uint8")
    canvas[top : top + height, left : left + width] = np.asarray(image)
    return canvas


def _too_large(name, pixels, max_pixels):
    return ImageError(
        f"{name}: {pixels} pixels are more than the limit of {max_pixels:,}. If the file can be "
        "trusted, raise the limit by --max-pixels"
    )


def _rgb(image):
    """Any mode of Pillow as RGB."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        # 16 bits a pixel: Pillow's own conversion would cut off at 255.
        values = np.asarray(image).astype("float64")
        image = Image.fromarray((values / 257.0).clip(0, 255).round().astype("uint8"))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def random_crop(random, flip=True):
    """Draws which part of an image is kept: 60 to 100 % of its area, mirrored half of the time.

    Args:
        random: `numpy.random.Generator`.
        flip: Whether images may be mirrored. Defaults to `True`.

    Returns:
        float32 `(5,)`: top, left, bottom and right from 0 to 1, and 1 if mirrored afterwards.
    """
    mirrored = random.random() < 0.5 and flip
    side = np.sqrt(random.uniform(0.6, 1.0))
    top, left = random.uniform(0, 1 - side, size=2)
    return np.array([top, left, top + side, left + side, mirrored], dtype="float32")


def cropped(image, crop):
    """The part of a Pillow image that `random_crop` chose."""
    top, left, bottom, right, mirrored = crop
    box = np.round(np.array([left, top, right, bottom]) * np.tile(image.size, 2)).astype(int)
    image = image.crop((box[0], box[1], max(box[2], box[0] + 1), max(box[3], box[1] + 1)))
    return ImageOps.mirror(image) if mirrored else image


def _augmented(image, random):
    """Cropped and mirrored at random; colours change by 20 %."""
    image = cropped(image, random_crop(random))
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhance(image).enhance(random.uniform(0.8, 1.2))
    return image
