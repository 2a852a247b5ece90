"""What every room of the library uses: checks, whole files, devices."""
