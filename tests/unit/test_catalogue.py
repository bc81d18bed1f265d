from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from computefarm.capability import parse
from computefarm.catalogue import Catalogue, ProgramDigests, platform_name
from computefarm.errors import CapabilityError, UsageError
from computefarm.home import Home


def text(name: str, summary: str = "s") -> str:
    return f"capability: {name}\nsummary: {summary}\nworker: shell\n"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "config/capabilities").mkdir(parents=True)
    return Home(config=tmp_path / "config", state=tmp_path / "state", cache=tmp_path / "cache")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project/capabilities").mkdir(parents=True)
    return tmp_path / "project"


def test_the_package_brings_its_own_files() -> None:
    catalogue = Catalogue.load()

    assert {"shell", "gcc", "python"} <= set(catalogue.names())
    assert catalogue.get("gcc").source == "computefarm.capabilities/gcc.yaml"


def test_the_project_overrides_the_user_who_overrides_the_package(home: Home, project: Path) -> None:
    (home.config / "capabilities/gcc.yaml").write_text(text("gcc", "the user's"))
    (home.config / "capabilities/tex.yaml").write_text(text("tex", "the user's"))
    (project / "capabilities/tex.yml").write_text(text("tex", "the project's"))

    catalogue = Catalogue.load(home, project)

    assert catalogue.get("gcc").summary == "the user's"
    assert catalogue.get("tex").summary == "the project's"
    assert catalogue.get("tex").source == str(project / "capabilities/tex.yml")
    assert catalogue.get("shell").source == "computefarm.capabilities/shell.yaml"


def test_folders_that_are_not_there_are_no_error(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"

    assert Catalogue.load(Home(nowhere, nowhere, nowhere), nowhere).names() == Catalogue.load().names()


def test_other_files_in_the_folder_are_left_alone(project: Path) -> None:
    (project / "capabilities/README.md").write_text("capability: nonsense")
    (project / "capabilities/.tex.yaml").write_text("being edited")

    assert Catalogue.load(project=project).names() == Catalogue.load().names()


def test_a_bad_file_is_named_even_when_nobody_asks_for_it(project: Path) -> None:
    (project / "capabilities/bad.yaml").write_text(text("bad") + "wroker: shell\n")

    with pytest.raises(CapabilityError, match=r"capabilities/bad\.yaml:4:1: field `wroker`: unknown key"):
        Catalogue.load(project=project)


def test_a_file_that_is_not_text(project: Path) -> None:
    (project / "capabilities/bad.yaml").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(CapabilityError, match=r"bad\.yaml: cannot be read"):
        Catalogue.load(project=project)


def test_two_files_of_one_folder_must_not_describe_the_same(project: Path) -> None:
    (project / "capabilities/a.yaml").write_text(text("tex"))
    (project / "capabilities/b.yaml").write_text(text("tex"))

    with pytest.raises(CapabilityError, match=r"b\.yaml: describes 'tex', and so does .*a\.yaml"):
        Catalogue.load(project=project)


def test_an_unknown_name_is_answered_with_the_nearest_ones() -> None:
    catalogue = Catalogue([parse(text(name), name) for name in ("gcc", "gccrs", "python")])

    with pytest.raises(UsageError) as caught:
        catalogue.get("gc")

    assert str(caught.value) == (
        "no capability file describes 'gc'; there are: gcc, gccrs, python; did you mean 'gcc'?\n"
        "  cf-worker --probe    # what this machine could offer, and why not the rest"
    )


def test_platform() -> None:
    system, machine = platform_name().split("-", 1)

    assert system == platform.system().lower()
    assert machine == platform.machine().lower()


def test_a_digest_is_kept_until_the_program_changes(tmp_path: Path) -> None:
    program = tmp_path / "cc1"
    program.write_bytes(b"one")
    digests = ProgramDigests(tmp_path / "cache")

    first = digests.digest(program)
    (entry,) = (tmp_path / "cache/program-digests").iterdir()
    entry.write_text("0" * 64)
    kept = digests.digest(program)
    program.write_bytes(b"other")
    changed = digests.digest(program)

    assert first == "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    assert kept == "0" * 64
    assert changed not in (first, kept)


def test_a_torn_cache_entry_is_not_believed(tmp_path: Path) -> None:
    program = tmp_path / "cc1"
    program.write_bytes(b"one")
    digests = ProgramDigests(tmp_path / "cache")
    first = digests.digest(program)
    (entry,) = (tmp_path / "cache/program-digests").iterdir()
    entry.write_text("7692c3")

    assert digests.digest(program) == first


def test_a_link_counts_as_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "gcc-12").write_bytes(b"one")
    os.symlink("gcc-12", tmp_path / "gcc")

    assert ProgramDigests(None).digest(tmp_path / "gcc") == ProgramDigests(None).digest(tmp_path / "gcc-12")


def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    program = tmp_path / "cc1"
    program.write_bytes(b"one")

    assert ProgramDigests(tmp_path / "cache").digest(program) == ProgramDigests(None).digest(program)
