"""Pictures of tagged images."""

import os

from PIL import Image
from predicted import run

from patchpu.prediction.overlays import picture_names


def test_overlays(saved, paths, tmp_path):
    overlays = tmp_path / "pictures"
    options = ["--output", tmp_path / "tags.csv", "--overlays", overlays]
    assert run(saved, *paths[3:6], *options) == 1  # the second is broken
    names = [path.strip("/").replace("/", "_")[-60:].strip("._") for path in paths]
    pictures = sorted(os.listdir(overlays))
    assert len(pictures) == 2 and all(name.endswith(".png") for name in pictures)
    assert {names[3][-20:], names[5][-20:]} == {name[:-4][-20:] for name in pictures}
    for name in pictures:
        with Image.open(overlays / name) as picture:
            assert picture.format == "PNG" and min(picture.size) > 150


def test_picture_names_differ():
    names = ["a/b.jpg", "a_b.jpg", "A/B.jpg", "a/b.jpg-2", "../é.png", "x" * 300, "y" + "x" * 300]
    pictures = picture_names(names)
    assert pictures[0] == "a_b.jpg.png" and pictures[4] == "é.png.png"
    assert len({name.lower() for name in pictures}) == len(names)
    assert all(len(name.encode()) < 255 and "/" not in name for name in pictures)
