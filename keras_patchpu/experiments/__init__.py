"""Training runs: settings, the run itself, its report."""
