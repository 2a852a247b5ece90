"""Files and folders that are written whole or not at all."""

import contextlib
import os
import pathlib
import shutil

_PREFIX = ".tmp-"
_FORMER = ".former-"


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
    _names_to_disk(path.parent)


@contextlib.contextmanager
def whole_folder(path):
    """As `whole_file`, for a folder, which the block makes and fills.

    No system replaces a folder by another: for a moment the one that was there has another name.
    `latest_folder` finds it there, and `remove_unfinished` puts it back.

    Args:
        path: Path of the folder. One that is there is replaced.

    Yields:
        `pathlib.Path` of a folder that is not there yet.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f"{_PREFIX}{path.name}")
    former = _former(path)
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        yield temporary
        for part in temporary.rglob("*"):
            if part.is_file():
                _to_disk(part, os.O_RDWR)
            else:
                _names_to_disk(part)
        _names_to_disk(temporary)
        if path.exists():
            os.replace(path, former)
        os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        if former.exists() and not path.exists():
            os.replace(former, path)
        raise
    # First: after a power cut the new folder must not be the one without a name.
    _names_to_disk(path.parent)
    shutil.rmtree(former, ignore_errors=True)


def latest_folder(path):
    """Where the folder at `path` is: there, or where a kill within `whole_folder` left it."""
    path = pathlib.Path(path)
    return _former(path) if _former(path).exists() and not path.exists() else path


def write_whole(path, text):
    """Writes a text file by `whole_file`, UTF-8 and with line ends as they are."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def save_whole(path, model):
    """Saves a Keras model by `whole_file`."""
    with whole_file(path) as temporary:
        model.save(temporary)


def link_or_copy(source, target):
    """Gives a file a second name, or where the disk does not do that, makes a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


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
    """Removes what killed processes had begun in a folder; puts back what they had renamed."""
    folder = pathlib.Path(folder)
    for former in folder.glob(f"{_FORMER}*"):
        path = folder / former.name.removeprefix(_FORMER)
        if path.exists():
            shutil.rmtree(former, ignore_errors=True)
        else:
            os.replace(former, path)
    for path in folder.glob(f"{_PREFIX}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _former(path):
    return path.with_name(f"{_FORMER}{path.name}")


def _names_to_disk(folder):
    if os.name == "posix":  # elsewhere a folder cannot be opened
        _to_disk(folder, os.O_RDONLY)


def _to_disk(path, flags):
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
