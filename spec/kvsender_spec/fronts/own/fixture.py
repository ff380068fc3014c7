"""The fixture ``kvsender_history``: records what one test does with a sender.

    def test_disconnect(kvsender_history):
        agent = kvsender_history.agent(FakeAgent())
        sender = kvsender_history.sender(MySender(agent, room=7), room=7, pages=2, peers=("decode0",))

The header says what such a history records completely: the calls of the senders and the agents that were wrapped. What
happens to peers, to their memory and to the pages that the sender holds is not seen, and the clauses that rest on it
are inconclusive.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import count
from threading import get_ident, main_thread
from typing import Final, TypeVar, cast

from kvsender_spec.contract import Clock
from kvsender_spec.fronts.own.agent import AgentCalls, Moves, MovesOf
from kvsender_spec.fronts.own.ledger import Attributes, Ledger, Named, NamedErrors, Room
from kvsender_spec.fronts.own.sender import Answers, SenderCalls
from kvsender_spec.fronts.own.wrapper import Wrapper
from kvsender_spec.history import events
from kvsender_spec.history.events import History
from kvsender_spec.history.header import Ability, Header, Limits, Source
from kvsender_spec.history.record import Recorder
from kvsender_spec.history.words import Destination
from kvsender_spec.machine import Profile

__all__ = ["Moves", "OwnHistory"]

AgentT = TypeVar("AgentT")
SenderT = TypeVar("SenderT")

OF_SENDERS: Final = ("room.opened", "call.started", "call.ended", "error.seen", "events.dropped", "run.ended")
"""The kinds that are complete wherever a sender is wrapped."""
OF_AGENTS: Final = (
    "transfer.made",
    "transfer.posted",
    "transfer.checked",
    "transfer.released",
    "notification.sent",
    "peer.added",
    "peer.removed",
)
"""Those that are complete where its agent is wrapped as well."""
_MAY: Final = (Ability.QUARANTINE, Ability.NOTIFY, Ability.RECONNECT)
"""Nobody sees whether the sender can do this. If it can, what it does is not seen: then the clauses about it are
inconclusive, and not "not applicable"."""
_SHOWN_BY: Final = {"abort": Ability.ABORT, "clear": Ability.CLEAR, "get_transfer_metric": Ability.METRICS}


class OwnHistory:
    """Records one test. Without a call of ``agent`` or ``sender`` there is nothing to record.

    What is wrapped is used in the place of the real object from then on. It behaves as before: values and errors are
    passed on as they are.
    """

    def __init__(self, subject: str) -> None:
        self._subject: Final = subject
        self._clock: Clock = time.monotonic
        self._limits = Limits()
        self._profile = Profile.LATCH
        self._errors: Final = NamedErrors((), None, ())
        self._ledger: Ledger | None = None
        self._numbers: Final = count()
        self._agents = 0
        self._can: Final[dict[Ability, None]] = {}

    def settings(
        self,
        *,
        clock: Clock | None = None,
        transfer_timeout_s: float | None = None,
        drain_timeout_s: float | None = None,
        profile: Profile | str | None = None,
    ) -> None:
        """What the header says: the sender's clock and deadlines, and which profile it claims (``latch``).

        Call it before anything is wrapped. Raises RuntimeError afterwards, and ValueError for an unknown profile.
        """
        if self._ledger is not None:
            raise RuntimeError("the recording has begun: call settings() before agent() and sender()")
        before = self._limits
        self._clock = self._clock if clock is None else clock
        self._profile = self._profile if profile is None else Profile(profile)
        self._limits = Limits(
            transfer_timeout_s=before.transfer_timeout_s if transfer_timeout_s is None else transfer_timeout_s,
            drain_timeout_s=before.drain_timeout_s if drain_timeout_s is None else drain_timeout_s,
        )

    def agent(
        self,
        agent: AgentT,
        *,
        moves: MovesOf | None = None,
        errors: Iterable[Named] = (),
        disconnect: Iterable[Named] = (),
    ) -> AgentT:
        """The agent of the sender's side, whose calls are recorded from now on. Give the result to the sender.

        ``moves`` says which pages a transfer moves; without it that is not known. ``errors`` are classes of the
        transport's errors, or their names, beside nixl's, which are known by name; those of ``disconnect`` mean that
        the connection to a peer is broken.
        """
        ledger = self._begun()
        self._errors.add(tuple(errors), tuple(disconnect))
        self._agents += 1
        return cast("AgentT", Wrapper(agent, AgentCalls(ledger, self._numbers, moves).tells))

    def sender(
        self,
        sender: SenderT,
        *,
        room: int,
        pages: int,
        peers: Iterable[str],
        target: Mapping[str, Sequence[int]] | None = None,
        dummies: Iterable[str] = (),
        usage: Iterable[type[BaseException]] = (ValueError,),
        errors: Iterable[Named] = (),
        disconnect: Iterable[Named] = (),
        attribution: Attributes | None = None,
        answers: Answers | None = None,
    ) -> SenderT:
        """The sender of one room, whose calls are recorded from now on. Use the result in its place.

        ``pages`` is how many pages are announced, ``peers`` are the names of those that receive them, ``target`` has
        the page ids that they gave, by peer, where they are known. ``usage`` are the classes that the sender raises for
        a mistake of its caller's. ``errors`` and ``disconnect`` are as in ``agent``. ``attribution`` says who caused an
        error of failure_exception(); ``answers`` turns an answer of poll() into a ``KVPoll``, where it is none by name
        or number.
        """
        ledger = self._begun()
        self._errors.add(tuple(errors), tuple(disconnect))
        self._errors.refusals.update(usage)
        names = tuple(peers)
        known: Mapping[str, Sequence[int]] = {} if target is None else target
        named: list[Destination] = []
        for peer in names:
            given: Sequence[int] = known.get(peer) or ()
            named.append(Destination(peer=peer, pages=tuple(given), unseen=peer not in known))
        named += [Destination(peer=peer, dummy=True) for peer in dummies]
        key, destinations = len(ledger.rooms), tuple(named)
        ledger.rooms.append(Room(key, room, frozenset(names)))
        opened = partial(events.RoomOpened, room=key, id=room, pages=pages, destinations=destinations)
        ledger.recorder.note(opened)
        if not self._agents:
            ledger.lose()  # none of its transfers is seen
        self._can.update((ability, None) for name, ability in _SHOWN_BY.items() if hasattr(sender, name))
        if attribution is not None:
            self._can[Ability.ATTRIBUTION] = None
        return cast("SenderT", Wrapper(sender, SenderCalls(ledger, key, pages, attribution, answers).tells))

    @property
    def begun(self) -> bool:
        """Something was wrapped."""
        return self._ledger is not None

    @property
    def history(self) -> History:
        """What was recorded so far, with the header as it is now."""
        recorded = self._begun().recorder.history
        recorded.header = self._header()
        return recorded

    def end(self, why: str = "") -> History:
        """End the recording; ``why`` says what has cut it off. What happens afterwards is no part of it."""
        self._begun().recorder.note(partial(events.RunEnded, complete=not why, why=why))
        return self.history

    def _begun(self) -> Ledger:
        if self._ledger is None:
            clock = self._clock
            began = clock()
            recorder = Recorder(self._header(), self._errors, lambda: clock() - began)
            recorder.name_threads({main_thread().ident or get_ident(): 0})
            self._ledger = Ledger(recorder)
        return self._ledger

    def _header(self) -> Header:
        can = [*self._can, *_MAY]
        if self._ledger is not None and self._ledger.made_beside:
            can.append(Ability.WORKERS)
        return Header(
            source=Source.LIVE,
            vantage=OF_SENDERS + (OF_AGENTS if self._agents else ()),
            subject=self._subject,
            profile=self._profile.value,
            can=tuple(sorted(can)),
            limits=self._limits,
        )
