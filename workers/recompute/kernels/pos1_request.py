"""What a `chia.pos1` request says, and which pairs of buckets it names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from computefarm.worker_api.kernel import BadRequest, Envelope, octets, whole

from .pos1_plain import line_point, readings

FORMS: Final = {"lp32": 32, "w16": 16, "trunc64": 64}
Pair = tuple[int, int]


class Leaf(msgspec.Struct, frozen=True):
    """Pairs of buckets whose matches make one list of table 2."""

    pairs: tuple[Pair, ...]


class Shape(msgspec.Struct, frozen=True):
    """The lists of table 2 that a request needs, and how those of table 3 come from them."""

    leaves: tuple[Leaf, ...]
    jobs: tuple[tuple[int, int, int], ...]
    """Rows (leaf, leaf, list of table 3); several rows for one list are several readings of a line point."""
    ordered: bool
    """The left x lies in the first bucket of each pair."""
    all_ordered: bool = False
    """On all levels."""


class Pos1Request(msgspec.Struct, frozen=True):
    """One proof or quality to recompute, or some of its leaves."""

    op: str
    plot_id: bytes
    k: int
    d: int
    form: str
    data: tuple[int, ...]
    challenge: bytes = b""
    """Empty: none."""
    first: int = 0
    last: int = 64
    """The leaves `first` to `last` (not included) are to be joined; 64: all."""

    @property
    def kept(self) -> int:
        """Bits of each x that the plot kept."""
        return self.k - self.d


def parse(raw: Mapping[str, object]) -> Pos1Request:
    """Return the request, with every number in its range; raises `BadRequest`."""
    envelope = Envelope.read(raw)
    if envelope.kernel != "chia.pos1":
        raise BadRequest(f"`kernel` is {envelope.kernel!r}, this is chia.pos1")
    if envelope.version != 1:
        raise BadRequest(f"`v` is {envelope.version}: this kernel knows version 1 of its requests")
    op = raw.get("op", "proof")
    if op not in ("proof", "quality"):
        raise BadRequest(f"`op` is {op!r}: it is proof or quality")
    k = whole(raw, "k", 18, 40)
    d = whole(raw, "d", 1, 26)
    if d >= k:
        raise BadRequest(f"`d` is {d}: fewer bits can be missing of an x than it has (k = {k})")
    form = raw.get("form", "lp32" if op == "proof" else "t2lp")
    forms = ("lp32", "w16", "trunc64") if op == "proof" else ("t2lp",)
    if form not in forms:
        raise BadRequest(f"`form` is {form!r}: for op {op} it is {' or '.join(forms)}")
    challenge = octets(raw, "challenge", least=32, most=32, default=b"\0" * 32)
    if raw.get("challenge") is None:
        challenge = b""
        if op == "quality":
            raise BadRequest("`challenge` is missing: a quality cannot be told without it")
    plot_id = octets(raw, "plot_id", least=32, most=32)
    request = Pos1Request(str(op), plot_id, k, d, str(form), _data(raw, str(form), k - d), challenge)
    shape(request)
    return request


def _data(raw: Mapping[str, object], form: str, kept: int) -> tuple[int, ...]:
    values = raw.get("data")
    if not isinstance(values, list | tuple):
        raise BadRequest("`data` is missing: it is a list of integers")
    if form == "t2lp":
        if len(values) not in (1, 2):
            raise BadRequest(
                f"`data` has {len(values)} numbers: a quality has 1 (the entry) or 2 (its sibling)"
            )
    elif len(values) != FORMS[form]:
        raise BadRequest(f"`data` has {len(values)} numbers: form {form} has {FORMS[form]}")
    bits = {"lp32": 2 * kept - 1, "w16": 4 * kept - 1, "trunc64": kept, "t2lp": 4 * kept - 3}[form]
    for place, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, int):
            raise BadRequest(f"`data[{place}]` is {str(value)[:40]!r}: it must be an integer")
        if not 0 <= value < 1 << bits:
            raise BadRequest(
                f"`data[{place}]` is {value}: with form {form} and {kept} kept bits it has {bits} bits"
            )
    return tuple(values)


def shape(request: Pos1Request) -> Shape:
    """Return which lists `request` needs; raises `BadRequest` for a number that no two buckets make."""
    if request.form == "trunc64":
        data = request.data
        leaves = tuple(Leaf(((data[n], data[n + 1]),)) for n in range(0, 64, 2))
        return Shape(leaves, _neighbours(32), ordered=True, all_ordered=True)
    if request.form == "lp32":
        return Shape(tuple(_leaf(v, request.kept) for v in request.data), _neighbours(32), ordered=False)
    if request.form == "w16":
        return _two_levels(request, 2 * request.kept, words=True)
    return _two_levels(request, 2 * request.kept - 1, words=False)


def _neighbours(lists: int) -> tuple[tuple[int, int, int], ...]:
    return tuple((2 * n, 2 * n + 1, n) for n in range(lists // 2))


def _leaf(point: int, kept: int) -> Leaf:
    return Leaf(tuple(_read(point, kept)))


def _read(point: int, bits: int) -> list[Pair]:
    found = [pair for pair in readings(point) if pair[0] < 1 << bits]
    if not found:
        raise BadRequest(f"`data`: {point} is the line point of no two numbers of {bits} bits")
    return found


def _two_levels(request: Pos1Request, bits: int, *, words: bool) -> Shape:
    leaves: dict[int, Leaf] = {}
    numbers: dict[int, int] = {}
    jobs: list[tuple[int, int, int]] = []
    kept = request.kept
    low = (1 << kept) - 1
    for place, point in enumerate(request.data):
        made = 0
        for pair in _read(point, bits):
            try:
                for value in pair:
                    if value not in leaves:
                        leaf = Leaf(((value & low, value >> kept),)) if words else _leaf(value, kept)
                        leaves[value], numbers[value] = leaf, len(numbers)
            except BadRequest:
                continue
            jobs.append((numbers[pair[0]], numbers[pair[1]], place))
            made += 1
        if not made:
            raise BadRequest(f"`data`: {point} is no line point of line points of {kept} bits")
    return Shape(tuple(leaves.values()), tuple(jobs), ordered=words)


def answers(request: Pos1Request, xs: Sequence[int]) -> bool:
    """Say whether x (in proof order) have the high bits that `request` names."""
    high = [x >> request.d for x in xs]
    if request.form == "trunc64":
        return tuple(high) == request.data
    pairs = list(zip(high[::2], high[1::2], strict=True))
    if request.form == "lp32":
        made = [line_point(*pair) for pair in pairs]
        return _as_tree(made) == _as_tree(list(request.data))
    inner = (
        [b << request.kept | a for a, b in pairs]
        if request.form == "w16"
        else [line_point(*p) for p in pairs]
    )
    made = [line_point(inner[n], inner[n + 1]) for n in range(0, len(inner), 2)]
    return _as_tree(made) == _as_tree(list(request.data))


def _as_tree(values: list[int]) -> object:
    # The same for all orders that only swap two neighbouring halves.
    row: list[object] = [(value,) for value in values]
    while len(row) > 1:
        row = [tuple(sorted((row[n], row[n + 1]), key=repr)) for n in range(0, len(row), 2)]
    return row[0]
