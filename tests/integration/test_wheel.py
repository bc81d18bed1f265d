"""What the wheel holds is what lies in the folders, under the names it installs as."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = {
    "computefarm": "computefarm",
    "workers": "computefarm/workers",
    "capabilities": "computefarm/capabilities",
}


def test_the_wheel_holds_everything_and_no_other_top_level_name(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in (*FOLDERS, "pyproject.toml", "LICENSE", "README.md"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, source / name)
    # Built from a copy and without a network: setuptools comes from the environment of the tests.
    build = "from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"import sys; {build}", str(tmp_path)],
        cwd=source,
        check=True,
        capture_output=True,
        timeout=120,
    )

    (wheel,) = tmp_path.glob("*.whl")
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {
        f"{package}/{path.relative_to(source / folder)}"
        for folder, package in FOLDERS.items()
        for path in (source / folder).rglob("*")
        if path.is_file()
    }
    assert inside == expected
