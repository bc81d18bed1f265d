"""Places majordomo can send tasks."""
