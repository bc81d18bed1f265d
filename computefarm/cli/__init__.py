"""Command lines: argv in, exit code out."""
