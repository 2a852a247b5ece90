"""Tables and folders of images: what is read, and every message about what is wrong."""

import os
import re
import sys

import numpy as np
import pytest
from PIL import Image
from tiny_data import write_table

from keras_patchpu.datasets import load_table, split_by_seed
from keras_patchpu.datasets.image_files import ImageFiles
from keras_patchpu.datasets.table_rows import read_image_paths


def touch(folder, *names):
    """Empty files: `load_table` does not open images."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def written(folder, text, encoding="utf-8"):
    """A table with the images a.jpg to d.jpg beside it."""
    touch(folder, *(f"{name}.jpg" for name in "abcd"))
    path = folder / "tags.csv"
    path.write_bytes(text.encode(encoding))
    return path


def message(*arguments, **options):
    """What `load_table` complains about, without the folder, which changes."""
    with pytest.raises(ValueError) as error:
        load_table(*arguments, **options)
    folder = os.path.dirname(arguments[0])
    return str(error.value).replace(os.path.join(folder, ""), "")


# === What is read ===


def test_one_label_each(tmp_path):
    path = write_table(tmp_path, num_images=7)
    table = load_table(path)
    assert table.validation is None
    files = table.train
    assert files.label_names == ("blue", "green", "red")
    # Images 0 to 6 are labelled red, green, blue in turn.
    np.testing.assert_array_equal(
        files.labels,
        [[0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 1]],
    )
    assert files.labels.dtype == np.int8
    assert files.names[0] == "images/000.jpg"
    for name, source in zip(files.names, files.sources):
        assert os.path.samefile(source, tmp_path / name)
        with Image.open(source) as image:
            assert image.mode == "RGB"


ALL_COLUMNS = """image , labels,note,absent,split
a.jpg, cat ; dog,x,,train
./b.jpg,,y,dog;bird,val
c.jpg,"owl, white",z, ,validation

d.jpg,cat;,,,train
"""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize(("unlisted", "other"), [("unknown", 0), ("absent", -1)])
def test_all_columns(tmp_path, encoding, newline, unlisted, other):
    path = written(tmp_path, ALL_COLUMNS.replace("\n", newline), encoding)
    table = load_table(str(path), unlisted=unlisted)
    names = ("bird", "cat", "dog", "owl, white")
    assert table.train.label_names == table.validation.label_names == names
    assert table.train.names == ["a.jpg", "d.jpg"]
    assert table.validation.names == ["b.jpg", "c.jpg"]
    o = other
    np.testing.assert_array_equal(table.train.labels, [[o, 1, 1, o], [o, 1, o, o]])
    np.testing.assert_array_equal(table.validation.labels, [[-1, o, -1, o], [o, o, o, 1]])


def test_label_names_of_a_model_set_the_columns(tmp_path):
    path = written(tmp_path, "image,label\na.jpg,cat\nb.jpg,dog\n")
    files = load_table(path, label_names=["dog", "owl", "cat"]).train
    assert files.label_names == ("dog", "owl", "cat")
    np.testing.assert_array_equal(files.labels, [[0, 0, 1], [1, 0, 0]])


def test_labels_beyond_ascii(tmp_path):
    path = written(tmp_path, "image,label\na.jpg,猫\nb.jpg,Bär\n")
    assert load_table(path).train.label_names == ("Bär", "猫")


@pytest.mark.parametrize("relative", ["tags.csv", "./tags.csv"])
def test_a_table_in_the_current_folder(tmp_path, monkeypatch, relative):
    written(tmp_path, "image,label\na.jpg,cat\n")
    monkeypatch.chdir(tmp_path)
    assert load_table(relative).train.names == ["a.jpg"]


def test_dots_that_stay_inside(tmp_path):
    path = written(tmp_path, "image,label\nsub/../a.jpg,cat\n")
    (tmp_path / "sub").mkdir()
    assert load_table(path).train.names == ["a.jpg"]


# === Tables that are wrong ===

HEADER = (
    "Expected the columns `image` and `label` (or `labels`), and if wanted `absent` and `split`, "
    "with commas between"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", f"tags.csv: the table is empty. {HEADER}"),
        ("\n\n", f"tags.csv: the table is empty. {HEADER}"),
        ("image,label\n", "tags.csv: the table is empty: a header and no rows"),
        (
            "file,label\na.jpg,cat\n",
            f"tags.csv: {HEADER}. Received the header: file, label",
        ),
        (
            "image;labels\na.jpg;cat\n",
            f"tags.csv: {HEADER}. Received the header: image;labels",
        ),
        (
            "image,label,labels\na.jpg,cat,\n",
            "tags.csv: expected each column once, and `label` or `labels`. Received the header: "
            "image, label, labels",
        ),
        (
            "image,label,label\na.jpg,cat,\n",
            "tags.csv: expected each column once, and `label` or `labels`. Received the header: "
            "image, label, label",
        ),
        (
            "image,label\na.jpg,cat\nb.jpg,cat,dog\n",
            "tags.csv, row 3: expected 2 cells, as in the header. Received: 3; put ';' between "
            "labels, and quotes around what has a comma",
        ),
        (
            "image,label\na.jpg\n",
            "tags.csv, row 2: expected 2 cells, as in the header. Received: 1; put ';' between "
            "labels, and quotes around what has a comma",
        ),
        (
            "image,label\na.jpg,cat\n ,cat\n",
            "tags.csv, row 3: expected the path of an image in `image`. It is missing",
        ),
        (
            'image,label\na.jpg,cat\nb.jpg,"cat\n',
            "tags.csv, row 3: cannot be read as CSV: unexpected end of data",
        ),
        (
            "image,labels\na.jpg,cat\nb.jpg,\n\n./a.jpg,dog\n",
            "tags.csv, row 5: the image a.jpg is in row 2 already; put its labels into one row "
            "with ';' between",
        ),
        (
            "image,labels,absent\na.jpg,cat;dog,owl;dog\n",
            "tags.csv, row 2: dog cannot be both in `labels` and in `absent`",
        ),
        (
            "image,label,split\na.jpg,cat,train\nb.jpg,cat,test\n",
            "tags.csv, row 3: expected `split` to be train or validation. Received: split='test'",
        ),
        (
            "image,label,split\na.jpg,cat,\n",
            "tags.csv, row 2: expected `split` to be train or validation. Received: split=''",
        ),
        (
            "image,label,split\na.jpg,cat,train\n",
            "tags.csv: expected rows of both splits, train and validation. No row has validation; "
            "leave the column `split` out to draw the validation images at random",
        ),
        (
            "image,label,split\na.jpg,cat,val\n",
            "tags.csv: expected rows of both splits, train and validation. No row has train; "
            "leave the column `split` out to draw the validation images at random",
        ),
        (
            "image,label\na.jpg,\n",
            "tags.csv: expected at least one label. All rows are without any",
        ),
        ("image,label\n\0.jpg,cat\n", "tags.csv, row 2: expected a path. Received: '\\x00.jpg'"),
    ],
    ids=lambda value: "" if value.startswith("tags.csv") else repr(value[:30]),
)
def test_messages(tmp_path, text, expected):
    assert message(written(tmp_path, text)) == expected


@pytest.mark.parametrize("label", ["nan", "NaN", "None", " NaN "])
@pytest.mark.parametrize("column", ["label", "absent"])
def test_labels_that_are_missing_values(tmp_path, column, label):
    cells = f"{label},dog" if column == "label" else f"dog,{label}"
    path = written(tmp_path, f"image,label,absent\na.jpg,cat,\nb.jpg,{cells}\n")
    assert message(path) == (
        f"tags.csv, row 3: expected the name of a label in `{column}`. Received: {label.strip()}, "
        "which programs write for a missing value; leave the cell empty where nothing is known"
    )


def test_bytes_that_are_not_utf_8(tmp_path):
    path = written(tmp_path, "image,label\na.jpg,cat\nb.jpg,Bär\n", encoding="latin-1")
    assert message(path) == (
        "tags.csv, line 3: expected UTF-8. Received the byte 0xe4; save the table as UTF-8 "
        "(in Excel: 'CSV UTF-8')"
    )
    path.write_bytes("image,label\n".encode("utf-16"))  # its mark is no UTF-8, at the first byte
    first = "ff" if sys.byteorder == "little" else "fe"
    assert message(path).startswith(
        f"tags.csv, line 1: expected UTF-8. Received the byte 0x{first}"
    )


@pytest.mark.parametrize(
    ("count", "few", "more"), [(1, "e0.jpg", ""), (10, "e9.jpg", ""), (12, "e9.jpg", "2 more")]
)
def test_missing_images_are_listed(tmp_path, count, few, more):
    rows = "".join(f"e{index}.jpg,cat\n" for index in range(count))
    text = message(written(tmp_path, f"image,label\na.jpg,cat\n{rows}"))
    first, *others = text.split("\n")
    assert first == (
        f"tags.csv: {count} of {count + 1} images do not exist. Paths are relative to the folder "
        "of the table:"
    )
    # The header is row 1, a.jpg row 2.
    expected = [f"  row {index + 3}: e{index}.jpg" for index in range(min(count, 10))]
    assert others == expected + ([f"  and {more}"] if more else [])
    assert expected[-1].endswith(few)


def test_labels_that_the_model_does_not_know(tmp_path):
    path = written(tmp_path, "image,label,absent\na.jpg,cat,\nb.jpg,cat,dgo\n")
    expected = "tags.csv, row 3: expected a label that is known: cat, dog. Received: dgo"
    assert message(path, label_names=["cat", "dog"]) == expected
    names = ["cat", *(f"l{index}" for index in range(11))]
    assert message(path, label_names=names) == (
        "tags.csv, row 3: expected a label that is known: cat, l0, l1, l2, l3, l4, l5, l6, l7, l8 "
        "and 2 more. Received: dgo"
    )


@pytest.mark.parametrize(
    ("image", "wanted"),
    [
        ("../a.jpg", "inside the folder of the table"),
        ("sub/../../a.jpg", "inside the folder of the table"),
        ("..", "inside the folder of the table"),
        ("/etc/a.jpg", "relative to the folder of the table"),
        ("C:/a.jpg", "relative to the folder of the table"),
        ("sub\\a.jpg", "with '/' between folders"),
        ("C:\\a.jpg", "with '/' between folders"),
    ],
)
def test_paths_that_leave_the_folder(tmp_path, image, wanted):
    path = written(tmp_path, f"image,label\na.jpg,cat\n{image},cat\n")
    assert message(path) == (
        f"tags.csv, row 3: expected a path {wanted}. Received: {image} (allow_outside=True "
        "allows it)"
    )


def test_images_outside_where_that_is_allowed(tmp_path):
    touch(tmp_path, "out.jpg", "other.jpg", "in/a.jpg")
    (tmp_path / "in" / "link.jpg").symlink_to(tmp_path / "out.jpg")
    absolute = (tmp_path / "other.jpg").as_posix()
    text = f"image,label\n../out.jpg,cat\n{absolute},dog\nlink.jpg,cat\n"
    files = load_table(written(tmp_path / "in", text), allow_outside=True).train
    assert files.names == ["../out.jpg", absolute, "link.jpg"]
    assert os.path.samefile(files.sources[0], tmp_path / "out.jpg")
    assert os.path.samefile(files.sources[1], tmp_path / "other.jpg")


@pytest.mark.parametrize("link", ["file", "folder"])
def test_links_that_leave_the_folder(tmp_path, link):
    touch(tmp_path, "out/a.jpg", "in/b.jpg")
    if link == "file":
        (tmp_path / "in" / "link.jpg").symlink_to(tmp_path / "out" / "a.jpg")
        image = "link.jpg"
    else:
        (tmp_path / "in" / "link").symlink_to(tmp_path / "out")
        image = "link/a.jpg"
    path = written(tmp_path / "in", f"image,label\nb.jpg,cat\n{image},cat\n")
    real = os.path.realpath(tmp_path / "out" / "a.jpg")
    assert message(path) == (
        f"tags.csv, row 3: expected a path inside the folder of the images. Received: {image}, a "
        f"link to {real} (allow_outside=True allows it)"
    )


def test_links_that_stay_inside(tmp_path):
    path = written(tmp_path, "image,label\nlink.jpg,cat\n")
    (tmp_path / "link.jpg").symlink_to("a.jpg")
    assert load_table(path).train.names == ["link.jpg"]


def test_what_is_no_table(tmp_path):
    assert message(tmp_path / "none.csv") == "none.csv: there is no such file or folder"
    touch(tmp_path, "tags.txt")
    assert message(tmp_path / "tags.txt") == (
        "tags.txt: expected a file named .csv or .parquet, or a folder with one folder per class"
    )
    with pytest.raises(ValueError, match="`unlisted`.*unlisted='no'"):
        load_table(tmp_path, unlisted="no")


# === Images alone ===


def paths_message(path, **options):
    with pytest.raises(ValueError) as error:
        read_image_paths(path, **options)
    return str(error.value).replace(os.path.join(os.path.dirname(path), ""), "")


def test_images_need_no_labels_and_may_be_missing_or_twice(tmp_path):
    path = written(tmp_path, "id, image \n1,none.jpg\n2,a.jpg\n\n3,a.jpg\n")
    expected = [str(tmp_path / name) for name in ("none.jpg", "a.jpg", "a.jpg")]
    assert read_image_paths(path) == expected


@pytest.mark.parametrize("kind", ["csv", "parquet", "pq"])
def test_images_alone_stay_inside_too(tmp_path, kind):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link.jpg").symlink_to(tmp_path / "out.jpg")
    for image, wanted in [
        ("../out.jpg", "inside the folder of the table"),
        (str(tmp_path / "out.jpg"), "relative to the folder of the table"),
        ("link.jpg", "inside the folder of the images"),
    ]:
        if kind == "csv":
            path, row = written(tmp_path / "in", f"image\n{image}\n"), 2
        else:
            pandas = pytest.importorskip("pandas")
            pytest.importorskip("pyarrow")
            path, row = tmp_path / "in" / f"tags.{kind}", 1
            pandas.DataFrame({"image": [image]}).to_parquet(path)
        text = paths_message(path)
        assert text.startswith(f"tags.{kind}, row {row}: expected a path {wanted}. Received: ")
        (found,) = read_image_paths(path, allow_outside=True)
        assert found == os.path.join(tmp_path / "in", image)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("picture\na.jpg\n", "tags.csv: expected one column `image`. Received the header: picture"),
        (
            "image,image\na.jpg,b.jpg\n",
            "tags.csv: expected one column `image`. Received the header: image, image",
        ),
        ("image\n\0.jpg\n", "tags.csv, row 2: expected a path. Received: '\\x00.jpg'"),
        (
            "image,x\n ,1\n",
            "tags.csv, row 2: expected the path of an image in `image`. It is missing",
        ),
    ],
)
def test_messages_about_images_alone(tmp_path, text, expected):
    assert paths_message(written(tmp_path, text)) == expected


# === Parquet ===


def parquet(folder, **columns):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    touch(folder, "a.jpg", "b.jpg", "c.jpg")
    path = folder / "tags.parquet"
    pandas.DataFrame(columns).to_parquet(path)
    return path


def test_parquet(tmp_path):
    path = parquet(
        tmp_path,
        image=["a.jpg", "b.jpg", "c.jpg"],
        labels=["cat;dog", "", "owl"],
        absent=["", "dog", ""],
        split=["train", "val", "train"],
        score=[0.5, float("nan"), 1.0],
    )
    table = load_table(path)
    assert table.train.label_names == ("cat", "dog", "owl")
    np.testing.assert_array_equal(table.train.labels, [[1, 1, 0], [0, 0, 1]])
    np.testing.assert_array_equal(table.validation.labels, [[0, -1, 0]])


def test_parquet_with_numbers_as_labels(tmp_path):
    path = parquet(tmp_path, image=["a.jpg", "b.jpg"], label=[7, 3])
    assert load_table(path).train.label_names == ("3", "7")


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (
            {"image": ["a.jpg", "b.jpg"], "label": ["cat", None]},
            "row 2: expected `label` to be text, empty where nothing is known. Received: a missing "
            "value (NaN)",
        ),
        (
            {"image": ["a.jpg", "b.jpg"], "label": [float("nan"), 3.0]},
            "row 1: expected `label` to be text, empty where nothing is known. Received: a missing "
            "value (NaN)",
        ),
        (
            {"image": ["a.jpg", None], "label": ["cat", "cat"]},
            "row 2: expected the path of an image in `image`. It is missing",
        ),
        (
            {"image": [5, 6], "label": ["cat", "cat"]},
            "row 1: expected `image` to be text. Received: image=5 (of type int)",
        ),
        (
            {"image": ["a.jpg"], "label": [0.5]},
            "row 1: expected `label` to be text, ';' between several labels. Received: label=0.5 "
            "(of type float)",
        ),
        (
            {"image": ["a.jpg"], "label": ["cat"], "split": [None]},
            "row 1: expected `split` to be train or validation. Received: split=None",
        ),
    ],
)
def test_parquet_messages(tmp_path, columns, expected):
    assert message(parquet(tmp_path, **columns)) == f"tags.parquet, {expected}"


def test_parquet_that_is_none(tmp_path):
    pytest.importorskip("pandas")
    touch(tmp_path, "tags.parquet")
    text = message(tmp_path / "tags.parquet")
    assert text.startswith("tags.parquet: not a Parquet file that can be read: ")


def test_parquet_without_pandas(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    touch(tmp_path, "tags.parquet")
    assert message(tmp_path / "tags.parquet") == (
        "tags.parquet: reading Parquet needs pandas and pyarrow: `pip install pandas pyarrow`, or "
        "save the table as CSV"
    )


# === A folder per class ===


def test_folder_per_class(tmp_path):
    touch(tmp_path, "b/2.JPG", "b/1.png", "b/notes.txt", "b/.hidden.jpg", "a/1.webp", "README.md")
    touch(tmp_path, ".git/1.jpg")
    table = load_table(tmp_path)
    assert table.validation is None
    assert table.train.names == ["a/1.webp", "b/1.png", "b/2.JPG"]
    assert table.train.label_names == ("a", "b")
    np.testing.assert_array_equal(table.train.labels, [[1, 0], [0, 1], [0, 1]])
    for name, source in zip(table.train.names, table.train.sources):
        assert os.path.samefile(source, tmp_path / name)
    np.testing.assert_array_equal(
        load_table(tmp_path, "absent", label_names=["b", "z", "a"]).train.labels,
        [[-1, -1, 1], [1, -1, -1], [1, -1, -1]],
    )


def folder_message(path, **options):
    with pytest.raises(ValueError) as error:
        load_table(path, **options)
    return str(error.value).replace(str(path), "ROOT")


def test_folder_messages(tmp_path):
    touch(tmp_path, "x.jpg")
    assert folder_message(tmp_path) == (
        "ROOT: expected one folder per class. Received a folder without any"
    )
    touch(tmp_path, "b/notes.txt", "b/more.txt", "b/.hidden.jpg")
    assert folder_message(tmp_path) == (
        "ROOT/b: expected the images of this class (.jpg, .jpeg, .png, .webp, .bmp, .gif). "
        "Received a folder with none, and 2 other files"
    )
    touch(tmp_path, "a/1.jpg", "a/more/2.jpg")
    assert folder_message(tmp_path) == (
        "ROOT/a: expected the images of this class, no folders. Received the folder more"
    )


def test_a_folder_with_a_class_that_the_model_does_not_know(tmp_path):
    touch(tmp_path, "cat/1.jpg", "dgo/2.jpg")
    assert folder_message(tmp_path, label_names=["cat", "dog"]) == (
        "ROOT/dgo/2.jpg: expected a label that is known: cat, dog. Received: dgo"
    )


def test_the_folder_of_a_table_is_no_folder_per_class(tmp_path):
    write_table(tmp_path, num_images=3)
    assert folder_message(tmp_path) == (
        "ROOT: expected one folder per class. Received one folder, images, and a table; to read "
        "the table give its path, ROOT/tags.csv"
    )


def test_links_out_of_a_folder_per_class(tmp_path):
    touch(tmp_path, "out.jpg", "in/a/1.jpg", "in/b/1.jpg")
    (tmp_path / "in" / "b" / "2.jpg").symlink_to(tmp_path / "out.jpg")
    assert folder_message(tmp_path / "in") == (
        "ROOT/b/2.jpg: expected a path inside the folder of the images. Received: b/2.jpg, a link "
        f"to {os.path.realpath(tmp_path / 'out.jpg')} (allow_outside=True allows it)"
    )
    assert len(load_table(tmp_path / "in", allow_outside=True).train) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_file_names_that_are_not_utf_8(tmp_path):
    touch(tmp_path, "a/1.jpg")
    with open(os.fsencode(tmp_path / "a") + b"/caf\xe9.jpg", "wb"):
        pass
    assert folder_message(tmp_path) == (
        r"ROOT/a: expected file names in UTF-8. Received: caf\xe9.jpg; rename it"
    )


# === split_by_seed ===


def files_of(labels):
    labels = np.asarray(labels, dtype="int8")
    names = [f"{index:03d}" for index in range(len(labels))]
    return ImageFiles(names, list(names), labels, tuple("abcdefgh"[: labels.shape[1]]))


def test_split_shares_out_each_label():
    # 100 images of a, 40 of b, 10 of c: ten percent of each.
    labels = np.zeros((150, 3))
    labels[:100, 0] = labels[100:140, 1] = labels[140:, 2] = 1
    train, validation = split_by_seed(files_of(labels), share=0.1)
    assert (len(train), len(validation)) == (135, 15)
    np.testing.assert_array_equal((validation.labels == 1).sum(axis=0), [10, 4, 1])
    assert sorted([*train.names, *validation.names]) == [f"{index:03d}" for index in range(150)]
    assert list(train.names) == sorted(train.names)
    assert list(validation.names) == sorted(validation.names)
    for part in (train, validation):
        rows = [int(name) for name in part.names]
        np.testing.assert_array_equal(part.labels, labels[rows])
        assert list(part.sources) == list(part.names)


def test_split_depends_on_the_seed_only():
    files = files_of(np.eye(4, dtype="int8").repeat(10, axis=0))
    first, again, other = (list(split_by_seed(files, 0.25, seed)[1].names) for seed in (3, 3, 4))
    assert first == again != other


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("seed", range(5))
def test_every_label_stays_in_train(share, seed):
    # Several labels an image, some rare, some known absent.
    random = np.random.default_rng(seed)
    labels = (random.random((30, 6)) < [0.5, 0.3, 0.1, 0.05, 0.02, 0.2]).astype("int8")
    labels[0] = [0, 0, 0, 0, 1, 0]
    labels[1, 5] = -1
    train, validation = split_by_seed(files_of(labels), share, seed)
    present = (labels == 1).any(axis=0)
    np.testing.assert_array_equal((train.labels == 1).any(axis=0), present)
    assert 1 <= len(validation) <= round(share * 30)
    assert len(train) + len(validation) == 30


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_split_has_an_image_on_both_sides(share):
    train, validation = split_by_seed(files_of([[0, 0]] * 4), share)
    assert (len(train), len(validation)) == ((3, 1) if share == 0.01 else (1, 3))


def test_split_messages():
    files = files_of(np.eye(3))
    with pytest.raises(ValueError) as error:
        split_by_seed(files)
    assert str(error.value) == (
        "Expected an image that can be drawn for validation without taking the last one of a "
        "label. Received: 3 images of 3 labels, none to spare"
    )
    with pytest.raises(ValueError, match="1 images of 1 labels, none to spare"):
        split_by_seed(files_of([[1]]))
    for share in (0, 1, -0.5, float("nan"), "0.1"):
        with pytest.raises(ValueError, match=re.escape(f"share={share!r}")):
            split_by_seed(files, share)
    with pytest.raises(ValueError, match="seed=-1"):
        split_by_seed(files, seed=-1)
