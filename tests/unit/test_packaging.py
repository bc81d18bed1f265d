"""The package list is written by hand, because two folders install under other names: it must match the disk."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Mapping
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path
from typing import Any

import computefarm

ROOT = Path(__file__).parents[2]
FOLDERS = {
    "computefarm": "computefarm",
    "workers": "computefarm.workers",
    "capabilities": "computefarm.capabilities",
}
"""Top-level folders, and the packages they install as."""


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def on_disk(root: Path) -> set[str]:
    """Return the packages that the folders hold: every folder with Python files in it."""
    found = set()
    for folder, package in FOLDERS.items():
        for path in (root / folder).rglob("*.py"):
            found.add(".".join([package, *path.parent.relative_to(root / folder).parts]))
    return found


def package_faults(declared: list[str], root: Path) -> list[str]:
    there = on_disk(root)
    faults = [
        f"{name}: on disk, but not in [tool.setuptools] packages" for name in sorted(there - set(declared))
    ]
    faults += [f"{name}: declared, but not on disk" for name in sorted(set(declared) - there)]
    faults += [f"{name}: declared twice" for name in sorted(set(declared)) if declared.count(name) > 1]
    for name in sorted(there):
        if not (folder_of(name, root) / "__init__.py").is_file():
            faults.append(f"{name}: has no __init__.py")
    return faults


def folder_of(package: str, root: Path) -> Path:
    """Return where a package or module lies before it is installed."""
    for folder, prefix in sorted(FOLDERS.items(), key=lambda item: -len(item[1])):
        if package == prefix or package.startswith(f"{prefix}."):
            return root / folder / Path(*package[len(prefix) :].strip(".").split("."))
    raise LookupError(package)


def entry_point_faults(points: Mapping[str, str], root: Path) -> list[str]:
    """Return the entry points that name no object of a file; nothing is imported."""
    faults = []
    for name, value in points.items():
        module, _, attribute = value.partition(":")
        path = folder_of(module, root).with_suffix(".py")
        if not path.is_file():
            faults.append(f"{name} = {value}: there is no {path.relative_to(root)}")
            continue
        body = ast.parse(path.read_text(encoding="utf-8")).body
        if attribute not in {getattr(node, "name", None) for node in body}:
            faults.append(f"{name} = {value}: {path.relative_to(root)} defines no {attribute}")
    return faults


def data_faults(globs: Mapping[str, list[str]], root: Path) -> list[str]:
    """Return the files beside the code that no pattern of package-data would take along."""
    faults = []
    for package in sorted(on_disk(root)):
        for path in folder_of(package, root).iterdir():
            known = path.suffix in (".py", ".pyc") or path.name.startswith(".")
            if (
                path.is_file()
                and not known
                and not any(fnmatch(path.name, glob) for glob in globs.get(package, []))
            ):
                faults.append(f"{path.relative_to(root)}: not in [tool.setuptools.package-data]")
    return faults


def all_entry_points() -> dict[str, str]:
    described = project()["project"]
    groups = {"console_scripts": described["scripts"], **described["entry-points"]}
    # A worker and a line parser may have one name.
    return {f"{group}: {name}": value for group, points in groups.items() for name, value in points.items()}


def test_the_package_list_is_what_lies_on_disk() -> None:
    setuptools = project()["tool"]["setuptools"]

    assert setuptools["package-dir"] == {package: folder for folder, package in FOLDERS.items()}
    assert package_faults(setuptools["packages"], ROOT) == []


def test_every_data_file_is_taken_along() -> None:
    globs = project()["tool"]["setuptools"]["package-data"]

    assert data_faults(globs, ROOT) == []
    assert (ROOT / "computefarm/py.typed").is_file()
    assert {"shell.yaml", "gcc.yaml", "python.yaml"} <= {
        path.name for path in (ROOT / "capabilities").iterdir()
    }


def test_every_entry_point_names_something() -> None:
    assert entry_point_faults(all_entry_points(), ROOT) == []


def test_the_installed_entry_points_are_those_of_the_project() -> None:
    installed = metadata.distribution("computefarm").entry_points

    assert {f"{point.group}: {point.name}": point.value for point in installed} == all_entry_points()
    for point in metadata.entry_points(group="computefarm.workers"):
        if point.dist is not None and point.dist.name == "computefarm":
            assert point.load()().name == point.name


def test_the_front_of_the_package() -> None:
    assert computefarm.__all__ == ["__version__", "needs"]
    assert computefarm.__version__ == project()["project"]["version"]
    assert computefarm.needs("shell") == {"farm": {"capability": "shell"}}


# --- the checks themselves are worth something ----------------------------------------------------------


def small_project(root: Path) -> Path:
    for folder in ("computefarm", "computefarm/core", "workers/shell", "workers", "capabilities"):
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / "__init__.py").touch()
    return root


SMALL = [
    "computefarm",
    "computefarm.core",
    "computefarm.workers",
    "computefarm.workers.shell",
    "computefarm.capabilities",
]


def test_a_right_list_has_no_faults(tmp_path: Path) -> None:
    assert package_faults(SMALL, small_project(tmp_path)) == []


def test_a_forgotten_package_is_found(tmp_path: Path) -> None:
    faults = package_faults(
        [name for name in SMALL if name != "computefarm.workers.shell"], small_project(tmp_path)
    )

    assert faults == ["computefarm.workers.shell: on disk, but not in [tool.setuptools] packages"]


def test_a_package_that_went_away_is_found(tmp_path: Path) -> None:
    faults = package_faults([*SMALL, "computefarm.gone", "computefarm"], small_project(tmp_path))

    assert faults == ["computefarm.gone: declared, but not on disk", "computefarm: declared twice"]


def test_a_folder_without_init_is_found(tmp_path: Path) -> None:
    root = small_project(tmp_path)
    (root / "computefarm/core/__init__.py").rename(root / "computefarm/core/state.py")

    assert package_faults(SMALL, root) == ["computefarm.core: has no __init__.py"]


def test_a_forgotten_data_file_is_found(tmp_path: Path) -> None:
    root = small_project(tmp_path)
    (root / "capabilities/gcc.yaml").touch()
    (root / "capabilities/gcc.json").touch()

    faults = data_faults({"computefarm.capabilities": ["*.yaml"]}, root)

    assert faults == ["capabilities/gcc.json: not in [tool.setuptools.package-data]"]


def test_an_entry_point_into_nothing_is_found(tmp_path: Path) -> None:
    root = small_project(tmp_path)
    (root / "workers/shell/worker.py").write_text("class ShellWorker: ...\n")

    faults = entry_point_faults(
        {
            "good": "computefarm.workers.shell.worker:ShellWorker",
            "typo": "computefarm.workers.shell.worker:ShelWorker",
            "gone": "computefarm.workers.shell.gone:ShellWorker",
        },
        root,
    )

    assert faults == [
        "typo = computefarm.workers.shell.worker:ShelWorker: workers/shell/worker.py defines no ShelWorker",
        "gone = computefarm.workers.shell.gone:ShellWorker: there is no workers/shell/gone.py",
    ]
