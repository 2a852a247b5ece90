import io
import struct
import tracemalloc
import zlib

import numpy as np
import PIL
import pytest
from PIL import Image, UnidentifiedImageError

from keras_patchpu.datasets.read_image import ImageError, original_size, placed, read_image

pytestmark = pytest.mark.no_backend


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def photograph(height=48, width=64):
    """Smooth colours, as a photograph has."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([2 * y + x, 255 - 3 * x, 120 + y - x], axis=-1)
    return Image.fromarray(pixels.clip(0, 255).astype("uint8"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_formats_give_the_pixels(kind, tmp_path):
    options = {"quality": 95} if kind in ("JPEG", "WEBP") else {}
    path = tmp_path / f"image.{kind.lower()}"
    photograph().save(path, kind, **options)
    pixels = read_image(path)
    assert pixels.shape == (48, 64, 3) and pixels.dtype == np.uint8
    # GIF has 256 colours, JPEG and WebP lose a little.
    tolerance = {"PNG": 0, "BMP": 0, "JPEG": 4, "WEBP": 8, "GIF": 12}[kind]
    difference = np.abs(pixels.astype(int) - np.asarray(photograph()).astype(int))
    assert difference.mean() <= tolerance / 2 and np.percentile(difference, 95) <= 2 * tolerance


def test_jpeg_is_decoded_as_tensorflow_does_within_two():
    tf = pytest.importorskip("tensorflow")
    data = encoded(photograph(), "JPEG", quality=90)
    theirs = tf.io.decode_jpeg(data, dct_method="INTEGER_ACCURATE").numpy()
    assert np.abs(read_image(data).astype(int) - theirs.astype(int)).max() <= 2


def test_exif_turns_the_image_upright():
    pixels = np.zeros((2, 3, 3), "uint8")
    pixels[0, 0] = 255  # top left of the stored image
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated clockwise by 90 degrees
    upright = read_image(encoded(Image.fromarray(pixels), exif=exif))
    assert upright.shape == (3, 2, 3)
    assert upright[0, 1].tolist() == [255, 255, 255]  # top left goes to top right
    assert upright.sum() == 3 * 255


def test_every_mode_becomes_rgb():
    grey = Image.new("L", (2, 1), 100)
    assert read_image(encoded(grey))[0, 0].tolist() == [100, 100, 100]
    deep = Image.fromarray(np.full((1, 2), 257 * 80, "uint16"))
    assert read_image(encoded(deep))[0, 0].tolist() == [80, 80, 80]
    palette = Image.new("P", (2, 1), 1)
    palette.putpalette([0, 0, 0, 10, 200, 30])
    assert read_image(encoded(palette))[0, 0].tolist() == [10, 200, 30]
    half_red = Image.new("RGBA", (2, 1), (255, 0, 0, 128))
    # over white: 255 * (1 - 128 / 255) = 127
    assert read_image(encoded(half_red))[0, 0].tolist() == [255, 127, 127]
    clear_grey = Image.new("LA", (2, 1), (0, 0))
    assert read_image(encoded(clear_grey))[0, 0].tolist() == [255, 255, 255]
    yellow = Image.new("CMYK", (16, 16), (0, 0, 255, 0))
    red, green, blue = read_image(encoded(yellow, "JPEG", quality=95))[8, 8].tolist()
    assert red > 250 and green > 250 and blue < 5
    frames = [Image.new("RGB", (2, 1), colour) for colour in ("red", "blue")]
    animation = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert read_image(animation)[0, 0].tolist() == [255, 0, 0]


def test_stretch_and_pad():
    white = encoded(Image.new("RGB", (40, 20), "white"))
    assert read_image(white, (10, 10)).min() == 255
    padded = read_image(white, (12, 10), fit="pad")  # 10 wide, 5 high, 3 and 4 rows of black
    np.testing.assert_array_equal(padded[:, :, 0].min(axis=1), [0] * 3 + [255] * 5 + [0] * 4)
    assert placed((20, 40), (12, 10), "pad") == (3, 0, 5, 10)
    assert placed((20, 40), (12, 10)) == (0, 0, 12, 10)
    assert placed((1, 1000), (10, 10), "pad") == (4, 0, 1, 10)  # never without height
    with pytest.raises(ValueError, match="`fit`.*crop"):
        read_image(white, (4, 4), fit="crop")


def test_an_image_smaller_than_a_patch_is_enlarged():
    assert read_image(encoded(Image.new("RGB", (1, 1), "red")), (64, 64))[63, 63, 0] == 255


def test_bad_images_are_named_with_the_reason(tmp_path):
    data = encoded(photograph(), "JPEG")
    cases = {
        "empty.jpg": (b"", "empty"),
        "text.jpg": (b"this is text", "not an image"),
        "cut.jpg": (data[: len(data) // 2], "damaged or unreadable: .*[Tt]runcated"),
        "cut.png": (encoded(photograph())[:90], "damaged or unreadable"),
    }
    for name, (content, reason) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError, match=f"{name}: .*{reason}"):
            read_image(tmp_path / name)
    with pytest.raises(ImageError, match="missing.jpg: there is no such file"):
        read_image(tmp_path / "missing.jpg")
    with pytest.raises(ImageError, match="shelf 3: .*empty"):
        read_image(b"", name="shelf 3")


def test_a_huge_image_is_refused_before_it_is_decoded():
    # More than 200 million pixels in a file of a few kilobytes.
    bomb = encoded(Image.new("1", (14_200, 14_200)), compress_level=9)
    tracemalloc.start()
    with pytest.raises(ImageError, match=r"201640000 pixels .*100,000,000.*--max-pixels"):
        read_image(bomb, (8, 8), name="bomb.png")
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    small = encoded(Image.new("1", (200, 100)))
    with pytest.raises(ImageError, match="200 x 100"):
        read_image(small, max_pixels=19_999)
    assert read_image(small, max_pixels=20_000).shape == (100, 200, 3)


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, *chunks):
    """A PNG that declares a size of RGB, with the pixels of a tiny one."""
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + pixels + png_chunk(b"IEND", b"")


def gif(screen, frame):
    """A GIF of one frame, which may be larger than the screen that the head declares."""
    head = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + bytes(6)
    return head + b"," + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\x02\x02\x44\x01\0;"


def bmp(width, height):
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 154, 0, 0, 54) + head + bytes(100)


def webp(width, height):
    """The head of a WebP with alpha, of up to 16,384 pixels a side, and a tiny frame."""
    tiny = encoded(Image.new("RGB", (1, 1)), "WEBP", lossless=True)
    size = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    body = b"WEBPVP8X" + struct.pack("<II", 10, 0) + size + tiny[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def jpeg(width, height):
    """A JPEG of 16x16 pixels whose head declares another size."""
    data = bytearray(encoded(Image.new("RGB", (16, 16)), "JPEG"))
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(data)


@pytest.mark.parametrize(
    "bomb",
    [
        png(60_000, 60_000),
        png(2**31 - 1, 2**31 - 1),
        png(14_000, 10_000),  # of these Pillow itself would only warn
        gif((60_000, 60_000), (1, 1)),
        gif((1, 1), (60_000, 60_000)),
        gif((1, 1), (14_000, 10_000)),
        bmp(60_000, 60_000),
        bmp(14_000, -10_000),
        webp(16_384, 16_384),
        jpeg(60_000, 60_000),
    ],
    ids="png largest_png png_warned gif gif_frame gif_warned bmp bmp_warned webp jpeg".split(),
)
@pytest.mark.parametrize("max_pixels", [100_000_000, 1000])
def test_bombs_of_every_format(bomb, max_pixels):
    assert len(bomb) < 3000
    expected = f"more than the limit of {max_pixels:,}"
    if bomb[8:12] == b"WEBP" and int(PIL.__version__.split(".")[0]) < 13:
        expected = "damaged or unreadable"  # Pillow's decoder wants all of the file at once
    with pytest.raises(ImageError, match=f"bomb: .*{expected}"):
        read_image(bomb, (8, 8), name="bomb", max_pixels=max_pixels)


def test_text_that_unpacks_to_more():
    bomb = png_chunk(b"zTXt", b"comment\0\0" + zlib.compress(bytes(50_000_000)))
    tracemalloc.start()
    with pytest.raises(ImageError, match="bomb: damaged or unreadable"):
        read_image(png(4, 4, bomb), name="bomb")
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n0 0 10 10 rectfill\n"


@pytest.mark.parametrize("kind", ["EPS", "TIFF", "ICO", "PPM", "TGA", "PCX", "JPEG2000"])
def test_formats_that_are_not_listed(kind, tmp_path, monkeypatch):
    data = EPS if kind == "EPS" else encoded(Image.new("RGB", (32, 32), "red"), kind)
    with Image.open(io.BytesIO(data)) as image:  # Pillow itself would read it
        assert image.format == kind
    path = tmp_path / "image.jpg"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=r"image.jpg: not an image that can be read \(.jpg"):
        read_image(path)
    with pytest.raises(UnidentifiedImageError):
        original_size(path)


def test_augmentation_is_decided_by_the_generator():
    data = encoded(photograph())
    plain = read_image(data, (24, 24))
    images = [read_image(data, (24, 24), augment=np.random.default_rng(seed)) for seed in range(8)]
    again = read_image(data, (24, 24), augment=np.random.default_rng(3))
    np.testing.assert_array_equal(again, images[3])
    assert all((image != plain).any() for image in images)
    # Green falls from left to right, or rises where mirrored: about half of them.
    rising = [image[:, -4:, 1].mean() > image[:, :4, 1].mean() for image in images]
    assert 1 <= sum(rising) <= 7
    brightness = [image.mean() / plain.mean() for image in images]
    assert min(brightness) > 0.7 and max(brightness) < 1.35
