"""Where the patches of an image lie, at every resolution: geometry without a layer."""

import dataclasses

import numpy as np

from keras_patchpu.utils.validation import check_positive_integer


@dataclasses.dataclass(frozen=True)
class PatchGrid:
    """The windows that `PatchExtractor` cuts out of an image of one size.

    The image is level 0; each further level is the one before it made smaller by
    `downsample_ratio`, sizes rounded down. Of every level whole windows of `patch_size`,
    `strides` apart, are taken; a level smaller than one patch is skipped. Patches are
    counted level by level, fine to coarse, each level row by row.

    Args:
        image_size: `(height, width)` of the image in pixels.
        patch_size: Side of a patch in pixels. Defaults to `64`.
        num_downsamples: Number of levels besides the image itself (the paper's R).
            Defaults to `3`.
        downsample_ratio: Integer by which each level is smaller than the one before
            (the paper's d), at least 2. Defaults to `2`.
        strides: Step of the window in pixels. Defaults to `None`: `patch_size`.

    Raises:
        ValueError: An argument is out of range, or the image has no known size, or is
            smaller than a patch.

    Reference:
        Jouanneau et al., section 3.1, "Patch extraction", and section 4.1.
    """

    image_size: tuple[int, int]
    patch_size: int = 64
    num_downsamples: int = 3
    downsample_ratio: int = 2
    strides: int | None = None

    def __post_init__(self):
        check_windows(self.patch_size, self.num_downsamples, self.downsample_ratio, self.strides)
        height, width = self.image_size
        if height is None or width is None:
            raise ValueError(
                "Patches are cut from images of a known height and width, because their number "
                f"depends on them. Received: image_size={(height, width)}. Resize or pad the "
                "images, and give their size to `keras.Input`; the batch size may stay unknown."
            )
        if min(height, width) < self.patch_size:
            raise ValueError(
                "Expected images at least as large as a patch. Received: "
                f"image_size={(height, width)}, patch_size={self.patch_size}. Enlarge the "
                "images or take smaller patches."
            )

    @property
    def level_sizes(self) -> list[tuple[int, int]]:
        """`(height, width)` in pixels of every level that holds a patch, level 0 first."""
        height, width = self.image_size
        factors = [self.downsample_ratio**level for level in range(self.num_downsamples + 1)]
        # Rounding down after each level is rounding down once.
        sizes = [(height // factor, width // factor) for factor in factors]
        return [size for size in sizes if min(size) >= self.patch_size]

    @property
    def level_grids(self) -> list[tuple[int, int]]:
        """`(rows, columns)` of patches of every level."""
        size, step = self.patch_size, self.strides or self.patch_size
        return [((h - size) // step + 1, (w - size) // step + 1) for h, w in self.level_sizes]

    @property
    def num_patches(self) -> int:
        """Patches of all levels together, P."""
        return sum(rows * columns for rows, columns in self.level_grids)

    @property
    def boxes(self) -> np.ndarray:
        """Where each patch lies in the image, whatever its level.

        float32 `(P, 4)` of `(y_min, x_min, y_max, x_max)`, each from 0 to 1 of the image.
        """
        size, step = self.patch_size, self.strides or self.patch_size
        boxes = []
        for level_size, grid in zip(self.level_sizes, self.level_grids):
            corners = np.indices(grid).reshape(2, -1).T * step
            boxes.append(np.hstack([corners, corners + size]) / (level_size * 2))
        return np.concatenate(boxes).astype("float32")


def check_windows(patch_size, num_downsamples, downsample_ratio, strides):
    """Raises a ValueError that names the argument that is out of range."""
    check_positive_integer("patch_size", patch_size)
    check_positive_integer("num_downsamples", num_downsamples, minimum=0)
    check_positive_integer("downsample_ratio", downsample_ratio, minimum=2)
    if strides is not None:
        check_positive_integer("strides", strides)
