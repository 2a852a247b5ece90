"""One writer a folder."""

import pathlib

try:
    import fcntl
except ImportError:  # not on Windows: there nothing is locked
    fcntl = None


def lock_folder(folder, message):
    """Holds a folder for this process, until it ends or the file is closed.

    Args:
        folder: Folder that exists; gets a file `.lock`, which stays.
        message: What is wrong if another process holds the folder.

    Returns:
        The open file. Processes that inherit it hold the folder, too.

    Raises:
        ValueError: Another process holds the folder.
    """
    file = pathlib.Path(folder, ".lock").open("w")
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise ValueError(message) from error
    return file
