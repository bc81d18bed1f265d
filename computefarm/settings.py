"""What can be configured, where each value came from, and the one place that reads it all.

Precedence: flags > environment (`CF_*`) > `[tool.computefarm]` in the project's `pyproject.toml`
> the user's `config.toml` > defaults.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from computefarm.errors import SettingsError
from computefarm.home import Home
from computefarm.quantities import parse_duration, parse_size

Value = str | int | float | None
"""Of a setting."""


class Settings(msgspec.Struct, frozen=True):
    """Every setting of one process, built once by its command line."""

    farm: str = ""
    """A farm's name, the path of an access file, `local`, or empty for the only configured one."""
    default_capability: str = ""
    """Sent to this capability: command tasks that name none. Empty: they run in place."""
    wait_workers_s: float = 60.0
    """How long a run waits for a capability that was there and vanished."""
    port: int = 11989
    """Where the TaskManager listens unless told otherwise."""
    store_limit: int = 20 * 1024**3
    """Bytes of blobs that a manager keeps."""
    cache_limit: int = 20 * 1024**3
    """Bytes of blobs that a worker keeps."""
    heartbeat_s: float = 2.0
    """Say something at least this often; three times as long in silence is taken for death."""
    result_hold_s: float = 3600.0
    """How long a worker holds results for a manager that is away."""
    log_limit: int = 64 * 1024**2
    """Bytes of a task's output kept on its worker, when it is more than is sent whole."""
    log_hold_s: float = 24 * 3600.0
    """How long a worker keeps it."""
    farm_log_limit: int = 256 * 1024**2
    """Bytes of all tasks' lines that a manager keeps."""
    log_runs: int = 50
    """How many runs' logs and history are kept."""
    progress: str = "auto"
    """`auto` (a display on a terminal, lines elsewhere), `rich`, `plain` or `none`."""
    color: str = "auto"
    """`auto`, `always` or `never`."""
    recompute_host: str = ""
    """Servers that `cf-recompute` asks: a comma list of `HOST[:PORT]`; empty means the configured farm."""
    recompute_timeout: int = 5000
    """Milliseconds that a request may take unless it says otherwise."""
    recompute_connect_timeout: int = 2000
    """Milliseconds after which a server that does not answer is passed over."""
    recompute_retry_interval_s: float = 100.0
    """How long a server that failed is left alone."""
    recompute_max_cores: int = 0
    """Requests in flight; 0 means as many as the servers grant."""
    origins: Mapping[str, str] = {}
    """Where each value came from, by field: for `majordomo config --show-origin`."""

    def rows(self) -> Iterator[tuple[str, Value, str]]:
        """Yield key, value and origin of every setting, in the order of the documentation."""
        for setting in SETTINGS:
            yield setting.key, getattr(self, setting.field), self.origins.get(setting.field, "default")


class Setting(msgspec.Struct, frozen=True):
    """How one field is spelled and read."""

    field: str
    read: Callable[[object], Value]
    """Turn what was written into the value; raise `ValueError` saying what was expected."""
    aliases: tuple[str, ...] = ()
    """More environment variables, weaker than the main one."""

    @property
    def key(self) -> str:
        """Return the spelling in files: `wait-workers`."""
        return self.field.removesuffix("_s").replace("_", "-")

    @property
    def variable(self) -> str:
        """Return the main environment variable: `CF_WAIT_WORKERS`."""
        return f"CF_{self.key.replace('-', '_').upper()}"


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a text in quotes was expected")
    return value


def _size(value: object) -> int:
    if not isinstance(value, str | int):
        raise ValueError('a size was expected, such as "20GiB"')
    return parse_size(value)


def _duration(value: object) -> float:
    if not isinstance(value, str | int | float):
        raise ValueError('a duration was expected, such as "10m"')
    return parse_duration(value)


def _beat(value: object) -> float:
    seconds = _duration(value)
    if not 0.05 <= seconds <= 60:
        raise ValueError("a duration from 50ms to 60s was expected")
    return seconds


def _number(lowest: int, highest: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if isinstance(value, str) and value.strip().isdecimal():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
            raise ValueError(f"a whole number from {lowest} to {highest} was expected")
        return value

    return read


def _choice(*words: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if value not in words or not isinstance(value, str):
            raise ValueError(f"one of {', '.join(words)} was expected")
        return value

    return read


SETTINGS = (
    Setting("farm", _text),
    Setting("default_capability", _text),
    Setting("wait_workers_s", _duration),
    Setting("port", _number(0, 65535), aliases=("CF_RECOMPUTE_PORT", "CHIAPOS_RECOMPUTE_PORT")),
    Setting("store_limit", _size),
    Setting("cache_limit", _size),
    Setting("heartbeat_s", _beat),
    Setting("result_hold_s", _duration),
    Setting("log_limit", _size),
    Setting("log_hold_s", _duration),
    Setting("farm_log_limit", _size),
    Setting("log_runs", _number(1, 100_000)),
    Setting("progress", _choice("auto", "rich", "plain", "none")),
    Setting("color", _choice("auto", "always", "never")),
    Setting("recompute_host", _text, aliases=("CHIAPOS_RECOMPUTE_HOST",)),
    Setting("recompute_timeout", _number(1, 86_400_000), aliases=("CHIAPOS_RECOMPUTE_TIMEOUT",)),
    Setting(
        "recompute_connect_timeout", _number(1, 3_600_000), aliases=("CHIAPOS_RECOMPUTE_CONNECT_TIMEOUT",)
    ),
    Setting("recompute_retry_interval_s", _duration, aliases=("CHIAPOS_RECOMPUTE_RETRY_INTERVAL",)),
    Setting(
        "recompute_max_cores",
        _number(0, 100_000),
        aliases=("CHIAPOS_RECOMPUTE_MAX_CORES", "CHIAPOS_MAX_CORES"),
    ),
)
_BY_KEY = {setting.key: setting for setting in SETTINGS}


def load_settings(
    flags: Mapping[str, object], environ: Mapping[str, str], home: Home, project: Path | None = None
) -> Settings:
    """Return the settings of a process.

    `flags` go by field or key (None: not given); `project` is the folder of `pyproject.toml`.

    Raises `SettingsError` naming the file or variable, the key, and what was expected.
    """
    values: dict[str, Value] = {}
    origins: dict[str, str] = {}
    # From the weakest source to the strongest: the last one wins.
    for origin, key, setting, raw in (
        *_from_file(home.config / "config.toml", ()),
        *(_from_file(project / "pyproject.toml", ("tool", "computefarm")) if project else ()),
        *_from_environ(environ),
        *_from_flags(flags),
    ):
        try:
            values[setting.field] = setting.read(raw)
        except ValueError as error:
            place = f"{origin}: {key}" if origin != key else key
            raise SettingsError(f"{place} = {raw!r}: {error}") from error
        origins[setting.field] = origin
    return msgspec.convert({**values, "origins": origins}, Settings)


_Found = tuple[str, str, Setting, object]
"""Origin, key as written, setting, value as written."""


def _from_flags(flags: Mapping[str, object]) -> Iterator[_Found]:
    for name, raw in flags.items():
        key = name.removesuffix("_s").replace("_", "-")
        if raw is not None:
            yield f"--{key}", f"--{key}", _BY_KEY[key], raw


def _from_environ(environ: Mapping[str, str]) -> Iterator[_Found]:
    for setting in SETTINGS:
        for variable in (*reversed(setting.aliases), setting.variable):
            # An empty variable is how a shell user takes a value back.
            if raw := environ.get(variable, ""):
                yield variable, variable, setting, raw
    if environ.get("NO_COLOR") and not environ.get("CF_COLOR"):
        yield "NO_COLOR", "NO_COLOR", _BY_KEY["color"], "never"


def _from_file(path: Path, table: tuple[str, ...]) -> Iterator[_Found]:
    try:
        content: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}") from error
    for name in table:
        content = content.get(name, {})
        if not isinstance(content, dict):
            raise SettingsError(f"{path}: {name} should be a table")
    place = f"{path} [{'.'.join(table)}]" if table else str(path)
    for key, raw in content.items():
        if key not in _BY_KEY:
            raise SettingsError(f"{place}: unknown key {key!r}", hint=_nearest(key))
        yield place, key, _BY_KEY[key], raw


def _nearest(key: str) -> str:
    close = difflib.get_close_matches(key.replace("_", "-").lower(), _BY_KEY, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(_BY_KEY)}"
