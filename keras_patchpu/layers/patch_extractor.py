"""Block 1: an image becomes patches at several resolutions."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_patchpu.layers.patch_grid import PatchGrid, check_windows
from keras_patchpu.utils.validation import check_positive_integer


@keras.saving.register_keras_serializable(package="keras_patchpu")
class PatchExtractor(keras.layers.Layer):
    """Cuts images into patches of one size at several resolutions (block 1).

    The image is level 0. Each further level is the one before it made smaller by
    `downsample_ratio` (bilinear, half-pixel centres). Which windows of the levels are
    patches, and in which order they come, says `PatchGrid`, which `grid` gives.

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
        check_windows(patch_size, num_downsamples, downsample_ratio, strides)
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

    def grid(self, image_size: tuple[int | None, int | None]) -> PatchGrid:
        """Where the patches of inference lie in images of `(height, width)` pixels.

        Raises:
            ValueError: `image_size` is unknown or smaller than a patch.
        """
        return PatchGrid(
            image_size,  # type: ignore[arg-type]  # which says what to do where it is unknown
            self.patch_size,
            self.num_downsamples,
            self.downsample_ratio,
            self.strides,
        )

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
        grid = self.grid(images.shape[1:3])
        levels = []
        for size, (rows, columns) in zip(grid.level_sizes, grid.level_grids):
            if levels:
                images = self._downsample(images, size)
            patches = self._cut(images, rows, columns)
            if training and self.max_patches_per_level is not None:
                patches = self._subsample(patches)
            levels.append(patches)
        return ops.concatenate(levels, axis=1)

    def compute_output_spec(self, images, training=None):
        # The base class would trace `call`; with an unknown size the message of
        # `PatchGrid` says more than a failing trace.
        counts = [rows * columns for rows, columns in self.grid(images.shape[1:3]).level_grids]
        if training and self.max_patches_per_level is not None:
            counts = [min(count, self.max_patches_per_level) for count in counts]
        size = self.patch_size
        shape = (images.shape[0], sum(counts), size, size, images.shape[-1])
        return keras.KerasTensor(shape, dtype=self.compute_dtype)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Shape in inference; the number of patches is `None` for an unknown image size."""
        batch, height, width, channels = input_shape
        known = height is not None and width is not None
        num_patches = self.grid((height, width)).num_patches if known else None
        return (batch, num_patches, self.patch_size, self.patch_size, channels)

    def get_config(self):
        return {
            **super().get_config(),
            "patch_size": self.patch_size,
            "num_downsamples": self.num_downsamples,
            "downsample_ratio": self.downsample_ratio,
            "strides": self.strides,
            "max_patches_per_level": self.max_patches_per_level,
            "seed": self.seed,
        }
