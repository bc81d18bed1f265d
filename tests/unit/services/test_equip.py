from __future__ import annotations

from computefarm.capability import parse
from computefarm.catalogue import Catalogue
from computefarm.messages import Offer
from computefarm.services.equip import Toolbox

TEXT = """
capability: render
summary: s
worker: shell
env: {THREADS: '1', MODE: plain}
variants:
  gpu: {env: {MODE: fast}}
  cpu: {}
"""


def test_tasks_get_the_variables_of_what_is_offered() -> None:
    toolbox = Toolbox(Catalogue([parse(TEXT, "render.yaml")]))
    assert toolbox.env("render") == ()

    toolbox.note([Offer("render", "1", "f", (("variant", "gpu"),))])
    assert dict(toolbox.env("render")) == {"THREADS": "1", "MODE": "fast"}
    toolbox.note([Offer("render", "1", "f", (("variant", "cpu"),))])
    assert dict(toolbox.env("render")) == {"THREADS": "1", "MODE": "plain"}
