"""Questions and remote wishes: what a peer asks once and is answered by number."""

from __future__ import annotations

from computefarm.messages import Answer, Ask, Cancel

from .members import Members
from .report import Report
from .state import Peer, Session, TaskState
from .tables import Tables
from .withdrawals import Withdrawals


class Answers:
    """Answers every `Ask`, and every `Cancel` that wants to be answered."""

    def __init__(self, tables: Tables, members: Members, withdrawals: Withdrawals, report: Report) -> None:
        self._tables = tables
        self._members = members
        self._withdrawals = withdrawals
        self._report = report

    def answer(self, peer: Peer, question: Ask, now: float) -> None:
        """Answer a question."""
        match question.about:
            case "status":
                answer = Answer(question.number, status=self._report.status(now))
            case "offers":
                answer = Answer(question.number, pools=self._report.pools())
            case "explain":
                own = peer.owner if peer.role == "client" else ""
                said = self._report.explain(question.session, question.task, now, own)
                answer = Answer(question.number, explanation=said)
            case "sessions":
                answer = Answer(question.number, sessions=self._report.sessions(now))
            case _:
                known = "status, offers, explain and sessions"
                text = f"cannot answer about {question.about!r}, only about {known}"
                self._members.turn_away(peer.peer, "protocol", text, now)
                return
        self._tables.say(peer.peer, answer, now)

    def cancel(self, peer: Peer, wish: Cancel, now: float) -> None:
        """Cancel tasks of a run, from whichever connection of its owner; say how many once that is durable.

        Without a session it is all runs of the owner's.
        """
        sessions = []
        for session in list(self._tables.sessions.values()):
            if session.name == wish.session or (not wish.session and session.owner == peer.owner):
                if session.owner != peer.owner and peer.role != "admin":
                    text = f"session {session.name} belongs to somebody else"
                    self._members.turn_away(peer.peer, "key", text, now)
                    return
                sessions.append(session)
        count = 0
        for session in sessions:
            for number in self._chosen(session, wish):
                key = session.tasks.get(number)
                if key is not None and self._withdrawals.cancel(self._tables.tasks[key], wish.reason, now):
                    count += 1
        self._tables.say(peer.peer, Answer(wish.number, cancelled=count), now, self._tables.promised)

    def _chosen(self, session: Session, wish: Cancel) -> list[int]:
        """Return the tasks that are meant: by number, by name, or by the name of their group; else all."""
        if not (wish.tasks or wish.names):
            return list(session.tasks)
        names = set(wish.names)
        chosen = dict.fromkeys(wish.tasks)
        for number, key in session.tasks.items():
            task = self._tables.tasks[key]
            if task.state is not TaskState.ENDED and (task.name in names or task.name.split(":")[0] in names):
                chosen[number] = None
        return list(chosen)
