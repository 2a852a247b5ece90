"""Archives and folders of a Keras model, which may be damaged or made to do harm."""

import json
import zipfile

from keras_patchpu.utils.validation import FileError

ARCHIVE_PARTS = ("config.json", "model.weights.h5")
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_MEND = "Copy it again, or take another checkpoint, such as best.keras"


def read_config(path, max_bytes):
    """The configuration in a .keras archive that is whole, or in a folder of its parts.

    Args:
        path: `pathlib.Path`.
        max_bytes: Largest size unpacked.

    Raises:
        FileError: The file is no such archive, is cut off, damaged or larger.
    """
    if path.is_dir():
        size = sum((path / part).stat().st_size for part in ARCHIVE_PARTS)
        if size > max_bytes:
            raise FileError(f"{path} has {size:,} bytes, more than the limit of {max_bytes:,}")
        try:
            return json.loads((path / "config.json").read_bytes())
        except (ValueError, RecursionError) as error:
            raise FileError(f"{path} is damaged: its config.json is no JSON. {_MEND}") from error
    if path.suffix != ".keras":  # Keras reads files with other endings in other ways
        raise FileError(f"Expected the name of a model file to end with .keras. Received: {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            size = sum(part.file_size for part in parts)
            if size > max_bytes:
                raise FileError(
                    f"{path} has {size:,} bytes unpacked, more than the limit of {max_bytes:,}: it "
                    "is no model of this package, or a decompression bomb"
                )
            if any(part.compress_type not in _COMPRESSIONS for part in parts):
                # Of the others Python unpacks a part whole, whatever size it declares.
                raise FileError(f"{path} is compressed in a way that Keras does not use")
            names = [part.filename for part in parts]
            if any(names.count(name) != 1 for name in ARCHIVE_PARTS):
                raise FileError(
                    f"{path} is an archive, but of no Keras model: expected "
                    f"{' and '.join(ARCHIVE_PARTS)} in it, once each. Received: {names[:10]}"
                )
            damaged = archive.testzip()  # Keras does not look at the checksum of the weights
            if damaged:
                raise FileError(f"{path} is damaged: {damaged} in it has another checksum. {_MEND}")
            return json.loads(archive.read("config.json"))
    except FileError:
        raise
    except Exception as error:  # of a damaged archive Python raises many kinds
        raise FileError(f"{path} {_no_archive(path)}") from error


def _no_archive(path):
    """What is wrong with a file that cannot be read as an archive with a configuration."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
    if head.startswith(b"PK"):
        return f"is cut off or damaged: {size:,} bytes. {_MEND}"
    if head.startswith(b"\x89HDF"):
        return (
            "is an HDF5 file, not a .keras archive: HDF5 models are not loaded, they may run code"
        )
    return f"is not a Keras model file: {size:,} bytes that begin with {head!r}. {_MEND}"
