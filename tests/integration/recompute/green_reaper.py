"""bladebit's Green Reaper, from the chiapos wheel: an independent decompressor, and the speed to beat."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Sequence
from pathlib import Path

OK, NO_PROOF = 1, 3


class Config(ctypes.Structure):
    _fields_ = [
        ("api_version", ctypes.c_uint32),
        ("threads", ctypes.c_uint32),
        ("cpu_offset", ctypes.c_uint32),
        ("disable_affinity", ctypes.c_int32),
        ("gpu_request", ctypes.c_uint32),
        ("gpu_index", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32 * 16),
    ]


class ProofRequest(ctypes.Structure):
    _fields_ = [("data", ctypes.c_uint64 * 64), ("level", ctypes.c_uint32), ("plot_id", ctypes.c_char_p)]


class Wide(ctypes.Structure):
    _fields_ = [("high", ctypes.c_uint64), ("low", ctypes.c_uint64)]


class QualityRequest(ctypes.Structure):
    _fields_ = [
        ("plot_id", ctypes.c_char_p),
        ("challenge", ctypes.c_char_p),
        ("level", ctypes.c_uint32),
        ("line_points", Wide * 2),
        ("x1", ctypes.c_uint64),
        ("x2", ctypes.c_uint64),
    ]


def library() -> Path | None:
    """Return where the wheel keeps bladebit's harvester, or None without the wheel."""
    spec = importlib.util.find_spec("chiapos")
    if spec is None or spec.origin is None:
        return None
    found = sorted((Path(spec.origin).parent / "chiapos.libs").glob("libbladebit_harvester*.so"))
    return found[0] if found else None


class GreenReaper:
    """One context of one thread on the CPU (or, asked for, the first GPU)."""

    def __init__(self, level: int, *, gpu: bool = False) -> None:
        path = library()
        assert path is not None
        self.lib = ctypes.CDLL(str(path))
        self.level = level
        self.context = ctypes.c_void_p()
        config = Config(api_version=1, threads=1, disable_affinity=1, gpu_request=1 if gpu else 0)
        made = self.lib.grCreateContext(
            ctypes.byref(self.context), ctypes.byref(config), ctypes.c_size_t(ctypes.sizeof(config))
        )
        assert made == OK, made
        assert self.lib.grPreallocateForCompressionLevel(self.context, 32, level) == OK

    def proof(self, plot_id: bytes, line_points: Sequence[int]) -> list[int] | None:
        """Return the 64 x of 32 line points, or None when it finds no proof."""
        request = ProofRequest(level=self.level, plot_id=plot_id)
        request.data[: len(line_points)] = list(line_points)
        code = self.lib.grFetchProofForChallenge(self.context, ctypes.byref(request))
        assert code in (OK, NO_PROOF), code
        return list(request.data) if code == OK else None

    def quality(self, plot_id: bytes, challenge: bytes, line_points: Sequence[int]) -> tuple[int, int] | None:
        """Return the pair of x that the challenge picks."""
        request = QualityRequest(plot_id=plot_id, challenge=challenge, level=self.level)
        for place, point in enumerate(line_points):
            request.line_points[place] = Wide(point >> 64, point & ((1 << 64) - 1))
        code = self.lib.grGetFetchQualitiesXPair(self.context, ctypes.byref(request))
        assert code in (OK, NO_PROOF), code
        return (request.x1, request.x2) if code == OK else None

    def close(self) -> None:
        self.lib.grDestroyContext(self.context)
