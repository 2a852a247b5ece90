"""The model card of `patchpu card`."""
