"""Every time span of the dialogue, derived from the one setting there is: the heartbeat of the manager.

| span | beats | at 2 s | what happens then |
|--|--|--|--|
| `GRACE_BEATS` | 1 | 2 s | a worker whose connection ended has not come back: its attempts go elsewhere |
| `RETURN_BEATS` | 1 | 2 s | a restarted manager places what waits: workers have told what runs |
| `FRESH_BEATS` | 2 | 4 s | a silent worker may lose its name to a restart of it |
| `RESEND_BEATS` | 3 | 6 s | a worker says again what result was not settled |
| `LEASE_BEATS` | 3 | 6 s | silence is taken for death, both ways; a started manager is settled |
| `ADOPT_BEATS` | 5 | 10 s | a restarted manager gives to others what its workers did not come back with |
| `NEWS_BEATS` | 5 | 10 s | a client is told that the manager is silent |
| `RESERVE_BEATS` | 5 | 10 s | a task too wide for what is free gets a worker reserved |
| `SESSION_BEATS` | 15 | 30 s | what a client left behind without a word is cancelled |
| `HOST_BEATS` | 1800 | 1 h | a host that nobody works on and nobody reports is forgotten |

A peer notices the manager's death by silence after `LEASE_BEATS` and needs a moment to connect again, so
`ADOPT_BEATS` and `SESSION_BEATS` must be longer. Only what follows from work itself is measured in seconds
where it is used: how far ahead tasks are sent, how long one rests from a worker that declined it.
"""

from __future__ import annotations

GRACE_BEATS = 1
RETURN_BEATS = 1
FRESH_BEATS = 2
RESEND_BEATS = 3
LEASE_BEATS = 3
ADOPT_BEATS = 5
NEWS_BEATS = 5
RESERVE_BEATS = 5
SESSION_BEATS = 15
HOST_BEATS = 1800
