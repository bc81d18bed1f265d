from __future__ import annotations

from computefarm.backends.base import Offered
from computefarm.majordomo.toolchains import Toolchains, need_of
from computefarm.messages import Offer, Pool
from computefarm.needs import Needs, needs, read_needs


def asked(text: str, **more: object) -> Needs:
    found = read_needs(needs(text, **more))  # type: ignore[arg-type]
    assert found is not None
    return found


def pool(
    version: str, fingerprint: str, slots: int, worker: str = "w", platform: str = "x86", **tags: str
) -> Pool:
    return Pool(Offer("gcc", version, fingerprint, tuple(tags.items())), platform, slots, (worker,))


def chooser(*pools: Pool, saved: dict[tuple[str, str], int] | None = None) -> tuple[Toolchains, list[str]]:
    said: list[str] = []
    return Toolchains(lambda _: Offered(pools, True), lambda _: saved or {}, said.append), said


def test_most_slots_win_where_nothing_was_built_yet() -> None:
    toolchains, _ = chooser(pool("12.2.0", "f12", 2), pool("13.1.0", "f13", 8))
    chosen = toolchains.of(asked("gcc"))

    assert chosen is not None
    assert (chosen.fingerprint, chosen.version, chosen.platform) == ("f13", "13.1.0", "x86")
    assert chosen.others == ("gcc 12.2.0 (w)",)


def test_what_built_the_results_is_kept_while_it_is_offered() -> None:
    toolchains, _ = chooser(pool("12.2.0", "f12", 2), pool("13.1.0", "f13", 8), saved={("f12", "12.2.0"): 5})
    chosen = toolchains.of(asked("gcc"))
    assert chosen is not None
    assert chosen.fingerprint == "f12"

    gone, _ = chooser(pool("13.1.0", "f13", 8), saved={("f12", "12.2.0"): 5})
    chosen = gone.of(asked("gcc"))
    assert chosen is not None
    assert chosen.fingerprint == "f13"


def test_version_and_tags_must_fit() -> None:
    toolchains, _ = chooser(pool("12.2.0", "f12", 2, target="arm"), pool("9.1", "f9", 8, target="x86"))

    assert toolchains.of(asked("gcc>=13")) is None
    arm = toolchains.of(asked("gcc", tags={"target": "arm"}))
    assert arm is not None
    assert arm.fingerprint == "f12"


def test_one_fingerprint_for_all_needs_that_it_fits() -> None:
    toolchains, _ = chooser(pool("12.2.0", "f12", 2), pool("13.1.0", "f13", 8))
    first, second = toolchains.of(asked("gcc<13")), toolchains.of(asked("gcc"))

    assert first is not None
    assert second is not None
    assert first.fingerprint == second.fingerprint == "f12"


def test_nothing_offered_is_said_once_and_tried_again_when_it_comes() -> None:
    toolchains, said = chooser(saved={("f12", "12.2.0"): 5})
    assert toolchains.of(asked("gcc")) is None
    assert toolchains.of(asked("gcc")) is None
    assert len(said) == 1
    assert "up to date" in said[0]

    offered, _ = chooser(pool("12.2.0", "f12", 2))
    offered.note([pool("12.2.0", "f12", 2, worker="w7")])
    assert offered.ran_on(asked("gcc"), "w7") == ("f12", "12.2.0")
    assert offered.ran_on(asked("gcc"), "unknown") == ("", "")


def test_any_toolchain_never_asks() -> None:
    toolchains = Toolchains(lambda _: 1 / 0, lambda _: {}, print)  # type: ignore[arg-type, return-value]

    assert toolchains.of(asked("gcc", any_toolchain=True)) is None


def test_one_fingerprint_on_two_platforms_names_none() -> None:
    toolchains, _ = chooser(pool("1", "f", 2, platform="x86"), pool("1", "f", 2, platform="arm"))
    chosen = toolchains.of(asked("gcc"))

    assert chosen is not None
    assert chosen.platform == ""


def with_variants(*names: str, **more: object) -> Needs:
    meta = needs("gcc", **more)  # type: ignore[arg-type]
    variants = {
        name: {"commands": [[name]], "cpus": 1, "gpus": 0, "memory": None, "env": {}} for name in names
    }
    meta["farm"]["action"] = {"name": "go", "values": {}, "label": "go:1", "variants": variants}
    found = read_needs(meta)
    assert found is not None
    return found


def test_the_variant_is_that_of_the_toolchain_and_one_the_action_has() -> None:
    pools = (pool("1", "gpu1", 8, variant="gpu"), pool("1", "cpu1", 2, variant="cpu"))
    toolchains, _ = chooser(*pools)
    chosen = toolchains.of(with_variants("gpu", "cpu"))
    assert chosen is not None
    assert (chosen.fingerprint, toolchains.variant(with_variants("gpu", "cpu"), chosen)) == ("gpu1", "gpu")

    # An action that only the second can do goes to the second, however few its slots.
    toolchains, _ = chooser(*pools)
    chosen = toolchains.of(with_variants("cpu"))
    assert chosen is not None
    assert chosen.variant == "cpu"


def test_without_a_toolchain_it_is_the_preferred_variant_that_is_offered() -> None:
    toolchains, _ = chooser()
    asked_any = with_variants("gpu", "cpu", any_toolchain=True)
    assert toolchains.of(asked_any) is None
    assert toolchains.variant(asked_any, None) == "gpu"
    toolchains.note([pool("1", "cpu1", 2, variant="cpu")])
    assert toolchains.variant(asked_any, None) == "cpu"
    toolchains.note([pool("1", "cpu1", 2, variant="cpu"), pool("1", "gpu1", 2, variant="gpu")])
    assert toolchains.variant(asked_any, None) == "gpu"
    assert toolchains.variant(asked("gcc"), None) == ""


def test_the_tag_platform_is_the_workers_own() -> None:
    toolchains, _ = chooser(
        pool("12", "fx", 8, platform="linux-x86_64"), pool("12", "fa", 1, platform="linux-aarch64")
    )
    chosen = toolchains.of(asked("gcc", tags={"platform": "linux-aarch64"}))
    assert chosen is not None
    assert (chosen.fingerprint, chosen.platform) == ("fa", "linux-aarch64")
    assert toolchains.of(asked("gcc", tags={"platform": "linux-riscv64"})) is None


def test_a_lent_worker_is_no_toolchain_for_commands_of_ones_own() -> None:
    lent = Pool(Offer("gcc", "12", "f", actions=("go:1",)), "x86", 8, ("w",))
    toolchains, _ = chooser(lent)
    assert toolchains.of(asked("gcc")) is None
    assert toolchains.of(with_variants()) is not None


def test_what_a_task_does_not_say_the_capability_s_file_does() -> None:
    offer = Offer("gcc", "12", "f", memory=1 << 28, cpus=2, gpus=1, logs="gcc")
    plain = need_of(asked("gcc"), offer, fingerprint="f")
    assert (plain.cpus, plain.load, plain.memory, plain.gpus, plain.logs) == (2, 2.0, 1 << 28, 1, "gcc")
    # It is expected, not declared: nobody is ended for taking more.
    assert (plain.expected, plain.declared) == (True, 0)

    own = need_of(asked("gcc", cpus=1, memory=1 << 20, gpus=0, load=0.5), offer)
    assert (own.cpus, own.load, own.memory, own.gpus) == (1, 0.5, 1 << 20, 0)
    assert (own.expected, own.declared) == (False, 1 << 20)

    # An action has been told already, when it was made.
    action = need_of(with_variants("gpu"), offer)
    assert (action.cpus, action.memory, action.expected, action.gpus, action.logs) == (
        1,
        1 << 28,
        True,
        0,
        "gcc",
    )
    alone = need_of(asked("gcc"), None)
    assert (alone.cpus, alone.memory, alone.gpus, alone.logs, alone.expected) == (1, 0, 0, "", False)


def test_defaults_come_from_the_run_s_toolchain_or_from_any_that_fits() -> None:
    toolchains, _ = chooser(pool("12", "f12", 2), pool("13", "f13", 8))
    chosen = toolchains.of(asked("gcc"))
    found = toolchains.offer(asked("gcc"), chosen)
    assert found is not None
    assert found.fingerprint == "f13"
    assert toolchains.offer(asked("gcc", any_toolchain=True), None) is None
    toolchains.note([pool("12", "f12", 2)])
    found = toolchains.offer(asked("gcc", any_toolchain=True), None)
    assert found is not None
    assert found.fingerprint == "f12"
