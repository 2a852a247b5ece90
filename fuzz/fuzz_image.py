"""Fuzzes the decoder of images: bytes of JPEG, PNG, WebP, GIF and BMP files.

    python fuzz/fuzz_image.py -max_total_time=1200

Only an ImageError with a message may be raised. What is read has the size and type promised, and
`original_size`, which only looks at the head of a file, agrees with it. The first byte chooses
how the image is read.
"""

import io
import warnings

from common import fuzz, instrumented, message_of

with instrumented("PIL"):
    from PIL import Image

    from keras_patchpu.datasets.read_image import (
        ImageError,
        fit_image,
        original_size,
        read_image,
    )

    Image.preinit()  # imports decoders
    from PIL import WebPImagePlugin  # noqa: F401

import numpy as np

MAX_PIXELS = 200_000  # so that no input takes long
SIZES = (None, (16, 24), (1, 1), (7, 40))


def target(data):
    if not data:
        return
    options, data = data[0], data[1:]
    size, fit = SIZES[options & 3], ("stretch", "pad")[options >> 2 & 1]
    random = np.random.default_rng(0) if options >> 3 & 1 else None
    try:
        image = read_image(data, size, fit, max_pixels=MAX_PIXELS, augment=random)
    except ImageError as error:
        if "image" not in message_of(error):
            raise RuntimeError(f"the message does not name the image: {error}") from error
        return
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise RuntimeError(f"{image.dtype} {image.shape}")
    if size is not None and image.shape[:2] != size:
        raise RuntimeError(f"{image.shape}, expected {size}")
    if size is None and random is None:
        if original_size(data) != image.shape[:2]:
            raise RuntimeError(f"original_size {original_size(data)} of {image.shape}")
        if not np.array_equal(fit_image(image, (8, 8), fit), read_image(data, (8, 8), fit)):
            raise RuntimeError("read and then fitted is not read at that size")


def seeds():
    """Tiny images of every format and mode, with and without their extras."""
    random = np.random.default_rng(0)
    pixels = Image.fromarray(random.integers(0, 256, (6, 9, 3), dtype="uint8"))
    exif = Image.Exif()
    exif[0x0112] = 6
    clear = pixels.convert("RGBA")
    clear.putalpha(128)
    images = [
        (pixels, "JPEG", {"quality": 90}),
        (pixels, "JPEG", {"progressive": True, "exif": exif, "comment": b"x"}),
        (pixels.convert("L"), "JPEG", {}),
        (pixels.convert("CMYK"), "JPEG", {}),
        (pixels, "PNG", {"exif": exif}),
        (clear, "PNG", {}),
        (pixels.convert("P"), "PNG", {"transparency": 3}),
        (pixels.convert("1"), "PNG", {}),
        (pixels.convert("LA"), "PNG", {}),
        (Image.fromarray(random.integers(0, 65536, (5, 4)).astype("uint16")), "PNG", {}),
        (pixels, "PNG", {"save_all": True, "append_images": [pixels.rotate(180)]}),
        (pixels, "WEBP", {"quality": 80, "exif": exif}),
        (clear, "WEBP", {"lossless": True}),
        (clear, "WEBP", {"save_all": True, "append_images": [clear.rotate(180)]}),
        (pixels, "GIF", {}),
        (pixels.convert("P"), "GIF", {"transparency": 0, "interlace": 1}),
        (pixels, "GIF", {"save_all": True, "append_images": [pixels.rotate(180)], "loop": 0}),
        (pixels, "BMP", {}),
        (pixels.convert("P"), "BMP", {}),
        (pixels.convert("1"), "BMP", {}),
        (clear, "BMP", {}),
    ]
    found = []
    for number, (image, kind, options) in enumerate(images):
        file = io.BytesIO()
        image.save(file, kind, **options)
        found.append(bytes([number % 16]) + file.getvalue())
        found.append(b"\0" + file.getvalue())
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # Pillow's, of damaged files
    fuzz("image", target, seeds())
