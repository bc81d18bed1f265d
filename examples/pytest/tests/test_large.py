from numerals import roman


def test_a_year():
    assert roman(2026) == "MMXXVI"
