"""What `patchpu predict` writes and says."""

import gc
import json
import os
import tracemalloc

import numpy as np
import pytest
from predicted import Killed, rows_of, run
from tagged_images import BROKEN, NAMES, scores_of, set_on

from keras_patchpu.tagging import Tagger, Tags
from patchpu.prediction import predict_files as module


def test_csv(model, saved, folder, paths, tmp_path, capsys):
    output = tmp_path / "tags.csv"
    assert run(saved, folder, "--output", output, "--boxes", "--top-k", 2, "--batch-size", 3) == 1
    errors = capsys.readouterr().err
    assert "1 images could not be read:\n" in errors and "3b.JPG: damaged" in errors
    rows = rows_of(output)
    assert list(rows[0]) == ["image", "tags", "error", "boxes", *(f"score:{n}" for n in NAMES)]
    assert [row["image"] for row in rows] == paths
    broken = rows.pop(BROKEN)
    assert set(broken.values()) == {paths[BROKEN], "", broken["error"]}
    assert "damaged" in broken["error"]
    readable = paths[:BROKEN] + paths[BROKEN + 1 :]
    found = Tagger(model, top_k=2, attention=True)(readable)
    for row, tags, scores in zip(rows, found, scores_of(model, readable), strict=True):
        assert row["error"] == "" and row["tags"].split(";") == list(tags.tags)
        written = [row[f"score:{name}"] for name in NAMES]
        assert all(len(score.split(".")[1]) == 6 for score in written)
        np.testing.assert_allclose(np.array(written, float), scores, atol=1e-4)
        assert json.loads(row["boxes"]) == {
            tag: [x_min, y_min, x_max, y_max]
            for tag, (y_min, x_min, y_max, x_max) in tags.regions.items()
        }
    assert sorted(os.listdir(tmp_path)) == ["tags.csv"]


def test_jsonl(saved, paths, tmp_path):
    output = tmp_path / "tags.jsonl"
    assert run(saved, *paths[:5], "--output", output) == 1
    rows = rows_of(output)
    assert [row["image"] for row in rows] == paths[:5]
    assert list(rows[0]) == ["image", "tags", "error", "scores"]
    assert rows[0]["error"] is None and set(rows[0]["tags"]) == set(NAMES)
    assert list(rows[0]["scores"]) == NAMES
    assert rows[4]["scores"] is None and rows[4]["tags"] == [] and "damaged" in rows[4]["error"]
    assert run(saved, paths[0], "--output", tmp_path / "b.jsonl", "--no-scores", "--boxes") == 0
    (row,) = rows_of(tmp_path / "b.jsonl")
    assert list(row) == ["image", "tags", "error", "boxes"] and set(row["boxes"]) == set(NAMES)


def test_the_output_is_not_replaced_unasked(saved, paths, tmp_path, capsys):
    output = tmp_path / "tags.csv"
    output.write_text("mine")
    assert run(saved, paths[0], "--output", output) == 2
    assert "--overwrite" in capsys.readouterr().err and output.read_text() == "mine"
    assert run(saved, paths[0], "--output", output, "--overwrite") == 0
    assert len(rows_of(output)) == 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["{model}", "{image}", "--output", "{new}/tags.txt"], "end with .csv or .jsonl"),
        (["{model}", "{image}", "--output", "{new}/none/tags.csv"], "There is no folder"),
        (["{model}", "{new}", "--output", "{new}/tags.csv"], "Expected an image, a folder"),
        (["{new}", "{image}", "--output", "{new}/tags.csv"], "holds no last"),
        (["{model}", "{image}", "--output", "{new}/a.csv", "--top-k", "0"], "`top_k`"),
    ],
)
def test_what_a_user_can_mend(saved, paths, tmp_path, capsys, arguments, message):
    values = {"model": saved, "image": paths[0], "new": tmp_path}
    assert run(*(argument.format(**values) for argument in arguments)) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("patchpu predict: error: ") and message in errors
    assert os.listdir(tmp_path) == []


def test_semicolons_need_jsonl(model, paths, tmp_path, capsys):
    set_on(model, label_names=["a;b", "c", "d"]).save(tmp_path / "m.keras")
    assert run(tmp_path / "m.keras", paths[0], "--output", tmp_path / "tags.csv") == 2
    assert "ends with .jsonl" in capsys.readouterr().err
    assert run(tmp_path / "m.keras", paths[0], "--output", tmp_path / "tags.jsonl") == 0


def test_how_far_it_is_stands_on_stderr(saved, paths, tmp_path, capsys):
    assert run(saved, *paths[:3], "--output", tmp_path / "tags.csv") == 0
    output, errors = capsys.readouterr()
    assert output == f"{tmp_path / 'tags.csv'}: 3 images, 0 of them could not be read\n"
    assert "3/3" in errors and "image/s" in errors


def test_memory_does_not_grow_with_the_images(saved, tmp_path, monkeypatch):
    """But for the list of names: also where most cannot be read, and after a kill."""

    class Unreadable:  # what loading a model leaves for the collector would hide the rest
        label_names = ["label"]

        def __call__(self, images):
            return (Tags(name, error="gone") for name in images)

    def killed(*_):
        raise Killed

    monkeypatch.setattr(module, "Tagger", lambda *_, **__: Unreadable())

    def peak(count):
        names = [f"{number}.png" for number in range(count)]
        monkeypatch.setattr(module, "list_images", lambda *_: names)
        command = (saved, "photos", "--output", tmp_path / f"{count}.csv")
        gc.collect()
        tracemalloc.start()
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", killed)  # before its last step
            with pytest.raises(Killed):
                run(*command)
        assert run(*command) == 1  # reads what is there
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(100)  # what is imported on the way
    small, large = peak(1_000), peak(10_000)
    assert large - small < 2 * 9_000  # a pointer an image would be 8 bytes
