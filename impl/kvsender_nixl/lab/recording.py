"""What a run writes down: its header, and how calls and other events get into the history.

The header says which kinds of events the lab records completely, so that no code has to say which clauses it can tell.
Time is real, but it does not advance during one call of the caller: the subject and the history then mean the same
instant.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from threading import get_ident
from typing import Final

from kvsender_nixl.adapter import attribution, read_notification
from kvsender_nixl.agent import ERROR_CLASSES
from kvsender_nixl.side import SenderOptions
from kvsender_spec.contract import KVPoll, KVUsageError, Operation
from kvsender_spec.history.errors import ErrorClasses
from kvsender_spec.history.events import KINDS, History, NotificationHeard, PagesHeld
from kvsender_spec.history.header import Ability, Header, Limits, Source
from kvsender_spec.history.record import Outside, Recorder
from kvsender_spec.history.recording_agent import ReleasedHandle
from kvsender_spec.history.words import CallName, Says
from kvsender_spec.observe.observer import Observer
from kvsender_spec.observe.verdict import Findings

CAN: Final = (
    Ability.ABORT,
    Ability.CLEAR,
    Ability.METRICS,
    Ability.NOTIFY,
    Ability.TELLS_SUCCESS,
    Ability.QUARANTINE,
    Ability.ATTRIBUTION,
    Ability.RECONNECT,
    Ability.COUNTS,
)
UNSEEN: Final = frozenset(
    {
        "bytes.landed",  # only now and then are the peers' bytes counted: nobody sees the instant at which they land
        "link.cut",  # a connection may break by itself
        "call.stuck",
        "control.arrived",
        "worker.ended",
        "clock.advanced",
        "import.probed",
    }
)
"""The kinds that the lab does not record completely, or not at all."""


class Recording:
    """One history, which ``observer`` sees as it is written."""

    def __init__(self, subject: str, operation: Operation, options: SenderOptions, settle_s: float) -> None:
        self._began: Final = time.monotonic()
        self.now = 0.0
        """Seconds, as the subject and the history know them."""
        limits = Limits(
            transfer_timeout_s=options.transfer_timeout_s,
            drain_timeout_s=options.drain_timeout_s,
            settle_s=settle_s,
        )
        header = Header(
            source=Source.REAL,
            vantage=tuple(kind for kind in KINDS if kind not in UNSEEN),
            subject=subject,
            operation=operation,
            profile=options.profile.value,
            can=CAN,
            limits=limits,
            versions={"nixl": version("nixl")},
        )
        self.observer: Final = Observer(header)
        classes = ErrorClasses(
            tuple(ERROR_CLASSES.values()),
            ERROR_CLASSES["nixlRemoteDisconnectError"],
            (KVUsageError,),
            (ReleasedHandle,),
        )
        self.recorder: Final = Recorder(header, classes, lambda: self.now, self.observer.see)
        self.recorder.name_threads({get_ident(): 0})

    @property
    def history(self) -> History:
        return self.recorder.history

    @property
    def findings(self) -> Findings:
        return self.observer.findings

    def tick(self) -> None:
        self.now = time.monotonic() - self._began

    def tell(self, make: Outside) -> None:
        """Something that belongs to no call has happened, or was looked at."""
        self.tick()
        self.recorder.note(make)

    def held(self, pages: frozenset[int], room: int | None) -> None:
        """The pages that must not be reused: after a terminal answer of this room, or at the end."""
        self.tell(partial(PagesHeld, room=room, pages=tuple(sorted(pages))))

    def heard(self, peer: str, message: bytes) -> None:
        """A peer was told something; it is read as the peer reads it."""
        notification = read_notification(message)
        if notification is None:
            return
        self.tell(
            partial(
                NotificationHeard,
                peer=peer,
                says=Says(notification.kind.value),
                id=notification.room,
                incarnation=notification.incarnation,
                reason=notification.reason,
            )
        )

    def call(
        self,
        what: CallName,
        make: Callable[[], object],
        room: int | None = None,
        *,
        pages: Sequence[int | float] = (),
        last: bool = False,
        misuse: str = "",
    ) -> object:
        """Make a call of the caller's. Returns its value; None where it raised, which the history says."""
        self.tick()
        of = self.recorder.call_started(what, room, pages=pages, last=last, misuse=misuse)
        try:
            answer = make()
        except Exception as error:
            who = attribution(error) if what is CallName.FAILURE_EXCEPTION else None
            self.recorder.call_ended(of, room, error=error, attribution=None if who is None else who.value)
            return None
        self.recorder.call_ended(of, room, value=answer.name if isinstance(answer, KVPoll) else None)
        return answer
