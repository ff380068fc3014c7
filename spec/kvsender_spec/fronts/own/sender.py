"""The calls of one room's sender as events of a history."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from operator import index
from typing import Final

from msgspec.structs import replace

from kvsender_spec.contract import Attribution, KVPoll
from kvsender_spec.fronts.own.ledger import Attributes, Ledger
from kvsender_spec.fronts.own.wrapper import AnyCall, Given, Tells, argument
from kvsender_spec.history.events import CallStarted, ErrorSeen, TransferMade
from kvsender_spec.history.words import CallName, Origin

CALLS: Final = {
    "init": CallName.INIT,
    "send": CallName.SEND,
    "poll": CallName.POLL,
    "failure_exception": CallName.FAILURE_EXCEPTION,
    "abort": CallName.ABORT,
    "clear": CallName.CLEAR,
    "get_transfer_metric": CallName.METRICS,
}
"""The methods that are told of; a sender need not have all of them."""
Answers = Callable[[object], object]
"""What an answer of poll() means: a ``KVPoll``, its name or its number."""


class SenderCalls:
    """Makes the calls of one sender and tells the recorder of them. Safe to call from any thread."""

    def __init__(
        self, ledger: Ledger, key: int, pages: int, attribution: Attributes | None, answers: Answers | None
    ) -> None:
        self._ledger: Final = ledger
        self._recorder: Final = ledger.recorder
        self._key: Final = key
        self._announced: Final = pages
        self._attribution: Final = attribution
        self._answers: Final = answers
        self._sent: Final[list[int | float]] = []
        self._untroubled = True
        """As far as the caller was told: nothing has ended the room."""
        self.tells: Final[Mapping[str, Tells]] = {name: self._teller(what) for name, what in CALLS.items()}

    def _teller(self, what: CallName) -> Tells:
        if what is CallName.SEND:
            return self._send
        return lambda real, given: self._call(what, real, given)

    def _call(self, what: CallName, real: AnyCall, given: Given) -> object:
        if what in (CallName.ABORT, CallName.CLEAR):
            self._untroubled = False
        of = self._recorder.call_started(what, self._key)
        try:
            with self._ledger.call():
                answer = real(*given[0], **given[1])
        except BaseException as error:
            asked = what is CallName.FAILURE_EXCEPTION and self._attribution is not None
            self._recorder.call_ended(of, self._key, error=error, attribution=self._who(error) if asked else None)
            raise
        value = self._value(answer) if what is CallName.POLL else None
        self._untroubled = self._untroubled and value != KVPoll.Failed.name
        self._recorder.call_ended(of, self._key, value=value)
        return answer

    def _value(self, answer: object) -> str | None:
        """The name of the ``KVPoll`` that was answered. Where nobody can tell, the history says so."""
        meant = answer if self._answers is None else self._answers(answer)
        word = meant.name if isinstance(meant, Enum) else meant
        if isinstance(word, str) and word in KVPoll.__members__:
            return word
        known = {poll.value: poll.name for poll in KVPoll}
        if isinstance(meant, int) and not isinstance(meant, bool) and meant in known:
            return known[meant]
        self._ledger.lose()
        return None

    def _who(self, error: BaseException) -> str | None:
        said = None if self._attribution is None else self._attribution(error)
        if isinstance(said, Attribution):
            return said.value
        return said if isinstance(said, str) else None

    def _send(self, real: AnyCall, given: Given) -> object:
        pages = page_ids(argument(given, 0, "kv_indices", "pages"))
        if pages is None:
            self._ledger.lose()  # how many pages there are, and so whether they are the last ones, is not known
        chunk = pages or []
        misuse = self._misuse(chunk)
        before = len(self._recorder.history.events)
        last = pages is not None and not misuse and len(self._sent) + len(chunk) >= self._announced
        of = self._recorder.call_started(CallName.SEND, self._key, pages=chunk, last=last, misuse=misuse)
        try:
            with self._ledger.call():
                answer = real(*given[0], **given[1])
        except BaseException as error:
            key: int | None = self._key
            if not misuse and self._refused(error, before):
                self._forget(of)
                key = None
            self._recorder.call_ended(of, key, error=error)
            raise
        if not misuse:
            self._sent.extend(chunk)
        self._recorder.call_ended(of, self._key)
        return answer

    def _misuse(self, chunk: list[int | float]) -> str:
        """Why these pages are a mistake of the caller's, as far as it shows; empty where it does not."""
        if any(isinstance(page, float) for page in chunk):
            return "page ids that are no whole numbers"
        if any(page < 0 for page in chunk):
            return "a negative page id"
        if len({*self._sent, *chunk}) < len(self._sent) + len(chunk):
            return "pages that overlap"
        return "more pages than announced" if len(self._sent) + len(chunk) > self._announced else ""

    def _refused(self, error: BaseException, before: int) -> bool:
        """The sender took the call for a mistake of its caller's, and nothing else has happened to the room."""
        events = self._recorder.history.events
        during = events[before:]
        quiet = not any(isinstance(event, ErrorSeen) and event.origin is not Origin.USAGE for event in events)
        refused = self._recorder.classes.origin(error) is Origin.USAGE
        return refused and self._untroubled and quiet and not any(isinstance(e, TransferMade) for e in during)

    def _forget(self, of: int) -> None:
        """A page that the memory does not have is a mistake that only the sender can see: it is no call of the room.

        Whether the sender was right to refuse is not known. So the room is judged as if it had not been asked.
        """
        events = self._recorder.history.events
        started = events[of] if 0 <= of < len(events) else None
        if isinstance(started, CallStarted):
            events[of] = replace(started, room=None)


def page_ids(given: object) -> list[int | float] | None:
    """The page ids of a chunk: numbers in a list, an array or a tensor; None where it holds anything else."""
    if not isinstance(given, Iterable) or isinstance(given, (str, bytes)):
        return None
    items: Iterable[object] = given
    walk = iter(items)
    if walk is given:
        return None  # it can be read once, and that is the sender's
    found: list[int | float] = []
    for item in walk:
        number = _number(item)
        if number is None:
            return None
        found.append(number)
    return found


def _number(item: object) -> int | float | None:
    if isinstance(item, float):
        return item
    if not hasattr(item, "__index__"):
        return None
    try:
        return index(item)
    except (TypeError, ValueError):
        return None
