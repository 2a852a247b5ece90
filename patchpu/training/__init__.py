"""Training runs: settings, the run itself, its folder and its report."""
