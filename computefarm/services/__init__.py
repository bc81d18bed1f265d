"""Loops: one core, one transport and one clock each."""
