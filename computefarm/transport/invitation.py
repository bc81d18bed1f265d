"""Invitations: one line that lets one more machine enrol its own key.

    cf1:HOST:PORT:SERVERKEY:SEED:FARM:CHECK

Every character survives a shell without quotes. `SEED` is the secret half of a temporary CURVE key;
the manager keeps only the public half, which may send exactly one `Join`. `CHECK` tells a slip of the
keyboard from a wrong code; it protects nothing else.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import zmq

from computefarm.codec import decode_from_manager, encode
from computefarm.errors import FarmError, Refused, SettingsError, Unreachable
from computefarm.home import Home, private_folder
from computefarm.messages import Disconnect, Join, Joined

from .addresses import Address
from .authorized import ROLES, USED_FOR_S, Authorization, Authorized, clean_name, format_time
from .farms import ACCESS, Access, check_farm_name, farms_folder, read_access, write_access
from .keys import KeyPair, PublicKey, ensure_keys, load_keys, read_key, save_keys, spell
from .peer_end import LinkState, PeerEnd

PREFIX = "cf1"
_ASK_AGAIN = "cf-taskmanager invite --role ROLE    # on the manager's machine, for a fresh line"


class Invitation(msgspec.Struct, frozen=True):
    """What an invitation line says."""

    address: Address
    server_key: PublicKey
    farm: str
    keys: KeyPair
    """The temporary pair."""

    def line(self) -> str:
        """Return the line that `parse_invitation` reads back."""
        # No brackets and colons of IPv6: shells expand the first, and the second separate our own fields.
        host = self.address.host.replace(":", "+")
        words = [
            PREFIX,
            host,
            str(self.address.port),
            spell(self.server_key),
            spell(self.keys.secret),
            self.farm,
        ]
        text = ":".join(words)
        return f"{text}:{_check(text)}"


def _check(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())[:6].decode()


def parse_invitation(line: str) -> Invitation:
    """Return what an invitation says; refuse a damaged one."""
    text = line.strip()
    words = text.split(":")
    if words[0] != PREFIX:
        raise Refused(
            f"this is not an invitation: it does not begin with {PREFIX}:",
            hint="copy the whole line that `cf-taskmanager invite` printed",
        )
    body, _, check = text.rpartition(":")
    if len(words) != 7 or not hmac.compare_digest(check.encode(), _check(body).encode()):
        raise Refused(
            "this invitation is damaged: a character is missing or was changed on the way",
            hint="copy the whole line again, as `cf-taskmanager invite` printed it",
        )
    try:
        return Invitation(
            address=Address(host=words[1].replace("+", ":"), port=int(words[2])),
            server_key=read_key(words[3]),
            keys=KeyPair.from_secret(read_key(words[4])),
            farm=check_farm_name(words[5]),
        )
    except (ValueError, SettingsError) as error:
        raise Refused(f"this invitation cannot be used: {error}", hint=_ASK_AGAIN) from error


# --- the manager's side -------------------------------------------------------------------------------


def invite(
    table: Authorized, access: Access, *, role: str, valid_s: float, address: Address, wall: float
) -> str:
    """Authorise a temporary key for one `Join` as `role` and return the line that carries it.

    `address` is where the other machine will dial; `wall` is wall-clock time now, in seconds.
    """
    if role not in ROLES:
        raise SettingsError(f"no role {role!r}: one of {', '.join(ROLES)}")
    invitation = Invitation(
        address=address, server_key=access.server_key, farm=access.farm, keys=KeyPair.make()
    )
    public = invitation.keys.public
    entry = Authorization(
        role=f"invite:{role}",
        name=f"invitation-{spell(public)[:6].strip('-_')}",
        key=public,
        expires_at=wall + valid_s,
    )
    table.edit(lambda entries: {**_without_old(entries, wall), public: entry})
    return invitation.line()


def _without_old(entries: dict[PublicKey, Authorization], wall: float) -> dict[PublicKey, Authorization]:
    return {
        key: entry
        for key, entry in entries.items()
        if not entry.invited or wall < max(entry.at, entry.expires_at or 0.0) + USED_FOR_S
    }


class Enrolment:
    """Answers `Join`: the one thing an invitation's key may say."""

    def __init__(self, table: Authorized, farm: str) -> None:
        self._table = table
        self._farm = farm

    def join(self, identity: Authorization, message: Join, wall: float) -> Joined | Disconnect:
        """Enrol the key in `message` and burn the invitation, or say why not; `wall` is in seconds."""
        answer: list[Joined | Disconnect] = []

        def change(entries: dict[PublicKey, Authorization]) -> dict[PublicKey, Authorization]:
            # Under the file's lock, so that two machines with one invitation cannot both get in.
            reason = _objection(entries, identity, message, wall)
            if reason is not None:
                answer.append(reason)
                return entries
            invitation = entries[identity.key]
            answer.append(Joined(farm=self._farm, role=invitation.enrols))
            if invitation.used:
                return entries
            name = clean_name(message.name)
            used = msgspec.structs.replace(
                invitation, role=f"used:{invitation.enrols}", name=name, by=message.public_key, at=wall
            )
            enrolled = Authorization(role=invitation.enrols, name=name, key=message.public_key)
            return {**_without_old(entries, wall), used.key: used, enrolled.key: enrolled}

        self._table.edit(change)
        return answer[0]


def _objection(
    entries: dict[PublicKey, Authorization], identity: Authorization, message: Join, wall: float
) -> Disconnect | None:
    invitation = entries.get(identity.key)
    if invitation is None:
        return Disconnect(code="key", text="this invitation was withdrawn")
    if not invitation.invited:
        return Disconnect(code="role", text="this key is enrolled already, so it cannot join")
    try:
        key = read_key(message.public_key)
    except ValueError:
        return Disconnect(code="key", text="the key to enrol is not a key")
    if invitation.used:
        # The answer to the first Join may have been lost on the way.
        if invitation.by == key and key in entries:
            return None
        text = f"this invitation was used already, by {invitation.name} on {format_time(invitation.at)}"
        return Disconnect(code="key", text=f"{text}: each lets in one machine")
    if invitation.expired(wall):
        return Disconnect(
            code="key", text=f"this invitation expired on {format_time(invitation.expires_at or 0.0)}"
        )
    if key in entries or key != message.public_key:
        return Disconnect(code="key", text="the key to enrol is known here already")
    return None


# --- the joining side ---------------------------------------------------------------------------------


def join(
    line: str,
    home: Home,
    *,
    name: str,
    timeout_s: float = 10.0,
    clock: Callable[[], float] = time.monotonic,
) -> Access:
    """Enrol a key made on this machine with the invitation `line`, and return the farm it opens.

    Joining again with a line that this very home has used is no error.
    Raises `Refused` for a damaged, wrong, used or expired line, `Unreachable` when nobody answers in time.
    """
    invitation = parse_invitation(line)
    known = _joined_before(home, invitation)
    if known is not None:
        return known
    waiting = private_folder(farms_folder(home) / ".joining") / f"{spell(invitation.keys.public)}.key"
    # Kept until the farm's folder is complete: if the answer is lost, the same key is offered again.
    keys = ensure_keys(waiting)
    try:
        joined = _exchange(invitation, Join(public_key=keys.public, name=clean_name(name)), timeout_s, clock)
    except Refused:
        waiting.unlink(missing_ok=True)
        raise
    access = _settle(home, invitation, joined, keys)
    waiting.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        waiting.parent.rmdir()
    return access


def _joined_before(home: Home, invitation: Invitation) -> Access | None:
    for path in sorted(farms_folder(home).glob(f"*/{ACCESS}")):
        with contextlib.suppress(SettingsError):
            access = read_access(path)
            if invitation.keys.public in access.invitations:
                return access
    return None


def _exchange(invitation: Invitation, message: Join, timeout_s: float, clock: Callable[[], float]) -> Joined:
    deadline = clock() + timeout_s
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    end = PeerEnd(context, str(invitation.address), server_key=invitation.server_key, keys=invitation.keys)
    try:
        while (left := deadline - clock()) > 0:
            poller = zmq.Poller()
            for socket in end.sockets():
                poller.register(socket, zmq.POLLIN)
            poller.poll(int(min(left, 1.0) * 1000) + 1)
            answer = _step(end, message)
            if answer is not None:
                return answer
        text = end.state.text if end.state else f"no TaskManager answers at {end.address}"
        raise Unreachable(
            f"could not join: {text}",
            hint=(end.state.hint if end.state else "")
            or "cf-taskmanager status    # on the manager's machine: is it running?",
        )
    finally:
        end.close()
        context.term()


def _step(end: PeerEnd, message: Join) -> Joined | None:
    for event in end.events():
        match event.state:
            case LinkState.UP:
                end.send(encode([message]))
            case LinkState.REFUSED:
                raise Refused(
                    f"the manager at {end.address} does not know this invitation: "
                    "it was withdrawn, is long over, or is for another farm",
                    hint=_ASK_AGAIN,
                )
            case LinkState.STRANGER:
                raise Refused(
                    f"what answers at {end.address} is not the manager that made this invitation",
                    hint=_ASK_AGAIN,
                )
            case LinkState.DOWN | LinkState.UNREACHABLE:
                pass
    for body, _ in end.receive():
        for answer in decode_from_manager(body):
            match answer:
                case Joined():
                    return answer
                case Disconnect():
                    raise Refused(answer.text, hint=_ASK_AGAIN)
                case _:
                    raise FarmError(
                        f"the manager at {end.address} answered Join with {type(answer).__name__}"
                    )
    return None


def _settle(home: Home, invitation: Invitation, joined: Joined, keys: KeyPair) -> Access:
    """Write the farm's folder: keys first, so that an access file never stands alone."""
    folder = _folder_for(home, invitation, joined.farm)
    earlier: tuple[PublicKey, ...] = ()
    if (folder / ACCESS).exists():
        earlier = read_access(folder / ACCESS).invitations
    if joined.role not in ROLES:
        raise FarmError(
            f"the manager enrolled this machine as {joined.role!r}, which this version does not know"
        )
    path = folder / "keys" / f"{joined.role}.key"
    private_folder(folder)
    save_keys(path, keys)
    load_keys(path)
    access = Access(
        farm=check_farm_name(joined.farm),
        address=str(invitation.address),
        server_key=invitation.server_key,
        folder=folder,
        invitations=(*earlier, invitation.keys.public),
    )
    write_access(access)
    return access


def _folder_for(home: Home, invitation: Invitation, farm: str) -> Path:
    """Return a folder that no other manager's farm of the same name occupies."""
    private_folder(farms_folder(home))
    plain = farms_folder(home) / check_farm_name(farm)
    if not (plain / "keys" / "manager.key").exists():
        try:
            known = read_access(plain / ACCESS)
            # At the same address another manager has taken the place of the one that this machine had joined.
            if known.server_key == invitation.server_key or known.address == str(invitation.address):
                return plain
        except SettingsError:
            return plain
    tail = spell(invitation.server_key)[:8].replace("-", "_")
    return farms_folder(home) / f"{farm}.{tail}"
