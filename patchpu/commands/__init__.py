"""The commands of `patchpu`: each parses, then imports the one function that does the work."""
