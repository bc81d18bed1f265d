"""Add counts up: total.py RESULT COUNT…"""

import collections
import json
import sys

total = collections.Counter()
for name in sys.argv[2:]:
    with open(name, encoding="utf-8") as file:
        total.update(json.load(file))
with open(sys.argv[1], "w", encoding="utf-8") as file:
    json.dump(total, file, sort_keys=True)
