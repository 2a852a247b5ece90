"""Fixtures of images and a model that tags them."""

from tagged_images import compiled, few_steps, folder, made_once, model, paths, saved  # noqa: F401
