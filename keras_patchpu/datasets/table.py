"""One's own images: from a table, or from a folder with one folder per class."""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from keras_patchpu.datasets.class_folders import rows_of_folder
from keras_patchpu.datasets.image_files import ImageFiles
from keras_patchpu.datasets.image_row import LISTED
from keras_patchpu.datasets.table_file import TABLES
from keras_patchpu.datasets.table_rows import rows_of_table
from keras_patchpu.utils.validation import check_one_of


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
        rows = rows_of_folder(path, allow_outside)
    elif not os.path.exists(path):
        raise ValueError(f"{path}: there is no such file or folder")
    elif path.lower().endswith(TABLES):
        rows = rows_of_table(path, allow_outside)
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


def _label_array(rows, unlisted, label_names):
    columns = {name: column for column, name in enumerate(label_names)}
    labels = np.full((len(rows), len(columns)), -1 if unlisted == "absent" else 0, dtype="int8")
    for index, row in enumerate(rows):
        for value, names in [(1, row.present), (-1, row.absent)]:
            for name in sorted(names):
                if name not in columns:
                    more = f" and {len(columns) - LISTED} more" if len(columns) > LISTED else ""
                    raise ValueError(
                        f"{row.place}: expected a label that is known: "
                        f"{', '.join(label_names[:LISTED])}{more}. Received: {name}"
                    )
                labels[index, columns[name]] = value
    return labels
