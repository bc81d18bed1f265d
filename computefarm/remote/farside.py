"""The other machine, seen from here: what it is, and errands run on it."""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import msgspec

from computefarm.errors import FarmError, Unreachable, UsageError

from .far.there import ANSWER
from .ssh import Connection, Target

OLDEST = (3, 11)
PATIENCE_S = 120.0
Json = dict[str, Any]

LOOK = """\
export PATH="$PATH:$HOME/.local/bin:$HOME/.pyenv/shims:/usr/local/bin:/opt/homebrew/bin"
say() { printf 'CF %s=%s\\n' "$1" "$2"; }
say home "$HOME"; say user "$(id -un)"; say cf_home "$CF_HOME"
say xdg_data "$XDG_DATA_HOME"; say xdg_config "$XDG_CONFIG_HOME"
say xdg_state "$XDG_STATE_HOME"; say xdg_cache "$XDG_CACHE_HOME"
say connection "$SSH_CONNECTION"; say path "$PATH"
say system "$(uname -s)"; say processor "$(uname -m)"; say hostname "$(uname -n)"
say machine "$(cat /etc/machine-id 2>/dev/null || uname -n)"
ask='import sys; print("%d.%d.%d" % sys.version_info[:3], sys.executable)'
for name in python3 python3.14 python3.13 python3.12 python3.11 "$(uv python find '>=3.11' 2>/dev/null)"; do
  path=$(command -v "$name" 2>/dev/null) || continue
  said=$("$path" -I -c "$ask" 2>/dev/null) || continue
  say python "$said"
done
"""
"""For any POSIX shell; the user's own may be another one, so it goes to `sh` by its input."""

_FIRST = b"exec(%b)\n"
_LOADER = """\
import json, sys, types
head = json.loads(sys.stdin.buffer.readline())
for name in ("computefarm", "computefarm.remote", "computefarm.remote.far"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = []
for name, source in head["modules"]:
    module = sys.modules[name] = types.ModuleType(name)
    module.__package__ = "computefarm.remote.far"
    exec(compile(source, name, "exec"), module.__dict__)
sys.exit(sys.modules["computefarm.remote.far.there"].main(head["request"], sys.stdin.buffer))
"""
_BOOT = "import sys;exec(sys.stdin.buffer.readline())"
"""All that `ps` there shows: the rest, secrets included, goes through the input."""

_MODULES = ("processes", "keeper", "services", "installing", "there")
"""In the order in which they import each other."""


class Facts(msgspec.Struct, frozen=True):
    """What a machine told of itself."""

    home: str
    user: str
    hostname: str
    machine: str
    system: str
    processor: str
    client: str
    """This machine's address, as seen from there; empty when unknown."""
    pythons: tuple[tuple[str, str], ...]
    """Version and path of each that was found."""
    environ: dict[str, str]
    """What commands there are run with: `PATH`, and `CF_HOME` and the XDG folders where set."""
    data: str
    """Where the program goes."""
    config: str
    state: str
    cache: str

    @property
    def python(self) -> str:
        """Return the path of a Python that is new enough; empty when there is none."""
        return self._best[1]

    @property
    def version(self) -> str:
        """Return the version of that Python."""
        return self._best[0]

    @property
    def _best(self) -> tuple[str, str]:
        for version, path in self.pythons:
            if tuple(int(word) for word in version.split(".")[:2]) >= OLDEST:
                return version, path
        return "", ""


def read_facts(said: str, cf_home: str = "") -> Facts:
    """Return the facts in what `LOOK` printed; `cf_home` is the user's word on where files go there."""
    told: dict[str, str] = {}
    pythons: list[tuple[str, str]] = []
    for line in said.splitlines():
        if not line.startswith("CF ") or "=" not in line:
            continue
        key, _, value = line[3:].partition("=")
        if key == "python":
            version, _, path = value.partition(" ")
            pythons.append((version, path))
        else:
            told[key] = value
    missing = [key for key in ("home", "user", "system", "processor", "hostname") if not told.get(key)]
    if missing:
        raise FarmError(
            f"it did not say its {', '.join(missing)}: is the login shell there one that runs commands?"
        )
    home = told["home"]
    environ = {"PATH": told["path"]} if told.get("path") else {}
    environ |= {
        f"XDG_{key.upper()}_HOME": value
        for key in ("data", "config", "state", "cache")
        if (value := told.get(f"xdg_{key}", "")).startswith("/")
    }
    # `~` was meant for there, and no shell there sees it.
    root = (cf_home or told.get("cf_home", "")).replace("~", home, 1)
    if root and not root.startswith("/"):
        root = f"{home}/{root}"
    if root:
        environ = {**environ, "CF_HOME": root}
    tails = {"data": ".local/share", "config": ".config", "state": ".local/state", "cache": ".cache"}
    places = {
        key: root + ("" if key == "data" else f"/{key}")
        if root
        else environ.get(f"XDG_{key.upper()}_HOME", f"{home}/{tail}") + "/computefarm"
        for key, tail in tails.items()
    }
    return Facts(
        home=home,
        user=told["user"],
        hostname=told["hostname"].partition(".")[0],
        machine=told.get("machine", ""),
        system=told["system"],
        processor=told["processor"],
        client=told.get("connection", "").partition(" ")[0],
        pythons=tuple(dict.fromkeys(pythons)),
        environ=environ,
        **places,
    )


class FarSide:
    """One machine behind an open connection."""

    def __init__(self, connection: Connection, python: str = "") -> None:
        self.connection = connection
        self.target: Target = connection.target
        self._python = python
        self._modules = [
            (f"{__package__}.far.{name}", (resources.files(__package__) / "far" / f"{name}.py").read_text())
            for name in _MODULES
        ]

    def look(self, cf_home: str = "") -> Facts:
        """Find out what kind of machine it is, and a Python that is new enough."""
        done = self.connection.run("sh", LOOK.encode(), timeout_s=60)
        try:
            facts = read_facts(done.out, cf_home)
        except FarmError as error:
            text = (done.err.strip() or done.out.strip()).splitlines()[-1:] or ["nothing"]
            raise FarmError(f"{self.target.where}: {error}", hint=f"it printed: {text[0]}") from error
        if not facts.python:
            raise no_python(self.target, facts)
        self._python = facts.python
        return facts

    def ask(
        self, errand: str, payload: Sequence[bytes] = (), timeout_s: float = PATIENCE_S, **request: Any
    ) -> Any:
        """Run one errand there and return its result; raise `FarmError` with what went wrong."""
        head = json.dumps({"modules": self._modules, "request": {"do": errand, **request}})
        first = _FIRST % repr(_LOADER).encode()
        data = b"".join([first, head.encode(), b"\n", *payload])
        command = f"{shlex.quote(self._python)} -I -c {shlex.quote(_BOOT)}"
        done = self.connection.run(command, data, timeout_s)
        answer = read_answer(done.out)
        if answer is None:
            said = (done.err.strip() or done.out.strip()).splitlines()[-1:] or ["nothing"]
            raise FarmError(
                f"{self.target.where}: {self._python} ended without an answer (exit {done.code}): {said[0]}"
            )
        if "error" in answer:
            raise FarError(str(answer["error"]), str(answer["kind"]))
        return answer["result"]

    def call(
        self,
        *argv: str,
        environ: Mapping[str, str],
        given: str = "",
        timeout_s: float = PATIENCE_S,
    ) -> Json:
        """Run a command there; `given` is its input. Return `code`, `out`, `err`."""
        result: Json = self.ask(
            "call",
            timeout_s=timeout_s + 10,
            argv=list(argv),
            environ=dict(environ),
            input=given,
            patience_s=timeout_s,
        )
        return result

    def clock_offset(self, rounds: int = 7) -> tuple[float, float]:
        """Return how far the clock there is ahead of ours, and how far that may be wrong, in seconds."""
        code = "import sys,time\nfor _ in sys.stdin: print(repr(time.time()), flush=True)"
        command = f"{shlex.quote(self._python)} -I -c {shlex.quote(code)}"
        best = (0.0, float("inf"))
        with subprocess.Popen(
            self.connection.line(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as asking:
            assert asking.stdin is not None
            assert asking.stdout is not None
            for _ in range(rounds):
                sent, began = time.time(), time.monotonic()
                asking.stdin.write(b"\n")
                asking.stdin.flush()
                said = asking.stdout.readline()
                took = time.monotonic() - began
                try:
                    offset = float(said) - (sent + took / 2)
                except ValueError as error:
                    raise Unreachable(f"{self.target.where} did not tell its time") from error
                # The quickest answer leaves the least room for error.
                best = min(best, (offset, took / 2), key=lambda one: one[1])
            asking.stdin.close()
        return best


class FarError(FarmError):
    """An errand that failed there; the caller knows what to type next.

    `kind` is `disk`, `permission`, `venv`, `index`, `pip`, `service` or `system`.
    """

    def __init__(self, text: str, kind: str) -> None:
        super().__init__(text)
        self.kind = kind


def read_answer(said: str) -> Json | None:
    """Return the answer in what was printed, whatever else login scripts print."""
    for line in reversed(said.splitlines()):
        if line.startswith(ANSWER):
            answer = json.loads(line.removeprefix(ANSWER))
            return answer if isinstance(answer, dict) else None
    return None


def no_python(target: Target, facts: Facts) -> UsageError:
    """Return what to tell when there is no Python that is new enough."""
    wanted = ".".join(map(str, OLDEST))
    if facts.pythons:
        has = ", ".join(f"{version} ({path})" for version, path in facts.pythons)
        text = f"{target.where} has only Python {has}; {wanted} or newer is needed"
    else:
        text = f"{target.where} has no python3; {wanted} or newer is needed"
    hint = "brew install python3    # there"
    if facts.system == "Linux":
        hint = (
            "sudo apt install python3 python3-venv    # there (Debian 12 or newer)\n"
            "  curl -LsSf https://astral.sh/uv/install.sh | sh && ~/.local/bin/uv python install 3.12"
            "    # there, without root"
        )
    return UsageError(text, hint=hint)
