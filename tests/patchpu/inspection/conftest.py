"""A table of images with one of everything that `patchpu inspect` tells."""

import numpy as np
import pytest
from PIL import Image
from tiny_data import write_noise


@pytest.fixture
def mixed(tmp_path):
    """A table with one of everything."""
    write_noise(tmp_path / "a.png", (80, 100))
    (tmp_path / "a2.png").write_bytes((tmp_path / "a.png").read_bytes())
    write_noise(tmp_path / "b.png", (90, 70), "L")
    (tmp_path / "b2.png").write_bytes((tmp_path / "b.png").read_bytes())
    write_noise(tmp_path / "tiny.png", (10, 200), "RGBA")
    write_noise(tmp_path / "large.jpg", (200, 300), "CMYK")
    turned = Image.fromarray(np.zeros((60, 50, 3), "uint8"))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    turned.save(tmp_path / "turned.jpg", exif=exif)
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "empty2.png").write_bytes(b"")
    (tmp_path / "text.jpg").write_bytes(b"this is no image")
    content = (tmp_path / "large.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "tags.csv").write_text(
        "image,labels,absent,split\n"
        "a.png,cat,,train\n"
        "a2.png,dog,,val\n"
        "b.png,cat;dog,owl,train\n"
        "b2.png,cat;dog,owl,train\n"
        "tiny.png,cat,,train\n"
        "large.jpg,,cat,train\n"
        "turned.jpg,owl,,train\n"
        "empty.png,cat,,train\n"
        "empty2.png,,,val\n"
        "text.jpg,dog,,val\n"
        "cut.jpg,,,train\n"
    )
    return tmp_path / "tags.csv"
