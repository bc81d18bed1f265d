"""Output of a task as log records: one per line, with the place that the tool named, ready for JSON.

A record has the fields `created level name msg task attempt host stream seq`, and `dir file line column`
where a line parser found them. cutelog loads and shows the same objects.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from computefarm.messages import Piece

from .parsers import Parser, parser
from .tasklog import STREAMS

Record = dict[str, Any]

LOCAL = "local"
"""Stands for the capability of a task that has none."""

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


_PRIVATE = re.compile(r".*/private/tasks-[0-9a-f]{12}/[^/]+(?:/(?P<inside>.*))?")
"""Where a task runs: gone when it has ended, but laid out as the project is."""


def logger_name(*parts: str) -> str:
    """Return `farm.<part>.<part>`; a dot inside a part, or an empty one, would make a branch of the tree."""
    return ".".join(("farm", *(part.replace(".", "_") or "-" for part in parts)))


def plain(text: str) -> str:
    """Return text as a terminal leaves it: without colours, and without what a return has overwritten."""
    if "\x1b" in text:
        text = _ESCAPES.sub("", text)
    if "\r" in text:
        text = text.rstrip("\r").rpartition("\r")[2]
    return text


def in_project(folder: str) -> str:
    """Return a folder as the project has it: what is below a task's own folder is relative to the project."""
    found = _PRIVATE.fullmatch(folder) if "/private/" in folder else None
    return folder if found is None else found["inside"] or ""


class Records:
    """The records of one attempt of one task, in the order of its output."""

    __slots__ = ("_common", "_name", "_parser", "_parsers", "_seq")

    def __init__(
        self, *, run: str, host: str, capability: str, task: str, attempt: int = 1, parser: str = ""
    ) -> None:
        """`host` is the name people know it by; `parser` is the `logs` of the capability."""
        self._name = logger_name(run, host, capability or LOCAL)
        self._common = (task, attempt, host)
        self._parser = parser
        self._parsers: dict[int, Parser] = {}
        self._seq = 0

    def feed(self, pieces: Iterable[Piece], offset_s: float = 0.0) -> list[Record]:
        """Return one record per line; `offset_s` is added to what the clock of the host said.

        `seq` counts the lines of the attempt from 0.
        """
        task, attempt, host = self._common
        name = self._name
        found: list[Record] = []
        seq = self._seq
        for piece in pieces:
            seq = max(seq, piece.line)  # lines that were left out on the way have their numbers still
            stream = STREAMS.get(piece.stream, str(piece.stream))
            feed = (self._parsers.get(piece.stream) or self._parser_of(piece.stream)).feed
            created = piece.created_at + offset_s
            lines = piece.text.split("\n")
            if not lines[-1]:
                lines.pop()
            for line in lines:
                text = plain(line)
                parsed = feed(text)
                record = {
                    "created": created,
                    "level": "info" if parsed is None else parsed.level,
                    "name": name,
                    "msg": text if parsed is None else parsed.message,
                    "task": task,
                    "attempt": attempt,
                    "host": host,
                    "stream": stream,
                    "seq": seq,
                }
                if parsed is not None and parsed.file:
                    record["dir"] = in_project(parsed.dir)
                    record["file"] = parsed.file
                    record["line"] = parsed.line
                    record["column"] = parsed.column
                found.append(record)
                seq += 1
        self._seq = seq
        return found

    def _parser_of(self, stream: int) -> Parser:
        """Return a stream's parser: its own, or one for both where the tool needs it so."""
        shared = next(iter(self._parsers.values()), None)
        if shared is None or not getattr(shared, "both_streams", False):
            shared = parser(self._parser)
        self._parsers[stream] = shared
        return shared


def line_of(record: Record) -> str:
    """Return a record as a compiler writes it: `dir/file:line:column: level: text`."""
    text = str(record.get("msg", ""))
    if not record.get("file"):
        return text if record["level"] in ("info", "debug") else f"{record['level']}: {text}"
    folder = record.get("dir")
    where = f"{folder}/{record['file']}" if folder else str(record["file"])
    for number in (record.get("line"), record.get("column")):
        if not number:
            break
        where += f":{number}"
    return f"{where}: {record['level']}: {text}"
