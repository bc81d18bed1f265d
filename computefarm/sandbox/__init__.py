"""Processes: running one attempt, and ending all of it."""
