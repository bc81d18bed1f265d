"""Requests for GPUs: who can take them, and what a farm says of its devices."""

from __future__ import annotations

import msgspec

from computefarm.messages import DeviceLoad, Heartbeat, Offer, Register, Reply, Request
from computefarm.testing.farm import Farm

GPU = "cuda:0 NVIDIA H100 GPU-12ab"
TAGS = {
    "kernel:mc.sum": "1",
    "kernel:plain": "1",
    "devices": "cpu cuda",
    "devices:plain": "cpu",
    "units": GPU,
    "vram": "1000MiB",
}


def farm() -> Farm:
    made = Farm()
    made.worker("box", 2, Offer("recompute", "1.0", tags=tuple(TAGS.items())))
    made.worker("desk", 2, Offer("recompute", "1.0", tags=(("kernel:mc.sum", "1"), ("kernel:plain", "1"))))
    made.client()
    made.now += 60.0  # a manager that has just begun waits for workers
    for name in ("box", "desk", "c1"):
        made.say(name, Heartbeat())
    return made


def request(number: int, device: str, *, kernel: str = "mc.sum", vram: int = 1 << 20) -> Request:
    return Request(number, kernel, f"{number}".encode(), 5.0, device, vram=vram)


def test_a_gpu_is_asked_of_workers_that_have_one_for_the_kernel() -> None:
    made = farm()
    for number in range(2):
        made.say("c1", request(number, "gpu"))

    assert len(made.told("box", Request)) == 2
    made.say("c1", request(9, "gpu", kernel="plain"))
    (refused,) = made.told("c1", Reply)
    assert refused.status == "error"
    assert "no worker can do this: box computes on cpu, not on gpu" in refused.reason


def test_more_memory_than_any_gpu_has_is_refused_at_once_and_only_of_who_demands_a_gpu() -> None:
    made = farm()
    made.say("c1", request(1, "gpu", vram=1001 << 20))
    made.say("c1", request(2, "any", vram=1001 << 20))

    (refused,) = made.told("c1", Reply)
    assert (refused.number, refused.status) == (1, "error")
    assert "box has 1000 MiB on its GPU, the request needs 1001 MiB" in refused.reason
    assert len(made.told("box", Request)) + len(made.told("desk", Request)) == 1


def test_the_farm_shows_what_each_device_does() -> None:
    made = farm()
    made.say("c1", request(1, "gpu"))
    made.say("c1", request(2, "gpu"))
    first, _ = made.told("box", Request)
    made.now += 0.25
    made.say("box", Reply(first.number, "ok", device=GPU))
    made.say("box", Heartbeat((DeviceLoad(GPU, 1, 0.25),)))
    made.now += 0.5

    status = {one.worker: one for one in made.manager.status(made.now).servers}
    (gpu,) = status["box"].devices
    assert (gpu.device, gpu.served, gpu.failed, gpu.running, gpu.oldest_s) == (GPU, 1, 0, 1, 0.75)
    assert gpu.p50_ms == gpu.p99_ms == 250.0
    assert status["desk"].devices == ()


def test_a_gpu_that_was_withdrawn_is_asked_for_no_more() -> None:
    made = farm()
    before = made.manager.status(made.now).workers[0]
    offer = Offer("recompute", "1.0", tags=(("kernel:mc.sum", "1"), ("devices", "cpu")))
    made.say("box", Register(before.worker, before.host, before.hostname, "linux-x86_64", 2, (offer,)))

    made.say("c1", request(1, "gpu"))

    (refused,) = made.told("c1", Reply)
    assert "no worker can do this: box computes on cpu, not on gpu" in refused.reason


def test_what_a_gpu_does_sooner_goes_to_workers_with_one_as_long_as_they_have_room() -> None:
    made = Farm()
    tags = tuple({**TAGS, "gpu-first": "yes"}.items())
    made.worker("box", 4, Offer("recompute", "1.0", tags=tags))
    made.worker("desk", 4, Offer("recompute", "1.0", tags=(("kernel:mc.sum", "1"), ("kernel:plain", "1"))))
    made.client()
    for number in range(6):
        made.say("c1", msgspec.structs.replace(request(number, "any"), cpu_s=2.0, gpu_s=0.02))

    assert len(made.told("box", Request)) == 4
    assert len(made.told("desk", Request)) == 2
    made.say("c1", msgspec.structs.replace(request(7, "any", kernel="plain"), cpu_s=2.0, gpu_s=0.02))
    assert len(made.told("desk", Request)) == 1
