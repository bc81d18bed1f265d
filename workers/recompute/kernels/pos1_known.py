"""A proof that everybody can know: that of the block at height 300000 of Chia's main net."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from .pos1_plain import line_point, unpack


class KnownProof(msgspec.Struct, frozen=True):
    """A valid proof with what it is a proof of."""

    plot_id: bytes
    k: int
    challenge: bytes
    proof: bytes
    quality: bytes

    def xs(self) -> list[int]:
        """Return the 64 x in proof order."""
        return unpack(self.k, self.proof)

    def truncated(self, d: int) -> list[int]:
        """Return the x without their last `d` bits."""
        return [x >> d for x in self.xs()]

    def line_points(self, d: int) -> list[int]:
        """Return what a plot that drops `d` bits keeps: the line point of each two neighbours."""
        kept = self.truncated(d)
        return [line_point(kept[n], kept[n + 1]) for n in range(0, 64, 2)]


def request_of(known: KnownProof, d: int) -> dict[str, Any]:
    """Return the request, as it is on the wire, that recomputes a known proof from all but `d` bits."""
    return {
        "kernel": "chia.pos1", "op": "proof", "plot_id": known.plot_id, "k": known.k, "d": d, "form": "lp32",
        "data": known.line_points(d), "challenge": known.challenge,
    }  # fmt: skip


KNOWN: Final = KnownProof(
    plot_id=bytes.fromhex("66773c8d754c012899808f86d4ea7bbcdcc1c0d0b07f6bb718b8251e3798e84f"),
    k=32,
    challenge=bytes.fromhex("1a23b4a85d0ba4cc485f2f95c73ba71b55a6adbbabab6253f40c8c7351ba051f"),
    proof=bytes.fromhex(
        "a55eae00b6a7f709a0abcf394e568786b6dff14b6beb5c31703e86cb0b9972ce6ef07696b54b93215ede46d6c7a7100b"
        "64f88b66cca0efab9e8c92c575e812262364a55e205700eb6aa69f77ca760223deacaa06a7507e9b1a775446e4713e15"
        "d6a73036654807b79e23b588c556b5abd62b15bff7f5d9d32d7ff4bdae5b4f3531a25be39dda8c470305efc4fb0d964b"
        "0bbb68d002c972b37223e82ddf5efa961138e858bea0b9ad84b707851ccb1b3963af98c5a6ee92f4a5e3ba8356bbd406"
        "a820dd13ce0e7e5514adfd4eea37f92c15c2f1420fe36c4ec69864fcf5cf0145ad7eb352635ca511d14a4dba03dd9c3e"
        "87363b8fd6fadc2331f745eac9832567"
    ),
    quality=bytes.fromhex("8cff885f018f94f3a232f3191f2b853b267f2dc32058b57cb73555dcef3523c7"),
)
