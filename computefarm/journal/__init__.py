"""What must survive: run history on disk."""
