"""Probing with programs made for the purpose, and with the machine's own compiler where there is one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import psutil
import pytest

from computefarm.capability import parse
from computefarm.catalogue import Catalogue, Probed, platform_name, probe, probe_all
from computefarm.messages import Offer

TEXT = """\
capability: tex
summary: Typeset
worker: shell
probe:
  version: {run: [tex, --version], match: 'TeX (\\d+(\\.\\d+)+)'}
  tags: {flavour: plain, target: {run: [tex, --target]}}
fingerprint: [tex, {run: [tex, --engine]}]
resources: {memory: 1KiB}
"""


@pytest.fixture
def bin(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


def program(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def tex(bin: Path, *, version: str = "echo This is TeX 3.14.15 for you", engine: str = "") -> None:
    program(bin / "engine", engine or "exit 0")
    program(
        bin / "tex",
        f'case "$1" in --version) {version};; --target) echo paper;; --engine) echo {bin}/engine;; esac',
    )


def probed(bin: Path, text: str = TEXT, timeout: float = 10.0) -> Probed:
    return probe(parse(text, "tex.yaml"), {"PATH": str(bin)}, timeout=timeout)


def offer(result: Probed) -> Offer:
    assert result.offer is not None, result.missing
    return result.offer


def missing(result: Probed) -> str:
    assert result.offer is None
    return "\n".join(result.missing)


def test_everything_there(bin: Path) -> None:
    tex(bin)

    found = offer(probed(bin))

    assert (found.capability, found.version, found.memory) == ("tex", "3.14.15", 1024)
    assert found.tags == (("flavour", "plain"), ("target", "paper"))
    assert len(found.fingerprint) >= 12
    assert int(found.fingerprint, 16) >= 0


def test_the_fingerprint_is_the_programs_not_their_place_or_time(bin: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    fixed = TEXT.replace("{run: [tex, --engine]}", "engine")
    tex(bin)
    first = offer(probed(bin, fixed)).fingerprint
    shutil.copytree(bin, elsewhere, dirs_exist_ok=True)
    os.utime(elsewhere / "engine", (0, 0))

    assert offer(probed(elsewhere, fixed)).fingerprint == first


def test_another_engine_is_another_fingerprint(bin: Path) -> None:
    tex(bin)
    first = offer(probed(bin)).fingerprint
    tex(bin, engine="exit 1")

    assert offer(probed(bin)).fingerprint != first


def test_another_environment_is_another_fingerprint(bin: Path) -> None:
    tex(bin)
    plain = offer(probed(bin)).fingerprint
    small = offer(probed(bin, TEXT + "env: {PAPER: a4}\n")).fingerprint
    large = offer(probed(bin, TEXT + "env: {PAPER: a3}\n")).fingerprint
    in_variant = offer(probed(bin, TEXT + "variants: {one: {env: {PAPER: a4}}}\n")).fingerprint
    other_variant = offer(probed(bin, TEXT + "variants: {one: {env: {PAPER: a3}}}\n")).fingerprint
    assert len({plain, small, large, in_variant, other_variant}) == 5
    assert offer(probed(bin, TEXT + "env: {}\n")).fingerprint == plain


def test_an_offer_tells_what_a_task_takes_and_who_understands_its_lines(bin: Path) -> None:
    tex(bin)
    text = TEXT.replace("{memory: 1KiB}", "{memory: 1KiB, cpus: 2, gpus: 1}") + "logs: latex\n"
    found = offer(probed(bin, text))
    assert (found.cpus, found.gpus, found.memory, found.logs) == (2, 1, 1024, "latex")
    found = offer(probed(bin, text + "variants: {one: {resources: {cpus: 3}, logs: context}}\n"))
    assert (found.cpus, found.gpus, found.memory, found.logs) == (3, 0, 0, "context")


def test_another_version_is_another_fingerprint_even_of_the_same_files(bin: Path) -> None:
    program(bin / "tex", f"read line < {bin}/version; echo $line")
    text = TEXT.replace("  tags: {flavour: plain, target: {run: [tex, --target]}}\n", "").replace(
        "[tex, {run: [tex, --engine]}]", "[tex]"
    )
    (bin / "version").write_text("TeX 3.1\n")
    first = offer(probed(bin, text)).fingerprint
    (bin / "version").write_text("TeX 3.2\n")

    assert offer(probed(bin, text)).fingerprint != first


def test_nothing_there_says_where_it_looked(bin: Path) -> None:
    assert probed(bin).missing == (f"tex: not found in PATH ({bin})",)


def test_a_path_that_is_not_there(bin: Path) -> None:
    text = TEXT.replace("run: [tex, --version]", f"run: [{bin}/nothing]").replace(
        "match: 'TeX (\\d+(\\.\\d+)+)'", "match: x"
    )
    tex(bin)

    assert missing(probed(bin, text)) == f"{bin}/nothing: not found"


def test_an_answer_that_does_not_match_is_quoted(bin: Path) -> None:
    tex(bin, version="echo 'no idea, sorry'")

    assert missing(probed(bin)) == (
        r"tex --version printed 'no idea, sorry', which does not match 'TeX (\\d+(\\.\\d+)+)'"
    )


def test_a_failing_program_is_quoted_with_its_exit_code(bin: Path) -> None:
    tex(bin, version="echo broken >&2; exit 3")

    assert missing(probed(bin)) == "tex --version failed with exit code 3: 'broken'"


def test_a_program_killed_by_a_signal(bin: Path) -> None:
    tex(bin, version="kill -SEGV $$")

    assert "tex --version failed with signal 11" in missing(probed(bin))


def test_a_program_that_hangs_is_given_up_with_its_children(bin: Path) -> None:
    tex(bin, version=f"{shutil.which('sleep')} 60 & echo $! > {bin}/child; wait")

    assert missing(probed(bin, timeout=0.2)) == "tex --version gave no answer within 0.2 s"
    child = int((bin / "child").read_text())
    # Nobody may have buried it yet, but it no longer runs.
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_a_file_that_is_no_program(bin: Path) -> None:
    (bin / "tex").write_bytes(b"\x7fELF rubbish")
    (bin / "tex").chmod(0o755)

    assert "tex --version cannot be started" in missing(probed(bin))


def test_an_engine_that_is_not_there_is_named(bin: Path) -> None:
    tex(bin)
    (bin / "engine").unlink()

    assert missing(probed(bin)) == f"{bin}/engine: not found"


def test_the_programs_speak_c(bin: Path) -> None:
    program(bin / "tex", 'echo "$LC_ALL"')
    text = "capability: t\nsummary: s\nworker: shell\nprobe: {tags: {locale: {run: [tex]}}}\n"
    result = probe(parse(text, "t"), {"PATH": str(bin), "LC_ALL": "de_DE.UTF-8", "LANGUAGE": "de"})

    assert offer(result).tags == (("locale", "C"),)


def test_each_command_is_started_once_however_many_answers_are_taken(bin: Path) -> None:
    program(bin / "tex", f"echo x >> {bin}/starts; echo 1.2 three")
    text = (
        "capability: t\nsummary: s\nworker: shell\n"
        "probe: {version: {run: [tex], match: '(\\S+) '}, tags: {n: {run: [tex], match: ' (\\S+)'}}}\n"
    )
    found = offer(probed(bin, text))

    assert (found.version, found.tags) == ("1.2", (("n", "three"),))
    assert (bin / "starts").read_text() == "x\n"


def test_a_capability_without_a_probe_is_always_there(bin: Path) -> None:
    found = offer(probed(bin, "capability: t\nsummary: s\nworker: shell\n"))

    assert found.version == ""
    assert found.fingerprint


def test_several_at_once_come_back_in_order(bin: Path) -> None:
    tex(bin)
    known = parse(TEXT, "tex.yaml")
    unknown = parse(TEXT.replace("[tex,", "[xet,"), "xet.yaml")

    results = probe_all([known, unknown, known], {"PATH": str(bin)})

    assert [result.offer is not None for result in results] == [True, False, True]
    assert probe_all([], {}) == ()


def test_the_shell_is_the_same_on_every_machine_of_a_platform() -> None:
    found = offer(probe(Catalogue.load().get("shell"), {"PATH": "/nowhere"}))

    assert found.version == "1.0"
    if platform_name() == "linux-x86_64":
        assert found.fingerprint == "4588a28a0bb0d7ff"


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc on this machine")
def test_the_machines_gcc(tmp_path: Path) -> None:
    gcc = Catalogue.load().get("gcc")

    first = offer(probe(gcc, os.environ, cache=tmp_path))
    again = offer(probe(gcc, os.environ, cache=tmp_path))

    assert first == again
    assert first.version[0].isdigit()
    assert dict(first.tags)["target"]
    assert len(list((tmp_path / "program-digests").iterdir())) == 4


def test_a_python_is_known_by_its_interpreter_not_by_a_wrapper(bin: Path) -> None:
    real = shutil.which("python3")
    assert real is not None
    program(bin / "python3", f'exec {real} "$@"')
    capability = Catalogue.load().get("python")

    wrapped = offer(probe(capability, {"PATH": f"{bin}:{os.environ['PATH']}"}))
    direct = offer(probe(capability, os.environ))

    assert wrapped == direct
    assert direct.version.count(".") == 2
    assert dict(direct.tags)["implementation"] == "cpython"
