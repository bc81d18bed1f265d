"""ComputeFarm: make -j across every computer you own."""

from __future__ import annotations

from computefarm.needs import needs

__all__ = ["__version__", "needs"]

__version__ = "0.1.0"
