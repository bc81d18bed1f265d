from __future__ import annotations

import os

import pytest
from computefarm.workers.recompute import devices
from computefarm.workers.recompute.devices import CONTEXT, Device, Place, find, own, plan

GIB = 1 << 30


def gpu(index: int, total: int = 24 * GIB, *, free: int = 0) -> Device:
    uuid = f"GPU-0000000{index}"
    return Device(index, "NVIDIA Test", uuid, total, free or total, uuid)


def indexes(places: list[Place]) -> list[int | None]:
    return [place.device.index if place.device else None for place in places]


def test_slots_are_spread_over_the_gpus_in_turn() -> None:
    assert indexes(plan([gpu(0), gpu(1), gpu(2)], 4)) == [0, 1, 2, 0]
    assert indexes(plan([gpu(0), gpu(1)], 1)) == [0]


def test_each_process_sees_its_own_gpu_alone_and_knows_what_others_call_it() -> None:
    places = plan([gpu(0), gpu(1)], 3)

    assert [place.env["CUDA_VISIBLE_DEVICES"] for place in places] == [
        "GPU-00000000", "GPU-00000001", "GPU-00000000",
    ]  # fmt: skip
    assert own(places[1].env) == gpu(1)


def test_slots_that_a_gpu_has_no_use_for_compute_on_the_cpu_and_see_no_gpu() -> None:
    places = plan([gpu(0, 6 * GIB)], 4)

    assert indexes(places) == [0, 0, None, None]
    assert places[3].env["CUDA_VISIBLE_DEVICES"] == ""
    assert own(places[3].env) is None


def test_a_gpu_that_others_have_filled_gets_one_process_and_little_to_do() -> None:
    places = plan([gpu(0, 24 * GIB, free=GIB)], 2)

    assert indexes(places) == [0, None]
    assert places[0].budget == int(0.95 * GIB) - CONTEXT


def test_what_processes_need_for_themselves_is_not_given_to_requests() -> None:
    places = plan([gpu(0)], 2)

    assert places[0].budget == places[1].budget == int(0.95 * 24 * GIB) - 2 * CONTEXT


def test_without_gpus_all_slots_compute_on_the_cpu() -> None:
    assert plan([], 2) == [Place(), Place()]


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("CUDA_VISIBLE_DEVICES", "", "CUDA_VISIBLE_DEVICES='' hides every GPU"),
        ("CUDA_VISIBLE_DEVICES", "-1", "hides every GPU"),
        ("CF_RECOMPUTE_GPUS", "0", "CF_RECOMPUTE_GPUS=0 says to use no GPU"),
        ("CHIAPOS_MAX_CUDA_DEVICES", "0", "CHIAPOS_MAX_CUDA_DEVICES=0 says to use no GPU"),
        ("CHIAPOS_MAX_GPU_DEVICES", "many", "'many' is not a number of GPUs"),
        ("NUMBA_ENABLE_CUDASIM", "1", "CF_RECOMPUTE_SIMULATOR=1 allows it"),
        ("NUMBA_CUDA_DRIVER", "/nowhere/libcuda.so.1", "no NVIDIA driver"),
    ],
)
def test_in_one_line_why_there_is_none(variable: str, value: str, words: str) -> None:
    found = find({"PATH": os.environ["PATH"], variable: value})

    assert found.devices == ()
    assert words in found.reason
    assert "\n" not in found.reason


def test_a_part_of_a_gpu_and_numbers_are_taken_as_cuda_does() -> None:
    assert devices._entries("2, 0") == ["2", "0"]
    assert devices._entries("1,-1,0") == ["1"]
    assert devices._entries("0,0,1") == ["0"]
    assert devices._entries("MIG-GPU-1234/1/0") == ["MIG-GPU-1234/1/0"]
