"""Ask recompute servers: `Client` blocks or gives futures, `AsyncClient` is awaited."""

from __future__ import annotations

from .client import AsyncClient, Client
from .requests import Answer

__all__ = ["Answer", "AsyncClient", "Client"]
