"""One's own images: from a table, or from a folder with one folder per class."""

import csv
import dataclasses
import io
import numbers
import os
import pathlib
import posixpath
from collections.abc import Sequence

import numpy as np

from keras_patchpu.datasets.image_files import ImageFiles
from keras_patchpu.datasets.read_image import EXTENSIONS
from keras_patchpu.utils.validation import check_number, check_one_of, check_positive_integer

_SPLITS = {"train": "train", "validation": "validation", "val": "validation"}
_COLUMNS = (
    "Expected the columns `image` and `label` (or `labels`), and if wanted `absent` and `split`, "
    "with commas between"
)
# What programs write for a missing value; as a label it is an accident.
_MISSING = ("nan", "NaN", "NAN", "None")
_FEW = 10
TABLES = (".csv", ".parquet", ".pq")


@dataclasses.dataclass(frozen=True)
class Table:
    """Images of a table.

    Attributes:
        train: `ImageFiles`.
        validation: `ImageFiles`. `None` where the table does not say which they are; see
            `split_by_seed`.
    """

    train: ImageFiles
    validation: ImageFiles | None = None


@dataclasses.dataclass(frozen=True)
class _Row:
    place: str  # what messages call it
    name: str
    source: str
    present: set
    absent: set
    split: str | None


def load_table(
    path: str | os.PathLike,
    unlisted: str = "unknown",
    label_names: Sequence[str] | None = None,
    allow_outside: bool = False,
) -> Table:
    """Reads which images there are, and what is known about their labels.

    A table has a header and one row an image. Columns: `image`, the path relative to the
    table's folder; `label` or `labels`, those known present, `;` between several, empty
    where nothing is known; if wanted `absent`, the labels known absent; if wanted `split`,
    `train` or `validation` (`val`). Other columns are not looked at.

    In a folder per class the images lie directly in `PATH/CLASS/`. Files with other
    extensions and hidden ones are not looked at.

    The images are not opened here; `patchpu inspect` reads them all.

    Args:
        path: A CSV file in UTF-8, a Parquet file (needs pandas and pyarrow), or a folder.
        unlisted: What a label is that the row does not name: `"unknown"` (0), or `"absent"`
            (-1) when every image is fully annotated. Defaults to `"unknown"`.
        label_names: The labels in their order, such as a model's. Defaults to `None`: those
            found, sorted.
        allow_outside: Whether images may lie outside the folder of the table. Then absolute
            paths and backslashes are allowed too. Defaults to `False`.

    Returns:
        `Table`. Names are paths relative to the folder, with `/`.

    Raises:
        ValueError: The table or a row of it is wrong; names row and value. Rows count as a
            spreadsheet shows them: the header of a CSV file is row 1; a Parquet file begins
            with row 1.
    """
    check_one_of("unlisted", unlisted, ("unknown", "absent"))
    path = os.fspath(path)
    if os.path.isdir(path):
        rows = _rows_of_folder(path, allow_outside)
    elif not os.path.exists(path):
        raise ValueError(f"{path}: there is no such file or folder")
    elif path.lower().endswith(TABLES):
        header, numbered = _read(path)
        rows = _rows_of_table(path, header, numbered, allow_outside)
    else:
        raise ValueError(
            f"{path}: expected a file named .csv or .parquet, or a folder with one folder per class"
        )
    if label_names is None:
        label_names = sorted(set().union(*(row.present | row.absent for row in rows)))
        if not label_names:
            raise ValueError(f"{path}: expected at least one label. All rows are without any")
    label_names = tuple(label_names)
    labels = _label_array(rows, unlisted, label_names)
    files = ImageFiles(
        names=[row.name for row in rows],
        sources=[row.source for row in rows],
        labels=labels,
        label_names=label_names,
    )
    if rows[0].split is None:
        return Table(files)
    indices = {
        split: [index for index, row in enumerate(rows) if row.split == split]
        for split in ("train", "validation")
    }
    for split, chosen in indices.items():
        if not chosen:
            raise ValueError(
                f"{path}: expected rows of both splits, train and validation. No row has {split}; "
                "leave the column `split` out to draw the validation images at random"
            )
    return Table(files.take(indices["train"]), files.take(indices["validation"]))


def read_image_paths(path, allow_outside=False):
    """Reads which images a table names; its other columns are not looked at.

    Args:
        path: A CSV file in UTF-8, or a Parquet file (needs pandas and pyarrow).
        allow_outside: As of `load_table`. Defaults to `False`.

    Returns:
        List of paths, a row each. Images need not exist, nor be different.

    Raises:
        ValueError: As of `load_table`.
    """
    path = os.fspath(path)
    header, numbered = _read(path)
    if header.count("image") != 1:
        raise ValueError(
            f"{path}: expected one column `image`. Received the header: {', '.join(header)}"
        )
    folder = os.path.dirname(path)
    root = os.path.realpath(folder)
    return [
        _image(place, cells, folder, root, allow_outside)[1]
        for place, cells in _cells_by_row(path, header, numbered)
    ]


def split_by_seed(
    files: ImageFiles, share: float = 0.1, seed: int = 0
) -> tuple[ImageFiles, ImageFiles]:
    """Draws validation images at random, of each label about the same share.

    No label loses its last image of the training ones: where that would happen, fewer
    images are drawn.

    Args:
        files: `ImageFiles`.
        share: Share of the images to draw, above 0 and below 1. Defaults to `0.1`.
        seed: Integer seed. Defaults to `0`.

    Returns:
        `(train, validation)`, both `ImageFiles` in the order of `files`; at least one
        image each.

    Raises:
        ValueError: An argument is out of range, or no image can be spared.
    """
    check_number("share", share, above=0, below=1)
    check_positive_integer("seed", seed, minimum=0)
    count = len(files)
    wanted = min(max(1, round(share * count)), count - 1)
    order = np.random.default_rng(seed).permutation(count)
    present = np.asarray(files.labels) == 1
    left = present.sum(axis=0)  # of each label in train
    goal = np.round(share * left)
    drawn = np.zeros(count, dtype=bool)

    def draw(candidates, enough):
        for index in candidates:
            if drawn.sum() >= wanted or enough():
                return
            if not drawn[index] and (left[present[index]] > 1).all():
                drawn[index] = True
                left[present[index]] -= 1

    # Rare labels first: an image of a frequent one is easily found afterwards.
    for label in np.argsort(left, kind="stable"):
        of_label = order[present[order, label]]
        draw(of_label, lambda label=label: (drawn & present[:, label]).sum() >= goal[label])
    draw(order, lambda: False)
    if not drawn.any():
        raise ValueError(
            "Expected an image that can be drawn for validation without taking the last one of a "
            f"label. Received: {count} images of {int((left > 0).sum())} labels, none to spare"
        )
    return files.take(np.flatnonzero(~drawn)), files.take(np.flatnonzero(drawn))


# === Tables ===


def _read(path):
    """Header, and a list of row number and cells."""
    header, numbered = _read_csv(path) if path.lower().endswith(".csv") else _read_parquet(path)
    return [column.strip() for column in header], numbered


def _read_csv(path):
    """Header, and a list of row number and cells."""
    content = pathlib.Path(path).read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path}, line {line}: expected UTF-8. Received the byte "
            f"0x{content[error.start]:02x}; save the table as UTF-8 (in Excel: 'CSV UTF-8')"
        ) from error
    rows = []
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for number, cells in enumerate(reader, start=1):
            rows.append((number, cells))
    except csv.Error as error:
        raise ValueError(f"{path}, row {len(rows) + 1}: cannot be read as CSV: {error}") from error
    rows = [(number, cells) for number, cells in rows if cells]  # blank lines
    if not rows:
        raise ValueError(f"{path}: the table is empty. {_COLUMNS}")
    return rows[0][1], rows[1:]


def _read_parquet(path):
    """Header, and a list of row number and values, `None` where one is missing."""
    try:
        import pandas

        frame = pandas.read_parquet(path)
    except ImportError as error:
        raise ValueError(
            f"{path}: reading Parquet needs pandas and pyarrow: `pip install pandas pyarrow`, or "
            "save the table as CSV"
        ) from error
    except Exception as error:  # what is raised for a damaged file depends on the version
        raise ValueError(f"{path}: not a Parquet file that can be read: {error}") from error
    values = frame.astype(object).where(frame.notna(), None).itertuples(index=False, name=None)
    return [str(column) for column in frame.columns], list(enumerate(values, start=1))


def _rows_of_table(path, header, numbered, allow_outside):
    found = f"Received the header: {', '.join(header)}"
    given = [column for column in ("label", "labels") if column in header]
    if "image" not in header or not given:
        raise ValueError(f"{path}: {_COLUMNS}. {found}")
    known = ("image", *given, "absent", "split")
    if len(given) > 1 or any(header.count(column) > 1 for column in known):
        raise ValueError(f"{path}: expected each column once, and `label` or `labels`. {found}")
    if not numbered:
        raise ValueError(f"{path}: the table is empty: a header and no rows")

    folder = os.path.dirname(path)
    root = os.path.realpath(folder)
    rows, seen, missing = [], {}, []
    for place, cells in _cells_by_row(path, header, numbered):
        row = place.rsplit(", ", 1)[1]
        name, source = _image(place, cells, folder, root, allow_outside)
        if name in seen:
            raise ValueError(
                f"{place}: the image {name} is in {seen[name]} already; put its labels into "
                "one row with ';' between"
            )
        seen[name] = row
        if not os.path.isfile(source):
            missing.append(f"{row}: {cells['image'].strip()}")
        present = _label_set(place, given[0], cells[given[0]])
        absent = _label_set(place, "absent", cells["absent"]) if "absent" in cells else set()
        if present & absent:
            both = ", ".join(sorted(present & absent))
            raise ValueError(f"{place}: {both} cannot be both in `{given[0]}` and in `absent`")
        split = None
        if "split" in cells:
            written = cells["split"]
            split = _SPLITS.get(written.strip()) if isinstance(written, str) else None
            if split is None:
                raise ValueError(
                    f"{place}: expected `split` to be train or validation. Received: "
                    f"split={written!r}"
                )
        rows.append(_Row(place, name, source, present, absent, split))
    if missing:
        few = "".join(f"\n  {text}" for text in missing[:_FEW])
        more = f"\n  and {len(missing) - _FEW} more" if len(missing) > _FEW else ""
        raise ValueError(
            f"{path}: {len(missing)} of {len(rows)} images do not exist. Paths are relative to the "
            f"folder of the table:{few}{more}"
        )
    return rows


def _cells_by_row(path, header, numbered):
    """Generator of what messages call a row, and its cells by the names of their columns."""
    for number, cells in numbered:
        place = f"{path}, row {number}"
        if len(cells) != len(header):
            raise ValueError(
                f"{place}: expected {len(header)} cells, as in the header. Received: {len(cells)}; "
                "put ';' between labels, and quotes around what has a comma"
            )
        yield place, dict(zip(header, cells))


def _image(place, cells, folder, root, allow_outside):
    """Name and source of the image in a row."""
    image = cells["image"]
    if image is None or (isinstance(image, str) and not image.strip()):
        raise ValueError(f"{place}: expected the path of an image in `image`. It is missing")
    if not isinstance(image, str):
        raise ValueError(
            f"{place}: expected `image` to be text. Received: image={image!r} (of type "
            f"{type(image).__name__})"
        )
    return _inside(place, image.strip(), folder, root, allow_outside)


def _label_set(place, column, cell):
    """The labels of one cell."""
    if cell is None:
        raise ValueError(
            f"{place}: expected `{column}` to be text, empty where nothing is known. Received: a "
            "missing value (NaN)"
        )
    if isinstance(cell, numbers.Integral) and not isinstance(cell, bool):
        cell = str(cell)
    if not isinstance(cell, str):
        raise ValueError(
            f"{place}: expected `{column}` to be text, ';' between several labels. Received: "
            f"{column}={cell!r} (of type {type(cell).__name__})"
        )
    labels = {label.strip() for label in cell.split(";")} - {""}
    for label in _MISSING:
        if label in labels:
            raise ValueError(
                f"{place}: expected the name of a label in `{column}`. Received: {label}, which "
                "programs write for a missing value; leave the cell empty where nothing is known"
            )
    return labels


# === A folder per class ===


def _rows_of_folder(path, allow_outside):
    classes = [name for name in _listed(path) if os.path.isdir(os.path.join(path, name))]
    if not classes:
        raise ValueError(f"{path}: expected one folder per class. Received a folder without any")
    tables = [name for name in _listed(path) if name.lower().endswith((".csv", ".parquet"))]
    if len(classes) == 1 and tables:
        raise ValueError(
            f"{path}: expected one folder per class. Received one folder, {classes[0]}, and a "
            f"table; to read the table give its path, {os.path.join(path, tables[0])}"
        )
    root = os.path.realpath(path)
    rows = []
    for label in classes:
        folder = os.path.join(path, label)
        images, others = [], 0
        for file in _listed(folder):
            if os.path.isdir(os.path.join(folder, file)):
                raise ValueError(
                    f"{folder}: expected the images of this class, no folders. Received the "
                    f"folder {file}"
                )
            if file.lower().endswith(EXTENSIONS):
                images.append(file)
            else:
                others += 1
        if not images:
            raise ValueError(
                f"{folder}: expected the images of this class ({', '.join(EXTENSIONS)}). Received "
                f"a folder with none, and {others} other files"
            )
        for file in images:
            place = os.path.join(folder, file)
            name = f"{label}/{file}"
            if not allow_outside:
                _check_real(place, name, place, root)
            rows.append(_Row(place, name, place, {label}, set(), None))
    return rows


def _listed(folder):
    """The names in a folder but hidden ones, sorted."""
    names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    for name in names:
        try:
            name.encode("utf-8")
        except UnicodeEncodeError as error:
            escaped = os.fsencode(name).decode("ascii", "backslashreplace")
            raise ValueError(
                f"{folder}: expected file names in UTF-8. Received: {escaped}; rename it"
            ) from error
    return names


# === Both ===


def _inside(place, image, folder, root, allow_outside):
    """Name and source of an image whose path a table gives."""
    if "\0" in image:
        raise ValueError(f"{place}: expected a path. Received: {image!r}")
    name = posixpath.normpath(image)
    source = os.path.join(folder, image)
    if allow_outside:
        return name, source
    wrong = None
    if "\\" in image:
        wrong = "with '/' between folders"
    elif posixpath.isabs(image) or pathlib.PureWindowsPath(image).drive:
        wrong = "relative to the folder of the table"
    elif name == ".." or name.startswith("../"):
        wrong = "inside the folder of the table"
    if wrong:
        raise ValueError(
            f"{place}: expected a path {wrong}. Received: {image} (allow_outside=True allows it)"
        )
    _check_real(place, image, source, root)
    return name, source


def _check_real(place, image, source, root):
    """Raises a ValueError if links lead out of `root`."""
    real = os.path.realpath(source)
    if not real.startswith(os.path.join(root, "")):
        raise ValueError(
            f"{place}: expected a path inside the folder of the images. Received: {image}, a link "
            f"to {real} (allow_outside=True allows it)"
        )


def _label_array(rows, unlisted, label_names):
    columns = {name: column for column, name in enumerate(label_names)}
    labels = np.full((len(rows), len(columns)), -1 if unlisted == "absent" else 0, dtype="int8")
    for index, row in enumerate(rows):
        for value, names in [(1, row.present), (-1, row.absent)]:
            for name in sorted(names):
                if name not in columns:
                    more = f" and {len(columns) - _FEW} more" if len(columns) > _FEW else ""
                    raise ValueError(
                        f"{row.place}: expected a label that is known: "
                        f"{', '.join(label_names[:_FEW])}{more}. Received: {name}"
                    )
                labels[index, columns[name]] = value
    return labels
