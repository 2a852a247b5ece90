"""docs/reliability.md names tests and results that exist."""

import pathlib
import re

import pytest

pytestmark = pytest.mark.no_backend

ROOT = pathlib.Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text()


def files_named(name):
    """Test files of this name, which may have folders before it."""
    return [path for path in (ROOT / "tests").rglob("test_*.py") if str(path).endswith(f"/{name}")]


def promises():
    """Cells behind a promise: lists of `file.py::test` or `file.py`, with `::test` for the same."""
    rows = [line.split("|") for line in PAGE.splitlines() if line.startswith("| ")]
    return [cells[2].strip() for cells in rows if cells[1].strip() not in ("promise", "---")]


def missing(cell):
    """What a cell names that does not exist."""
    wrong, text = [], None
    for place in re.findall(r"`([^`]+)`", cell):
        file, _, test = place.partition("::")
        if file.endswith(".py") and "benchmarks/" not in file:
            found = files_named(file)
            text = found[0].read_text() if len(found) == 1 else ""
            wrong += [] if len(found) == 1 else [place]
        if file.endswith(".csv") and not (ROOT / file).exists():
            wrong.append(place)
        if test and not re.search(rf"^def {test}\(", text or "", re.MULTILINE):
            wrong.append(place)
    return wrong


def test_every_promise_names_what_keeps_it():
    cells = promises()
    assert len(cells) > 40
    assert {cell: missing(cell) for cell in cells if missing(cell)} == {}
    assert not [cell for cell in cells if not re.search(r"\.py|\.csv|the same test", cell)]


def test_links_lead_to_files():
    links = re.findall(r"\]\(([^)#]+)\)", PAGE)
    assert links and not [link for link in links if not (ROOT / "docs" / link).exists()]


def test_what_does_not_exist_is_seen():
    assert missing("`test_faults.py::test_no_such`") == ["test_faults.py::test_no_such"]
    assert missing("`test_nowhere.py`") == ["test_nowhere.py"]
    assert missing("`fuzz/nothing.csv`") == ["fuzz/nothing.csv"]
    assert missing("`test_reliability.py::test_what_does_not_exist_is_seen`, `::test_x`") == [
        "::test_x"
    ]
