"""One ad-hoc task: from the words of a command line to a submission, without a dodo file."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from computefarm.backends.base import Submission
from computefarm.codec import encode_action
from computefarm.core.placement import mismatch
from computefarm.errors import UsageError
from computefarm.messages import Action, Digest, FileEntry, Pool
from computefarm.needs import needs, read_needs
from computefarm.spelling import QUOTED, did_you_mean

from .farm_tasks import FarmTasks
from .toolchains import need_of

if TYPE_CHECKING:
    from computefarm.needs import Needs

WRONG = re.compile(r"needs\((?P<name>\w+)=.*\): expected (?P<expected>.*)", re.DOTALL)
"""What `needs` says of an argument."""

EXAMPLES = {"cpus": "2", "memory": "2GiB", "timeout": "10m"}
"""What may follow an option."""

NUMBER = 1
"""The only task of its session."""


def submission(
    command: Sequence[str],
    *,
    root: Path,
    capability: str,
    environment: Sequence[str] = (),
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    cpus: int | None = None,
    memory: str = "",
    timeout: str = "",
) -> Submission:
    """Return what to submit for a command given below `root`.

    Several words are an argument list; one word alone is a line for the shell.
    It is never answered from the result cache, nor does its result answer others: who asks for one command
    to be run wants it to run.

    Raises `UsageError` for what cannot be sent, naming the option.
    """
    if not command:
        raise UsageError(
            "no command was given", hint="majordomo submit --capability shell -- echo hello    # after the --"
        )
    given, passed = _environment(environment)
    asked = _asked(capability, given, passed, cpus, memory, timeout)
    entries, sources = _gather(root, inputs)
    action = Action(
        capability=asked.capability,
        commands=(command[0],) if len(command) == 1 else (tuple(command),),
        inputs=tuple(entries),
        outputs=tuple(_inside(root, "--output", path) for path in outputs),
        env=tuple(sorted({**{name: os.environ[name] for name in passed}, **given}.items())),
        timeout_s=asked.timeout,
    )
    return Submission(
        task=NUMBER,
        name=os.path.basename(next(iter(command[0].split()), "command")),
        need=need_of(asked, None),
        action=encode_action(action),
        sources=sources,
        project=root,
        read_cache=False,
        write_cache=False,
    )


def completed(task: Submission, pools: Iterable[Pool], *, cpus: int | None, memory: str) -> Submission:
    """Return a submission with what the capability's file says, where the command line says nothing."""
    need = task.need
    for pool in pools:
        offer = pool.offer
        if mismatch(need, offer, pool.platform) is None:
            slots = cpus or offer.cpus
            need = msgspec.structs.replace(
                need,
                cpus=slots,
                load=float(slots),
                memory=need.memory or offer.memory,
                gpus=offer.gpus,
                logs=offer.logs,
                expected=not memory and offer.memory > 0,
            )
            return msgspec.structs.replace(task, need=need)
    return task


def _asked(
    capability: str, given: dict[str, str], passed: list[str], cpus: int | None, memory: str, timeout: str
) -> Needs:
    """Return what a worker must have, checked as `needs(…)` of a dodo file is."""
    for name in passed:
        if name not in os.environ:
            raise UsageError(f"-e {name}: there is no such variable here", hint=f"-e {name}=VALUE")
    try:
        asked = read_needs(
            needs(
                capability,
                env=given or None,
                pass_env=passed,
                cpus=cpus,
                memory=memory or None,
                timeout=timeout or None,
            )
        )
    except UsageError as error:
        raise _as_option(error, {"cpus": cpus, "memory": memory, "timeout": timeout}) from error
    assert asked is not None
    return asked


def _as_option(error: UsageError, given: Mapping[str, object]) -> UsageError:
    """Return an error that speaks of the option which the user has typed."""
    said = WRONG.fullmatch(error.args[0])
    if said is None or said["name"] not in given:
        return UsageError(f"--capability: {error.args[0]}", hint="majordomo capabilities    # what there is")
    name = said["name"]
    hint = f"majordomo submit … --{name} {EXAMPLES[name]} -- command…"
    return UsageError(f"--{name} {given[name]}: expected {said['expected']}", hint=hint)


def _environment(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Split `-e` into what has a value and what is passed on from here."""
    given, passed = {}, []
    for word in words:
        name, equals, value = word.partition("=")
        if not name:
            raise UsageError(f"-e {word!r}: expected NAME=VALUE, or NAME to pass on the value it has here")
        if equals:
            given[name] = value
        else:
            passed.append(name)
    return given, passed


def _inside(root: Path, option: str, path: str) -> str:
    """Return `path` in plain form; raise for one that is not below `root`."""
    if not path:
        raise UsageError(f"{option} needs a path")
    plain = os.path.normpath(path)
    if os.path.isabs(plain):
        hint = ""
        if plain.startswith(f"{root}{os.sep}"):
            hint = f"{option} {os.path.relpath(plain, root)}"
        raise UsageError(
            f"{option} {path}: an absolute path means this machine only; "
            f"files travel by their place below {root}",
            hint=hint or f"cd to a folder that holds it, or: cp {path} .",
        )
    if plain.split(os.sep, 1)[0] == "..":
        raise UsageError(
            f"{option} {path}: is not below {root}", hint="cd to a folder that holds all files of the command"
        )
    return plain


def _gather(root: Path, inputs: Sequence[str]) -> tuple[list[FileEntry], dict[Digest, str]]:
    farm = FarmTasks(str(root))
    paths: set[str] = set()
    for given in inputs:
        plain = _inside(root, "--input", given)
        pattern = glob.escape(plain) if (root / plain).exists() else plain
        found = farm.expand(pattern)
        if not found:
            empty = (root / plain).is_dir()
            here = [path.name for path in (root / plain).parent.glob("*")] if not empty else []
            why = "the folder is empty" if empty else f"there is no such file in {root}"
            raise UsageError(
                f"--input {given}: {why}{did_you_mean(Path(plain).name, here, QUOTED)}",
                hint=f"ls {Path(plain).parent}    # an input is a file, a folder or a pattern below it",
            )
        paths.update(found)
    entries, sources = [], {}
    for path in sorted(paths):
        entry = _entry(root, path)
        entries.append(entry)
        sources[entry.digest] = str(root / path)
    return entries, sources


def _entry(root: Path, path: str) -> FileEntry:
    place = root / path
    if place.exists() and not place.is_file():
        raise UsageError(f"--input {path}: is neither a file nor a folder, so it cannot travel")
    try:
        with place.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
            facts = os.fstat(file.fileno())
    except OSError as error:
        raise UsageError(f"--input {path}: cannot read it: {error.strerror}") from error
    return FileEntry(path, digest, facts.st_size, bool(facts.st_mode & 0o111))
