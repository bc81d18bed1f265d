"""Decode the entropy-coded differences of plots: finite state entropy, as in RFC 8878, with fixed tables."""

from __future__ import annotations

import heapq
from functools import cache
from math import log2
from typing import Final

import msgspec

LOG: Final = 14
SIZE: Final = 1 << LOG
E: Final = 2.718281828459


class Damaged(Exception):
    """A stream that no encoder wrote."""


class Decoder(msgspec.Struct, frozen=True):
    """One row for each state: its symbol, how many bits follow, and what they are added to."""

    symbols: tuple[int, ...]
    bits: tuple[int, ...]
    bases: tuple[int, ...]


def _probabilities(r: float) -> list[float]:
    """Return how often each difference occurs."""
    found = [1 - ((E - 1) / E) ** (1 / r)]
    while len(found) < 255:
        n = len(found)
        p = (E ** (1 / r) - 1) * (E - 1) ** (1 / r) / E ** ((n + 1) / r)
        if p <= 1e-50:
            break
        found.append(p)
    return found


def counts(r: float) -> list[int]:
    """Return how many states each symbol has; -1: one, at the end of the table."""
    chances = _probabilities(r)
    given = [1] * len(chances)
    heap = [(-p, n) for n, p in enumerate(chances)]
    heapq.heapify(heap)
    for _ in range(SIZE - len(chances)):
        _, n = heap[0]
        given[n] += 1
        gain = chances[n] * (log2(given[n] + 1) - log2(given[n]))
        heapq.heapreplace(heap, (-gain, n))
    return [-1 if count == 1 else count for count in given]


@cache
def decoder(r: float) -> Decoder:
    """Return the decoder of streams with parameter `r`."""
    given = counts(r)
    table = [0] * SIZE
    high = SIZE - 1
    for symbol, count in enumerate(given):
        if count == -1:
            table[high] = symbol
            high -= 1
    at = 0
    for symbol, count in enumerate(given):
        for _ in range(max(count, 0)):
            table[at] = symbol
            at = (at + (SIZE >> 1) + (SIZE >> 3) + 3) & (SIZE - 1)
            while at > high:
                at = (at + (SIZE >> 1) + (SIZE >> 3) + 3) & (SIZE - 1)
    following = [abs(count) for count in given]
    bits, bases = [], []
    for symbol in table:
        state = following[symbol]
        following[symbol] += 1
        width = LOG - (state.bit_length() - 1)
        bits.append(width)
        bases.append((state << width) - SIZE)
    return Decoder(tuple(table), tuple(bits), tuple(bases))


def decode(stream: bytes, r: float, most: int, enough: int) -> list[int]:
    """Return the symbols of a stream, or its first `enough`; raises `Damaged` beyond `most`."""
    value = int.from_bytes(stream, "little")
    left = value.bit_length() - 1
    if left < 2 * LOG:
        raise Damaged(f"a stream of {len(stream)} bytes is too short")
    if not stream[-1]:
        raise Damaged("a stream without its end mark")
    table = decoder(r)
    symbols, bits, bases = table.symbols, table.bits, table.bases
    left -= LOG
    state = (value >> left) & (SIZE - 1)
    left -= LOG
    other = (value >> left) & (SIZE - 1)
    found: list[int] = []
    while True:
        found.append(symbols[state])
        if len(found) == enough:
            return found
        if len(found) > most:
            raise Damaged(f"a stream of more than {most} symbols")
        width = bits[state]
        left -= width
        if left < 0:
            # The other state's symbol is the last one.
            found.append(symbols[other])
            return found
        state, other = other, bases[state] + ((value >> left) & ((1 << width) - 1))
