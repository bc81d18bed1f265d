"""The wheel of the running program."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from pathlib import Path

from computefarm import __version__
from computefarm.remote.wheel import build_wheel, pip_zip

ROOT = Path(__file__).parents[3]
FOLDERS = {
    "computefarm": "computefarm",
    "workers": "computefarm/workers",
    "capabilities": "computefarm/capabilities",
}


def inside(data: bytes) -> dict[str, bytes]:
    wheel = zipfile.ZipFile(io.BytesIO(data))
    return {name: wheel.read(name) for name in wheel.namelist()}


def test_it_holds_the_sources_under_the_names_they_install_as() -> None:
    wheel = build_wheel()
    files = inside(wheel.data)

    assert wheel.name == f"computefarm-{__version__}-py3-none-any.whl"
    for folder, package in FOLDERS.items():
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".yaml") and "__pycache__" not in path.parts:
                assert f"{package}/{path.relative_to(ROOT / folder)}" in files
    assert not [name for name in files if "__pycache__" in name or name.endswith(".pyc")]


def test_its_metadata_is_that_of_the_installation() -> None:
    files = inside(build_wheel().data)
    about = f"computefarm-{__version__}.dist-info"

    assert b"\nRequires-Dist: pyzmq" in files[f"{about}/METADATA"]
    assert b"cf-worker = " in files[f"{about}/entry_points.txt"]
    assert b"Tag: py3-none-any\n" in files[f"{about}/WHEEL"]


def test_the_record_names_every_file_with_its_hash() -> None:
    files = inside(build_wheel().data)
    about = f"computefarm-{__version__}.dist-info"
    record = dict(line.split(",", 1) for line in files[f"{about}/RECORD"].decode().splitlines())

    assert record.keys() == files.keys()
    data = files["computefarm/errors.py"]
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
    assert record["computefarm/errors.py"] == f"sha256={digest},{len(data)}"


def test_pip_travels_as_it_lies_here() -> None:
    data = pip_zip()

    assert data is None or "pip/__main__.py" in inside(data)
