"""The command `patchpu inspect`, and its text."""

import numpy as np
import pytest
from PIL import Image
from tiny_data import write_noise, write_table

from keras_patchpu.datasets import ImageFiles
from patchpu.commands.inspect import main
from patchpu.inspection.inspect_files import inspect_files
from patchpu.inspection.report import report

pytestmark = pytest.mark.no_backend

NO_IMAGE = "not an image that can be read (.jpg, .jpeg, .png, .webp, .bmp, .gif), whatever its name"


def test_the_command(mixed, capsys):
    target = mixed.parent / "out.png"
    with pytest.raises(SystemExit) as error:
        sizes = ["--image-size", "640", "--patch-size", "64"]
        main([str(mixed), "--few", "3", "--picture", str(target), *sizes])
    assert error.value.code == 1
    output, errors = capsys.readouterr()
    assert "11/11" in errors
    lines = [line for line in output.split("\n") if line]
    (cut,) = [line for line in lines if line.startswith("  cut.jpg: ")]
    assert lines == [
        "images: 11 (8 train, 3 validation)",
        "label  present   absent  unknown",
        "cat          5        1        5  " + 30 * "#",
        "dog          4        0        7  " + 24 * "#",
        "owl          1        2        8  " + 6 * "#",
        "shown by fewer than 3 training images: dog (2), owl (1)",
        "no validation image shows cat, owl",
        "labels known present in an image: one in 6 images, several in 2, none in 3",
        "sizes, width x height: smallest 200 x 10, median 70 x 90, largest 300 x 200",
        "  7 have a side below 640 pixels: enlarged for a 640 x 640 image",
        "  WARNING: 2 have a side below 64 pixels, smaller than one patch; they are blown up and "
        "show the model little: tiny.png, turned.jpg",
        "colour modes converted to RGB:",
        "  L (grey): 2",
        "  CMYK (print colours): 1",
        "  RGBA (transparency becomes white): 1",
        "groups of images that are the same, byte by byte: 2",
        "  WARNING: with different labels: 1; keep one image with the right ones",
        "  WARNING: in train and in validation: 1",
        "  a.png = a2.png (different labels)",
        "  b.png = b2.png",
        "images that cannot be read: 4",
        "  empty.png: the file is empty (0 bytes)",
        cut,
        "  empty2.png: the file is empty (0 bytes)",
        f"  text.jpg: {NO_IMAGE}",
        f"samples of the training images: {target}",
    ]
    with Image.open(target) as image:
        assert image.format == "PNG" and image.width == 1210  # 11 inches of 110 dots


def test_the_command_on_sound_images(tmp_path, capsys):
    table = write_table(tmp_path, num_images=30)
    target = tmp_path / "out.png"
    options = ["--image-size", "32", "--patch-size", "16", "--picture", str(target)]
    assert main([str(table), *options]) is None
    output = capsys.readouterr().out
    assert output.startswith("images: 30\n\nlabel  present   absent  unknown\nblue  ")
    assert "WARNING" not in output and "below" not in output and "fewer" not in output
    assert "converted" not in output and "validation" not in output
    assert "\nevery image can be read\n" in output
    assert target.is_file()


def test_the_command_on_a_folder_per_class(tmp_path, capsys):
    for index, name in enumerate(["cat", "dog"]):
        (tmp_path / name).mkdir()
        write_noise(tmp_path / name / "1.png", (64, 64), seed=index)
    assert main([str(tmp_path), "--picture", str(tmp_path / "out.png")]) is None
    output = capsys.readouterr().out
    assert output.startswith("images: 2\n")
    assert "\nshown by fewer than 10 training images: cat (1), dog (1)\n" in output


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["none.csv"], "none.csv: there is no such file or folder"),
        (
            ["none.csv", "--picture", "out.txt"],
            "expected `--picture` to be a file named .png in a folder that exists. Received: "
            "out.txt",
        ),
        (
            ["none.csv", "--picture", "no/out.png"],
            "expected `--picture` to be a file named .png in a folder that exists. Received: "
            "no/out.png",
        ),
    ],
)
def test_errors_of_the_user(tmp_path, monkeypatch, capsys, arguments, expected):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2
    assert capsys.readouterr() == ("", f"patchpu inspect: error: {expected}\n")


@pytest.mark.parametrize(
    "arguments",
    [[], ["a.csv", "--patch-size", "0"], ["a.csv", "--few", "-1"], ["a.csv", "--max-pixels", "x"]],
)
def test_wrong_options(capsys, arguments):
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2
    assert capsys.readouterr().err.startswith("usage: patchpu inspect ")


def test_many_and_long_names(tmp_path):
    write_noise(tmp_path / "a.png", (8, 8))
    names = ("a" * 50, *(f"l{index:02d}" for index in range(12)))
    labels = np.zeros((1, 13), "int8")
    labels[0, 0] = 1
    found = inspect_files(ImageFiles(["a.png"], [tmp_path / "a.png"], labels, names))
    lines = report(found).split("\n")
    assert f"{'a' * 37}...        1        0        0  {'#' * 30}" in lines
    assert f"{'l11':40}        0        0        1" in lines  # present nowhere: no bar
    (few,) = [line for line in lines if line.startswith("shown by fewer")]
    assert few.endswith("l07 (0), l08 (0) and 3 more")


def test_more_groups_of_duplicates_than_are_listed(tmp_path):
    sources = []
    for index in range(12):
        write_noise(tmp_path / f"{index}.png", (4, 4), seed=index)
        sources += [tmp_path / f"{index}.png"] * 2
    labels = np.zeros((24, 1), "int8")
    labels[22] = 1
    found = inspect_files(ImageFiles([f"i{i:02d}" for i in range(24)], sources, labels, ("x",)))
    lines = report(found).split("\n")
    start = lines.index("groups of images that are the same, byte by byte: 12")
    assert lines[start + 2] == "  i22 = i23 (different labels)"  # the first of those listed
    assert lines[start + 3] == "  i00 = i01"
    assert lines[start + 12] == "  and 2 more"
