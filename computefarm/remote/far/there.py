"""Does one thing that the manager's machine asks for, and answers with one line of JSON."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from .installing import InstallError, install, installed, sweep
from .services import LINK, ServiceError, Services, programs

ANSWER = "CF-ANSWER "
"""Begins the line that counts; login scripts print all kinds of things."""

ZMTP = (b"\xff", b"\x7f")
"""First and tenth byte that a ZeroMQ socket says unasked."""

KINDS = {
    errno.ENOSPC: "disk",
    errno.EDQUOT: "disk",
    errno.EACCES: "permission",
    errno.EPERM: "permission",
    errno.EROFS: "permission",
}
Json = dict[str, Any]


def main(request: Json, stream: BinaryIO) -> int:
    """Do what is asked, print the answer, return the exit code."""
    try:
        answer = {"result": ERRANDS[request["do"]](request, stream)}
    except InstallError as error:
        answer = {"error": str(error), "kind": error.kind}
    except ServiceError as error:
        answer = {"error": str(error), "kind": "service"}
    except OSError as error:
        answer = {"error": str(error), "kind": KINDS.get(error.errno or 0, "system")}
    except subprocess.SubprocessError as error:
        answer = {"error": str(error), "kind": "system"}
    print(ANSWER + json.dumps(answer), flush=True)
    return 1 if "error" in answer else 0


def reach(request: Json, _: BinaryIO) -> list[Json]:
    """Try to connect to each of `addresses`; say what was found."""
    return [knock(host, port, request["patience_s"]) for host, port in request["addresses"]]


def knock(host: str, port: int, patience_s: float) -> Json:
    """Connect to one address and listen for a ZeroMQ greeting."""
    told: Json = {"host": host, "port": port, "ok": False, "text": ""}
    began = time.monotonic()
    try:
        with socket.create_connection((host, port), timeout=patience_s) as connection:
            said = b""
            with contextlib.suppress(TimeoutError):
                while len(said) < 10 and (data := connection.recv(10 - len(said))):
                    said += data
    except OSError as error:
        told["text"] = "timed out" if isinstance(error, TimeoutError) else error.strerror or str(error)
        return told
    told["ok"] = len(said) == 10 and said[:1] == ZMTP[0] and said[9:] == ZMTP[1]
    told["text"] = (
        f"{time.monotonic() - began:.3f} s" if told["ok"] else "something else than a TaskManager answers"
    )
    return told


def free_port(request: Json, _: BinaryIO) -> int:
    """Return a port of the loopback interface that nobody uses: `wanted`, or any other."""
    # Below what systems hand out to outgoing connections, so that it is still free after a break.
    tries = [request.get("wanted") or 0, *(random.randrange(20000, 32000) for _ in range(50))]
    for port in filter(None, tries):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return int(port)
    raise OSError(errno.EADDRINUSE, "no free port was found")


def call(request: Json, _: BinaryIO) -> Json:
    """Run a command of the installed program; its input and environment come in the request."""
    environ = {**os.environ, **request["environ"]}
    done = subprocess.run(
        request["argv"],
        env=environ,
        input=request.get("input", ""),
        capture_output=True,
        text=True,
        errors="replace",
        timeout=request.get("patience_s", 120),
    )
    return {"code": done.returncode, "out": done.stdout, "err": done.stderr}


def look(request: Json, _: BinaryIO) -> Json:
    """Return what can be seen of an installation: files, disk, services."""
    venv = Path(request["venv"])
    there = next(path for path in (venv, *venv.parents) if path.exists())
    usage = shutil.disk_usage(there)
    return {
        "free": usage.free,
        "total": usage.total,
        "digest": installed(venv),
        "farm": find_farm(Path(request["farms"]), request["server_key"]),
        "services": Services(request["services_folder"], request["label"]).state(),
    }


def find_farm(farms: Path, server_key: str) -> Json | None:
    """Return the farm of this manager as it is configured here; None when it is not."""
    for path in sorted(farms.glob("*/access.json")):
        with contextlib.suppress(OSError, ValueError, KeyError):
            access = json.loads(path.read_bytes())
            if access["server_key"] == server_key:
                keys = path.parent / "keys"
                key = ""
                with contextlib.suppress(OSError, IndexError):
                    # The public half; the other one stays where it is.
                    key = (keys / "worker.key").read_text().split()[0]
                return {
                    "folder": str(path.parent),
                    "address": access["address"],
                    "key": key,
                    "manager": (keys / "manager.key").exists(),
                }
    return None


def start(request: Json, _: BinaryIO) -> Json:
    """Start services in place of those that ran, letting these finish first; then remove old programs."""
    services = Services(request["services_folder"], request["label"])
    drained = services.drain(request["drain_s"])
    lead_to(Path(request["venv"]))
    told = services.start(request["told"])
    # Another farm's services here may run another version.
    keep = {request["venv"], *programs(Path(request["services_folder"]))}
    return {**told, "drained": drained, "swept": sweep(Path(request["venv"]).parent, keep)}


def lead_to(venv: Path) -> None:
    """Let the link `current` beside a virtual environment lead to it."""
    new = venv.with_name(f".{LINK}")
    new.unlink(missing_ok=True)
    new.symlink_to(venv.name)
    new.replace(venv.with_name(LINK))


def stop(request: Json, _: BinaryIO) -> Json:
    """End services."""
    return {"stopped": Services(request["services_folder"], request["label"]).stop()}


def clean(request: Json, _: BinaryIO) -> Json:
    """Remove the paths that match; the cache too when no other farm is known here."""
    gone = []
    for pattern in request["remove"]:
        folder, _, name = pattern.rpartition("/")
        for path in sorted(Path(folder).glob(name)):
            if (path / "keys" / "manager.key").exists():
                # A manager's farm is never ours to remove.
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
            gone.append(str(path))
    if request["programs"]:
        folder = Path(request["programs"])
        gone += sweep(folder, programs(Path(request["services_folder"])))
        (folder / ".installing").unlink(missing_ok=True)
        if not (folder / LINK).exists():
            (folder / LINK).unlink(missing_ok=True)
    others = sorted(Path(request["farms"]).glob("*/access.json"))
    others += sorted(Path(request["farms"]).glob("*/keys/manager.key"))
    if not others and os.path.isdir(request["cache"]):
        shutil.rmtree(request["cache"])
        gone.append(request["cache"])
    for folder in request["empty"]:
        with contextlib.suppress(OSError):
            os.rmdir(folder)
    return {"gone": gone}


ERRANDS: dict[str, Callable[[Json, BinaryIO], Any]] = {
    "reach": reach,
    "free-port": free_port,
    "call": call,
    "look": look,
    "install": install,
    "start": start,
    "stop": stop,
    "clean": clean,
}
