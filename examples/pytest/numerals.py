"""Roman numerals."""

VALUES = {"M": 1000, "CM": 900, "D": 500, "CD": 400, "C": 100, "XC": 90, "L": 50, "XL": 40, "X": 10}
VALUES |= {"IX": 9, "V": 5, "IV": 4, "I": 1}


def roman(number: int) -> str:
    text = ""
    for sign, value in VALUES.items():
        while number >= value:
            text, number = text + sign, number - value
    return text
