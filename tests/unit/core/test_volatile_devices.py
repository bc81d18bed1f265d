from __future__ import annotations

from computefarm.core.volatile_devices import MOST, Devices, budgets
from computefarm.messages import DeviceLoad

GPU = "cuda:0 NVIDIA H100 GPU-12ab"


def test_each_device_has_its_own_figures() -> None:
    devices = Devices()
    for took_s in (0.1, 0.2, 0.3):
        devices.answered(GPU, True, False, took_s)
    devices.answered("cpu", True, False, 2.0)
    devices.answered("cpu", False, True, 9.0)

    cpu, gpu = devices.status("", False, 10.0)

    assert (cpu.device, cpu.served, cpu.failed, cpu.p50_ms, cpu.p99_ms) == ("cpu", 1, 1, 2000.0, 2000.0)
    assert (gpu.device, gpu.served, gpu.failed, gpu.p50_ms, gpu.p99_ms) == (GPU, 3, 0, 200.0, 300.0)


def test_what_runs_where_and_since_when_is_what_the_worker_said_last() -> None:
    devices = Devices()
    devices.heard([DeviceLoad(GPU, 2, 0.5)], now=10.0)

    (gpu,) = devices.status("", True, 11.0)
    assert (gpu.running, gpu.oldest_s) == (2, 1.5)

    devices.heard([DeviceLoad("cpu", 1, 0.0)], now=12.0)
    cpu, gpu = devices.status("", True, 12.0)
    assert (cpu.running, gpu.running, gpu.oldest_s) == (1, 0, 0.0)


def test_a_worker_with_nothing_in_hand_computes_nothing_whatever_it_said() -> None:
    devices = Devices()
    devices.heard([DeviceLoad(GPU, 2, 0.5)], now=10.0)

    assert [one.running for one in devices.status("", False, 11.0)] == [0]


def test_gpus_are_shown_before_they_have_answered_anything() -> None:
    other = GPU.replace("cuda:0", "cuda:1")

    assert [one.device for one in Devices().status(f"{GPU}; {other}", False, 0.0)] == [GPU, other]


def test_a_worker_cannot_make_the_manager_remember_without_end() -> None:
    devices = Devices()
    for n in range(2 * MOST):
        devices.answered(f"cuda:{n}", True, False, 0.1)

    assert len(devices.status("", False, 0.0)) == MOST


def test_the_memory_of_gpus_is_read_from_a_tag_whatever_it_says() -> None:
    assert budgets("75000MiB 8MiB") == [75000 << 20, 8 << 20]
    assert budgets("") == budgets("lots") == []
