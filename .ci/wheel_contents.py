"""Looks into the sdist and the wheel that are given: all that belongs there, and nothing else."""

import email
import pathlib
import re
import subprocess
import sys
import tarfile
import zipfile

NAME = "keras_patchpu"
PACKAGES = ("keras_patchpu/", "patchpu/")
# What is no part of an sdist, of the files that Git knows.
NOT_IN_SDIST = {".gitattributes"}


def main(*paths):
    (sdist,) = [path for path in paths if path.endswith(".tar.gz")]
    (wheel,) = [path for path in paths if path.endswith(".whl")]
    tracked = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True)
    tracked = {name for name in tracked.stdout.split("\0") if name}

    with tarfile.open(sdist) as archive:
        found = {member.name.partition("/")[2] for member in archive if not member.isdir()}
    missing = tracked - NOT_IN_SDIST - found
    more = {name for name in found - tracked if not re.match(r"PKG-INFO$|\w+\.egg-info/", name)}
    expect("missing in the sdist", missing)
    expect("in the sdist by accident", more)

    with zipfile.ZipFile(wheel) as archive:
        found = set(archive.namelist())
        (metadata,) = [name for name in found if name.endswith(".dist-info/METADATA")]
        metadata = email.message_from_bytes(archive.read(metadata))
    wanted = {name for name in tracked if name.startswith(PACKAGES)}
    expect("missing in the wheel", wanted - found)
    expect(
        "in the wheel by accident",
        {name for name in found - wanted if not re.match(rf"{NAME}-[\w.]+\.dist-info/", name)},
    )
    expect(
        "missing in the packages",
        {"keras_patchpu/py.typed", "patchpu/__main__.py"} - found,
    )
    links = re.findall(r"\]\((?!https?:|#)([^)]*)\)", metadata.get_payload())
    expect("links to files in the description, which lead nowhere on a package index", links)
    print(f"{pathlib.Path(wheel).name}: {len(wanted)} files; the description has no such link")


def expect(what, names):
    if names:
        raise SystemExit(f"{what}: {', '.join(sorted(names))}")


if __name__ == "__main__":
    main(*sys.argv[1:])
