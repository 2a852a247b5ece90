"""Fuzzes the reader of tables: CSV bytes, Parquet files of odd values, folders of odd names.

    python fuzz/fuzz_table.py -max_total_time=1200

Only a ValueError with a message may be raised. The first byte chooses the kind and the options.
"""

import os
import shutil

import atheris
from common import fuzz, instrumented, message_of, work_folder

with instrumented():
    from keras_patchpu.datasets import load_table, split_by_seed

import numpy as np
import pandas

WORK = work_folder("table")
IMAGES = ("a.jpg", "b.jpg", "c.png", "in/d.webp", "ä ö.gif")
HEADER = ("image", "label", "labels", "absent", "split", "other")


def target(data):
    if not data:
        return
    options, data = data[0], data[1:]
    kind = ("csv", "csv", "parquet", "folder")[options % 4]
    if kind == "csv":
        path = WORK / "tags.csv"
        path.write_bytes(data)
    elif kind == "parquet":
        path = WORK / "tags.parquet"
        if not write_parquet(path, data):
            return
    else:
        path = WORK / "classes"
        shutil.rmtree(path, ignore_errors=True)
        write_folder(path, data)
    try:
        table = load_table(
            path,
            unlisted=("unknown", "absent")[options >> 2 & 1],
            label_names=("cat", "dog") if options >> 3 & 1 else None,
            allow_outside=bool(options >> 4 & 1),
        )
        check(table.train, options)
        if table.validation is not None:
            check(table.validation, options)
        else:
            train, validation = split_by_seed(table.train, 0.3, seed=1)
            if sorted([*train.names, *validation.names]) != sorted(table.train.names):
                raise RuntimeError("images were lost or doubled by the split")
    except ValueError as error:
        message_of(error)


def check(files, options):
    """What holds for every table that was read."""
    if not len(files) or not set(np.unique(files.labels)) <= {-1, 0, 1}:
        raise RuntimeError(f"wrong labels: {files.labels}")
    if len(set(files.names)) < len(files) or any(not name for name in files.names):
        raise RuntimeError(f"names are not different: {files.names}")
    if options >> 2 & 1 and (files.labels == 0).any():
        raise RuntimeError("unknown labels with unlisted='absent'")
    root = os.path.join(os.path.realpath(WORK), "")
    for source in files.sources:
        if not os.path.isfile(source):
            raise RuntimeError(f"no file: {source!r}")
        if not options >> 4 & 1 and not os.path.realpath(source).startswith(root):
            raise RuntimeError(f"outside: {source!r}")


def write_parquet(path, data):
    """A file of columns of odd values; returns whether Parquet has them."""
    provider = atheris.FuzzedDataProvider(data)
    columns = [
        HEADER[provider.ConsumeIntInRange(0, len(HEADER) - 1)]
        for _ in range(provider.ConsumeIntInRange(0, 5))
    ]
    rows = [[value(provider) for _ in columns] for _ in range(provider.ConsumeIntInRange(0, 4))]
    try:
        frame = pandas.DataFrame(rows, columns=list(columns))
        frame.to_parquet(path, index=provider.ConsumeBool())
    except Exception:  # mixed types, or a column twice: such files do not exist
        return False
    return True


def value(provider):
    kind = provider.ConsumeIntInRange(0, 9)
    return (
        IMAGES[provider.ConsumeIntInRange(0, len(IMAGES) - 1)],
        ("cat", "dog", "cat;dog", "", "nan", " ")[provider.ConsumeIntInRange(0, 5)],
        ("train", "val", "validation", "x")[provider.ConsumeIntInRange(0, 3)],
        provider.ConsumeUnicode(12),
        provider.ConsumeInt(4),
        provider.ConsumeFloat(),
        None,
        provider.ConsumeBool(),
        provider.ConsumeBytes(4),
        [provider.ConsumeUnicodeNoSurrogates(3)],
    )[kind]


def write_folder(path, data):
    """Files and folders of the names that lie between line breaks."""
    path.mkdir()
    root = os.fsencode(path)
    for name in data.split(b"\n")[:8]:
        file = os.path.normpath(os.path.join(root, name.replace(b"\0", b"")))
        if not file.startswith(root + b"/"):
            continue
        try:
            os.makedirs(os.path.dirname(file), exist_ok=True)
            with open(file, "wb"):
                pass
        except OSError:  # a name that is too long, or taken
            continue


SEEDS = [
    b"\0image,label\na.jpg,cat\nb.jpg,dog\n",
    b"\0image,labels,absent\na.jpg,cat;dog,\nb.jpg,,cat\nin/d.webp,dog,cat\n",
    b"\0image,label,split\na.jpg,cat,train\nb.jpg,dog,val\nc.png,cat,validation\n",
    b'\x04image,labels,other\n"a.jpg","cat;dog","x""y,\nz"\n\nb.jpg,dog,\n',
    b"\x08\xef\xbb\xbfimage,label\r\n./a.jpg,cat\r\n\xc3\xa4 \xc3\xb6.gif,dog\r\n",
    b"\x10image,label\n../a.jpg,cat\n/etc/hostname,dog\nin\\d.webp,cat\n",
    b"\x01image;label\na.jpg;cat\n",
    b"\x01image,label\n\xff\xfe.jpg,cat\nlink/a.jpg,dog\nloop,cat\n",
    b"\x02" + bytes(range(64)),
    b"\x02" + bytes(range(255, 100, -1)),
    b"\x03cat/a.jpg\ncat/b.png\ndog/c.webp\n",
    b"\x03cat/a.jpg\n.hidden/b.png\ndog/in/c.webp\n\xff/\xfe.gif\n",
    b"\x03cat/a.txt\ntags.csv\n",
]

if __name__ == "__main__":
    for image in IMAGES:
        (WORK / image).parent.mkdir(exist_ok=True)
        (WORK / image).write_bytes(b"")
    (WORK / "link").symlink_to("/etc")
    (WORK / "loop").symlink_to("loop")
    fuzz("table", target, SEEDS, dictionary="csv.dict")
