"""Decisions: what to place where and when. No sockets, files, clock, randomness or logging."""
