"""From the words of `majordomo submit` to what is submitted."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from computefarm.codec import decode_action
from computefarm.errors import UsageError
from computefarm.majordomo.adhoc import submission


def action(root: Path, *command: str, **options: Any) -> Any:
    task = submission(command, root=root, capability=options.pop("capability", "shell"), **options)
    return decode_action(task.action)


def test_several_words_are_an_argument_list_and_one_is_for_the_shell(tmp_path: Path) -> None:
    assert action(tmp_path, "printf", "%s", "", "a b").commands == (("printf", "%s", "", "a b"),)
    assert action(tmp_path, "echo a | wc").commands == ("echo a | wc",)


def test_inputs_are_files_folders_and_patterns_below_the_folder(tmp_path: Path) -> None:
    for name in ("a.txt", "sub/b.txt", "sub/.hidden", "x[1].txt", ".majordomo.db"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "a.txt").chmod(0o755)

    task = submission(
        ["true"], root=tmp_path, capability="shell", inputs=["./a.txt", "sub", "x[1].txt", "*.txt"]
    )
    entries = {entry.path: entry for entry in decode_action(task.action).inputs}

    assert sorted(entries) == ["a.txt", "sub/.hidden", "sub/b.txt", "x[1].txt"]
    assert entries["a.txt"].executable
    assert not entries["sub/b.txt"].executable
    digest = hashlib.sha256(b"sub/b.txt").digest()
    assert entries["sub/b.txt"].digest == digest
    assert task.sources[digest] == str(tmp_path / "sub/b.txt")
    assert ".majordomo.db" not in {e.path for e in action(tmp_path, "true", inputs=["."]).inputs}


def test_the_environment_is_given_or_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPT", "here")

    assert action(tmp_path, "env", environment=["KEPT", "A=b=c", "EMPTY="]).env == (
        ("A", "b=c"),
        ("EMPTY", ""),
        ("KEPT", "here"),
    )


def test_it_is_never_answered_from_the_cache_nor_answers_others(tmp_path: Path) -> None:
    task = submission(
        ["date"],
        root=tmp_path,
        capability="gcc>=9",
        cpus=2,
        memory="2GiB",
        timeout="5m",
        outputs=["out/*.txt"],
    )

    assert (task.read_cache, task.write_cache) == (False, False)
    assert (task.need.version, task.need.cpus, task.need.memory, task.need.load) == (">=9", 2, 2 << 30, 2.0)
    assert decode_action(task.action).timeout_s == 300
    assert decode_action(task.action).outputs == ("out/*.txt",)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"inputs": ["/etc/passwd"]}, "--input /etc/passwd: an absolute path"),
        ({"inputs": ["../x"]}, "--input ../x: is not below"),
        ({"inputs": ["a/../../x"]}, "is not below"),
        ({"inputs": ["gone"]}, "--input gone: there is no such file in"),
        ({"inputs": ["empty"]}, "--input empty: the folder is empty"),
        ({"inputs": ["pipe"]}, "--input pipe: is neither a file nor a folder"),
        ({"inputs": [""]}, "--input needs a path"),
        ({"outputs": ["/tmp/x"]}, "--output /tmp/x: an absolute path"),
        ({"outputs": ["../x"]}, "--output ../x: is not below"),
        ({"environment": ["=1"]}, "-e '=1': expected NAME=VALUE"),
        ({"environment": ["CF_TEST_NOT_SET"]}, "there is no such variable here"),
        ({"cpus": 0}, "cpus"),
        ({"memory": "much"}, "memory"),
        ({"timeout": "soon"}, "timeout"),
        ({"capability": "gcc>"}, "gcc>"),
    ],
)
def test_what_cannot_be_sent_is_said(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(UsageError) as caught:
        action(tmp_path, "true", **options)

    assert said in str(caught.value)


def test_an_absolute_path_below_the_folder_gets_the_relative_one_as_a_hint(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        action(tmp_path, "true", inputs=[str(tmp_path / "sub" / "a")])

    assert caught.value.hint == "--input sub/a"


def test_no_command(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no command was given"):
        action(tmp_path)
