"""Who is talking: greetings, heartbeats, enrolment."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from .base import Message, Short


class Hello(Message, frozen=True, tag="hello"):
    """First message on every connection."""

    protocol: int
    version: Short
    role: Short
    """`client`, `worker`, `monitor` or `viewer`."""
    boot: Short
    """Random, one per process: joins a process's two connections, and tells a restart from a reconnect."""
    channel: Short = "control"
    """`control` or `bulk`."""
    host: Short = ""
    """Host id: machine id + CF_HOME."""
    hostname: Short = ""


class Welcome(Message, frozen=True, tag="welcome"):
    """The manager's answer to an accepted Hello."""

    protocol: int
    version: str
    farm: str
    epoch: str
    """Changes whenever the manager starts with an empty table."""
    heartbeat_s: float
    """Say something at least this often; silence for three times as long is taken for death."""
    peer: str = ""
    """The name the manager uses for this process."""
    lineage: str = ""
    """The same for all epochs that go on with one journal; empty where there is none: then a new epoch knows
    nothing of an earlier one's tasks."""


class Disconnect(Message, frozen=True, tag="disconnect"):
    """The manager does not go on with this peer."""

    code: str
    """`version`, `role`, `key`, `name`, `protocol` (say Hello again) or `stopping`."""
    text: str


class DeviceLoad(Message, frozen=True):
    """What a worker computes on one device at this moment."""

    device: Short
    """As its answers name it."""
    running: int
    oldest_s: float
    """Age of the oldest request that runs there."""


class Heartbeat(Message, frozen=True, tag="heartbeat"):
    """I am alive; any other message says so too."""

    devices: Annotated[tuple[DeviceLoad, ...], Meta(max_length=1000)] = ()
    """From workers with requests in hand: where they run."""


class Goodbye(Message, frozen=True, tag="goodbye"):
    """I am leaving for good; what I ran is to be given to others at once."""

    reason: str = ""


class Join(Message, frozen=True, tag="join"):
    """The one message an invitation's temporary key may send: enrol my own key."""

    public_key: Short
    """Z85, 40 characters."""
    name: Short
    """For people, in the authorized file: usually the host's name."""


class Joined(Message, frozen=True, tag="joined"):
    """The key is enrolled and the invitation burnt."""

    farm: str
    role: str
