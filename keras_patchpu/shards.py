"""Shards of one long output, and the command `patchpu merge` that puts them together."""

import collections
import hashlib
import json
import pathlib
import re

from keras_patchpu.command import add_overwrite, user_errors
from keras_patchpu.whole_files import check_output, whole_file, write_whole

# Nothing here imports a framework, so that the command is quick.

_BYTES = 2**20


class Shard:
    """One of N parts of a list of images, in its order: whole batches, as many as in the others.

    So each image is predicted in the batch in which it is without shards. With fewer batches than
    shards some are empty.

    Args:
        text: `"K/N"`, K from 1 to N.

    Raises:
        ValueError: It is not of this form, or K is not from 1 to N.
    """

    def __init__(self, text):
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        self.number, self.of = map(int, match.groups()) if match else (0, 0)
        if not 1 <= self.number <= self.of:
            raise ValueError(f"Expected --shard K/N with K from 1 to N, as 2/8. Received: {text}")

    def __str__(self):
        return f"{self.number}/{self.of}"

    def part(self, count, batch_size):
        """Range of the numbers of its images, of `count`."""
        batches = -(-count // batch_size)
        first, behind = (batches * number // self.of for number in (self.number - 1, self.number))
        return range(min(count, first * batch_size), min(count, behind * batch_size))


def names_digest(names):
    """A digest of a list of paths and of its order."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()


def shard_file(output):
    """Path of the file beside the output of a shard that tells which it is."""
    return output.with_name(output.name + ".shard.json")


def write_shard_file(output, written, shard, settings, part, header_bytes, errors):
    """Tells, beside the output of a shard, what it is.

    Args:
        output: Path that the output will have.
        written: Path of what is written of it.
        shard: `Shard`.
        settings: Dict of what must be the same in all shards.
        part: Range of the numbers of its images.
        header_bytes: Length of the header.
        errors: Number of images that could not be read.
    """
    with open(written, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    content = {
        "shard": shard.number,
        "of": shard.of,
        "first": part.start,
        "images": len(part),
        "errors": errors,
        "header_bytes": header_bytes,
        "sha256": digest,
        "settings": settings,
    }
    write_whole(shard_file(output), json.dumps(content, indent=1) + "\n")


def merge(arguments):
    """The command `patchpu merge`.

    Args:
        arguments: List of strings, without the command's name.

    Raises:
        SystemExit: Code 2 and a message on stderr for what a user can mend; code 0 after
            `--help`.
    """
    options = _parser().parse_args(arguments)
    with user_errors("patchpu merge"):
        images, errors = merge_shards(options.output, options.shards, options.overwrite)
    print(f"{options.output}: {images} images, {errors} of them could not be read")


def _parser():
    from jsonargparse import ArgumentParser, DefaultHelpFormatter

    parser = ArgumentParser(
        prog="patchpu merge",
        description="Put together what `patchpu predict --shard` wrote: the file that predict "
        "writes without --shard.",
        formatter_class=DefaultHelpFormatter,
    )
    parser.add_argument("output", type=str, help="File to write, .csv or .jsonl as the shards.")
    parser.add_argument("shards", type=str, nargs="+", help="Outputs of all shards, in any order.")
    add_overwrite(parser)
    return parser


def merge_shards(output, paths, overwrite=False):
    """Writes the outputs of all shards, one behind the other, to one file.

    Args:
        output: Path to write.
        paths: Paths of the outputs of all shards, in any order.
        overwrite: Whether to replace `output` if it is there. Defaults to `False`.

    Returns:
        Pair of the number of images and of those that could not be read.

    Raises:
        ValueError: The shards are not one whole set, or one was changed. Nothing is written then.
    """
    output, paths = pathlib.Path(output), [pathlib.Path(path) for path in paths]
    wrong = [str(path) for path in [output, *paths] if path.suffix not in (".csv", ".jsonl")]
    if wrong or len({path.suffix for path in [output, *paths]}) > 1:
        raise ValueError(
            "Expected OUTPUT and shards that all end with .csv, or all with .jsonl. Received: "
            f"{' '.join(map(str, [output, *paths]))}"
        )
    check_output(output, overwrite)
    shards = [(_read_shard_file(path), path) for path in paths]
    _check_whole(shards)
    shards.sort(key=lambda shard: shard[0]["shard"])
    with whole_file(output) as temporary, temporary.open("wb") as merged:
        for shard, path in shards:
            _append(merged, path, shard, with_header=merged.tell() == 0)
    return tuple(sum(shard[name] for shard, _ in shards) for name in ("images", "errors"))


def _read_shard_file(path):
    """What `write_shard_file` wrote of a finished shard."""
    if not path.exists():
        left = path.with_name(path.name + ".part")
        if left.exists():
            raise ValueError(
                f"{path} is not finished: {left.name} is there. Give the command of the shard again"
            )
        raise ValueError(f"There is no {path}. Run its shard first")
    described = shard_file(path)
    if not described.exists():
        raise ValueError(
            f"There is no {described}, which `patchpu predict --shard` writes beside its output. "
            "Copy it along, or run the shard again"
        )
    try:
        content = json.loads(described.read_text(encoding="utf-8"))
        kinds = {name: int for name in ("shard", "of", "first", "images", "errors")}
        kinds |= {"header_bytes": int, "sha256": str, "settings": dict}
        if not all(type(content[name]) is kind for name, kind in kinds.items()):
            raise TypeError
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{described} is damaged. Run the shard again") from error
    return content


def _check_whole(shards):
    """Raises a ValueError unless they are all shards of one command, each once."""
    first, first_path = shards[0]
    for shard, path in shards[1:]:
        names = sorted(set(first["settings"]) | set(shard["settings"]))
        differing = [
            name
            for name in names
            if first["settings"].get(name, ...) != shard["settings"].get(name, ...)
        ]
        differing += ["number of shards"] * (first["of"] != shard["of"])
        if differing:
            raise ValueError(
                f"{first_path} and {path} were not written by one command: they differ in "
                f"{', '.join(differing)}"
            )
    counts = collections.Counter(shard["shard"] for shard, _ in shards)
    doubled = [f"{path}" for shard, path in shards if counts[shard["shard"]] > 1]
    if doubled:
        raise ValueError(f"Expected each shard once. Received the same one as {doubled}")
    missing = [number for number in range(1, first["of"] + 1) if number not in counts]
    if missing:
        more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
        raise ValueError(
            f"Expected {first['of']} shards. Missing: "
            f"{', '.join(str(number) for number in missing[:10])}{more}"
        )


def _append(merged, path, shard, with_header):
    digest = hashlib.sha256()
    with path.open("rb") as file:
        header = file.read(shard["header_bytes"])
        digest.update(header)
        if with_header:
            merged.write(header)
        while block := file.read(_BYTES):
            digest.update(block)
            merged.write(block)
    if digest.hexdigest() != shard["sha256"]:
        raise ValueError(f"{path} was changed or cut off after it was written. Run its shard again")
