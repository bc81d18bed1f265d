"""Archives that a problem is built from: fetched once, verified, unpacked into their folder only."""

from __future__ import annotations

import contextlib
import hashlib
import os
import posixpath
import shutil
import stat
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from computefarm.problem.words import Package, ProblemError

STAMP = ".computefarm-package"
"""File in an unpacked package that says which archive it came from."""

LARGEST = 8 << 30
"""Bytes that an archive may unpack to."""

TIMEOUT_S = 60.0


def ensure(
    package: Package, project: Path, cache: Path, place: str, say: Callable[[str], None]
) -> None:
    """Put a package's files where its description says, unless they are there.

    `cache` keeps verified archives; `place` is the description's file, line and column; `say` tells the user.
    Raises `ProblemError` saying what is wrong and leaves nothing half-unpacked.
    """
    folder = project / package.unpack
    stamp = folder / STAMP
    said = f"{package.sha256.lower()} strip {package.strip}\n"
    with contextlib.suppress(OSError):
        if stamp.read_text(encoding="utf-8") == said:
            return
    if folder.is_dir() and any(folder.iterdir()) and not stamp.exists():
        raise ProblemError(
            f"{place}: package {package.name}: {package.unpack} has files that are not the package's",
            hint=f"move them away, or choose another folder for unpack; then run again: ls {package.unpack}",
        )
    archive = _fetched(package, project, cache, place, say)
    temporary = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=_parent(folder)))
    try:
        _unpack(archive, temporary, package.strip)
        (temporary / STAMP).write_text(said, encoding="utf-8")
        temporary.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    except (OSError, tarfile.TarError, zipfile.BadZipFile, EOFError, ValueError) as error:
        raise ProblemError(f"{place}: package {package.name} cannot be unpacked: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _parent(folder: Path) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder.parent


# --- fetching -----------------------------------------------------------------------------------------


def _fetched(
    package: Package, project: Path, cache: Path, place: str, say: Callable[[str], None]
) -> Path:
    """Return the verified archive, from the cache if it is there."""
    known = cache / "packages" / package.sha256.lower()
    if known.is_file() and _digest(known) == package.sha256.lower():
        return known
    say(f"fetching package {package.name} from {package.url}")
    known.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".fetching-", dir=known.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as sink, _source(package, project) as source:
            shutil.copyfileobj(source, sink, 1 << 20)
        found = _digest(temporary)
        if found != package.sha256.lower():
            raise ProblemError(
                f"{place}: package {package.name}: {package.url} has sha256 {found}, "
                f"not {package.sha256.lower()}: it is another file than the one described",
                hint="if you trust it, put the new digest into the description",
            )
        temporary.rename(known)
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise ProblemError(
            f"{place}: package {package.name}: {package.url} cannot be fetched: {reason}",
            hint=f"fetch it by other means and set url: to its path; it belongs to sha256 {package.sha256}",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return known


@contextlib.contextmanager
def _source(package: Package, project: Path) -> Iterator[IO[bytes]]:
    scheme, colon, _ = package.url.partition("://")
    if colon and scheme not in ("http", "https", "file"):
        raise ValueError(f"{scheme}:// is not one of https://, http:// and file://")
    if colon:
        request = urllib.request.Request(package.url, headers={"User-Agent": "computefarm"})
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            yield response
    else:
        with open(project / package.base / package.url, "rb") as file:
            yield file


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- unpacking ----------------------------------------------------------------------------------------


def _unpack(archive: Path, folder: Path, strip: int) -> None:
    """Unpack files and folders; links, devices and names that lead outside are refused."""
    room = [LARGEST]
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            for info in file.infolist():
                if not info.is_dir():
                    mode = info.external_attr >> 16
                    if stat.S_ISLNK(mode):
                        continue
                    with file.open(info) as source:
                        _write(folder, info.filename, strip, source, bool(mode & 0o111), room)
        return
    with tarfile.open(archive) as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isreg() else None
            if content is not None:
                _write(folder, member.name, strip, content, bool(member.mode & 0o111), room)
            elif not (member.isdir() or member.issym() or member.islnk()):
                raise ValueError(f"{member.name} is neither a file nor a folder")


def _write(
    folder: Path, name: str, strip: int, source: IO[bytes], executable: bool, room: list[int]
) -> None:
    parts = posixpath.normpath(name).split("/")
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise ValueError(f"{name!r} leads outside")
    parts = parts[strip:]
    if not parts:
        return
    path = folder.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as sink:
        while block := source.read(1 << 20):
            room[0] -= len(block)
            if room[0] < 0:
                raise ValueError(f"it unpacks to more than {LARGEST >> 30} GiB")
            sink.write(block)
    if executable:
        path.chmod(0o755)
