"""Connections to a farm, wherever its access file says that it is now."""

from __future__ import annotations

import logging

import zmq

from computefarm.errors import FarmError
from computefarm.home import Home
from computefarm.transport.farms import Access, find_access
from computefarm.transport.peer_end import PeerEnd

log = logging.getLogger("computefarm.link")


class Dialler:
    """Makes the connections of one process, and finds a manager that has come back at another address."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], home: Home, farm: str, access: Access, role: str
    ) -> None:
        """`farm` is what the user named: a name, a path, or empty for the only one there is."""
        self._context = context
        self._home = home
        self._farm = farm
        self._role = role
        self._access = access
        self._keys = access.keys(role)

    @property
    def access(self) -> Access:
        """Return what the connections are made with now."""
        return self._access

    def dial(self) -> PeerEnd:
        """Return a new connection."""
        access = self._access
        return PeerEnd(
            self._context,
            access.address,
            server_key=access.server_key,
            keys=self._keys,
            role=self._role,
            farm=access.farm,
        )

    def elsewhere(self) -> bool:
        """Read the access file again; return whether it names another place than the one that is dialled.

        A file that is gone or cannot be used changes nothing: the manager may be about to start again.
        """
        try:
            found = find_access(self._home, self._farm)
            if found is None or self._place(found) == self._place(self._access):
                return False
            self._keys = found.keys(self._role)
        except FarmError as error:
            log.debug("%s", error)
            return False
        self._access = found
        log.info("farm %s is at %s now", found.farm, found.address)
        return True

    @staticmethod
    def _place(access: Access) -> tuple[str, str]:
        return access.address, access.server_key
