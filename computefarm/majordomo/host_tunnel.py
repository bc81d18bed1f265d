"""The ssh that carries the farm's port to a host that cannot reach it, kept up by a keeper here."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from typing import Any

from computefarm.errors import FarmError, Unreachable
from computefarm.home import Home, private_folder
from computefarm.remote import units
from computefarm.remote.far.services import ServiceError, Services
from computefarm.remote.ssh import Target, tunnel_line
from computefarm.transport.addresses import Address

from .host_farm import is_any

UP_S = 20.0
TRIES = 2
"""What was refused that often at the start stays refused."""


class Tunnel:
    """One host's."""

    def __init__(self, home: Home, farm: str, host: str) -> None:
        self._folder = home.state / "hosting"
        self._home = home
        name = re.sub(r"[^A-Za-z0-9._@-]+", "-", host)
        self._services = Services(str(self._folder), f"tunnel-{farm}-{name}")

    def start(self, target: Target, port: int, manager: Address) -> None:
        """Start it, and start it again for ever when it breaks."""
        private_folder(self._folder)
        told: dict[str, Any] = {
            "services": [
                {"name": "ssh", "argv": self._argv(target, port, manager), "always": True, "unit": ""}
            ],
            "environ": {},
            "how": "keeper",
            "python": sys.executable,
        }
        try:
            self._services.start(told)
        except ServiceError as error:
            raise FarmError(f"the tunnel to {target.where} cannot be started: {error}") from error

    def leads(self, target: Target, port: int, manager: Address) -> bool:
        """Tell whether it runs and goes exactly there."""
        running = [one["argv"] for one in self.state()["services"] if one["running"]]
        return running == [self._argv(target, port, manager)]

    def wait(self, through: Callable[[], bool], target: Target) -> None:
        """Return when one gets `through` it; raise with ssh's own words otherwise."""
        until = time.monotonic() + UP_S
        while not through():
            state = self.state()
            if time.monotonic() > until or any(one["restarts"] >= TRIES for one in state["services"]):
                lines = [line for line in state["lines"] if " KEEPER " not in line]
                said = lines[-1] if lines else "nothing answers at its far end"
                raise Unreachable(
                    f"the tunnel to {target.where} does not come up: {said}",
                    hint="grep -i AllowTcpForwarding /etc/ssh/sshd_config    # there: it must not be `no`",
                )
            time.sleep(0.1)

    def state(self) -> dict[str, Any]:
        """Return what runs of it, and the last lines of its log."""
        return self._services.state()

    @property
    def up(self) -> bool:
        """Tell whether its ssh runs."""
        return any(one["running"] for one in self.state()["services"])

    def crontab_line(self) -> str:
        """Return what to type here so that it comes back after a reboot; empty when there is none."""
        again = self.state().get("again")
        return units.crontab_line(again) if again else ""

    def stop(self) -> bool:
        """End it; tell whether there was one."""
        stopped = self._services.stop()
        self._services.log.unlink(missing_ok=True)
        return stopped

    @staticmethod
    def _argv(target: Target, port: int, manager: Address) -> list[str]:
        host = manager.host
        if is_any(manager):
            host = "::1" if manager.is_ipv6 else "127.0.0.1"
        return tunnel_line(target, port, host, manager.port)
