"""The farm's vocabulary: every value that crosses between processes, and nothing else.

Frozen structs, encoded as msgpack arrays.
Fields are only ever added at the end and with a default, so that neighbours of another version still
understand each other.
One closed union per direction: `ToManager` and `FromManager`.
Times in messages are seconds; a name that ends in `_at` is wall-clock time (display only),
one that ends in `_s` is a duration from one host's monotonic clock.
"""

from __future__ import annotations

from .base import (
    MANY,
    PROTOCOL,
    Count,
    Digest,
    Message,
    Short,
    TaskKey,
)
from .bulk import (
    Absent,
    Chunk,
    Fetch,
    Got,
    Slice,
)
from .clients import (
    Accepted,
    Ask,
    Cancel,
    Done,
    Offers,
    Placed,
    Submit,
    Taken,
    TaskOutput,
    Waiting,
    Want,
)
from .logs import (
    AskTime,
    LogPage,
    LogRecord,
    OutputPage,
    ReadLog,
    ReadOutput,
    Reported,
    Time,
)
from .peers import (
    DeviceLoad,
    Disconnect,
    Goodbye,
    Heartbeat,
    Hello,
    Join,
    Joined,
    Welcome,
)
from .requests import (
    DeviceStatus,
    Reply,
    Request,
    ServerStatus,
    Withdraw,
)
from .status import (
    Answer,
    Explanation,
    HostStatus,
    Obstacle,
    Pool,
    SessionStatus,
    Status,
    WorkerStatus,
)
from .tasks import (
    Action,
    Attempt,
    FileEntry,
    Need,
    Offer,
    Outcome,
    Piece,
    Result,
    TaskSpec,
)
from .workers import (
    Begun,
    Declined,
    Drain,
    Finished,
    Halt,
    Leaving,
    LoadReport,
    Output,
    Register,
    Run,
    Running,
    Settled,
)

ToManager = (
    Hello | Heartbeat | Goodbye | Join
    | Submit | Cancel | Taken | Ask
    | Register | Begun | Output | Finished | Declined | Leaving
    | LoadReport
    | Chunk | Fetch | Absent | Got
    | Reported | ReadLog | AskTime
    | ReadOutput | OutputPage
    | Request | Reply | Withdraw
)  # fmt: skip

FromManager = (
    Welcome | Disconnect | Heartbeat | Joined
    | Want | Offers | Accepted | Placed | TaskOutput | Done | Waiting | Answer
    | Run | Halt | Settled | Drain
    | Chunk | Fetch | Absent | Got
    | LogPage | Time
    | ReadOutput | OutputPage
    | Request | Reply | Withdraw
)  # fmt: skip

__all__ = [
    "MANY",
    "PROTOCOL",
    "Absent",
    "Accepted",
    "Action",
    "Answer",
    "Ask",
    "AskTime",
    "Attempt",
    "Begun",
    "Cancel",
    "Chunk",
    "Count",
    "Declined",
    "DeviceLoad",
    "DeviceStatus",
    "Digest",
    "Disconnect",
    "Done",
    "Drain",
    "Explanation",
    "Fetch",
    "FileEntry",
    "Finished",
    "FromManager",
    "Goodbye",
    "Got",
    "Halt",
    "Heartbeat",
    "Hello",
    "HostStatus",
    "Join",
    "Joined",
    "Leaving",
    "LoadReport",
    "LogPage",
    "LogRecord",
    "Message",
    "Need",
    "Obstacle",
    "Offer",
    "Offers",
    "Outcome",
    "Output",
    "OutputPage",
    "Piece",
    "Placed",
    "Pool",
    "ReadLog",
    "ReadOutput",
    "Register",
    "Reply",
    "Reported",
    "Request",
    "Result",
    "Run",
    "Running",
    "ServerStatus",
    "SessionStatus",
    "Settled",
    "Short",
    "Slice",
    "Status",
    "Submit",
    "Taken",
    "TaskKey",
    "TaskOutput",
    "TaskSpec",
    "Time",
    "ToManager",
    "Waiting",
    "Want",
    "Welcome",
    "Withdraw",
    "WorkerStatus",
]
