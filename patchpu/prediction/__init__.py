"""What `patchpu predict` writes."""
