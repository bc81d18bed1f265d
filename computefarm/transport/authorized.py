"""Who may connect: the `authorized` file, one line per key.

    role name public-key [expires=2031-05-01T12:00:00Z] [hosts=192.0.2.7,2001:db8::/32]

Roles: `client`, `worker`, `monitor`, `viewer`, `admin`. `invite:ROLE` is a temporary key that may join once;
`used:ROLE … by=KEY at=TIME` remembers such a key after it did, so that a second try gets a clear answer, and
`revoked:ROLE … at=TIME` one that was shut out, so that whoever still tries it is named in the log.
What follows a `#` is a comment; comments survive every change. A line that cannot be read is reported with
its number and refuses only itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from computefarm.errors import FarmError
from computefarm.home import private_folder, write_secret

from .keys import PublicKey, read_key, spell

ACTS_AS: dict[str, frozenset[str]] = {
    "client": frozenset({"client", "viewer"}),
    "worker": frozenset({"worker", "monitor"}),
    "monitor": frozenset({"monitor"}),
    "viewer": frozenset({"viewer"}),
    "admin": frozenset({"admin", "client", "viewer"}),
    "local": frozenset({"client", "worker", "monitor", "viewer", "admin"}),
}
"""What a key enrolled for a role may say it is; `local` is this very process."""

ROLES = tuple(role for role in ACTS_AS if role != "local")
USED_FOR_S = 30 * 86400.0
"""How long a used or expired invitation is remembered."""

GAP_S = 2.0
"""How long a file may be missing while an editor saves it; then nobody is authorised any more."""

_KINDS = ("", "invite", "used", "revoked")

_HEADER = "# who may connect to this farm: role name public-key [expires=TIME] [hosts=ADDRESS,…]\n"


class Authorization(msgspec.Struct, frozen=True):
    """What the manager knows of one key."""

    role: str
    name: str
    key: PublicKey = ""
    expires_at: float | None = None
    """Wall-clock seconds."""
    hosts: tuple[str, ...] = ()
    """Addresses or networks it may come from; any when empty."""
    by: PublicKey = ""
    """Of a used invitation: the key that was enrolled with it."""
    at: float = 0.0
    """Of a used invitation or a revoked key: when, wall-clock seconds."""

    def may(self, role: str) -> bool:
        """Return whether this key may act as `role`."""
        return role in ACTS_AS.get(self.role, frozenset())

    @property
    def invited(self) -> bool:
        """Return whether this is an invitation's key, fresh or used: good for `Join` and nothing else."""
        return self.role.startswith(("invite:", "used:"))

    @property
    def used(self) -> bool:
        """Return whether this is an invitation that has been used."""
        return self.role.startswith("used:")

    @property
    def revoked(self) -> bool:
        """Return whether this key was shut out for good."""
        return self.role.startswith("revoked:")

    @property
    def enrols(self) -> str:
        """Return the role that an invitation gives (or a revoked key had)."""
        return self.role.partition(":")[2]

    def expired(self, wall: float) -> bool:
        """Return whether its time is over at `wall`."""
        return self.expires_at is not None and wall >= self.expires_at

    def welcome_from(self, address: str) -> bool:
        """Return whether it may connect from `address` (an IP address as text)."""
        if not self.hosts:
            return True
        came = _plain_ip(address)
        return came is not None and any(came in ipaddress.ip_network(host) for host in self.hosts)


def _plain_ip(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return None
    return ip.ipv4_mapped or ip if isinstance(ip, ipaddress.IPv6Address) else ip


class BadLine(msgspec.Struct, frozen=True):
    """A line that authorises nobody because it cannot be read."""

    number: int
    text: str
    reason: str


def clean_name(name: str) -> str:
    """Return `name` as one printable word for the file."""
    return re.sub(r"[^A-Za-z0-9._@-]+", "-", name).strip("-")[:64] or "unnamed"


def format_time(wall: float) -> str:
    """Return wall-clock seconds as `2031-05-01T12:00:00Z`."""
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _read_time(text: str) -> float:
    when = datetime.fromisoformat(text)
    # Without a zone a date would mean another moment on every machine.
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _without_comment(line: str) -> str:
    return re.split(r"(?:^|\s)#", line, maxsplit=1)[0]


def parse_line(line: str) -> Authorization:
    """Return what a line says; raise `ValueError` with the reason otherwise."""
    words = _without_comment(line).split()
    if len(words) < 3:
        raise ValueError("expected: role name public-key")
    role, name, key, *options = words
    kind, colon, granted = role.rpartition(":")
    if granted not in ROLES or kind not in _KINDS or (colon and not kind):
        raise ValueError(f"unknown role {role!r} (one of {', '.join(ROLES)})")
    found: dict[str, str] = {}
    for option in options:
        word, equals, value = option.partition("=")
        if not equals or word not in ("expires", "hosts", "by", "at") or word in found:
            raise ValueError(f"unexpected {option!r} (expires=TIME or hosts=ADDRESS,… may follow the key)")
        found[word] = value
    hosts = tuple(host for host in found.get("hosts", "").split(",") if host)
    if "hosts" in found and not hosts:
        raise ValueError("hosts= names no address")
    for host in hosts:
        ipaddress.ip_network(host)
    return Authorization(
        role=role,
        name=name,
        key=read_key(key),
        expires_at=_read_time(found["expires"]) if "expires" in found else None,
        hosts=hosts,
        by=read_key(found["by"]) if "by" in found else "",
        at=_read_time(found["at"]) if "at" in found else 0.0,
    )


def format_line(entry: Authorization) -> str:
    """Return the line that `parse_line` reads back."""
    words = [entry.role, clean_name(entry.name), spell(entry.key)]
    if entry.expires_at is not None:
        words.append(f"expires={format_time(entry.expires_at)}")
    if entry.hosts:
        words.append(f"hosts={','.join(entry.hosts)}")
    if entry.by:
        words.append(f"by={spell(entry.by)}")
    if entry.at:
        words.append(f"at={format_time(entry.at)}")
    return " ".join(words)


def parse_authorized(text: str) -> tuple[dict[PublicKey, Authorization], list[BadLine]]:
    """Return the keys of a whole file and the lines that could not be read."""
    entries: dict[PublicKey, Authorization] = {}
    bad: list[BadLine] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            entry = parse_line(line)
            if entry.key in entries:
                raise ValueError("this key is on an earlier line already")
            entries[entry.key] = entry
        except ValueError as error:
            bad.append(BadLine(number=number, text=line.strip(), reason=str(error)))
    return entries, bad


class Authorized:
    """The file, read again whenever it has changed on disk.

    One that is missing or cannot be read authorises nobody, but for the moment in which an editor saves it.
    One that somebody else may have written is not read: what it said before holds on.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._clock = clock
        self._gap_until: float | None = None
        self._missing = False
        self.entries: dict[PublicKey, Authorization] = {}
        self.bad: list[BadLine] = []
        self.version = 0
        """Counts the readings; 0 means never read."""
        self._stamp: tuple[int, int, int, int] | None = None
        self._fresh = False

    def refresh(self) -> bool:
        """Read the file again if it changed; return whether it was read."""
        try:
            facts = os.stat(self.path)
        except OSError as error:
            return self._unreadable(error.strerror or str(error))
        stamp = (facts.st_mtime_ns, facts.st_size, facts.st_ino, facts.st_mode)
        if stamp == self._stamp and self._fresh:
            self._gap_until = None
            return False
        if facts.st_uid != os.geteuid() or stat.S_IMODE(facts.st_mode) & 0o022:
            self._stamp, self._fresh = stamp, True
            return self._distrust(facts)
        try:
            # A letter that is not UTF-8 spoils its own line and no other.
            text = self.path.read_text(errors="replace")
        except OSError as error:
            return self._unreadable(error.strerror or str(error))
        self._stamp, self._fresh = stamp, True
        self._gap_until, self._missing = None, False
        self.version += 1
        self.entries, self.bad = parse_authorized(text)
        return True

    def _unreadable(self, reason: str) -> bool:
        """Keep the entries for a moment, then none; return whether something changed."""
        if self._missing:
            return False
        if self.version:
            if self._gap_until is None:
                self._gap_until = self._clock() + GAP_S
            if self._clock() < self._gap_until:
                return False
        self._stamp, self._missing = None, True
        self.version += 1
        self.entries = {}
        self.bad = [BadLine(number=0, text="", reason=f"{reason}: nobody is let in")]
        return True

    def _distrust(self, facts: os.stat_result) -> bool:
        right = f"chmod 600 {self.path}"
        if facts.st_uid != os.geteuid():
            right = f"chown {os.geteuid()} {self.path}"
        self.version += 1
        self.bad = [
            BadLine(number=0, text="", reason=f"others can write it, so its changes do not count: {right}")
        ]
        return True

    def complaints(self) -> list[str]:
        """Return what is wrong with the file as last read, one text per line that counts for nobody."""
        return [
            f"{self.path}:{line.number}: this line lets nobody in: {line.reason}"
            if line.number
            else f"{self.path}: {line.reason}"
            for line in self.bad
        ]

    def find(self, key: PublicKey) -> Authorization | None:
        """Return what the table, as last refreshed, says of `key`."""
        return self.entries.get(key)

    def add(self, entry: Authorization) -> None:
        """Authorise a key, in place of what was said of it before."""
        self.edit(lambda entries: {**entries, entry.key: entry})

    def remove(self, chosen: str, wall: float | None = None) -> list[Authorization]:
        """Take out the keys spelled or named `chosen`; return what they were.

        With `wall`, the time now in seconds, they are remembered as revoked; invitations are just withdrawn.
        """
        gone: list[Authorization] = []

        def without(entries: dict[PublicKey, Authorization]) -> dict[PublicKey, Authorization]:
            gone.extend(
                entry
                for entry in entries.values()
                if not entry.revoked and chosen in (entry.name, entry.key, spell(entry.key))
            )
            left = {key: entry for key, entry in entries.items() if entry not in gone}
            if wall is not None:
                for entry in gone:
                    if not entry.invited:
                        left[entry.key] = Authorization(
                            f"revoked:{entry.role}", entry.name, entry.key, at=wall
                        )
            return left

        self.edit(without)
        return gone

    def edit(
        self, change: Callable[[dict[PublicKey, Authorization]], dict[PublicKey, Authorization]]
    ) -> None:
        """Rewrite the file with `change` applied, one writer at a time; comments and bad lines stay."""
        private_folder(self.path.parent)
        with self._locked():
            try:
                old = self.path.read_text(errors="surrogateescape")
            except FileNotFoundError:
                old = _HEADER
            except OSError as error:
                raise FarmError(f"cannot read {self.path}: {error}") from error
            entries, _ = parse_authorized(old)
            text = _rewrite(old, entries, change(dict(entries)))
            if text != old:
                write_secret(self.path, text.encode(errors="surrogateescape"))
        self._fresh = False
        self.refresh()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        lock = os.open(
            self.path.with_name(f".{self.path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _comment(line: str) -> str:
    """Return a line's comment with the space before it, or the empty string."""
    return line[len(_without_comment(line).rstrip()) :].rstrip()


def _rewrite(old: str, before: dict[PublicKey, Authorization], after: dict[PublicKey, Authorization]) -> str:
    lines: list[str] = []
    written: set[PublicKey] = set()
    for line in old.splitlines():
        try:
            key = parse_line(line).key
        except ValueError:
            lines.append(line)
            continue
        if key in after and key not in written:
            lines.append(line if after[key] == before[key] else format_line(after[key]) + _comment(line))
            written.add(key)
    lines.extend(format_line(entry) for key, entry in after.items() if key not in written)
    return "".join(f"{line}\n" for line in lines)
