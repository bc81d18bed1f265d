"""What a task needs from the farm: the `meta` entry of a doit task.

Dodo files import this module also under plain doit, once per run, so it imports nothing that costs time:
msgspec is loaded by `read_needs` only, which majordomo alone calls.
"""

from __future__ import annotations

from computefarm.errors import UsageError

# `typing` itself would double the time to import this module; type checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from ._needs import Needs as Needs

KEY = "farm"
"""The key under which a task's `meta` carries its needs."""


class Checked(dict):  # type: ignore[type-arg]  # `dict[str, Any]` would need typing at run time
    """A plain mapping whose values `needs` has checked, so that `read_needs` need not do it again."""


def needs(
    capability: str,
    *,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    cpus: int | None = None,
    memory: str | int | None = None,
    gpus: int | None = None,
    exclusive: bool = False,
    timeout: str | float | None = None,
    priority: float = 0,
    retries: int = 0,
    load: float | None = None,
    tags: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    pass_env: Sequence[str] = (),
    host_files: Sequence[str] = (),
    cache: bool = True,
    sandbox: bool = False,
    any_toolchain: bool = False,
) -> dict[str, dict[str, Any]]:
    """Return the `meta` of a doit task that is to run on a worker offering `capability`.

    `capability` is a name, with a version where it matters: `gcc`, `gcc>=9`, `gcc>=9,<14`.
    `inputs` and `outputs` are paths or patterns relative to the project, beside `file_dep` and `targets`.
    `memory` is a size (`512MiB`), `timeout` a duration (`10m`), `load` what it adds to the host, in cores.
    Values that say nothing new are left out, so that `meta` shows what was asked for.
    Raises `UsageError` naming the argument and what was expected.
    """
    name, version = parse_requirement(capability)
    farm = Checked(capability=name)
    if version:
        farm["version"] = version
    # One test for each argument: a graph of 10 000 tasks calls this 10 000 times.
    if inputs != ():
        farm["inputs"] = _patterns("inputs", inputs)
    if outputs != ():
        farm["outputs"] = _patterns("outputs", outputs)
    if cpus is not None:
        farm["cpus"] = _count("cpus", cpus, least=1)
    if memory is not None:
        farm["memory"] = _size("memory", memory)
    if gpus is not None:
        farm["gpus"] = _count("gpus", gpus)
    if exclusive is not False:
        farm["exclusive"] = _flag("exclusive", exclusive)
    if timeout is not None:
        farm["timeout"] = _duration("timeout", timeout)
    if priority != 0 or priority is False:
        farm["priority"] = _number("priority", priority)
    if retries != 0 or retries is False:
        farm["retries"] = _count("retries", retries)
    if load is not None:
        farm["load"] = _number("load", load, least=0.0)
    if tags is not None:
        farm["tags"] = _table("tags", tags)
    if env is not None:
        farm["env"] = _environment("env", env)
    if pass_env != ():
        farm["pass_env"] = _variables("pass_env", pass_env)
    if host_files != ():
        farm["host_files"] = _absolute("host_files", host_files)
    if cache is not True:
        farm["cache"] = _flag("cache", cache)
    if sandbox is not False:
        farm["sandbox"] = _flag("sandbox", sandbox)
    if any_toolchain is not False:
        farm["any_toolchain"] = _flag("any_toolchain", any_toolchain)
    return {KEY: farm}


def read_needs(meta: Mapping[str, Any] | None) -> Needs | None:
    """Return the needs that a task's `meta` carries, or None when it carries none.

    Raises `UsageError` for an unknown key or a value that `needs` would refuse.
    """
    farm = meta.get(KEY) if meta else None
    if farm is None:
        return None
    from ._needs import read

    return read(farm)


def parse_requirement(text: str) -> tuple[str, str]:
    """Split `gcc>=9,<14` into the capability's name and its constraint (`>=9,<14`, or empty for any version).

    Raises `UsageError` unless `text` is a name, then nothing or comparisons separated by commas.
    """
    if not isinstance(text, str):
        raise UsageError(f"needs(capability={text!r}): expected text such as 'gcc' or 'gcc>=9'")
    if text.isalpha() and text.isascii():
        return text, ""
    import re

    # Spaces may stand around names, comparisons and commas, but never make one word of two.
    packed = text if " " not in text else re.sub(r"(?<=[<>=!,]) +| +(?=[<>=!,])", "", text.strip())
    match = re.fullmatch(
        r"([A-Za-z](?:[A-Za-z0-9_.+-]*[A-Za-z0-9_+])?)"
        r"((?:==|!=|>=|<=|>|<)[0-9A-Za-z][0-9A-Za-z.+_-]*(?:,(?:==|!=|>=|<=|>|<)[0-9A-Za-z][0-9A-Za-z.+_-]*)*)?",
        packed,
    )
    if match is None:
        raise UsageError(
            f"{text!r} is not a requirement: expected a capability's name, with comparisons where the "
            "version matters: 'gcc', 'gcc>=9', 'gcc>=9,<14' (one of == != >= <= > < before each version)"
        )
    return match[1], match[2] or ""


# --- one checker per shape; each returns plain data that JSON can hold --------------------------------


def _refuse(name: str, value: object, expected: str) -> UsageError:
    return UsageError(f"needs({name}={value!r}): expected {expected}")


def _count(name: str, value: object, *, least: int = 0) -> int:
    if type(value) is not int or value < least:
        raise _refuse(name, value, f"a whole number, at least {least}")
    return value


def _number(name: str, value: object, *, least: float = float("-inf")) -> float:
    # The chained comparison is false for nan too.
    if type(value) not in (int, float) or not (least <= value < float("inf")) or value == float("-inf"):  # type: ignore[operator]
        raise _refuse(name, value, "a number" if least < 0 else f"a number, at least {least:g}")
    return float(value)  # type: ignore[arg-type]


def _flag(name: str, value: object) -> bool:
    if type(value) is not bool:
        raise _refuse(name, value, "True or False")
    return value


def _size(name: str, value: object) -> int:
    from .quantities import parse_size

    expected = "a size such as '512MiB', or a number of bytes"
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _refuse(name, value, expected)
    try:
        return parse_size(value)
    except ValueError as error:
        raise _refuse(name, value, expected) from error


def _duration(name: str, value: object) -> float:
    from .quantities import parse_duration

    expected = "a duration such as '10m', or a number of seconds, more than 0"
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _refuse(name, value, expected)
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise _refuse(name, value, expected) from error
    if seconds <= 0:
        raise _refuse(name, value, expected)
    return seconds


def _texts(name: str, value: Sequence[str], what: str) -> list[str]:
    if not isinstance(value, list | tuple):
        hint = f"; write {name}=[{value!r}]" if isinstance(value, str) else ""
        raise _refuse(name, value, f"a list of {what}{hint}")
    for item in value:
        if not isinstance(item, str) or not item or "\0" in item:
            raise _refuse(name, value, f"a list of {what}, and {item!r} is not one")
    return list(value)


def _patterns(name: str, value: Sequence[str]) -> list[str]:
    texts = _texts(name, value, "paths or patterns relative to the project")
    for text in texts:
        if text.startswith("/"):
            raise _refuse(name, text, "a path relative to the project (host_files= takes absolute ones)")
        if ".." in text.split("/"):
            raise _refuse(name, text, "a path inside the project, so without '..'")
    return texts


def _absolute(name: str, value: Sequence[str]) -> list[str]:
    texts = _texts(name, value, "absolute paths on the worker")
    for text in texts:
        if not text.startswith("/"):
            raise _refuse(name, text, "an absolute path on the worker")
    return texts


def _variables(name: str, value: Sequence[str]) -> list[str]:
    texts = _texts(name, value, "names of environment variables")
    for text in texts:
        if "=" in text:
            raise _refuse(name, text, f"the name alone; {text!r} with its value belongs in env=")
    return texts


def _table(name: str, value: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(value, dict):
        raise _refuse(name, value, "a dictionary of texts")
    for key, text in value.items():
        if not isinstance(key, str) or not key or not isinstance(text, str):
            raise _refuse(name, value, f"a dictionary of texts, and {key!r}: {text!r} is not text")
    return dict(value)


def _environment(name: str, value: Mapping[str, str]) -> dict[str, str]:
    table = _table(name, value)
    for key, text in table.items():
        if "=" in key or "\0" in key or "\0" in text:
            raise _refuse(name, {key: text}, "a variable's name without '=', and no zero bytes")
    return table


def __getattr__(name: str) -> Any:
    """Load `Needs` on first use: msgspec costs more than the rest of this module a dozen times over."""
    if name == "Needs":
        from ._needs import Needs

        return Needs
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
