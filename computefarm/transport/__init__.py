"""Sockets, keys and frames: bytes in and out of one TCP port."""
