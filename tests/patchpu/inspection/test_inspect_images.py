"""`patchpu inspect`: what it counts, says and draws."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from patchpu.inspection.inspect_images import draw_samples, inspect, inspect_files, report
from PIL import Image
from tiny_data import write_table

from keras_patchpu.datasets.image_files import ImageFiles
from keras_patchpu.datasets.table import load_table

ROOT = pathlib.Path(__file__).parents[3]


def picture(path, size, mode="RGB", seed=0):
    """An image of noise, `size` as (height, width)."""
    random = np.random.default_rng([seed, *size])
    image = Image.fromarray(random.integers(0, 256, (*size, 3)).astype("uint8"))
    image.convert(mode).save(path)


@pytest.fixture
def mixed(tmp_path):
    """A table with one of everything."""
    picture(tmp_path / "a.png", (80, 100))
    (tmp_path / "a2.png").write_bytes((tmp_path / "a.png").read_bytes())
    picture(tmp_path / "b.png", (90, 70), "L")
    (tmp_path / "b2.png").write_bytes((tmp_path / "b.png").read_bytes())
    picture(tmp_path / "tiny.png", (10, 200), "RGBA")
    picture(tmp_path / "large.jpg", (200, 300), "CMYK")
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


def look(path, **options):
    table = load_table(path)
    return inspect_files(table.train, table.validation, **options)


NO_IMAGE = "not an image that can be read (.jpg, .jpeg, .png, .webp, .bmp, .gif), whatever its name"


def test_all_that_is_counted(mixed):
    seen = []
    found = look(mixed, few=3, progress=lambda *numbers: seen.append(numbers))
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
    assert seen == [(done, 11) for done in range(1, 12)]


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
    picture(tmp_path / "a.png", (20, 30))
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


def test_the_command(mixed, capsys):
    target = mixed.parent / "out.png"
    with pytest.raises(SystemExit) as error:
        sizes = ["--image-size", "640", "--patch-size", "64"]
        inspect([str(mixed), "--few", "3", "--picture", str(target), *sizes])
    assert error.value.code == 1
    output, errors = capsys.readouterr()
    assert errors.startswith("\rreading images:   9 %\rreading images:  18 %")
    assert errors.endswith("\rreading images: 100 %\n")
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
    assert inspect([str(table), *options]) is None
    output = capsys.readouterr().out
    assert output.startswith("images: 30\n\nlabel  present   absent  unknown\nblue  ")
    assert "WARNING" not in output and "below" not in output and "fewer" not in output
    assert "converted" not in output and "validation" not in output
    assert "\nevery image can be read\n" in output
    assert target.is_file()


def test_the_command_on_a_folder_per_class(tmp_path, capsys):
    for index, name in enumerate(["cat", "dog"]):
        (tmp_path / name).mkdir()
        picture(tmp_path / name / "1.png", (64, 64), seed=index)
    assert inspect([str(tmp_path), "--picture", str(tmp_path / "out.png")]) is None
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
        inspect(arguments)
    assert error.value.code == 2
    assert capsys.readouterr() == ("", f"patchpu inspect: error: {expected}\n")


@pytest.mark.parametrize(
    "arguments",
    [[], ["a.csv", "--patch-size", "0"], ["a.csv", "--few", "-1"], ["a.csv", "--max-pixels", "x"]],
)
def test_wrong_options(capsys, arguments):
    with pytest.raises(SystemExit) as error:
        inspect(arguments)
    assert error.value.code == 2
    assert capsys.readouterr().err.startswith("usage: patchpu inspect ")


def test_help_imports_no_framework():
    # As `patchpu.py` does it: the package without its `__init__.py`.
    program = """
import json, sys, types
package = types.ModuleType("keras_patchpu")
package.__path__ = [sys.argv[1]]
sys.modules["keras_patchpu"] = package
from patchpu.inspection.inspect_images import inspect
try:
    inspect(["--help"])
finally:
    sys.stderr.write("RESULT" + json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""
    process = subprocess.run(
        [sys.executable, "-c", program, str(ROOT / "keras_patchpu")],
        capture_output=True,
        check=False,
        text=True,
    )
    assert process.returncode == 0
    assert process.stdout.startswith("usage: patchpu inspect ")
    modules = set(json.loads(process.stderr.split("RESULT")[1]))
    assert not {"keras", "tensorflow", "jax", "torch", "matplotlib"} & modules


# === Text and picture of odd labels ===


def test_many_and_long_names(tmp_path):
    picture(tmp_path / "a.png", (8, 8))
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
        picture(tmp_path / f"{index}.png", (4, 4), seed=index)
        sources += [tmp_path / f"{index}.png"] * 2
    labels = np.zeros((24, 1), "int8")
    labels[22] = 1
    found = inspect_files(ImageFiles([f"i{i:02d}" for i in range(24)], sources, labels, ("x",)))
    lines = report(found).split("\n")
    start = lines.index("groups of images that are the same, byte by byte: 12")
    assert lines[start + 2] == "  i22 = i23 (different labels)"  # the first of those listed
    assert lines[start + 3] == "  i00 = i01"
    assert lines[start + 12] == "  and 2 more"


@pytest.fixture
def ten_labels(tmp_path):
    """Label i is in 10 - i images; the first image of all has the last label too."""
    labels = np.repeat(np.eye(10, dtype="int8"), range(10, 0, -1), axis=0)
    labels[0, 9] = 1
    labels[1, 9] = -1
    sources = []
    for index in range(len(labels)):
        sources.append(tmp_path / f"{index:02d}.png")
        picture(sources[-1], (12, 16), seed=index)
    names = ["$x^$", *(f"l{index}" for index in range(1, 10))]
    return ImageFiles([f"dir/{source.name}" for source in sources], sources, labels, tuple(names))


def test_samples(ten_labels):
    figure = draw_samples(ten_labels)
    assert len(figure.axes) == 40
    rows = [figure.axes[start : start + 5] for start in range(0, 40, 5)]
    texts = [row[0].get_ylabel() for row in rows]
    assert texts[:2] == ["$x^$\n10 images", "l1\n9 images"]
    assert texts[7] == "l7\n3 images"
    assert [len(row[4].images) for row in rows] == [1] * 6 + [0, 0]
    firsts = np.cumsum([0, *range(10, 0, -1)])
    for label, row in enumerate(rows):
        titles = [axes.get_title().split("\n")[0] for axes in row if axes.images]
        allowed = {f"{index:02d}.png" for index in range(firsts[label], firsts[label + 1])}
        assert len(set(titles)) == len(titles) == min(5, 10 - label)
        assert set(titles) <= allowed
        for axes in row:
            if axes.images:
                index = int(axes.get_title()[:2])
                with Image.open(ten_labels.sources[index]) as image:
                    np.testing.assert_array_equal(axes.images[0].get_array(), np.asarray(image))
    figure.savefig(ten_labels.sources[0].with_name("samples.png"))  # dollars are no formula


def test_samples_name_the_other_labels_and_leave_out(ten_labels):
    only_two = ten_labels.take([0, 1, 2])
    assert len(draw_samples(only_two).axes) == 10
    titles = {axes.get_title() for axes in draw_samples(only_two).axes}
    assert titles == {"00.png\nalso l9", "00.png\nalso $x^$", "01.png", "02.png", ""}
    assert len(draw_samples(only_two, leave_out={"dir/00.png"}).axes) == 5
    assert draw_samples(only_two, leave_out=set(only_two.names)) is None


def test_large_images_are_made_small_and_long_names_cut(tmp_path):
    name = f"{'x' * 30}.png"
    picture(tmp_path / name, (900, 450))
    files = ImageFiles([name], [tmp_path / name], np.ones((1, 1), "int8"), ("a b" * 30,))
    axes = draw_samples(files).axes[0]
    assert axes.images[0].get_array().shape == (320, 160, 3)
    assert axes.get_title() == "..." + name[-22:]
    lines = axes.get_ylabel().split("\n")
    assert lines[-1] == "1 image" and len(lines) == 4
    assert max(map(len, lines)) <= 16
