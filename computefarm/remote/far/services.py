"""Long-lived commands on this machine: systemd user units where those work, else a keeper of our own."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from .keeper import read_state
from .processes import end, same

LOG_LIMIT = 5 * 1024**2
"""Bytes after which a log is put aside at the next start; one old one is kept."""

LINK = "current"
"""Beside the virtual environments: leads to the newest."""

START_S = 15.0
Json = dict[str, Any]


class ServiceError(Exception):
    """Services that cannot be started or ended; for people."""


class Services:
    """A group of commands under one label: `start`, `stop`, `drain`, `state`.

    Their specification is kept in `folder`, so that whoever comes next ends what was really started.
    """

    def __init__(self, folder: str, label: str) -> None:
        self._folder = Path(folder)
        self._label = label
        self.spec = self._folder / f"{label}.json"
        self.log = self._folder / f"{label}.log"
        self._state = self.spec.with_suffix(".state.json")

    def start(self, told: Json) -> Json:
        """Put `told` in place of what ran before; return how it runs and what its owner should know.

        `told`: `services` (each `name`, `argv`, `unit`), `environ`, `nice`, `python`, and `how` (`auto` or
        `keeper`).
        """
        self.stop()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._put_log_aside()
        how, notes = choose(told["how"])
        spec = {**told, "how": how}
        temporary = self.spec.with_suffix(".new")
        temporary.write_text(json.dumps(spec, indent=1))
        temporary.chmod(0o600)
        temporary.replace(self.spec)
        if how == "systemd":
            self._start_units(spec)
        else:
            self._start_keeper(spec)
        return {"how": how, "notes": notes, "again": self.command_line(spec)}

    def command_line(self, spec: Json) -> str:
        """Return the command that starts the keeper, for a crontab."""
        # By the link, where there is one: the line stays good when the program is updated.
        venv = Path(spec["python"]).parent.parent
        link = venv.with_name(LINK) / "bin" / "python"
        python = str(link) if link.exists() else spec["python"]
        words = [python, "-m", "computefarm.remote.far.keeper", str(self.spec)]
        return f"{shlex.join(words)} >> {shlex.quote(str(self.log))} 2>&1"

    def stop(self) -> bool:
        """End everything and forget it; tell whether there was anything."""
        spec = self._read()
        if spec is None:
            return False
        if spec["how"] == "systemd":
            self._stop_units(spec)
        self._stop_keeper()
        for path in (self.spec, self.spec.with_suffix(".lock"), self._state):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
        return True

    def drain(self, patience_s: float) -> bool:
        """Let the services that can be drained finish what they do; tell whether they did in time."""
        spec = self._read()
        names = [one["name"] for one in (spec or {}).get("services", []) if one.get("drains")]
        if spec is None or not names or not self._running(spec, names):
            return True
        if spec["how"] == "systemd":
            for name in names:
                # Spelled `main` by older releases too.
                systemctl("kill", "--kill-who=main", "--signal=SIGUSR1", f"{name}.service")
        else:
            told = read_state(self._state)
            keeper = told.get("keeper", (0, ""))
            # Where the keeper was killed its children can be told themselves.
            orphans = [told.get("children", {}).get(name, (0, "")) for name in names]
            for pid, mark in [keeper] if same(*keeper) else orphans:
                if same(pid, mark):
                    os.kill(pid, signal.SIGUSR1)
        until = time.monotonic() + patience_s
        while self._running(spec, names):
            if time.monotonic() >= until:
                return False
            time.sleep(0.1)
        return True

    def state(self) -> Json:
        """Return what runs, how, and the last lines of the log."""
        spec = self._read()
        if spec is None:
            return {"how": "", "services": [], "log": str(self.log), "lines": self._lines()}
        told = [
            {"name": one["name"], "argv": one["argv"], "running": bool(self._running(spec, [one["name"]]))}
            for one in spec["services"]
        ]
        kept = read_state(self._state)
        for one in told:
            one["restarts"] = kept.get("restarts", {}).get(one["name"], 0)
            one["exit"] = kept.get("ended", {}).get(one["name"])
        return {
            "how": spec["how"],
            "services": told,
            "environ": spec["environ"],
            "log": str(self.log),
            "lines": self._lines(),
            "again": self.command_line(spec),
        }

    # --- under systemd --------------------------------------------------------------------------------

    def _start_units(self, spec: Json) -> None:
        folder = unit_folder()
        folder.mkdir(parents=True, exist_ok=True)
        for one in spec["services"]:
            (folder / f"{one['name']}.service").write_text(one["unit"].replace("@LOG@", str(self.log)))
        units = [f"{one['name']}.service" for one in spec["services"]]
        for words in (["daemon-reload"], ["enable", "--now", *units]):
            done = systemctl(*words)
            if done.returncode:
                raise ServiceError(f"systemctl --user {' '.join(words)}: {done.stderr.strip()}")

    @staticmethod
    def _stop_units(spec: Json) -> None:
        units = [f"{one['name']}.service" for one in spec["services"]]
        done = systemctl("disable", "--now", *units)
        for unit in units:
            with contextlib.suppress(FileNotFoundError):
                (unit_folder() / unit).unlink()
        systemctl("daemon-reload")
        if done.returncode and "does not exist" not in done.stderr:
            raise ServiceError(f"systemctl --user disable --now {' '.join(units)}: {done.stderr.strip()}")

    # --- under a keeper -------------------------------------------------------------------------------

    def _start_keeper(self, spec: Json) -> None:
        environ = {**os.environ, **spec["environ"]}
        command = [spec["python"], "-m", "computefarm.remote.far.keeper", str(self.spec)]
        with open(self.log, "ab") as log:
            # Its own session and no stream of ours: it stays when the ssh connection that started it ends.
            keeper = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environ,
                cwd=self._folder,
                start_new_session=True,
            )
        until = time.monotonic() + START_S
        while not (told := read_state(self._state)) or told["unstarted"]:
            if told or keeper.poll() is not None or time.monotonic() >= until:
                self._stop_keeper()
                keeper.kill()
                keeper.wait()
                raise ServiceError("\n".join(["the services did not start:", *self._lines()[-5:]]))
            time.sleep(0.02)
        # It outlives us; nobody will wait for it, and that is meant.
        keeper.returncode = 0

    def _stop_keeper(self) -> None:
        told = read_state(self._state)
        pid, mark = told.get("keeper", (0, ""))
        if same(pid, mark):
            end(pid, mark, 30.0)
        # Of a keeper that was killed.
        for child, started in told.get("children", {}).values():
            end(child, started, 20.0)

    # --- both -----------------------------------------------------------------------------------------

    def _running(self, spec: Json, names: list[str]) -> list[str]:
        if spec["how"] == "systemd":
            said = {name: systemctl("is-active", f"{name}.service").stdout.strip() for name in names}
            return [name for name in names if said[name] in ("active", "deactivating", "reloading")]
        children = read_state(self._state).get("children", {})
        return [name for name in names if same(*children.get(name, (0, "")))]

    def _read(self) -> Json | None:
        try:
            told = json.loads(self.spec.read_bytes())
        except (OSError, ValueError):
            return None
        return told if isinstance(told, dict) else None

    def _lines(self) -> list[str]:
        try:
            with open(self.log, "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - 8192))
                return file.read().decode(errors="replace").splitlines()[-20:]
        except OSError:
            return []

    def _put_log_aside(self) -> None:
        with contextlib.suppress(OSError):
            if self.log.stat().st_size > LOG_LIMIT:
                self.log.replace(self.log.with_suffix(".log.1"))


def programs(folder: Path) -> set[str]:
    """Return the virtual environments that the services of any farm here run from."""
    used = set()
    for path in folder.glob("*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            used.add(str(Path(json.loads(path.read_bytes())["python"]).parent.parent))
    return used


def unit_folder() -> Path:
    """Return where systemd looks for this user's units."""
    base = os.environ.get("XDG_CONFIG_HOME", "") or os.path.expanduser("~/.config")
    return Path(base) / "systemd" / "user"


def choose(how: str) -> tuple[str, list[str]]:
    """Return `systemd` where it would keep the services after this login, else `keeper`, and why."""
    if how == "keeper":
        return "keeper", []
    if shutil.which("systemctl") is None or systemctl("show-environment").returncode:
        return "keeper", []
    if lingers():
        return "systemd", []
    run("loginctl", "--no-ask-password", "enable-linger")
    if lingers():
        return "systemd", ["enabled lingering, so that systemd keeps them running while nobody is logged in"]
    user = getpass.getuser()
    return "keeper", [
        "systemd would end them at logout, because this user does not linger; to let systemd keep them:"
        f" sudo loginctl enable-linger {user}    # there, then run this command again"
    ]


def lingers() -> bool:
    """Tell whether this user's services run without a login."""
    return run("loginctl", "show-user", str(os.getuid()), "--property=Linger").stdout.strip() == "Linger=yes"


def systemctl(*words: str) -> subprocess.CompletedProcess[str]:
    """Call this user's systemd; a call that hangs has failed."""
    return run("systemctl", "--user", *words)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; one that hangs or is not there has failed."""
    environ = dict(os.environ)
    # Not set in every kind of login; without it the user's systemd is not found.
    environ.setdefault("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
    try:
        return subprocess.run(
            command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", f"{command[0]}: {error}")
