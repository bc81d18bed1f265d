"""cutelog as it is, with a hand in it: answers what its window shows, and clicks.

Runs under the Python that has cutelog, never under ours. A question is a file `N.ask` in the folder that
CF_TEST_CUTELOG names; the answer is `N.answer`, both JSON.
"""

import json
import os
import sys
from pathlib import Path

from cutelog import __main__, main_window
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QCheckBox

FOLDER = Path(os.environ["CF_TEST_CUTELOG"])
ORIGINAL = main_window.MainWindow.__init__


def tab(window):
    tabs = list(window.loggers_by_name.values())
    return tabs[0] if tabs else None


def rows(window, **_):
    """What the table shows, filters applied."""
    shown = tab(window)
    if shown is None:
        return []
    model = shown.filter_model
    found = []
    for row in range(model.rowCount()):
        record = shown.record_model.get_record(model.mapToSource(model.index(row, 0)).row())
        found.append([record.levelname, record.name, record.message])
    return found


def tree(window, **_):
    shown = tab(window)
    return sorted(shown.namespace_tree_model.registry) if shown else []


def tabs(window, **_):
    return len(window.loggers_by_name)


def click_level(window, level="", **_):
    """Click the check box of a level, as a user does."""
    table = tab(window).levelsTable
    for row in range(table.rowCount()):
        if table.item(row, 1).text() == level:
            table.cellWidget(row, 0).findChild(QCheckBox).click()
            return True
    return False


def size(window, width=0, height=0, **_):
    window.resize(width, height)
    shown = tab(window)
    if shown:
        shown.loggerTable.setColumnWidth(0, 150)
        shown.loggerTable.setColumnWidth(1, 260)
        levels = [row[0] for row in rows(window)]
        if "ERROR" in levels:
            shown.loggerTable.selectRow(levels.index("ERROR"))
    return True


COMMANDS = {each.__name__: each for each in (rows, tree, tabs, click_level, size)}


def look(window):
    for path in sorted(FOLDER.glob("*.ask")):
        question = json.loads(path.read_text())
        path.unlink()
        answer = COMMANDS[question.pop("do")](window, **question)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(answer))
        part.rename(path.with_suffix(".answer"))


def init(self, *arguments, **options):
    ORIGINAL(self, *arguments, **options)
    self.test_timer = QTimer(self)
    self.test_timer.timeout.connect(lambda: look(self))
    self.test_timer.start(30)


main_window.MainWindow.__init__ = init
sys.argv[0] = "cutelog"
__main__.main()
