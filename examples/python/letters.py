"""Count the letters of a text: letters.py TEXT RESULT."""

import collections
import json
import sys

text, result = sys.argv[1:]
with open(text, encoding="utf-8") as file:
    letters = collections.Counter(letter.lower() for letter in file.read() if letter.isalpha())
with open(result, "w", encoding="utf-8") as file:
    json.dump(letters, file, sort_keys=True)
