"""docs/losses.md is what the table of losses makes of it."""

import pathlib
import runpy

import pytest

from patchpu.training.losses import LOSSES

pytestmark = pytest.mark.no_backend
DOCS = pathlib.Path(__file__).parents[2] / "docs"
COMMITTED = (DOCS / "losses.md").read_text()


def test_the_page_is_made_of_the_table():
    made = runpy.run_path(str(DOCS / "losses.py"))["page"]()
    assert COMMITTED == made, "run: python docs/losses.py > docs/losses.md"


def test_a_row_by_hand():
    cells = [line.split(" | ") for line in COMMITTED.splitlines() if line.startswith("| `an`")]
    assert cells == [
        [
            "| `an`",
            "assume negative",
            "Every label without annotation counts as absent.",
            "`AssumeNegative`",
            "Cole et al., CVPR 2021 |",
        ]
    ]
    assert COMMITTED.count("\n| `") == len(LOSSES)
