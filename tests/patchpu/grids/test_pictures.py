"""Pictures of a ledger: what they show is what the ledger says."""

import numpy as np
import pandas as pd
import pytest

from patchpu.grids.pictures import draw_curves, draw_table, mean_negatives

pytestmark = pytest.mark.no_backend

# As read from a file: all cells are strings, empty where there is no number.
ROWS = pd.DataFrame(
    [
        {"name": "patch-wn", "seed": 0, "val_mAP": "0.6", "peak_in_box": "0.5"},
        {"name": "resnet-an", "seed": 0, "val_mAP": "0.25", "peak_in_box": ""},
        {"name": "patch-wn", "seed": 1, "val_mAP": "0.8", "peak_in_box": "nan"},
        {"name": "mine", "seed": 0, "val_mAP": "", "peak_in_box": "0.125"},
    ]
)
CURVES = pd.DataFrame(
    [
        ("wn", 0, "1", "0.25", "0.5", ""),
        ("wn", 0, "2", "0.75", "0.75", ""),
        ("wn", 1, "1", "0.5", "1.0", "nan"),
        ("an", 0, "1", "0.125", "", ""),
    ],
    columns=["name", "seed", "epoch", "val_mAP", "wn_auc", "wn_recall"],
)


def dots(axes):
    """Places of what is drawn as dots: means, then seeds."""
    lines = [line for line in axes.lines if line.get_linestyle() == "None"]
    # Ends of the bars are marked by "|".
    points = [line.get_xydata() for line in lines if line.get_marker() == "o"]
    return np.round(np.concatenate(points), 9).tolist()


def bars(axes):
    return [
        path.vertices.ravel().tolist()
        for group in axes.collections
        if type(group).__name__ == "LineCollection"
        for path in group.get_paths()
    ]


def markers(axes):
    return {
        group.get_label(): np.asarray(group.get_offsets()).tolist()
        for group in axes.collections
        if type(group).__name__ == "PathCollection"
    }


def test_means_spreads_and_seeds_of_the_rows():
    figure = draw_table(ROWS, columns=("val_mAP", "peak_in_box"))
    scores, places = figure.axes
    # 60 and 80 %: mean 70, deviation 10 * sqrt(2).
    assert dots(scores) == [[70, 0], [25, 1], [60, 0.25], [25, 1.25], [80, 0.25]]
    assert np.allclose(bars(scores), [[70 - 200**0.5, 0, 70 + 200**0.5, 0]])  # one seed: none
    assert [label.get_text() for label in scores.get_yticklabels()] == [
        "patch-wn",
        "resnet-an",
        "mine",
    ]
    assert scores.get_ylim()[0] > scores.get_ylim()[1]  # the first row above
    # A NaN is no number, and a row without any stays empty.
    assert dots(places) == [[50, 0], [12.5, 2], [50, 0.25], [12.5, 2.25]]
    assert scores.get_title() == "val mAP, last epoch"


def test_the_papers_numbers_stand_beside_its_rows_and_only_in_the_map():
    scores, places = draw_table(ROWS, columns=("val_mAP", "peak_in_box")).axes
    assert markers(scores) == {
        "the paper's, VOC": [[60.4, 0], [45.7, 1]],
        "the paper's, COCO": [[63.2, 0], [50.2, 1]],
    }
    assert markers(places) == {}
    (own,) = draw_table(pd.DataFrame([{"name": "mine", "val_mAP": 0.5}])).axes
    assert markers(own) == {}


def test_legend_names_what_is_drawn():
    none = pd.DataFrame([{"name": "none", "val_mAP": ""}])
    figure = draw_table(pd.concat([none, ROWS], ignore_index=True))
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sorted(texts) == [
        "mean and standard deviation over seeds",
        "the paper's, COCO",
        "the paper's, VOC",
    ]


@pytest.mark.parametrize("names", [[], ["a"]])
def test_a_table_without_numbers_is_refused(names):
    runs = pd.DataFrame({"name": names, "val_mAP": ""})
    with pytest.raises(ValueError, match=f"'val_mAP'. Received: {len(names)} runs"):
        draw_table(runs)


def test_a_panel_of_curves_for_each_row():
    figure = draw_curves(CURVES)
    first, second = figure.axes
    assert (first.get_title(), second.get_title()) == ("wn", "an")
    curves = [line.get_xydata().tolist() for line in first.lines]
    # The mean of the other row, then the seeds; a seed that is still running is shorter.
    assert curves == [[[1, 0.125]], [[1, 0.25], [2, 0.75]], [[1, 0.5]]]
    others = second.lines[0].get_xydata().tolist()
    assert others == [[1, 0.375], [2, 0.75]]
    assert figure.get_supylabel() == "val mAP"


def test_curves_of_a_column_that_few_rows_have():
    (axes,) = draw_curves(CURVES, "wn_auc").axes
    assert axes.get_title() == "wn"
    with pytest.raises(ValueError, match="'wn_recall'"):
        draw_curves(CURVES, "wn_recall")


def test_more_rows_than_fit_into_a_line():
    curves = {"name": list("abcdefg"), "seed": 0, "epoch": "1", "val_mAP": "0.5"}
    axes = draw_curves(pd.DataFrame(curves)).axes
    assert [panel.get_visible() for panel in axes] == [True] * 7 + [False] * 3


def test_weak_negatives_of_a_row_over_its_seeds():
    assert mean_negatives(CURVES, "wn") == [
        {"epoch": 1, "wn_auc": 0.75, "wn_recall": None},
        {"epoch": 2, "wn_auc": 0.75, "wn_recall": None},
    ]
    assert mean_negatives(CURVES, "an") == []
    assert mean_negatives(CURVES, "fly") == []


def test_equal_values_are_not_drawn_apart():
    runs = pd.DataFrame({"name": ["a", "b"], "box_ap_50": "0.0"})
    (axes,) = draw_table(runs, ["box_ap_50"]).axes
    assert axes.get_xlim() == (-0.5, 0.5)
