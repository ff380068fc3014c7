"""Who a process is on its host, and the evidence that it has ended.

An agent's name outlives its processes, so evidence is about one process: a place, a number in it, and when it started.
Whoever shares the place can look. The kernel says that a number is nobody's, or that it is somebody else's by now, and
that no socket of the place which nobody holds any more has data left to send; bytes that it had sent before are in the
sockets of whoever receives them (``sockets``). That the end of a process ends what it wrote and read was measured for
host memory, over tcp and over shared memory; other fabrics have not been looked at.

What cannot be read is no evidence: every doubt ends in "not known to be gone".
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kvsender_nixl.sockets import unsent_by_the_dead
from kvsender_nixl.wire import Json, envelope, int_field, str_field

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAMESPACES: Final = ("pid", "net", "time")
"""In other namespaces of these kinds the same number, socket or start time means something else."""
MOST_EVIDENCE_CHARS: Final = 300


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process. ``place`` names a boot of a kernel and the namespaces; ``pid`` is its number there; ``started`` are
    clock ticks after the boot."""

    place: str
    pid: int
    started: int

    def to_json(self) -> Json:
        return {"place": self.place, "pid": self.pid, "started": self.started}

    def __str__(self) -> str:
        return f"process {self.pid}, started at tick {self.started}"


def identity_from_json(value: Json) -> ProcessIdentity | None:
    """Raises ValueError for what is neither null nor a process."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ValueError(f"process is {value!r:.80}")
    place, pid, started = str_field(value, "place"), int_field(value, "pid"), int_field(value, "started")
    if not (0 < pid < 2**31 and started >= 0 and len(place) <= 300):
        raise ValueError(f"process is {value!r:.80}")
    return ProcessIdentity(place, pid, started)


def this_process() -> ProcessIdentity | None:
    """None where the system does not say, as without a /proc of this process's own namespace."""
    place = _place()
    found = None if place is None else _state_of(os.getpid())
    return None if place is None or found is None else ProcessIdentity(place, os.getpid(), found[1])


def gone(process: ProcessIdentity) -> str | None:
    """The evidence that nothing of this process can write or read memory any more, but for what is in the sockets of
    the receiver; None where there is none.

    A process that has ended and was not reaped yet counts where no other thread of it is left: its memory and its
    devices are given back before that.
    """
    if process.place != _place():
        return None
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        why = "does not exist any more"
    except OSError:
        return None
    else:
        found = _state_of(process.pid)
        if found is None:
            return None
        state, started = found
        if started != process.started:
            why = f"has ended: its number belongs to one that started at tick {started}"
        elif state in "ZX" and _threads(process.pid) == 1:
            why = "has ended and is not reaped"
        else:
            return None
    if unsent_by_the_dead() != 0:
        return None
    return f"{process} {why}, and no socket without an owner has data left to send"


def _place() -> str | None:
    try:
        # Another process's /proc would show other numbers.
        if os.readlink("/proc/self") != str(os.getpid()):
            return None
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return " ".join((boot, *(os.readlink(f"/proc/self/ns/{kind}") for kind in _NAMESPACES)))
    except OSError:
        return None


def _state_of(pid: int) -> tuple[str, int] | None:
    """The state, and the tick of the start: fields 3 and 22. The name before them may have spaces and parentheses."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return words[0], int(words[19])
    except (OSError, ValueError, IndexError):
        return None


def _threads(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return -1


# ------------------------------------------------------------------------------ what processes say of each other


@dataclass(frozen=True, slots=True)
class Question:
    """Is this process gone? Asked of one that is in the same place, such as the next one of its name."""

    process: ProcessIdentity

    def to_bytes(self) -> bytes:
        return envelope("gone?", {"process": self.process.to_json()})


@dataclass(frozen=True, slots=True)
class Statement:
    """It is, and why. There is no answer where it is not known to be."""

    process: ProcessIdentity
    evidence: str

    def to_bytes(self) -> bytes:
        fields: dict[str, Json] = {"process": self.process.to_json(), "evidence": self.evidence[:MOST_EVIDENCE_CHARS]}
        return envelope("gone", fields)


def question_or_statement(fields: Mapping[str, Json]) -> Question | Statement | None:
    """What the fields of a message say; None where it is of another kind. Raises ValueError where it says nothing."""
    kind = fields.get("kind")
    if kind not in ("gone?", "gone"):
        return None
    process = identity_from_json(fields.get("process"))
    if process is None:
        raise ValueError("process is None")
    return Question(process) if kind == "gone?" else Statement(process, str_field(fields, "evidence"))


def answer(question: Question) -> Statement | None:
    evidence = gone(question.process)
    return None if evidence is None else Statement(question.process, evidence)
