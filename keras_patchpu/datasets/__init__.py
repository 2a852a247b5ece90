"""Datasets and the single-positive draw."""

from keras_patchpu.datasets.coco import load_coco
from keras_patchpu.datasets.digits import Digits, load_digit_scenes
from keras_patchpu.datasets.file_batches import FileBatches
from keras_patchpu.datasets.image_batches import ImageBatches
from keras_patchpu.datasets.image_files import ImageFiles
from keras_patchpu.datasets.list_images import list_images
from keras_patchpu.datasets.observed import observe_uniform
from keras_patchpu.datasets.read_image import ImageError, read_image
from keras_patchpu.datasets.split_by_seed import split_by_seed
from keras_patchpu.datasets.table import load_table
from keras_patchpu.datasets.voc import load_voc

__all__ = [
    "Digits",
    "FileBatches",
    "ImageBatches",
    "ImageError",
    "ImageFiles",
    "list_images",
    "load_coco",
    "load_digit_scenes",
    "load_table",
    "load_voc",
    "observe_uniform",
    "read_image",
    "split_by_seed",
]
