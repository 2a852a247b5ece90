"""Block 1: an image becomes patches at several resolutions."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_patchpu.utils.validation import check_positive_integer


@keras.saving.register_keras_serializable(package="keras_patchpu")
class PatchExtractor(keras.layers.Layer):
    """Cuts images into patches of one size at several resolutions (block 1).

    The image is level 0. Each further level is the one before it made smaller by
    `downsample_ratio` (bilinear, half-pixel centres, sizes rounded down). From every
    level a window of `patch_size` moves by `strides`, and only whole windows are kept;
    a level smaller than one patch is skipped. Patches come level by level, fine to
    coarse, each level row by row.

    A 640x640 image with the default arguments gives 100 + 25 + 4 + 1 = 130 patches.

    Args:
        patch_size: Side of a patch in pixels. Defaults to `64`.
        num_downsamples: Number of levels besides the image itself (the paper's R).
            Defaults to `3`.
        downsample_ratio: Integer by which each level is smaller than the one before
            (the paper's d), at least 2. Defaults to `2`.
        strides: Step of the window in pixels. Defaults to `None`, which means
            `patch_size`: patches tile the level.
        max_patches_per_level: In training, at most this many patches are kept of each
            level, drawn at random without repetition for every image. Inference
            always sees all patches. Defaults to `None` (all).
        seed: Integer seed of that draw. Defaults to `None`.

    Call arguments:
        images: `(B, H, W, C)`, any numeric dtype. `B` may be unknown, `H` and `W` not.
        training: Whether to subsample; see `max_patches_per_level`.

    Returns:
        Patches of shape `(B, P, patch_size, patch_size, C)` in the compute dtype, with
        the pixel values of the images.

    Raises:
        ValueError: An argument is out of range, or the images have no known size, or
            are smaller than a patch.

    Reference:
        Jouanneau et al., section 3.1, "Patch extraction", and section 4.1.
    """

    def __init__(
        self,
        patch_size: int = 64,
        num_downsamples: int = 3,
        downsample_ratio: int = 2,
        strides: int | None = None,
        max_patches_per_level: int | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive_integer("patch_size", patch_size)
        check_positive_integer("num_downsamples", num_downsamples, minimum=0)
        check_positive_integer("downsample_ratio", downsample_ratio, minimum=2)
        if strides is not None:
            check_positive_integer("strides", strides)
        if max_patches_per_level is not None:
            check_positive_integer("max_patches_per_level", max_patches_per_level)
        if seed is not None:
            check_positive_integer("seed", seed, minimum=0)
        self.patch_size = patch_size
        self.num_downsamples = num_downsamples
        self.downsample_ratio = downsample_ratio
        self.strides = strides
        self.max_patches_per_level = max_patches_per_level
        self.seed = seed
        if max_patches_per_level is not None:
            self.seed_generator = keras.random.SeedGenerator(seed)

    def level_sizes(self, image_size: tuple[int | None, int | None]) -> list[tuple[int, int]]:
        """Height and width in pixels of every level that holds at least one patch.

        Args:
            image_size: `(height, width)` of the images in pixels.

        Returns:
            List of `(height, width)`, level 0 first.

        Raises:
            ValueError: `image_size` is unknown or smaller than a patch.
        """
        height, width = image_size
        if height is None or width is None:
            raise ValueError(
                "PatchExtractor needs images of a known height and width, because the number "
                f"of patches depends on them. Received: image_size={(height, width)}. Resize "
                "or pad the images, and give their size to `keras.Input`; the batch size may "
                "stay unknown."
            )
        if min(height, width) < self.patch_size:
            raise ValueError(
                "Expected images at least as large as a patch. Received: "
                f"image_size={(height, width)}, patch_size={self.patch_size}. Enlarge the "
                "images or take smaller patches."
            )
        sizes = []
        for _ in range(self.num_downsamples + 1):
            if min(height, width) < self.patch_size:
                break
            sizes.append((height, width))
            height //= self.downsample_ratio
            width //= self.downsample_ratio
        return sizes

    def level_grids(self, image_size: tuple[int | None, int | None]) -> list[tuple[int, int]]:
        """Rows and columns of patches of every level, as a list of `(rows, columns)`.

        Args:
            image_size: `(height, width)` of the images in pixels.
        """
        step = self.strides or self.patch_size
        return [
            ((height - self.patch_size) // step + 1, (width - self.patch_size) // step + 1)
            for height, width in self.level_sizes(image_size)
        ]

    def patch_boxes(self, image_size: tuple[int | None, int | None]) -> np.ndarray:
        """Where each patch lies in the image, whatever its level.

        Args:
            image_size: `(height, width)` of the images in pixels.

        Returns:
            float32 array `(P, 4)` of `(y_min, x_min, y_max, x_max)`, each from 0 to 1
            relative to the image, in the order of the patches in inference.
        """
        step = self.strides or self.patch_size
        boxes = []
        for (height, width), (rows, columns) in zip(
            self.level_sizes(image_size), self.level_grids(image_size)
        ):
            top, left = np.meshgrid(
                np.arange(rows) * step, np.arange(columns) * step, indexing="ij"
            )
            corners = [top, left, top + self.patch_size, left + self.patch_size]
            scale = np.array([height, width, height, width])
            boxes.append(np.stack([c.ravel() for c in corners], axis=-1) / scale)
        return np.concatenate(boxes).astype("float32")

    def _downsample(self, images, size):
        """One level from the one before it."""
        _, height, width, channels = images.shape
        if self.downsample_ratio == 2 and height % 2 == 0 and width % 2 == 0:
            # Bilinear at half-pixel centres is then the mean of 2x2 pixels: the same
            # numbers, without the gathers of a general resize.
            blocks = ops.reshape(images, (-1, height // 2, 2, width // 2, 2, channels))
            return ops.mean(blocks, axis=(2, 4))
        return ops.image.resize(images, size, interpolation="bilinear", data_format="channels_last")

    def _cut(self, images, rows, columns):
        """All whole windows of one level, row by row: `(B, rows * columns, p, p, C)`."""
        size, channels = self.patch_size, images.shape[-1]
        if self.strides in (None, size):
            images = images[:, : rows * size, : columns * size]
            grid = ops.reshape(images, (-1, rows, size, columns, size, channels))
            patches = ops.transpose(grid, (0, 1, 3, 2, 4, 5))
        else:
            patches = ops.image.extract_patches(
                images, size, strides=self.strides, data_format="channels_last"
            )
        return ops.reshape(patches, (-1, rows * columns, size, size, channels))

    def _subsample(self, patches):
        """`max_patches_per_level` random patches of each image, without repetition."""
        count = patches.shape[1]
        if count <= self.max_patches_per_level:
            return patches
        order = keras.random.uniform((ops.shape(patches)[0], count), seed=self.seed_generator)
        _, chosen = ops.top_k(order, self.max_patches_per_level, sorted=False)
        return ops.take_along_axis(patches, chosen[:, :, None, None, None], axis=1)

    def call(self, images, training=None):
        images = ops.cast(images, self.compute_dtype)
        sizes = self.level_sizes(images.shape[1:3])
        levels = []
        for index, (rows, columns) in enumerate(self.level_grids(images.shape[1:3])):
            if index > 0:
                images = self._downsample(images, sizes[index])
            patches = self._cut(images, rows, columns)
            if training and self.max_patches_per_level is not None:
                patches = self._subsample(patches)
            levels.append(patches)
        return ops.concatenate(levels, axis=1)

    def compute_output_spec(self, images, training=None):
        # The base class would trace `call`; with an unknown size the message of
        # `level_sizes` says more than a failing trace.
        num_patches = 0
        for rows, columns in self.level_grids(images.shape[1:3]):
            count = rows * columns
            if training and self.max_patches_per_level is not None:
                count = min(count, self.max_patches_per_level)
            num_patches += count
        size = self.patch_size
        shape = (images.shape[0], num_patches, size, size, images.shape[-1])
        return keras.KerasTensor(shape, dtype=self.compute_dtype)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Shape in inference; the number of patches is `None` for an unknown image size."""
        batch, height, width, channels = input_shape
        num_patches = None
        if height is not None and width is not None:
            num_patches = sum(r * c for r, c in self.level_grids((height, width)))
        return (batch, num_patches, self.patch_size, self.patch_size, channels)

    def get_config(self):
        config = super().get_config()
        config.update(
            {
                "patch_size": self.patch_size,
                "num_downsamples": self.num_downsamples,
                "downsample_ratio": self.downsample_ratio,
                "strides": self.strides,
                "max_patches_per_level": self.max_patches_per_level,
                "seed": self.seed,
            }
        )
        return config
