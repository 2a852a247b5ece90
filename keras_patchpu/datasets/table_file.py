"""The cells of a table, from a CSV or a Parquet file."""

import csv
import io
import pathlib

TABLES = (".csv", ".parquet", ".pq")
EXPECTED_COLUMNS = (
    "Expected the columns `image` and `label` (or `labels`), and if wanted `absent` and `split`, "
    "with commas between"
)


def read_cells(path):
    """Header and rows of a table.

    Args:
        path: Path of a CSV file in UTF-8, or of a Parquet file (needs pandas and pyarrow).

    Returns:
        `(header, rows)`: the names of the columns, and a generator of what messages call a row,
        that row's number as "row 2", and its cells by the names of their columns. A cell of a
        Parquet file may be of any type, and is `None` where a value is missing.

    Raises:
        ValueError: The file cannot be read; or, when it is reached, a row has another number of
            cells than the header.
    """
    header, numbered = _read_csv(path) if path.lower().endswith(".csv") else _read_parquet(path)
    header = [column.strip() for column in header]
    return header, _cells_by_row(path, header, numbered)


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
        raise ValueError(f"{path}: the table is empty. {EXPECTED_COLUMNS}")
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


def _cells_by_row(path, header, numbered):
    for number, cells in numbered:
        place = f"{path}, row {number}"
        if len(cells) != len(header):
            raise ValueError(
                f"{place}: expected {len(header)} cells, as in the header. Received: {len(cells)}; "
                "put ';' between labels, and quotes around what has a comma"
            )
        yield place, f"row {number}", dict(zip(header, cells))
