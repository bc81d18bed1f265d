from __future__ import annotations

from pathlib import Path

import pytest

from computefarm.host.gpu import count_gpus


def machine(root: Path, listed: int = 0, devices: int = 0) -> Path:
    (root / "dev").mkdir()
    for name in ["null", "nvidiactl", "nvidia-uvm", *(f"nvidia{number}" for number in range(devices))]:
        (root / "dev" / name).touch()
    for number in range(listed):
        (root / f"proc/driver/nvidia/gpus/0000:0{number}:00.0").mkdir(parents=True)
    return root


def test_no_gpu_no_files(tmp_path: Path) -> None:
    assert count_gpus({}, root=tmp_path) == 0


def test_the_driver_lists_them(tmp_path: Path) -> None:
    assert count_gpus({}, root=machine(tmp_path, listed=2, devices=2)) == 2


def test_a_container_may_have_the_devices_only(tmp_path: Path) -> None:
    assert count_gpus({}, root=machine(tmp_path, devices=1)) == 1


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("", 0),
        ("-1", 0),
        ("0", 1),
        ("1,0", 2),
        ("0,0", 1),
        ("0,7,1", 1),
        ("2", 0),
        ("GPU-8f,1", 2),
        ("none", 0),
        ("٣", 0),
    ],
)
def test_the_owner_may_hide_some(tmp_path: Path, visible: str, expected: int) -> None:
    assert count_gpus({"CUDA_VISIBLE_DEVICES": visible}, root=machine(tmp_path, listed=2)) == expected


def test_hiding_creates_none(tmp_path: Path) -> None:
    assert count_gpus({"CUDA_VISIBLE_DEVICES": "GPU-8f"}, root=tmp_path) == 0
