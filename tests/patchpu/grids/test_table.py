"""The table of a ledger, by hand."""

import pandas as pd
import pytest

from patchpu.grids.table import paper_numbers, table

pytestmark = pytest.mark.no_backend


def test_table_by_hand():
    # 60, 70, 80 %: mean 70, deviations -10, 0, 10, so (100 + 100) / (3 - 1) = 10 ** 2.
    runs = [
        {"name": "patch-wn", "seed": seed, "val_mAP": value, "best_val_mAP": 0.8, "box_ap_50": None}
        for seed, value in enumerate((0.6, 0.7, 0.8))
    ]
    runs += [{"name": "other", "seed": 4, "val_mAP": "0.1234", "best_val_mAP": "", "box_ap_50": ""}]
    assert table(pd.DataFrame(runs)).splitlines() == [
        "| row | seeds | val mAP, last epoch | best epoch, chosen on the scored set | paper VOC | "
        "paper COCO |",
        "|---|---|---|---|---|---|",
        "| `patch-wn` | 0, 1, 2 | 70.0 ± 10.0 | 80.0 ± 0.0 | 60.4 | 63.2 |",
        "| `other` | 4 | 12.3 |  |  |  |",
    ]
    assert "paper" not in table(pd.DataFrame(runs[-1:]))


def test_a_row_of_which_a_run_lacks_the_number():
    runs = pd.DataFrame({"name": ["a", "a", "b"], "seed": [0, 1, 0], "val_mAP": ["0.5", "", 0.25]})
    assert table(runs).splitlines()[2:] == ["| `a` | 0, 1 |  |", "| `b` | 0 | 25.0 |"]


def test_a_table_of_no_runs():
    assert table(pd.DataFrame(columns=["name", "seed"])) == "| row | seeds |\n|---|---|\n"


def test_numbers_of_the_paper():
    paper = paper_numbers()
    assert [(name, line.paper_coco, line.paper_voc) for name, line in paper.iterrows()] == [
        ("patch-bce", "65.8", "61.6"),
        ("patch-an", "62.6", "60.0"),
        ("patch-epr", "61.4", "58.8"),
        ("patch-role", "33.3", "49.7"),
        ("patch-wn", "63.2", "60.4"),
        ("resnet-bce", "64.8", "53.4"),
        ("resnet-an", "50.2", "45.7"),
        ("resnet-role", "51.9", "45.0"),
        ("resnet-en_cl", "54.3", "47.0"),
        ("resnet-en_scl", "54.0", "50.4"),
    ]
