"""Find the capability files, and find out which of them this machine can honour.

Files are read from the package, then from the user's configuration, then from the project; a later file
replaces an earlier one that describes the same capability, or adds to it if it says `extend: true`.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Self, TypeVar

import msgspec

from computefarm.capability import Capability, Command, Probe, Variant, VersionProbe, extended, parse
from computefarm.errors import CapabilityError, FarmError, UsageError
from computefarm.home import Home
from computefarm.messages import Offer
from computefarm.spelling import QUOTED, did_you_mean

FOLDER = "capabilities"
PACKAGED = "computefarm.capabilities"
"""Where a description comes from that is shipped; the beginning of its `source`."""
SUFFIXES = (".yaml", ".yml")
FINGERPRINT_DIGITS = 16
"""Hex digits of a fingerprint: short enough to print, long enough never to meet another by chance."""
VARIANT = "variant"
"""The tag that says which variant of a capability a worker offers."""
_T = TypeVar("_T")
OWN = "cf-"
"""How the names of this package's own programs begin."""
SHOWN = 120
"""Characters of a program's output that an error quotes."""


class Catalogue:
    """All capability files that apply here, by name."""

    def __init__(self, capabilities: Iterable[Capability] = ()) -> None:
        self._by_name: dict[str, Capability] = {}
        for capability in capabilities:
            name = capability.capability
            if capability.extend:
                if name not in self._by_name:
                    raise CapabilityError(
                        f"{capability.source}: says extend: true, but nothing describes {name!r} before it; "
                        f"there are: {', '.join(sorted(self._by_name)) or 'none'}"
                    )
                capability = extended(self._by_name[name], capability)
            self._by_name[name] = capability

    @classmethod
    def load(cls, home: Home | None = None, project: Path | None = None) -> Self:
        """Read the package's files, then those of the user (`home`), then those of `project`.

        Raises `CapabilityError` for any file that breaks the schema, used or not.
        """
        found = _shipped()
        for folder in (home.config if home else None, project):
            if folder is not None:
                found += _in_folder(folder / FOLDER)
        return cls(found)

    def names(self) -> tuple[str, ...]:
        """Return the names of all capabilities, sorted."""
        return tuple(sorted(self._by_name))

    def get(self, name: str) -> Capability:
        """Return the capability called `name`; raise `UsageError` with the nearest names."""
        if name in self._by_name:
            return self._by_name[name]
        guess = did_you_mean(name, self.names(), QUOTED, most=3)
        raise UsageError(
            f"no capability file describes {name!r}; there are: {', '.join(self.names()) or 'none'}{guess}",
            hint="cf-worker --probe    # what this machine could offer, and why not the rest",
        )


def _shipped() -> list[Capability]:
    """Return what the package's own files describe."""
    entries = sorted(files("computefarm.capabilities").iterdir(), key=lambda entry: entry.name)
    return [
        parse(entry.read_text(encoding="utf-8"), f"{PACKAGED}/{entry.name}")
        for entry in entries
        if entry.name.endswith(SUFFIXES)
    ]


def _in_folder(folder: Path) -> list[Capability]:
    """Return what a folder's files describe; an absent folder has none."""
    if not folder.is_dir():
        return []
    found: dict[str, Capability] = {}
    for path in sorted(folder.iterdir()):
        if not path.name.endswith(SUFFIXES) or path.name.startswith("."):
            continue
        try:
            capability = parse(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise CapabilityError(f"{path}: cannot be read: {error}") from error
        name = capability.capability
        # Between folders a later file wins on purpose; within one it would win by accident.
        if name in found:
            raise CapabilityError(f"{path}: describes {name!r}, and so does {found[name].source}; remove one")
        found[name] = capability
    return list(found.values())


# --- probing ------------------------------------------------------------------------------------------


class Probed(msgspec.Struct, frozen=True):
    """What probing one capability showed."""

    capability: str
    offer: Offer | None
    """None when something is missing."""
    missing: tuple[str, ...] = ()
    """For people: everything that keeps this machine from offering it."""
    passed_over: tuple[str, ...] = ()
    """For people: what variants that would be preferred to the one offered lack."""


class ProgramDigests:
    """Digests of program files, kept between processes: a compiler has tens of megabytes."""

    def __init__(self, cache: Path | None) -> None:
        self._path = cache / "program-digests" if cache else None

    def digest(self, program: Path) -> str:
        """Return the sha256 (hex) of the file behind `program`; raises `OSError`."""
        real = program.resolve(strict=True)
        facts = real.stat()
        state = f"{real}\0{facts.st_size}\0{facts.st_mtime_ns}\0{facts.st_ino}\0{facts.st_dev}"
        entry = (
            self._path / sha256(state.encode(errors="surrogateescape")).hexdigest() if self._path else None
        )
        if entry is not None and (known := _digest_in(entry)):
            return known
        hashed = sha256()
        with real.open("rb") as file:
            while block := file.read(1 << 20):
                hashed.update(block)
        if entry is not None:
            _keep(entry, hashed.hexdigest())
        return hashed.hexdigest()


def _digest_in(entry: Path) -> str | None:
    try:
        text = entry.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return None
    # A torn or foreign file is no digest.
    return text if re.fullmatch(r"[0-9a-f]{64}", text) else None


def _keep(entry: Path, digest: str) -> None:
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        temporary = entry.with_name(f".{entry.name}.{os.getpid()}")
        temporary.write_text(digest, encoding="ascii")
        temporary.replace(entry)
    except OSError:
        return  # a full or read-only cache costs time at the next start, nothing else


def platform_name() -> str:
    """Return this machine's platform, as `linux-x86_64` or `darwin-arm64`."""
    return f"{platform.system().lower()}-{platform.machine().lower()}"


def probe(
    capability: Capability,
    environ: Mapping[str, str],
    timeout: float = 10.0,
    *,
    cache: Path | None = None,
) -> Probed:
    """Find out whether this machine can honour `capability`, with the programs on the PATH of `environ`.

    `timeout` (seconds) holds for each program that is run; `cache` keeps programs' digests for the next time.
    Never raises for what a machine lacks: that is `Probed.missing`.
    """
    return _Prober(capability, environ, timeout, ProgramDigests(cache)).probe()


def probe_all(
    capabilities: Sequence[Capability],
    environ: Mapping[str, str],
    *,
    timeout: float = 10.0,
    cache: Path | None = None,
) -> tuple[Probed, ...]:
    """Probe several capabilities at the same time; answers come in the order given."""
    if not capabilities:
        return ()
    with ThreadPoolExecutor(max_workers=min(8, len(capabilities)), thread_name_prefix="probe") as threads:
        return tuple(threads.map(lambda one: probe(one, environ, timeout=timeout, cache=cache), capabilities))


class _Lacking(FarmError):
    """One thing that is missing; never leaves this module."""


class _Prober:
    """Probes one capability; each program is started once, however many answers are taken from it."""

    def __init__(
        self, capability: Capability, environ: Mapping[str, str], timeout: float, digests: ProgramDigests
    ) -> None:
        self._capability = capability
        self._path = environ.get("PATH", os.defpath)
        # The C locale: programs translate the words we look for.
        self._environ = {**environ, **dict(capability.env), "LC_ALL": "C", "LANGUAGE": ""}
        self._timeout = timeout
        self._digests = digests
        self._printed: dict[Command, Future[str]] = {}
        self._missing: list[str] = []

    def probe(self) -> Probed:
        """Say what can be offered: with the first variant, if there are some, that lacks nothing."""
        variants = self._capability.variants
        if not variants:
            return self._with(None)
        missing: list[str] = []
        for variant in variants:
            probed = self._with(variant)
            if probed.offer is not None:
                return msgspec.structs.replace(probed, passed_over=tuple(missing))
            missing += [f"{variant.name}: {text}" for text in probed.missing]
        return Probed(self._capability.capability, None, tuple(missing))

    def _with(self, variant: Variant | None) -> Probed:
        """Run every program the capability names, side by side, and say everything that is missing."""
        capability, name = self._capability, self._capability.capability
        extra = variant.probe if variant else Probe()
        asked_version = extra.version or capability.probe.version
        asked_tags = tuple({**dict(capability.probe.tags), **dict(extra.tags)}.items())
        programs = capability.fingerprint + (variant.fingerprint if variant else ())
        asked = [one for _, one in asked_tags if not isinstance(one, str)]
        asked += [one for one in programs if not isinstance(one, str)]
        if asked_version is not None:
            asked.append(asked_version)
        self._missing = []
        for program in capability.requires + (variant.requires if variant else ()):
            self._try(self._required, program)
        commands = {one.run for one in asked}
        with ThreadPoolExecutor(max_workers=max(1, len(commands)), thread_name_prefix="probe") as threads:
            self._printed = {command: threads.submit(self._run, command) for command in sorted(commands)}
            version = self._try(self._ask, asked_version) if asked_version is not None else ""
            tags = [
                (tag, one if isinstance(one, str) else self._try(self._ask, one)) for tag, one in asked_tags
            ]
            identities = [self._try(self._identity, program) for program in programs]
        if self._missing:
            return Probed(name, None, tuple(dict.fromkeys(self._missing)))
        if variant is not None:
            tags.append((VARIANT, variant.name))
            identities.append(variant.name)
        resources = variant.resources if variant and variant.resources else capability.resources
        env = {**dict(capability.env), **dict(variant.env if variant else ())}
        # A tool that is told otherwise may answer otherwise.
        identities += [f"{key}={value}" for key, value in sorted(env.items())]
        offer = Offer(
            name,
            version,
            _fingerprint(name, version, identities),
            tuple(sorted(tags)),
            resources.memory,
            cpus=resources.cpus,
            gpus=resources.gpus,
            logs=(variant.logs if variant else "") or capability.logs,
        )
        return Probed(name, offer)

    def _required(self, program: str) -> str:
        return str(self._find(program))

    def _try(self, ask: Callable[[_T], str], about: _T) -> str:
        """Return the answer, or note what is missing and return nothing."""
        try:
            return ask(about)
        except _Lacking as lacking:
            self._missing.append(str(lacking))
            return ""

    def _ask(self, probe: VersionProbe) -> str:
        """Return what a program says about itself."""
        text = self._printed[probe.run].result()
        if not probe.match:
            return text
        found = re.search(probe.match, text)
        if found is None:
            raise _Lacking(
                f"{' '.join(probe.run)} printed {_short(text)}, which does not match {probe.match!r}"
            )
        return (found[1] if found.re.groups and found[1] is not None else found[0]).strip()

    def _run(self, command: Command) -> str:
        program = self._find(command[0])
        said = " ".join(command)
        try:
            code, printed = _answer((str(program), *command[1:]), self._environ, self._timeout)
        except subprocess.TimeoutExpired as error:
            raise _Lacking(f"{said} gave no answer within {self._timeout:g} s") from error
        except (OSError, ValueError) as error:
            raise _Lacking(f"{said} cannot be started: {error}") from error
        if code != 0:
            how = f"exit code {code}" if code > 0 else f"signal {-code}"
            raise _Lacking(f"{said} failed with {how}: {_short(printed)}")
        return printed.strip()

    def _find(self, program: str) -> Path:
        found = shutil.which(program, path=self._path)
        if found is None and program.startswith(OWN):
            # A worker need not have its own environment's programs on its PATH.
            found = shutil.which(program, path=os.path.dirname(sys.executable))
        if found is None:
            where = "" if "/" in program else f" in PATH ({self._path})"
            raise _Lacking(f"{program}: not found{where}")
        return Path(found)

    def _identity(self, program: str | VersionProbe) -> str:
        """Return the digest of a program's file."""
        # gcc prints a bare name for a program that it takes from the PATH.
        name = program if isinstance(program, str) else self._ask(program)
        # A file that is read, such as a library, need not be a program.
        path = Path(name) if os.path.isabs(name) and os.path.isfile(name) else self._find(name)
        try:
            return self._digests.digest(path)
        except OSError as error:
            raise _Lacking(f"{name}: {path} cannot be read: {error.strerror}") from error


def _answer(command: Command, environ: Mapping[str, str], timeout: float) -> tuple[int, str]:
    """Run `command`; return its exit code and all it printed. On time-out nothing of it is left running."""
    with subprocess.Popen(
        command,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        process_group=0,
        encoding="utf-8",
        errors="replace",
    ) as process:
        try:
            printed, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, printed


def _fingerprint(name: str, version: str, identities: Sequence[str]) -> str:
    parts = (name, version, platform_name(), *identities)
    return sha256("\0".join(parts).encode()).hexdigest()[:FINGERPRINT_DIGITS]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= SHOWN else line[:SHOWN] + "…")
