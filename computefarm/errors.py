"""Every exception of ComputeFarm.

    FarmError                     anything a user should read as one message, never as a traceback
      UsageError                  wrong flags or a bad file; exit 3
        CapabilityError           a capability file breaks its schema
        SettingsError             a configuration value breaks its schema
      TaskError                   a farm task cannot be sent or its outputs cannot be taken; exit 1
      Unreachable                 no TaskManager answers; exit 4
      NothingOffers               no worker offers a needed capability; exit 5
      Refused                     key, role, version or lock; exit 6
      ProtocolError               a peer sent what it must not; the peer is dropped
      StoreError                  a blob is missing, damaged or does not fit

A class exists only where callers act differently.
"""

from __future__ import annotations


class FarmError(Exception):
    """A failure to show to the user: what happened, where, and what to type next."""

    exit_code = 2

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
        """The next command to type, or the empty string."""

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text}\n  {self.hint}" if self.hint else text


class UsageError(FarmError):
    """Wrong flags, a bad file, or a task description that cannot be understood."""

    exit_code = 3


class CapabilityError(UsageError):
    """A capability file breaks its schema; the text names file, field and expectation."""


class SettingsError(UsageError):
    """A setting breaks its schema; the text names where it came from."""


class TaskError(FarmError):
    """A farm task cannot be sent, or its outputs cannot be taken."""

    exit_code = 1


class Unreachable(FarmError):
    """No TaskManager answers at the configured address."""

    exit_code = 4


class NothingOffers(FarmError):
    """No worker offers a capability that a task needs."""

    exit_code = 5


class Refused(FarmError):
    """The key, the role, the version or the run lock says no."""

    exit_code = 6


class ProtocolError(FarmError):
    """Bytes or a message that a well-behaved peer never sends."""


class StoreError(FarmError):
    """A blob is missing, damaged, or does not fit in the store."""


class Damaged(StoreError):
    """A blob's bytes do not have the digest that names them."""
