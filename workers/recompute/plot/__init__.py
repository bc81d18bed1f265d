"""Reading plot files."""
