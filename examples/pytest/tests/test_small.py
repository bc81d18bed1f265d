from numerals import roman


def test_small_numbers():
    assert [roman(n) for n in (1, 4, 9)] == ["I", "IV", "IX"]
