from __future__ import annotations

import msgspec
import pytest

from computefarm.core.seats import Seat, choose, hopeless, together, works_of
from computefarm.messages import Request

GIB = 1 << 30
BOTH = {"mc.sum": frozenset({"cpu", "cuda"}), "plain": frozenset({"cpu"})}
CPU = {"mc.sum": frozenset({"cpu"}), "plain": frozenset({"cpu"})}


def gpu(unit: str = "cuda:0", *, vram: int = 8 * GIB, busy: int = -1) -> Seat:
    """Return a seat on a GPU; `busy` bytes are taken by what it computes."""
    return Seat(unit=unit, vram=vram, works=BOTH, busy=busy >= 0, taken=max(0, busy))


def cpu(*, busy: bool = False) -> Seat:
    return Seat(works=CPU, busy=busy)


def request(device: str = "any", *, vram: int = GIB, cpu_s: float = 1.0, gpu_s: float = 0.01) -> Request:
    return Request(1, "mc.sum", b"", 5.0, device, vram=vram, cpu_s=cpu_s, gpu_s=gpu_s)


def test_what_a_gpu_does_sooner_runs_there_and_the_rest_where_no_gpu_is_kept_from_work() -> None:
    seats = [gpu(), cpu()]

    assert choose(request(), seats) == (0, "gpu")
    assert choose(request(gpu_s=2.0), seats) == (1, "cpu")
    assert choose(request(gpu_s=0.0), seats) == (1, "cpu"), "it has no version for a GPU"
    assert choose(request("cpu"), seats) == (1, "cpu")
    assert choose(request("cpu"), [gpu(), cpu(busy=True)]) == (0, "cpu")


def test_requests_that_run_together_never_need_more_memory_than_the_gpu_has() -> None:
    seats = [gpu(busy=5 * GIB), gpu(), cpu()]

    assert choose(request("gpu", vram=3 * GIB), seats) == (1, "gpu")
    assert choose(request("gpu", vram=3 * GIB + 1), seats) is None
    assert choose(request(vram=3 * GIB + 1), seats) is None, (
        "it waits: the GPU is free before the CPU is done"
    )


def test_another_gpu_is_another_memory_and_the_one_with_less_to_do_is_taken() -> None:
    seats = [gpu("cuda:0", busy=5 * GIB), gpu("cuda:0"), gpu("cuda:1")]

    assert choose(request("gpu", vram=6 * GIB), seats) == (2, "gpu")
    assert choose(request("gpu", vram=GIB), seats) == (2, "gpu")


def test_nobody_overtakes_one_that_waits_for_a_gpu() -> None:
    assert choose(request("gpu"), [gpu(), gpu()], ahead=1) is None


def test_a_core_is_taken_when_the_gpus_have_so_much_to_do_that_it_is_sooner() -> None:
    seats = [gpu(busy=GIB), cpu()]

    assert choose(request(cpu_s=1.0, gpu_s=0.01), seats) is None
    assert choose(request(cpu_s=1.0, gpu_s=0.4), seats) == (1, "cpu")
    assert choose(request(cpu_s=1.0, gpu_s=0.2), seats, ahead=5) == (1, "cpu")
    assert choose(request("gpu", cpu_s=1.0, gpu_s=0.4), seats) is None


def test_what_no_gpu_has_memory_for_runs_on_a_core_unless_it_must_not() -> None:
    seats = [gpu(vram=GIB), cpu()]

    assert choose(request(vram=2 * GIB), seats) == (1, "cpu")
    assert choose(request("gpu", vram=2 * GIB), seats) is None
    assert hopeless(request("gpu", vram=2 * GIB), seats)
    assert not hopeless(request(vram=2 * GIB), seats)


def test_a_simulated_gpu_computes_only_what_asks_for_a_gpu() -> None:
    seats = [Seat(unit="cuda:0", vram=GIB, works=BOTH, reserved=True)]

    assert choose(request(), seats) == (0, "cpu")
    assert choose(request("gpu"), seats) == (0, "gpu")


def test_a_process_that_is_not_warm_gets_nothing() -> None:
    assert choose(request(), [Seat(unit="cuda:0", vram=GIB)]) is None


def test_what_processes_announce_is_put_together() -> None:
    on_gpu = (
        ("devices", "cpu cuda"),
        ("devices:plain", "cpu"),
        ("k", "18-40"),
        ("kernel:mc.sum", "1"),
        ("kernel:plain", "2"),
    )
    on_cpu = (("devices", "cpu"), ("k", "18-40"), ("kernel:mc.sum", "1"), ("kernel:plain", "2"))

    assert works_of(on_gpu) == BOTH
    assert works_of(on_cpu) == CPU
    assert together([on_cpu, on_gpu]) == on_gpu
    assert together([on_cpu, on_cpu]) == on_cpu


@pytest.mark.parametrize("seats", [[gpu(busy=0), cpu()], [gpu(), cpu()]])
def test_a_failed_gpu_is_not_chosen(seats: list[Seat]) -> None:
    seats[0].works = CPU
    seats[0].busy = False

    assert choose(request(), seats) == (1, "cpu")
    assert choose(request("gpu"), seats) is None
    assert hopeless(request("gpu"), seats)
    assert hopeless(msgspec.structs.replace(request(), kernel="other"), seats)
