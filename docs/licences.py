"""Writes docs/licences.md: the licences of what the package needs to run.

    pip-licenses --python=PYTHON --with-system --from=all --format=json > licences.json
    pip install --dry-run --ignore-installed --report jax.json jax      # where it is not installed
    pip install --dry-run --ignore-installed --report torch.json torch
    PYTHON docs/licences.py licences.json jax.json torch.json > docs/licences.md

PYTHON is one whose environment has this package with the extras of `EXTRAS`.
"""

import json
import re
import sys
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS = ("coco", "parquet", "demo", "export", "hub", "tensorboard")
# Where the metadata say nothing, from the licence file in the package.
BY_HAND = {"namex": "Apache-2.0 (its licence file)"}
UNKNOWN = "UNKNOWN"

HEAD = """\
# Licences of the dependencies

Made by `docs/licences.py` from the metadata of the packages installed for Python {python}, by
[pip-licenses](https://pypi.org/project/pip-licenses/). Other versions and systems may need other
packages. `keras_patchpu` itself is under Apache-2.0 and contains no code of these packages.

**Copyleft**: certifi (MPL-2.0), tqdm (MPL-2.0 and MIT) and, with the extra `demo`, orjson (MPL-2.0
and Apache-2.0 or MIT), which bind those who change their files.
The wheels of NumPy and SciPy for Linux contain GCC's libgfortran, GPL-3.0 with the GCC Runtime
Library Exception. **Not open source**: the NVIDIA libraries that `torch` needs on Linux.

"""


def main(installed, *reports):
    licences = {canonicalize_name(item["Name"]): item for item in json.load(open(installed))}
    needed = {None: tree("keras_patchpu")}
    needed |= {extra: tree("keras_patchpu", (extra,)) - needed[None] for extra in EXTRAS}
    print(HEAD.format(python=".".join(map(str, sys.version_info[:2]))), end="")
    for extra, names in needed.items():
        rows = [row(**licences[name]) for name in names]
        print_table("Always needed" if extra is None else f"Extra `{extra}`", rows)
    for report in reports:
        items = [item["metadata"] for item in json.load(open(report))["install"]]
        rows = [
            row(
                item["name"],
                item["version"],
                item.get("license_expression", UNKNOWN),
                item.get("license", UNKNOWN),
                "; ".join(
                    name.rsplit(" :: ", 1)[1]
                    for name in item.get("classifier", ())
                    if name.startswith("License ::") and name != "License :: OSI Approved"
                )
                or UNKNOWN,
            )
            for item in items
            if canonicalize_name(item["name"]) not in needed[None]
        ]
        print_table(f"Extra `{report.removesuffix('.json').rsplit('/', 1)[-1]}`", rows)


def tree(name, extras=(), seen=None):
    """Names of all packages that one needs on this system, without itself."""
    seen = set() if seen is None else seen
    for text in metadata.requires(name) or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            continue
        key = canonicalize_name(requirement.name)
        if key not in seen:
            seen.add(key)
            tree(requirement.name, requirement.extras, seen)
    return seen


def row(Name, Version, *values, **named):
    """Name, version and licence: the expression if there is one, else what is shortest."""
    if named:
        keys = ("License-Expression", "License-Metadata", "License-Classifier")
        values = [named[key] for key in keys]
    expression, text, classifier = (value.strip() or UNKNOWN for value in values)
    short = text.splitlines()[0] if len(text) < 60 else UNKNOWN
    found = [value for value in (expression, short, classifier) if value != UNKNOWN]
    if not found and re.match("MIT License", text):
        found = ["MIT License"]
    return Name, Version, found[0] if found else BY_HAND.get(canonicalize_name(Name), UNKNOWN)


def print_table(title, rows):
    print(f"## {title}\n\n| package | version | licence |\n|---|---|---|")
    for name, version, licence in sorted(rows, key=lambda row: row[0].lower()):
        print(f"| {name} | {version} | {licence} |")
    print()


if __name__ == "__main__":
    main(*sys.argv[1:])
