"""Who was turned away, for the log."""

from __future__ import annotations

import msgspec

from .keys import PublicKey, spell

LIMIT = 100
"""Different refusals remembered until they are taken: a flood cannot fill memory or log."""


class Refusal(msgspec.Struct, frozen=True):
    """A peer or a message that was turned away."""

    address: str
    key: str
    """In the shell-safe spelling; empty when it had none."""
    name: str
    """What the authorized file calls the key, if it knows it."""
    reason: str
    count: int = 1
    """How often since the last report."""

    def __str__(self) -> str:
        who = " ".join(filter(None, (self.name, self.key and f"(key {self.key})")))
        where = f" at {self.address}" if self.address else ""
        times = f" ({self.count} times)" if self.count > 1 else ""
        return f"refused {who or 'a connection'}{where}: {self.reason}{times}"


class Refusals:
    """The refusals since the last report, equal ones counted together."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, PublicKey, str], Refusal] = {}
        self._more = 0

    def add(self, address: str, key: PublicKey, name: str, reason: str) -> None:
        """Remember one refusal."""
        case = (address, key, reason)
        known = self._found.get(case)
        if known is not None:
            self._found[case] = msgspec.structs.replace(known, count=known.count + 1)
        elif len(self._found) < LIMIT:
            self._found[case] = Refusal(address, spell(key) if key else "", name, reason)
        else:
            self._more += 1

    def take(self) -> list[Refusal]:
        """Return what was added since the last call."""
        found = list(self._found.values())
        if self._more:
            found.append(Refusal("", "", "", "too many different refusals to name them all", self._more))
        self._found, self._more = {}, 0
        return found
