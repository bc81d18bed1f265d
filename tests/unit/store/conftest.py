from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from computefarm.store.blobs import BlobStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BlobStore]:
    opened = BlobStore(tmp_path / "store")
    yield opened
    opened.close()
