"""Files and folders that are written whole or not at all."""

import contextlib
import os
import pathlib
import shutil
import zipfile

_PREFIX = ".tmp-"


@contextlib.contextmanager
def whole_file(path):
    """Gives a temporary path beside `path`; what is written there takes its place in the end.

    The content is on the disk before it has the name, so that a file of this name is whole even
    after a power cut. If the block raises, as on a full disk, the temporary file is removed and
    what was at `path` stays.

    Args:
        path: Path of the file.

    Yields:
        `pathlib.Path` with the suffix of `path`, to be written and closed by the block.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f"{_PREFIX}{path.name}")
    try:
        yield temporary
        _to_disk(temporary, os.O_RDWR)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # elsewhere a folder cannot be opened
        _to_disk(path.parent, os.O_RDONLY)


@contextlib.contextmanager
def whole_folder(path):
    """As `whole_file`, for a folder, which the block makes and fills.

    Args:
        path: Path of the folder. One that is there is replaced.

    Yields:
        `pathlib.Path` of a folder that is not there yet.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f"{_PREFIX}{path.name}")
    former = path.with_name(f".former-{path.name}")  # no system replaces a folder by another
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        yield temporary
        for part in temporary.rglob("*"):
            if part.is_file():
                _to_disk(part, os.O_RDWR)
        if path.exists():
            os.replace(path, former)
        os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        if former.exists() and not path.exists():
            os.replace(former, path)
        raise
    shutil.rmtree(former, ignore_errors=True)
    if os.name == "posix":
        _to_disk(path.parent, os.O_RDONLY)


def write_whole(path, text):
    """Writes a text file by `whole_file`, UTF-8 and with line ends as they are."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def save_whole(path, model, comment=b""):
    """Saves a Keras model by `whole_file`; the comment goes into the same .keras archive."""
    with whole_file(path) as temporary:
        model.save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.comment = comment


def check_output(path, overwrite):
    """Raises a ValueError if there is no folder for a path, or something that has to stay."""
    path = pathlib.Path(path)
    if not path.parent.is_dir():
        raise ValueError(f"There is no folder {path.parent} to write {path.name} into. Make it")
    if path.exists() and not overwrite:
        raise ValueError(
            f"{path} is there already. Give another path, or --overwrite to replace it"
        )


def remove_unfinished(folder):
    """Removes what killed processes left of files and folders that they had begun in a folder."""
    for path in pathlib.Path(folder).glob(f"{_PREFIX}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _to_disk(path, flags):
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
