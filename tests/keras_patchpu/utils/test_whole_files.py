import errno
import os
import shutil

import pytest

from keras_patchpu.utils.whole_files import (
    latest_folder,
    link_or_copy,
    remove_unfinished,
    whole_file,
    whole_folder,
    write_whole,
)

pytestmark = pytest.mark.no_backend


def test_a_file_takes_the_place_of_another_only_in_the_end(tmp_path):
    path = tmp_path / "model.keras"
    path.write_text("old")
    with whole_file(path) as temporary:
        assert temporary.suffix == ".keras" and temporary.parent == tmp_path
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["model.keras"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_what_was_there_stays_if_the_writing_fails(error, tmp_path):
    path = tmp_path / "report.json"
    path.write_text("old")
    with pytest.raises(type(error)):
        with whole_file(path) as temporary:
            temporary.write_text("ne")
            raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["report.json"]


def fill(folder, **texts):
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text)


def test_a_folder_takes_the_place_of_another_only_in_the_end(tmp_path):
    path = tmp_path / "model"
    fill(path, weights="old", more="old")
    fill(tmp_path / ".tmp-model", weights="of a killed process")
    with whole_folder(path) as temporary:
        assert temporary.parent == tmp_path and not temporary.exists()
        fill(temporary, weights="new")
        assert (path / "weights").read_text() == "old"
    assert os.listdir(tmp_path) == ["model"]
    assert os.listdir(path) == ["weights"] and (path / "weights").read_text() == "new"


@pytest.mark.parametrize("at", ["writing", "renaming"])
def test_a_folder_that_was_there_stays_if_the_writing_fails(at, tmp_path, monkeypatch):
    path = tmp_path / "model"
    fill(path, weights="old")
    replace = os.replace

    def full(source, target):
        if os.path.basename(source) == ".tmp-model":
            raise OSError(errno.ENOSPC, "full")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="full"):
        with whole_folder(path) as temporary:
            fill(temporary, weights="ne")
            if at == "writing":
                raise OSError(errno.ENOSPC, "full")
    assert os.listdir(tmp_path) == ["model"]
    assert (path / "weights").read_text() == "old"


def test_the_content_is_on_the_disk_before_the_name(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor):
        done.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def noted_replace(source, target):
        done.append("renamed")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    if not os.path.exists("/proc/self/fd"):
        pytest.skip("asks /proc which file was meant")
    write_whole(tmp_path / "table.md", "a\r\nb\n")
    assert (tmp_path / "table.md").read_bytes() == b"a\r\nb\n"
    assert done == [".tmp-table.md", "renamed", tmp_path.name]


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    for name in (".tmp-best.keras", ".tmp-curves.png", "best.keras", ".lock"):
        (tmp_path / name).write_text(name)
    fill(tmp_path / ".tmp-saved_model", weights="of a killed export")
    remove_unfinished(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".lock", "best.keras"]


def test_after_a_kill_at_any_moment_one_folder_is_whole(tmp_path, monkeypatch):
    """Of each moment before a rename or a removal a copy is made: a kill leaves nothing else."""
    path, moments = tmp_path / "run" / "model", []
    fill(tmp_path / "run")
    fill(path, weights="old")

    def copied(original):
        def act(*arguments, **options):
            moments.append(shutil.copytree(tmp_path / "run", tmp_path / f"kill-{len(moments)}"))
            return original(*arguments, **options)

        return act

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", copied(os.replace))
        rmtree = shutil.rmtree
        patch.setattr(shutil, "rmtree", copied(rmtree))
        with whole_folder(path) as temporary:
            fill(temporary, weights="new")
    moments.append(tmp_path / "run")
    # Before each of two removals of what an earlier kill left, before each of two renames, before
    # the former folder is removed, and in the end.
    for moment, expected in zip(moments, [*4 * ["old"], "new", "new"], strict=True):
        assert (latest_folder(moment / "model") / "weights").read_text() == expected
        remove_unfinished(moment)
        assert os.listdir(moment) == ["model"]
        assert (moment / "model" / "weights").read_text() == expected


def test_what_a_kill_at_the_very_end_left_is_in_nobodys_way(tmp_path):
    fill(tmp_path / "model", weights="old")
    fill(tmp_path / ".former-model", weights="older")
    with whole_folder(tmp_path / "model") as temporary:
        fill(temporary, weights="new")
    assert os.listdir(tmp_path) == ["model"]
    assert (tmp_path / "model" / "weights").read_text() == "new"


@pytest.mark.parametrize("links", [True, False])
def test_a_second_name_or_a_copy(links, tmp_path, monkeypatch):
    def cannot(*_):
        raise OSError(errno.EPERM, "no links on this disk")

    if not links:
        monkeypatch.setattr(os, "link", cannot)
    (tmp_path / "maps.npy").write_text("maps")
    link_or_copy(tmp_path / "maps.npy", tmp_path / "again.npy")
    assert (tmp_path / "again.npy").read_text() == "maps"
    assert os.path.samefile(tmp_path / "maps.npy", tmp_path / "again.npy") == links
