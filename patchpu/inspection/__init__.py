"""What `patchpu inspect` tells."""
