"""The rows of a table of images: which image, and what is known about its labels."""

import numbers
import os
import pathlib
import posixpath

from keras_patchpu.datasets.image_row import LISTED, ImageRow, check_no_link_outside
from keras_patchpu.datasets.table_file import EXPECTED_COLUMNS, read_cells

_SPLITS = {"train": "train", "validation": "validation", "val": "validation"}
# What programs write for a missing value; as a label it is an accident.
_MISSING = ("nan", "NaN", "NAN", "None")


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
    header, rows = read_cells(path)
    if header.count("image") != 1:
        raise ValueError(
            f"{path}: expected one column `image`. Received the header: {', '.join(header)}"
        )
    folder = os.path.dirname(path)
    root = os.path.realpath(folder)
    return [_image(place, cells, folder, root, allow_outside)[1] for place, _, cells in rows]


def rows_of_table(path, allow_outside):
    """The images of a table and what it says about their labels.

    Args:
        path: Path of a CSV file in UTF-8, or of a Parquet file (needs pandas and pyarrow).
        allow_outside: As of `load_table`.

    Returns:
        List of `ImageRow`, not empty.

    Raises:
        ValueError: As of `load_table`.
    """
    header, cells_by_row = read_cells(path)
    found = f"Received the header: {', '.join(header)}"
    given = [column for column in ("label", "labels") if column in header]
    if "image" not in header or not given:
        raise ValueError(f"{path}: {EXPECTED_COLUMNS}. {found}")
    known = ("image", *given, "absent", "split")
    if len(given) > 1 or any(header.count(column) > 1 for column in known):
        raise ValueError(f"{path}: expected each column once, and `label` or `labels`. {found}")

    folder = os.path.dirname(path)
    root = os.path.realpath(folder)
    rows, seen, missing = [], {}, []
    for place, row, cells in cells_by_row:
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
        rows.append(ImageRow(place, name, source, present, absent, split))
    if not rows:
        raise ValueError(f"{path}: the table is empty: a header and no rows")
    if missing:
        few = "".join(f"\n  {text}" for text in missing[:LISTED])
        more = f"\n  and {len(missing) - LISTED} more" if len(missing) > LISTED else ""
        raise ValueError(
            f"{path}: {len(missing)} of {len(rows)} images do not exist. Paths are relative to the "
            f"folder of the table:{few}{more}"
        )
    return rows


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
    check_no_link_outside(place, image, source, root)
    return name, source
