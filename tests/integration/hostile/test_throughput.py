"""How much slower a build gets while somebody attacks: printed, never asserted as a time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from computefarm.codec import HEADER, encode
from computefarm.messages import Ask, Heartbeat
from computefarm.transport.keys import KeyPair

TASKS = 400
ROUNDS = 3

# Each attacker rests between its blows: its own processor time is not the farm's.
JUNK = """
import os, socket, sys, time
while True:
    try:
        link = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=5)
        link.sendall(os.urandom(64))
        link.close()
    except OSError:
        pass
    time.sleep(0.002)
"""

SILENT = """
import socket, sys, time
links = []
while True:
    try:
        links.append(socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=5))
    except OSError:
        pass
    time.sleep(0.02)
"""

PEER = """
import sys, time, zmq
port, server, public, secret, header, body = sys.argv[1:]
context = zmq.Context()
while True:
    peer = context.socket(zmq.DEALER)
    peer.linger = 0
    peer.curve_serverkey, peer.curve_publickey, peer.curve_secretkey = server.encode(), public.encode(), secret.encode()
    peer.connect("tcp://127.0.0.1:" + port)
    for _ in range(100):
        try:
            peer.send_multipart([bytes.fromhex(header), bytes.fromhex(body)], zmq.NOBLOCK)
        except zmq.Again:
            pass
        time.sleep(0.002)
    peer.close()
"""


def attackers(place: Any) -> dict[str, list[str]]:
    """Return what to run for each attack."""
    port = str(place.port)

    def peer(keys: KeyPair, *messages: Any) -> list[str]:
        names = (place.access.server_key, keys.public, keys.secret)
        return [PEER, port, *names, HEADER.hex(), encode(messages).hex()]

    return {
        "nobody": [],
        "junk connections, 400 a second": [JUNK, port],
        "silent connections, 50 a second": [SILENT, port],
        "an unknown key": peer(KeyPair.make(), Heartbeat()),
        "a known key without Hello": peer(place.enrol("client", "rude"), *[Heartbeat()] * 500),
        "a viewer's questions": peer(place.enrol("viewer", "nosy"), *[Ask(1, "status")] * 50),
    }


def rate(place: Any, folder: Path) -> float:
    """Return the tasks per second of one build, by majordomo's own clock."""
    done = place.call("majordomo", "run", "-a", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr + place.log()
    wall = re.search(r"wall ([0-9.]+) s", done.stdout)
    assert wall is not None, done.stdout
    return TASKS / float(wall[1])


@pytest.mark.benchmark
@pytest.mark.timeout(600)
def test_a_build_under_attack(place: Any, tmp_path: Path) -> None:
    build = place.build(TASKS)  # writes the project, and warms the farm up
    build.end()
    found: dict[str, list[float]] = {}
    plans = attackers(place)
    for _ in range(ROUNDS):  # in turn, so that a busy machine is no single attack's fault
        for name, command in plans.items():
            attack = subprocess.Popen([sys.executable, "-c", *command]) if command else None
            try:
                found.setdefault(name, []).append(rate(place, build.folder))
            finally:
                if attack is not None:
                    attack.kill()
                    attack.wait()
    alone = max(found["nobody"])
    print(f"\n{os.cpu_count()} cores, the attacker's among them; the best of {ROUNDS} builds of {TASKS} tasks")
    for name, rates in found.items():
        print(f"{max(rates):6.0f} tasks/s under attack by {name}: x{max(rates) / alone:.2f}")
