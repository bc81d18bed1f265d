"""How many NVIDIA GPUs there are, without loading any of NVIDIA's libraries. Linux only; 0 elsewhere."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path


def count_gpus(environ: Mapping[str, str] | None = None, *, root: Path = Path("/")) -> int:
    """Return the number of GPUs that a task would see, respecting `CUDA_VISIBLE_DEVICES`."""
    present = _present(root)
    visible = (os.environ if environ is None else environ).get("CUDA_VISIBLE_DEVICES")
    return present if visible is None or not present else _visible(visible, present)


def _present(root: Path) -> int:
    try:
        listed = len(list((root / "proc/driver/nvidia/gpus").iterdir()))
    except OSError:
        listed = 0
    if listed:
        return listed
    # Containers often get the devices without the folder in /proc.
    try:
        return sum(1 for entry in (root / "dev").iterdir() if re.fullmatch(r"nvidia\d+", entry.name))
    except OSError:
        return 0


def _visible(value: str, present: int) -> int:
    """Count as CUDA does: entries up to the first that names no device, each device once."""
    seen: set[str] = set()
    for entry in (part.strip() for part in value.split(",")):
        by_number = entry.isascii() and entry.isdigit() and int(entry) < present
        if entry in seen or not (by_number or entry.startswith(("GPU-", "MIG-"))):
            break
        seen.add(entry)
    return len(seen)
