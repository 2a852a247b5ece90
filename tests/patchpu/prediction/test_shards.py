"""Shards: together they are the run without shards."""

import os

import pytest
from predicted import Killed, run

from keras_patchpu.tagging import Tagger
from patchpu.prediction.shards import Shard

PAIRS = ("--batch-size", "2")


@pytest.mark.parametrize(
    "suffix, options, sizes",
    # Four batches of two images, the last one of one.
    [
        ("csv", (), [7]),
        ("csv", ("--boxes",), [2, 2, 3]),
        ("jsonl", (), [4, 3]),
        ("csv", ("--no-scores",), [0, 2, 2, 2, 1]),
    ],
)
def test_the_rows_of_all_shards_are_those_of_the_whole(
    saved, paths, tmp_path, suffix, options, sizes
):
    whole = tmp_path / f"whole.{suffix}"
    assert run(saved, *paths, *PAIRS, *options, "--output", whole) == 1
    lines = whole.read_bytes().splitlines(keepends=True)
    header = lines[:1] if suffix == "csv" else []
    rows = []
    for number, size in enumerate(sizes, start=1):
        output = tmp_path / f"{number}.{suffix}"
        shard = ("--shard", f"{number}/{len(sizes)}", "--output", output)
        run(saved, *paths, *PAIRS, *options, *shard)
        found = output.read_bytes().splitlines(keepends=True)
        assert found[: len(header)] == header
        assert len(found) - len(header) == size
        rows += found[len(header) :]
    assert header + rows == lines
    assert len(os.listdir(tmp_path)) == 1 + len(sizes)  # the outputs and nothing else


@pytest.mark.parametrize("count", [0, 1, 7, 16, 1000])
def test_parts_are_whole_batches_and_all_of_it(count):
    for of in range(1, 6):
        parts = [Shard(f"{number}/{of}").part(count, 3) for number in range(1, of + 1)]
        assert [index for part in parts for index in part] == list(range(count))
        assert all(part.start % 3 == 0 for part in parts if part)
        batches = [-(-len(part) // 3) for part in parts]
        assert max(batches) - min(batches) <= 1


@pytest.mark.parametrize("shard", ["0/2", "3/2", "2", "1/0", "-1/2", "a/b", "1/2/3", ""])
def test_wrong_shards_are_refused(saved, paths, tmp_path, capsys, shard):
    output = tmp_path / "tags.csv"
    assert run(saved, paths[0], f"--shard={shard}", "--output", output) == 2
    assert "Expected --shard K/N with K from 1 to N" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_a_killed_shard_goes_on_as_itself_only(saved, paths, tmp_path, monkeypatch, capsys):
    whole, output = tmp_path / "whole.csv", tmp_path / "tags.csv"
    shard = ("--shard", "2/2", *PAIRS)
    run(saved, *paths, *shard, "--output", whole)
    call = Tagger.__call__

    def killed_after_one(self, images):
        yield next(call(self, images))
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Tagger, "__call__", killed_after_one)
        with pytest.raises(Killed):
            run(saved, *paths, *shard, "--output", output)
    assert run(saved, *paths, "--shard", "1/2", *PAIRS, "--output", output) == 2
    assert "other settings (shard)" in capsys.readouterr().err
    assert run(saved, *paths, *shard, "--output", output) == 1  # the broken one is in it
    assert output.read_bytes() == whole.read_bytes()
