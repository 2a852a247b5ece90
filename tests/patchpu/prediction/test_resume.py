"""Runs of `patchpu predict` that were killed, and go on."""

import os

import pytest
from PIL import Image
from predicted import Killed, rows_of, run

from keras_patchpu.tagging import Tagger

PAIRS = ("--batch-size", 2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A function of the suffix, model and images to the bytes of a run that was not killed."""
    directory, made = tmp_path_factory.mktemp("whole"), {}

    def bytes_of(suffix, saved, paths):
        if suffix not in made:
            output = directory / f"whole.{suffix}"
            assert run(saved, *paths, "--output", output, *PAIRS) == 1
            made[suffix] = output.read_bytes()
        return made[suffix]

    return bytes_of


@pytest.fixture
def killed_at_the_end(monkeypatch):
    """A function that runs the command and kills it before its last step."""

    def killed(*_):
        raise Killed

    def run_and_kill(*arguments):
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", killed)
            with pytest.raises(Killed):
                run(*arguments)

    return run_and_kill


@pytest.mark.parametrize(
    "suffix, cut, done",
    [("csv", 0, 5), ("csv", 40, 4), ("csv", "all", 0), ("jsonl", 0, 5), ("jsonl", 7, 4)],
)
def test_a_killed_run_goes_on(
    saved, paths, tmp_path, monkeypatch, capsys, whole, suffix, cut, done
):
    expected = whole(suffix, saved, paths)
    output, part = tmp_path / f"tags.{suffix}", tmp_path / f"tags.{suffix}.part"
    call, asked = Tagger.__call__, []

    def killed_after_five(self, images):
        for index, tags in enumerate(call(self, images)):
            if index == 5:
                raise Killed
            yield tags

    with monkeypatch.context() as patch:
        patch.setattr(Tagger, "__call__", killed_after_five)
        with pytest.raises(Killed):
            run(saved, *paths, "--output", output, *PAIRS)
    assert part.exists() and not output.exists()
    content = part.read_bytes()
    part.write_bytes(content[:5] if cut == "all" else content[: len(content) - cut])

    def recorded(self, images):
        asked.extend(images)
        return call(self, list(asked))

    monkeypatch.setattr(Tagger, "__call__", recorded)
    capsys.readouterr()
    assert run(saved, *paths, "--output", output, *PAIRS) == 1
    assert asked == paths[done:]
    # The error is told, whether it was met now or before.
    assert "1 images could not be read:" in capsys.readouterr().err
    assert output.read_bytes() == expected
    assert os.listdir(tmp_path) == [output.name]


def test_a_cut_inside_a_quoted_name_with_a_line_break(saved, tmp_path, killed_at_the_end):
    images = [tmp_path / f'a "b",\n{index}.png' for index in range(2)]
    for path in images:
        Image.new("RGB", (32, 32)).save(path)
    output, part = tmp_path / "tags.csv", tmp_path / "tags.csv.part"
    killed_at_the_end(saved, *images, "--output", output)
    content = part.read_bytes()
    # After the line break in the second name.
    part.write_bytes(content[: content.index(b"\n", content.rindex(b'"b"')) + 1])
    assert run(saved, *images, "--output", output) == 0
    assert output.read_bytes() == content
    assert [row["image"] for row in rows_of(output)] == list(map(str, images))


@pytest.mark.parametrize(
    "images, options, message",
    [
        ((0, 3), (), "it has '{second}' as number 2. Delete it"),
        ((0,), (), "over other images"),
        ((0, 1), ("--top-k", 1), "with other settings (top_k). Delete it"),
    ],
)
def test_a_part_of_another_run_is_refused(
    saved, paths, tmp_path, capsys, killed_at_the_end, images, options, message
):
    output, part = tmp_path / "tags.csv", tmp_path / "tags.csv.part"
    killed_at_the_end(saved, *paths[:2], "--output", output)
    content = part.read_bytes()
    chosen = [paths[number] for number in images]
    assert run(saved, *chosen, "--output", output, *options) == 2
    assert message.format(second=paths[1]) in capsys.readouterr().err
    assert part.read_bytes() == content
