"""What is in one's own images: what is counted."""

import numpy as np
import pytest
from PIL import Image
from tiny_data import write_noise

from keras_patchpu.datasets import ImageFiles, load_table
from patchpu.inspection.inspect_files import inspect_files
from patchpu.inspection.report import report

pytestmark = pytest.mark.no_backend


def look(path, **options):
    table = load_table(path)
    return inspect_files(table.train, table.validation, **options)


NO_IMAGE = "not an image that can be read (.jpg, .jpeg, .png, .webp, .bmp, .gif), whatever its name"


def test_all_that_is_counted(mixed, capsys):
    found = look(mixed, few=3)
    cut = found["unreadable"].pop(1)
    assert cut["name"] == "cut.jpg"
    assert cut["reason"].startswith("damaged or unreadable: image file is truncated")
    keys = ("name", "present", "absent", "unknown", "train", "validation")
    assert found == {
        "images": 11,
        "train": 8,
        "validation": 3,
        "labels": [
            dict(zip(keys, values))
            for values in [("cat", 5, 1, 5, 5, 0), ("dog", 4, 0, 7, 2, 2), ("owl", 1, 2, 8, 1, 0)]
        ],
        "labels_with_few": ["dog", "owl"],
        "labels_not_in_validation": ["cat", "owl"],
        "none": 3,
        "one": 6,
        "several": 2,
        "unreadable": [
            {"name": "empty.png", "reason": "the file is empty (0 bytes)"},
            {"name": "empty2.png", "reason": "the file is empty (0 bytes)"},
            {"name": "text.jpg", "reason": NO_IMAGE},
        ],
        "duplicates": [
            {"names": ["a.png", "a2.png"], "labels_differ": True, "in_both_splits": True},
            {"names": ["b.png", "b2.png"], "labels_differ": False, "in_both_splits": False},
        ],
        # By pixels 2000, 3000 (turned: 50 x 60), 6300 twice, 8000 twice, 60000.
        "sizes": {"smallest": (10, 200), "median": (90, 70), "largest": (200, 300)},
        "smaller_than_patch": ["tiny.png", "turned.jpg"],
        "smaller_than_image": 7,
        "modes": {"RGB": 3, "L": 2, "CMYK": 1, "RGBA": 1},
        "image_size": 640,
        "patch_size": 64,
        "few": 3,
    }
    assert capsys.readouterr() == ("", "")


def test_sizes_are_upright_and_limits_are_not_reached(tmp_path):
    image = Image.fromarray(np.zeros((64, 80, 3), "uint8"))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    files = ImageFiles(["a"], [tmp_path / "a.jpg"], np.ones((1, 1), "int8"), ("x",))
    found = inspect_files(files, image_size=64, patch_size=64)
    assert found["sizes"]["median"] == (80, 64)
    assert found["smaller_than_patch"] == [] and found["smaller_than_image"] == 0
    assert inspect_files(files, patch_size=65)["smaller_than_patch"] == ["a"]


def test_images_above_the_limit_missing_ones_and_bytes(tmp_path):
    write_noise(tmp_path / "a.png", (20, 30))
    content = (tmp_path / "a.png").read_bytes()
    sources = [tmp_path / "none.png", content, tmp_path / "a.png"]
    files = ImageFiles(["none", "bytes", "a"], sources, np.zeros((3, 1), "int8"), ("x",))
    found = inspect_files(files)
    assert found["unreadable"] == [{"name": "none", "reason": "No such file or directory"}]
    assert found["duplicates"][0]["names"] == ["bytes", "a"]
    found = inspect_files(files, max_pixels=599)
    assert found["unreadable"][1] == {
        "name": "bytes",
        "reason": "30 x 20 pixels are more than the limit of 599. If the file can be trusted, "
        "raise the limit by --max-pixels",
    }
    assert found["sizes"] is None and found["modes"] == {} and found["duplicates"] == []
    assert "sizes" not in report(found)
