"""Peers whose key the farm knows, and who do what it does not allow: refused, named, and the build goes on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import socket
import struct
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import zmq

from computefarm.codec import HEADER, MAX_FRAME, encode, encode_action
from computefarm.messages import (
    Action,
    Ask,
    Begun,
    Cancel,
    Chunk,
    Declined,
    Disconnect,
    Done,
    Fetch,
    FileEntry,
    Finished,
    Heartbeat,
    Join,
    LoadReport,
    Need,
    Output,
    Piece,
    Register,
    Result,
    Running,
    Slice,
    Submit,
    TaskSpec,
    Welcome,
)

WHERE = r"\(key [A-Za-z0-9_-]{43}\) at 127\.0\.0\.1"
EMPTY = hashlib.sha256(b"").digest()


def submit(session: str = "evil", *, capability: str = "evil", **fields: Any) -> Submit:
    """Return a submission of one task."""
    action = encode_action(Action(capability, ("true",), **fields))
    return Submit(
        session, (Need(capability),), (TaskSpec(1, "t", 0, action, read_cache=False, write_cache=False),)
    )


def success(*outputs: FileEntry) -> Result:
    return Result("succeeded", exit_code=0, outputs=outputs)


# --- versions and roles -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("protocol", "older"), [(0, "this machine"), (2, "the manager's machine"), (99, "the manager's machine")]
)
def test_another_protocol_version(place: Any, protocol: int, older: str) -> None:
    place.small_build()
    said = place.evil("worker").hello("worker", protocol=protocol).refusal()
    assert said.code == "version"
    assert f"{older} is the older" in said.text
    assert "pip install 'computefarm==" in said.text
    place.logged(r"worker-\d+ \(evil, key evil-worker at 127\.0\.0\.1\) is gone: this farm speaks protocol 1")


@pytest.mark.parametrize(
    ("key", "role"),
    [("client", "worker"), ("viewer", "worker"), ("viewer", "client"), ("worker", "client"), ("worker", "viewer"),
     ("client", "admin"), ("worker", "admin"), ("client", "monitor"), ("worker", ""), ("client", "local")],
)  # fmt: skip
def test_a_key_that_poses_as_another_role(place: Any, key: str, role: str) -> None:
    place.small_build()
    before = len(place.log())
    said = place.evil(key).hello(role).refusal()
    assert (said.code, f"may not act as {role}" in said.text) == ("role", True)
    place.logged(
        rf"refused evil-{key} {WHERE}: the key 'evil-{key}' is a {key}'s and may not act as {role}", before
    )


@pytest.mark.parametrize(
    ("role", "message"),
    [
        ("worker", submit()), ("worker", Cancel("x")), ("viewer", submit()), ("viewer", Cancel("x")),
        ("viewer", Fetch((Slice(EMPTY, 0, 0, 0),))), ("viewer", Chunk((Slice(EMPTY, 0, 0, 0),))),
        ("viewer", Register("x", "h", "h", "p", 1, ())), ("client", Register("x", "h", "h", "p", 1, ())),
        ("client", Finished(1, 1, success())), ("client", Output(1, 1, ())), ("client", LoadReport("h", "h", 9.0, 1, 1, 1)),
        ("viewer", LoadReport("h", "h", 9.0, 1, 1, 1)), ("client", Begun(1, 1)), ("viewer", Finished(1, 1, success())),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)  # fmt: skip
def test_a_message_that_is_not_for_its_role(place: Any, role: str, message: Any) -> None:
    place.small_build()
    before = len(place.log())
    evil = place.evil(role).hello(role)
    evil.until(Welcome)
    evil.say(message)
    what = type(message).__name__
    assert evil.refusal() == Disconnect("role", f"a {role} may not send {what}")
    place.logged(rf"refused evil-{role} {WHERE}: a {role} may not send {what}", before)


def test_join_with_a_key_that_is_in(place: Any) -> None:
    evil = place.evil("worker")
    evil.say(Join("x" * 40, "evil"))
    assert evil.refusal().code == "role"


def test_a_viewer_looks(place: Any) -> None:
    evil = place.evil("viewer").hello("viewer")
    evil.until(Welcome)
    evil.say(Ask(7, "status"))
    while not [one for one in evil.heard if type(one).__name__ == "Answer"]:
        evil.listen(5)
    assert "good" in str(evil.heard[-1])


# --- other people's work ------------------------------------------------------------------------------


def test_a_name_that_is_taken(place: Any) -> None:
    place.build()
    evil = place.evil("worker").hello("worker").register("good")
    said = evil.refusal()
    assert said.code == "name"
    assert "a worker named good is already connected" in said.text
    place.logged(
        r"worker-\d+ \(evil, key evil-worker at 127\.0\.0\.1\) is gone: a worker named good is already"
    )


def test_results_of_other_people_s_tasks(place: Any) -> None:
    before = len(place.log())
    evil = place.evil(keys=place.enrol("worker", "liar")).hello("worker").register("liar", "trap")
    client = place.evil("client").hello("client")
    evil.until(Welcome)
    client.until(Welcome)
    client.say(submit("numbers", capability="trap"))
    newest = evil.task().key  # so the next ones are about here
    build = place.build(300)
    lie = success(FileEntry("out.1", EMPTY, 0))
    pattern = rf"refused liar {WHERE}: (Finished|Declined|Output) for an attempt that it was not given"
    deadline = time.monotonic() + 10
    while not re.search(pattern, place.log()[before:]) and time.monotonic() < deadline:
        keys = range(newest + 1, newest + 1 + 300 * (len(build.runs) + 1), 7)
        evil.say(*(Finished(key, 1, lie) for key in keys))
        evil.say(*(Declined(key, 1, "no") for key in keys))
        evil.say(*(Output(key, 1, (Piece(1, 0.0, "ALL YOUR BASE\n"),)) for key in keys))
        evil.listen(0.05)
        time.sleep(0.05)
    place.logged(pattern, before)
    build.end()
    assert "ALL YOUR BASE" not in "".join(text for _, _, text in build.runs)


def test_a_session_of_somebody_else(place: Any) -> None:
    owner = place.evil("client").hello("client")
    owner.until(Welcome)
    owner.say(submit("mine", capability="nobody"))
    other = place.evil(keys=place.enrol("client", "evil-twin")).hello("client", boot="other")
    other.until(Welcome)
    time.sleep(0.3)
    other.say(Cancel("mine"))
    said = other.refusal()
    assert said.code in ("key", "role")
    assert "mine" in said.text
    owner.listen(0.5)
    assert not [one for one in owner.heard if isinstance(one, Done)], "it still waits"


def test_a_worker_that_claims_to_run_what_it_was_not_given(place: Any) -> None:
    place.build(200)
    running = tuple(Running(key, 1) for key in range(1, 1000))
    evil = place.evil("worker").hello("worker")
    evil.until(Welcome)
    evil.say(Register("claims", "evil-host", "evil", "p", 1, (), running=running))
    evil.listen(0.5)


# --- what comes back ----------------------------------------------------------------------------------

PATHS = {
    "above": "../evil.txt", "absolute": "/tmp/evil.txt", "inside": "a/../../evil.txt", "nul": "a\0b", "long": "x" * 5000,
    "undeclared": "dodo.py", "hook": ".git/hooks/post-commit", "empty": "", "dot": "./out",
}  # fmt: skip


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS.keys())
def test_an_output_with_a_path_of_its_own_choice(place: Any, path: str) -> None:
    place.small_build()
    before = len(place.log())
    # Of its own, or the worker is given what another test has left waiting.
    trap = f"trap-{list(PATHS.values()).index(path)}"
    victim = place.evil("client").hello("client")
    evil = place.evil("worker").hello("worker", boot="w").register("evil", trap)
    victim.until(Welcome)
    victim.say(submit(trap, capability=trap, outputs=("out",)))
    run = evil.task()
    evil.say(Finished(run.key, run.attempt, success(FileEntry(path, EMPTY, 0)), run.epoch))
    done = victim.until(Done)
    assert done.result.outcome == "failed"
    assert "the worker sent what it must not: output " in done.result.reason
    assert done.result.outputs == ()
    place.logged(rf"refused evil-worker {WHERE}: the worker sent what it must not: output", before)


def test_an_output_below_a_link_that_leads_out(place: Any, tmp_path: Any) -> None:
    """What the manager cannot know the client checks: where a folder of its own leads."""
    project, outside = tmp_path / "project", tmp_path / "outside"
    project.mkdir()
    outside.mkdir()
    (project / "link").symlink_to(outside)
    (project / "dodo.py").write_text(
        "from computefarm import needs\n\n\ndef task_t():\n"
        "    return {'actions': ['mkdir -p link && echo evil > link/x'], 'targets': ['link/x'],"
        " 'meta': needs('shell', cache=False)}\n"
    )
    done = place.call("majordomo", "run", cwd=project)
    assert done.returncode == 1
    assert "outside the project" in done.stdout + done.stderr
    assert list(outside.iterdir()) == []


def bomb(entries: int) -> bytes:
    """Return a `Finished` with so many outputs, each as short as it can be."""
    entry = b"\x93\xa0\xc4\x20" + EMPTY + b"\x00"
    result = b"\x95\xa9succeeded\xc0\xc0\xa0\xdd" + struct.pack(">I", entries) + entry * min(entries, 100)
    return b"\x91\x94\xa8finished\x01\x01" + result


@pytest.mark.parametrize("entries", [1_000_000, 0xFFFFFFFF, 99_999])
def test_a_count_of_outputs_that_is_a_bomb(place: Any, entries: int) -> None:
    place.small_build()
    memory = place.memory()
    evil = place.evil("worker").hello("worker").register()
    evil.until(Welcome)
    for _ in range(50):
        evil.raw(bomb(entries))
    assert evil.refusal().code == "protocol"
    place.logged(rf"refused evil-worker {WHERE}: not a message for a manager")
    assert place.memory() - memory < 100 << 20


@pytest.mark.parametrize(
    "body",
    [b"\xdd\xff\xff\xff\xff", b"\x91" * 100_000, b"\x91\x93\xa6cancel\xa1x\xdd\xff\xff\xff\xff", b"\xc1", b"",
     b"\xdd\x00\x04\x93\xe0" + b"\x91\xa9heartbeat" * 300_000, b"\x91\x92\xa4join\xdb\xff\xff\xff\xff", b"\x91\xa5hello",
     b"\x91\x92\xa9heartbeat\xc7\xff\xff", os.urandom(1_000_000)],
    ids=["list", "nested", "tuple", "unused", "nothing", "beats", "text", "short", "extension", "random"],
)  # fmt: skip
def test_messages_that_are_none(place: Any, body: bytes) -> None:
    place.small_build()
    memory = place.memory()
    evil = place.evil("client").hello("client")
    evil.until(Welcome)
    for _ in range(3):
        evil.raw(body)
    assert evil.refusal().code == "protocol"
    assert place.memory() - memory < 100 << 20


def test_an_action_that_no_frame_to_a_worker_holds(place: Any) -> None:
    place.small_build()
    evil = place.evil("client").hello("client")
    evil.until(Welcome)
    evil.say(submit("giant", capability="shell", salt="x" * (MAX_FRAME - 2000)))
    done = evil.until(Done)
    assert done.result.outcome == "failed"
    assert "bytes" in done.result.reason


def test_first_words_that_come_twice_take_nothing_back(place: Any) -> None:
    """Taken for a new connection's, they would say that the worker has nothing in hand, and the task start again."""
    client = place.evil("client").hello("client")
    evil = place.evil("worker").hello("worker", boot="w").register("evil", "twice")
    client.until(Welcome)
    client.say(submit("twice", capability="twice"))
    run = evil.task()
    evil.hello("worker", boot="w").register("evil", "twice")
    evil.say(Finished(run.key, run.attempt, success(), run.epoch))
    assert [(one.attempt, one.outcome) for one in client.until(Done).attempts] == [(1, "succeeded")]


def test_output_that_no_frame_to_a_client_holds(place: Any) -> None:
    """Letters of four bytes count once when gathered and four times when sent."""
    victim = place.evil("client").hello("client")
    evil = place.evil("worker").hello("worker", boot="w").register("evil", "loud")
    victim.until(Welcome)
    victim.say(submit("loud", capability="loud"))
    run = evil.task()
    text = "\N{SKULL AND CROSSBONES}" * (MAX_FRAME // 3 - 1000)
    evil.say(Output(run.key, run.attempt, (Piece(1, 0.0, text),)))
    pieces = tuple(Piece(1, 0.0, "", n) for n in range(90_000))
    evil.say(Output(run.key, run.attempt, pieces))
    evil.say(Finished(run.key, run.attempt, Result("failed", exit_code=1, reason=text[: len(text) - 100])))
    assert victim.until(Done).result.outcome == "failed"


# --- files --------------------------------------------------------------------------------------------


def test_a_chunk_that_nobody_asked_for(place: Any) -> None:
    place.small_build()
    before = len(place.log())
    for role in ("client", "worker"):
        evil = place.evil(role).hello(role, channel="bulk")
        evil.say(Chunk((Slice(EMPTY, 5, 0, 5),)), data=b"hello")
        place.logged(rf"refused evil-{role} {WHERE}: a chunk that nobody asked for", before)


def test_wrong_bytes_for_a_digest(place: Any) -> None:
    place.small_build()
    digest = hashlib.sha256(b"what was promised").digest()
    control, bulk = place.evil("client").hello("client"), place.evil("client").hello("client", channel="bulk")
    control.until(Welcome)
    control.say(submit("wrong", capability="shell", inputs=(FileEntry("in", digest, 17),)))
    bulk.until(Fetch)
    bulk.say(Chunk((Slice(digest, 17, 0, 17),)), data=b"something else !!")
    done = control.until(Done)
    assert done.result.outcome == "failed"
    assert "in could not be sent" in done.result.reason
    place.logged(r"client-\d+ \(evil, key evil-client at 127\.0\.0\.1\) cannot deliver 1 files: .*damaged")
    assert not list((place.folder / "boss/cache/blobs").rglob(digest.hex()))


@pytest.mark.parametrize(
    "piece",
    [(1 << 52, 0, 5), (5, 1 << 52, 5), (0, 0, 5), (1 << 40, 0, 0)],
    ids=["huge", "far", "less", "nothing"],
)
def test_slices_that_do_not_fit(place: Any, piece: tuple[int, int, int]) -> None:
    place.small_build()
    digest = hashlib.sha256(str(piece).encode()).digest()
    control, bulk = place.evil("client").hello("client"), place.evil("client").hello("client", channel="bulk")
    control.until(Welcome)
    control.say(submit(f"slices-{piece}", capability="shell", inputs=(FileEntry("in", digest, 17),)))
    bulk.until(Fetch)
    bulk.say(Chunk((Slice(digest, *piece),)), data=b"x" * piece[2])
    control.listen(0.5)


# --- floods -------------------------------------------------------------------------------------------


def flood(evil: Any, body: bytes, seconds: float) -> int:
    """Send as fast as the socket takes it."""
    sent, deadline = 0, time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            evil.socket.send_multipart([HEADER, body], zmq.NOBLOCK)
            sent += 1
        except zmq.Again:
            time.sleep(0.001)
    return sent


@pytest.mark.parametrize(
    "message",
    [Heartbeat(), Ask(1, "status"), Ask(1, "explain", "", "t")],
    ids=["heartbeats", "status", "explain"],
)
def test_a_flood_of_control_messages(place: Any, message: Any) -> None:
    place.build(100)
    before = len(place.log())
    name = f"flood-{type(message).__name__}-{getattr(message, 'about', '')}"
    evil = place.evil(keys=place.enrol("client", name)).hello("client")
    evil.until(Welcome)
    assert flood(evil, encode([message] * 500), 3.0) > 10
    place.logged(
        rf"refused {name.rstrip('-')} {WHERE}: it flooded the manager, and stays out for 10 s", before
    )


def test_a_peer_that_never_reads(place: Any) -> None:
    place.build(50)
    memory, before = place.memory(), len(place.log())
    path = place.folder / "big"
    path.write_bytes(os.urandom(8 << 20))
    project = place.folder / "reads"
    project.mkdir()
    (project / "big").write_bytes(path.read_bytes())
    (project / "dodo.py").write_text(
        "from computefarm import needs\n\n\ndef task_t():\n"
        "    return {'actions': ['wc -c big'], 'file_dep': ['big'], 'meta': needs('shell')}\n"
    )
    assert place.call("majordomo", "run", cwd=project).returncode == 0
    digest = hashlib.sha256(path.read_bytes()).digest()
    name = "never-reads"
    evil = place.evil(keys=place.enrol("client", name), rcvhwm=1, rcvbuf=4096).hello("client", channel="bulk")
    asks = encode([Fetch((Slice(digest, 8 << 20, 0, 8 << 20),))])
    flood(evil, asks, 3.0)
    assert place.memory() - memory < 300 << 20
    assert len(place.log()) - before < 100_000


class SlowTap:
    """Carries one connection to the manager, no faster than a good network would."""

    def __init__(self, port: int) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._server.getsockname()[1]}"
        self._far = port
        self.carried = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        near, _ = self._server.accept()
        far = socket.create_connection(("127.0.0.1", self._far))
        threading.Thread(target=self._back, args=(far, near), daemon=True).start()
        with near, far, contextlib.suppress(OSError):
            while data := near.recv(1 << 18):
                far.sendall(data)
                self.carried += len(data)
                time.sleep(0.003)

    @staticmethod
    def _back(far: socket.socket, near: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := far.recv(65536):
                near.sendall(data)

    def close(self) -> None:
        self._server.close()


def test_an_endless_message(place: Any) -> None:
    place.small_build()
    memory, before = place.memory(), len(place.log())
    tap, keys = SlowTap(place.port), place.enrol("worker", "endless")
    control = place.evil(keys=keys).hello("worker")
    control.until(Welcome)
    bulk = place.evil(keys=keys, address=tap.address).hello("worker", channel="bulk")
    part = b"x" * (1 << 20)
    for _ in range(400):
        bulk.socket.send(part, zmq.SNDMORE, copy=False)
    bulk.socket.send(b"")  # only now ZeroMQ begins to send
    pattern = rf"refused endless {WHERE}: \d+ MiB came that are no end of a message"
    deadline = time.monotonic() + 60
    while not re.search(pattern, place.log()[before:]):
        assert time.monotonic() < deadline, place.log()[before:]
        control.say(Heartbeat())
        time.sleep(0.5)
    assert tap.carried < 300 << 20
    assert place.memory() - memory < 400 << 20
    tap.close()


# --- a key that is taken away meanwhile ---------------------------------------------------------------


def rewrite(path: Path, text: str) -> None:
    """Change a file in one step: a manager that reads half of it would take the other half's rights away."""
    part = path.with_name(".part")
    part.write_text(text)
    part.chmod(0o600)
    part.replace(path)


@pytest.mark.parametrize("how", ["revoke", "expire", "role"])
def test_a_key_that_loses_its_right_stops_at_once(place: Any, how: str) -> None:
    place.build(50)
    name = f"loses-{how}"
    evil = place.evil(keys=place.enrol("client", name)).hello("client")
    evil.until(Welcome)
    stop = threading.Event()

    def talk() -> None:
        while not stop.wait(0.02):
            with contextlib.suppress(zmq.Again):
                evil.socket.send_multipart([HEADER, encode([Heartbeat()])], zmq.NOBLOCK)

    talker = threading.Thread(target=talk)
    talker.start()
    before = len(place.log())
    path = place.folder / "boss/config/farms/default/authorized"
    try:
        if how == "revoke":
            done = place.call("cf-taskmanager", "revoke", name)
            assert done.stdout == f"revoked client {name}: 1 live connection ended\n", done.stderr
            place.logged(
                rf"refused {name} {WHERE}: this key was revoked on .*; its connection is closed", before
            )
        elif how == "expire":
            text = path.read_text()
            [line] = [one for one in text.splitlines() if f" {name} " in one]
            rewrite(path, text.replace(line, f"{line} expires=2001-01-01"))
            place.logged(rf"refused {name} {WHERE}: this key expired on .*; its connection is closed", before)
        else:
            rewrite(path, path.read_text().replace(f"client {name} ", f"viewer {name} "))
            place.logged(rf"refused {name} {WHERE}: this key is a viewer's and may not act as client", before)
    finally:
        stop.set()
        talker.join()
    keys = json.loads(place.call("cf-taskmanager", "keys", "--json").stdout)["keys"]
    [row] = [row for row in keys if row["name"] == name]
    assert (row["state"], row["role"]) == {
        "revoke": ("revoked", "client"), "expire": ("expired", "client"), "role": ("good", "viewer"),
    }[how]  # fmt: skip
