"""Requirements, variants and extensions: what a catalogue makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from computefarm.capability import extended, parse
from computefarm.catalogue import Catalogue, probe
from computefarm.errors import CapabilityError

TOP = "capability: render\nsummary: Render\nworker: shell\n"


def programs(folder: Path, *names: str) -> dict[str, str]:
    """Return an environment whose PATH has these programs and nothing else."""
    folder.mkdir(exist_ok=True)
    for name in names:
        program = folder / name
        program.write_text(f"#!/bin/sh\necho {name} 2.5\n")
        program.chmod(0o755)
    return {"PATH": str(folder)}


VARIANTS = TOP + (
    "requires: [render]\n"
    "probe: {tags: {scene: 'v1'}}\n"
    "variants:\n"
    "  gpu: {requires: [nvidia-smi], resources: {gpus: 1, memory: 2GiB}, fingerprint: [nvidia-smi],\n"
    "        probe: {version: {run: [nvidia-smi], match: '\\d[.\\d]*'}}}\n"
    "  cpu: {}\n"
)


def test_the_first_variant_that_is_there_is_offered(tmp_path: Path) -> None:
    capability = parse(VARIANTS, "render.yaml")
    with_gpu = probe(capability, programs(tmp_path / "a", "render", "nvidia-smi")).offer
    without = probe(capability, programs(tmp_path / "b", "render")).offer
    assert with_gpu is not None
    assert without is not None
    assert dict(with_gpu.tags) == {"scene": "v1", "variant": "gpu"}
    assert (with_gpu.version, with_gpu.memory) == ("2.5", 2 * 1024**3)
    assert dict(without.tags)["variant"] == "cpu"
    assert without.version == ""
    assert with_gpu.fingerprint != without.fingerprint


def test_what_is_missing_is_said_for_every_variant(tmp_path: Path) -> None:
    missing = probe(parse(VARIANTS, "render.yaml"), programs(tmp_path / "a", "nothing")).missing
    assert [text.split(":")[0] for text in missing] == ["gpu", "gpu", "cpu"]
    assert "render: not found" in missing[0]
    assert "nvidia-smi: not found" in missing[1]


def test_an_extension_adds_actions_and_keeps_the_rest() -> None:
    base = parse(TOP + "env: {A: '1'}\nactions: {one: {run: [render]}, two: {run: [render]}}\n", "base.yaml")
    more = parse(
        "capability: render\nextend: true\nenv: {B: '2'}\nactions: {two: {run: [mine]}, three: {run: [mine]}}\n",
        "more.yaml",
    )
    both = extended(base, more)
    assert sorted(both.actions) == ["one", "three", "two"]
    assert both.actions["two"].programs == {"mine"}
    assert (both.summary, both.worker, both.env) == ("Render", "shell", (("A", "1"), ("B", "2")))
    assert both.source == "base.yaml and more.yaml"
    assert Catalogue([base, more]).get("render") == both


def test_an_extension_of_nothing_is_an_error() -> None:
    more = parse("capability: rendr\nextend: true\n", "more.yaml")
    with pytest.raises(
        CapabilityError, match=r"more\.yaml: says extend: true, but nothing describes 'rendr'"
    ):
        Catalogue([parse(TOP, "base.yaml"), more])
