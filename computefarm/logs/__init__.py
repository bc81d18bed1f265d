"""Where task output goes: files per task, bounded."""
