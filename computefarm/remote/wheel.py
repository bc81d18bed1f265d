"""A wheel of the very program that runs here, made from its files: no network, no build tool."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import io
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import msgspec

from computefarm.errors import FarmError

NAME = "computefarm"
PARTS = ("computefarm", "computefarm.workers", "computefarm.capabilities")
"""Packages that may lie in folders of their own (in a source checkout they do)."""

_EPOCH = (2020, 1, 1, 0, 0, 0)
"""All files have this time, so that equal files make an equal wheel."""

_LEFT_OUT = frozenset({"__pycache__", ".pyc", ".pyo", ".so", ".dylib", ".swp"})


class Wheel(msgspec.Struct, frozen=True):
    """A wheel in memory."""

    name: str
    data: bytes
    version: str

    @property
    def digest(self) -> str:
        """Return the sha256 of its bytes."""
        return hashlib.sha256(self.data).hexdigest()


def build_wheel() -> Wheel:
    """Return a wheel of the running installation: editable, from a checkout or ordinary.

    The program is pure Python, so it fits every machine; its dependencies are named in it, not included.
    """
    try:
        installed = metadata.distribution(NAME)
    except metadata.PackageNotFoundError as error:
        raise FarmError(
            "this program is not installed, so no wheel can be made of it", hint="pip install -e ."
        ) from error
    stem = f"{NAME}-{installed.version}"
    about = f"{stem}.dist-info"
    files = dict(_files())
    # A checkout that is in the path itself is known by its egg-info, which has another name for it.
    told = installed.read_text("METADATA") or installed.read_text("PKG-INFO")
    if not told:
        raise FarmError(
            "this installation has lost its metadata", hint="pip install -e .    # in the checkout"
        )
    files[f"{about}/METADATA"] = told.encode()
    files[f"{about}/entry_points.txt"] = (installed.read_text("entry_points.txt") or "").encode()
    files[f"{about}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: computefarm\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    records = [f"{name},{_hash(data)},{len(data)}\n" for name, data in sorted(files.items())]
    files[f"{about}/RECORD"] = "".join([*records, f"{about}/RECORD,,\n"]).encode()
    return Wheel(name=f"{stem}-py3-none-any.whl", data=_zip(files), version=installed.version)


def pip_zip() -> bytes | None:
    """Return the `pip` package of this machine, for one whose Python came without; None when here is none."""
    found = importlib.util.find_spec("pip")
    if found is None or not found.origin:
        return None
    return _zip(dict(_under(Path(found.origin).parent, "pip")))


def _files() -> Iterator[tuple[str, bytes]]:
    for part in PARTS:
        found = importlib.util.find_spec(part)
        if found is None or not found.origin:
            raise FarmError(
                f"the package {part} is missing here", hint="pip install --force-reinstall computefarm"
            )
        yield from _under(Path(found.origin).parent, part.replace(".", "/"))


def _under(folder: Path, prefix: str) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        hidden = any(word.startswith(".") or word in _LEFT_OUT for word in inside.parts)
        if path.is_file() and not hidden and path.suffix not in _LEFT_OUT:
            yield f"{prefix}/{inside.as_posix()}", path.read_bytes()


def _hash(data: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


def _zip(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, data in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o100644 << 16
            wheel.writestr(entry, data)
    return out.getvalue()
