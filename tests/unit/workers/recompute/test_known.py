"""The proofs that `cf-recompute bench` asks for are right at every level."""

from __future__ import annotations

import json
from pathlib import Path

from computefarm.workers.recompute.kernels import pos1_plain as plain

from computefarm.recompute.known import LEVELS, known, operations

DATA = json.loads((Path(__file__).parents[3] / "data" / "chia_mainnet_proofs.json").read_text())


def test_the_known_requests_are_those_of_the_known_proofs() -> None:
    assert len(known()) == len(DATA)
    for one, data in zip(known(), DATA, strict=True):
        assert (one.plot_id, one.challenge, one.proof, one.quality) == tuple(
            data[key] for key in ("plot_id", "challenge", "proof", "quality")
        )
        xs = plain.unpack(32, bytes.fromhex(one.proof))
        ordered = plain.plot_order(xs)
        at = (bytes.fromhex(one.challenge)[31] & 31) // 2
        for level in LEVELS[:8]:
            d = 15 + int(level[1:])
            asked = one.request(level, "proof")
            assert asked["d"] == d
            assert asked["data"] == [plain.line_point(xs[n] >> d, xs[n + 1] >> d) for n in range(0, 64, 2)]
            a, b, c, e = (x >> d for x in ordered[4 * at : 4 * at + 4])
            entry = plain.line_point(plain.line_point(a, b), plain.line_point(c, e))
            quality = one.request(level, "quality")["data"]
            assert isinstance(quality, list)
            assert quality[0] == entry
            assert len(quality) == (2 if d >= 21 else 1)
        assert operations("C9") == ("proof",)
        assert one.request("C9", "proof")["form"] == "w16"
