from __future__ import annotations

from computefarm.recompute.balance import Balance, Standing


def balance(*names: str, **more: object) -> Balance:
    standings = [Standing(name, up=True, slots=2) for name in names]
    return Balance(standings, retry_s=100.0, **more)  # type: ignore[arg-type]


def test_the_least_pending_is_asked() -> None:
    servers = balance("a", "b")
    chosen = []
    for _ in range(4):
        one = servers.choose((), 0.0)
        assert one is not None
        servers.give(one)
        chosen.append(one.name)

    assert sorted(chosen) == ["a", "a", "b", "b"]


def test_a_reserve_helps_only_when_the_others_are_full() -> None:
    servers = balance("a", "b")
    servers.standings[1].tier = 1
    chosen = []
    for _ in range(6):
        one = servers.choose((), 0.0)
        assert one is not None
        servers.give(one)
        chosen.append(one.name)

    assert chosen == ["a"] * 4 + ["b"] * 2


def test_a_failed_server_is_left_alone_for_the_retry_interval() -> None:
    servers = balance("a", "b")
    servers.fail(servers.standings[0], "silent", now=10.0)

    assert {servers.choose((), now).name for now in (10.0, 109.9)} == {"b"}  # type: ignore[union-attr]
    assert servers.readmission(50.0) == 110.0
    assert servers.choose(("b",), 110.0) is servers.standings[0]


def test_one_that_was_tried_is_asked_again_only_when_there_is_no_other() -> None:
    servers = balance("a", "b")

    assert servers.choose(("a",), 0.0) is servers.standings[1]
    assert servers.choose(("a", "b"), 0.0) is not None
    assert not servers.others(("a", "b"), 0.0)


def test_the_servers_grant_how_many_are_in_flight_unless_the_user_says() -> None:
    assert balance("a", "b").limit(0.0) == 8
    assert balance("a", "b", max_in_flight=3).limit(0.0) == 3
    nobody = balance("a")
    nobody.standings[0].up = False
    assert nobody.limit(0.0) == 1
    assert nobody.choose((), 0.0) is None


def test_a_busy_server_rests_while_there_are_others() -> None:
    servers = balance("a", "b")
    servers.rest(servers.standings[0], now=10.0)

    assert servers.choose((), 10.5) is servers.standings[1]
    assert servers.choose((), 11.0) is servers.standings[0]
    servers.rest(servers.standings[0], now=20.0)
    servers.rest(servers.standings[1], now=20.0)
    assert servers.choose((), 20.5) is servers.standings[0], "both rest: better than nobody"
