"""The page of `patchpu demo`."""
