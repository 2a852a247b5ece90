"""Many runs from one file, and their results as data, tables and pictures."""
