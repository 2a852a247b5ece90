"""Writers of tiny data sets in their true formats: a table of images, VOC, COCO.

A label is a colour: where it is present there is a rectangle of that colour, so that a short
training on this data has something to learn.
"""

import colorsys
import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

COLORS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220)}


def write_noise(path, size, mode="RGB", seed=0):
    """One image of noise, `size` as (height, width), of a mode of Pillow."""
    random = np.random.default_rng([seed, *size])
    image = Image.fromarray(random.integers(0, 256, (*size, 3)).astype("uint8"))
    image.convert(mode).save(path)


def write_table(folder, num_images=24, labels=("red", "green", "blue"), seed=0):
    """Images of which one label is written down: `images/` and `tags.csv` (`image,label`).

    Image i is a JPEG, PNG or WebP in turn and has label i, in turn as well. Two of five also
    show another label, which is not written down.

    Args:
        folder: Where to write; made if missing.
        num_images: Number of images.
        labels: Names of the labels; those not in `COLORS` get a colour of their own.
        seed: Seed of sizes and places.

    Returns:
        Path of `tags.csv`.
    """
    random = np.random.default_rng(seed)
    folder = Path(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for index in range(num_images):
        label = index % len(labels)
        shown = [label]
        if len(labels) > 1 and index % 5 in (1, 3):
            shown.append((label + 1 + index // 5 % (len(labels) - 1)) % len(labels))
        height, width = random.integers(40, 73, size=2)
        boxes = _boxes(len(shown), (height, width), random)
        colors = [COLORS.get(labels[i], _color(i, len(labels))) for i in shown]
        name = f"images/{index:03d}{('.jpg', '.png', '.webp')[index // len(labels) % 3]}"
        _picture((height, width), boxes, colors, random).save(folder / name, quality=90)
        rows.append((name, labels[label]))
    with open(folder / "tags.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("image", "label"), *rows])
    return folder / "tags.csv"


VOC_SHOWN = ("aeroplane", "car", "dog", "person")
VOC_NAMES = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike "
    "person pottedplant sheep sofa train tvmonitor"
).split()


def write_voc(folder, num_train=8, num_validation=4, size=(50, 60), seed=0):
    """VOC 2012 with few images, of four of its labels.

    Image i shows label i of `VOC_SHOWN`, in turn; every second one also the next label, which
    is marked as difficult in every fourth. The last image of each split shows an object that
    is difficult and nothing else.

    Args:
        folder: Where to write; made if missing.
        num_train, num_validation: Numbers of images, those last ones included.
        size: `(height, width)` in pixels.
        seed: Seed of places.

    Returns:
        Path of the folder `VOCdevkit`.
    """
    random = np.random.default_rng(seed)
    devkit = Path(folder) / "VOCdevkit"
    root = devkit / "VOC2012"
    for inside in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / inside).mkdir(parents=True, exist_ok=True)
    for split, first, count in (("train", 1, num_train), ("val", 2, num_validation)):
        names, values = [], {label: [] for label in VOC_NAMES}
        for index in range(count):
            name = f"2008_{first + 2 * index:06d}"
            objects = [(index % 4, index == count - 1)]  # label, difficult
            if index % 2 == 1 and index < count - 1:
                objects.append(((index + 1) % 4, index % 4 == 3))
            boxes = _boxes(len(objects), size, random)
            colors = [_color(label, 4) for label, _ in objects]
            picture = _picture(size, boxes, colors, random)
            picture.save(root / "JPEGImages" / f"{name}.jpg", quality=95)
            xml = _voc_annotation(name, size, objects, boxes)
            (root / "Annotations" / f"{name}.xml").write_text(xml, encoding="utf-8")
            names.append(name)
            for label in VOC_NAMES:
                flags = [hard for number, hard in objects if VOC_SHOWN[number] == label]
                values[label].append(-1 if not flags else 0 if all(flags) else 1)
        order = random.permutation(count)  # readers have to sort
        lists = root / "ImageSets" / "Main"
        (lists / f"{split}.txt").write_text("".join(f"{names[i]}\n" for i in order))
        for label, column in values.items():
            lines = [f"{names[i]} {column[i]:2d}\n" for i in order]
            (lists / f"{label}_{split}.txt").write_text("".join(lines))
    return devkit


def _voc_annotation(name, size, objects, boxes):
    """XML as VOC has it: corners count from 1 and belong to the box."""
    text = "".join(
        f"""\t<object>
\t\t<name>{VOC_SHOWN[label]}</name>
\t\t<pose>Unspecified</pose>
\t\t<truncated>0</truncated>
\t\t<difficult>{int(difficult)}</difficult>
\t\t<bndbox>
\t\t\t<xmin>{left + 1}</xmin>
\t\t\t<ymin>{top + 1}</ymin>
\t\t\t<xmax>{right}</xmax>
\t\t\t<ymax>{bottom}</ymax>
\t\t</bndbox>
\t</object>
"""
        for (label, difficult), (top, left, bottom, right) in zip(objects, boxes)
    )
    return f"""<annotation>
\t<folder>VOC2012</folder>
\t<filename>{name}.jpg</filename>
\t<size>
\t\t<width>{size[1]}</width>
\t\t<height>{size[0]}</height>
\t\t<depth>3</depth>
\t</size>
\t<segmented>0</segmented>
{text}</annotation>
"""


COCO_SHOWN = ("person", "car", "stop sign", "dog", "toothbrush")
COCO_NAMES = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,,"
    "stop sign,parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,,"
    "backpack,umbrella,,,handbag,tie,suitcase,frisbee,skis,snowboard,sports ball,kite,"
    "baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,,wine glass,cup,"
    "fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,"
    "cake,chair,couch,potted plant,bed,,dining table,,,toilet,,tv,laptop,mouse,remote,keyboard,"
    "cell phone,microwave,oven,toaster,sink,refrigerator,,book,clock,vase,scissors,teddy bear,"
    "hair drier,toothbrush"
).split(",")  # by number from 1; COCO leaves eleven numbers out


def write_coco(folder, num_train=8, num_validation=4, size=(50, 60), seed=0):
    """COCO 2014 with few images, of five of its labels.

    Image i shows label i of `COCO_SHOWN`, in turn; every second one also the next label, as a
    crowd in every fourth. The last image of each split has no annotation.

    Args:
        folder: Where to write; made if missing.
        num_train, num_validation: Numbers of images, those last ones included.
        size: `(height, width)` in pixels.
        seed: Seed of places.

    Returns:
        `folder`, as a path.
    """
    random = np.random.default_rng(seed)
    folder = Path(folder)
    height, width = size
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    categories = [
        {"supercategory": "thing", "id": number, "name": name}
        for number, name in enumerate(COCO_NAMES, start=1)
        if name
    ]
    for split, first, count in (("train2014", 9, num_train), ("val2014", 42, num_validation)):
        (folder / split).mkdir(exist_ok=True)
        images, annotations = [], []
        for index in range(count):
            number = first + 100 * index
            name = f"COCO_{split}_{number:012d}.jpg"
            objects = [] if index == count - 1 else [(index % 5, 0)]  # label, crowd
            if index % 2 == 1 and objects:
                objects.append(((index + 1) % 5, int(index % 4 == 3)))
            boxes = _boxes(len(objects), size, random) if objects else []
            colors = [_color(label, 5) for label, _ in objects]
            _picture(size, boxes, colors, random).save(folder / split / name, quality=95)
            images.append({"id": number, "file_name": name, "height": height, "width": width})
            for (label, crowd), (top, left, bottom, right) in zip(objects, boxes):
                area = (bottom - top) * (right - left)
                outline = [left, top, right, top, right, bottom, left, bottom]
                annotations.append(
                    {
                        "id": 1000 * first + len(annotations),
                        "image_id": number,
                        "category_id": COCO_NAMES.index(COCO_SHOWN[label]) + 1,
                        "bbox": [left, top, right - left, bottom - top],
                        "area": area,
                        "iscrowd": crowd,
                        "segmentation": {"counts": [], "size": size} if crowd else [outline],
                    }
                )
        content = {
            "info": {"year": 2014},
            "licenses": [],
            "images": [images[i] for i in random.permutation(count)],
            "annotations": annotations,
            "categories": categories,
        }
        path = folder / "annotations" / f"instances_{split}.json"
        path.write_text(json.dumps(content), encoding="utf-8")
    return folder


def _color(index, count):
    """Colour of label `index` of `count`."""
    value = (1.0, 0.7, 0.45)[index % 3]
    return tuple(round(255 * part) for part in colorsys.hsv_to_rgb(index / count, 1.0, value))


def _boxes(count, size, random):
    """`count` boxes `(top, left, bottom, right)` in pixels, side by side, none over another."""
    height, width = size
    edges = np.linspace(0, width, count + 1).astype(int)
    boxes = []
    for left, right in zip(edges[:-1], edges[1:]):
        top = int(random.integers(0, height // 3))
        bottom = int(random.integers(2 * height // 3, height + 1))
        margin = int(right - left) // 6
        boxes.append((top, int(left) + margin, bottom, int(right) - margin))
    return boxes


def _picture(size, boxes, colors, random):
    """Grey noise with a rectangle of its colour in each box."""
    pixels = random.integers(100, 156, size=(*size, 1)).repeat(3, axis=-1).astype("uint8")
    for (top, left, bottom, right), color in zip(boxes, colors):
        pixels[top:bottom, left:right] = color
    return Image.fromarray(pixels)
