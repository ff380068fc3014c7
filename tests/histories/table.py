"""What the observer says of each history here: one row a file, with what happens in it.

For each clause there is a history that breaks it before anything else is broken, and one that shows it to hold. Where a
clause is about a circumstance, the answer breaks a rule and the header names the clause that explains it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True)
class Row:
    """One history."""

    story: str
    fails: dict[str, str] = field(default_factory=dict)
    """Every clause that fails, with the clause that it fails after; empty where it fails first."""
    at: int = -1
    """The seq of the event that shows the first violation; -1 where nothing is broken."""
    undecided: dict[str, str] = field(default_factory=dict)
    """Clauses that the history leaves open, with the reason."""
    passes: tuple[str, ...] = ()
    """Clauses that it shows to hold."""


def _breaks(clause: str, at: int, story: str, *also: str, rules: tuple[str, ...] = ()) -> tuple[str, Row]:
    """``also`` is broken by the same event; ``rules`` are broken because of what the clause is about."""
    fails = {clause: ""} | dict.fromkeys(also, "") | dict.fromkeys(rules, clause)
    return f"ks-{clause[3:]}-breaks", Row(story, fails, at)


def _holds(clause: str, story: str) -> tuple[str, Row]:
    return f"ks-{clause[3:]}-holds", Row(story, passes=(clause,))


TABLE: Final = dict(
    [
        _breaks("KS-1.1", 9, "the release of a finished handle raises, and poll() lets the error out"),
        _holds("KS-1.1", "the post raises, and send() returns"),
        _breaks("KS-1.2", 8, "a check raises an error that poll() does not catch", "KS-1.1"),
        _holds("KS-1.2", "a check answers ERR, and poll() answers Failed"),
        _breaks("KS-1.3", 11, "a KeyError inside a check is shown as a failure of the transport"),
        _holds("KS-1.3", "failure_exception() raises that very KeyError and calls it internal"),
        _breaks("KS-1.4", 8, "poll() swallows a KeyboardInterrupt"),
        _holds("KS-1.4", "the KeyboardInterrupt leaves poll()"),
        _breaks("KS-1.5", 0, "the module cannot be imported without nixl"),
        _holds("KS-1.5", "it can"),
        _breaks("KS-2.1", 9, "Success, then Failed"),
        _holds("KS-2.1", "Success, then Success"),
        _breaks("KS-2.2", 9, "abort(), and the completion that comes after it wins"),
        _holds("KS-2.2", "abort(), and the completion that comes after it changes nothing"),
        _breaks("KS-2.3", 10, "the post raised; failure_exception() tells of a timeout instead"),
        _holds("KS-2.3", "it raises an error whose cause is the one of the post, and names it"),
        _breaks("KS-2.4", 11, "the second failure_exception() has forgotten the reason"),
        _holds("KS-2.4", "failure_exception() raises the same object before and after clear()"),
        _breaks("KS-2.5", 9, "the first chunk failed; the second one is posted"),
        _holds("KS-2.5", "the first chunk failed; send() of the second one asks the transport for nothing"),
        _breaks("KS-2.6", 11, "Failed was told; the next poll() asks about the handle"),
        _holds("KS-2.6", "Failed was told; the next poll() asks nothing"),
        _breaks("KS-2.7", 7, "failure_exception() of a room in flight says that the transfer failed"),
        _holds("KS-2.7", "it raises a usage error"),
        _breaks("KS-2.8", 8, "a disconnect is called local"),
        _holds("KS-2.8", "a disconnect is called the peer's"),
        _breaks("KS-3.1", 8, "Success, and the peer's page is not the sender's"),
        _holds("KS-3.1", "Success, and the bytes are equal"),
        _breaks("KS-3.2", 8, "a room without pages succeeds without its aux data", "KS-3.1"),
        _holds("KS-3.2", "its aux data is there"),
        _breaks("KS-3.3", 2, "Success before anything was sent"),
        _holds("KS-3.3", "WaitingForInput before anything was sent"),
        _breaks("KS-3.4", 13, "one handle, which is DONE; the third poll() still answers Transferring"),
        _holds("KS-3.4", "the third poll() answers Success"),
        _breaks("KS-3.5", 7, "Failed, and nothing has gone wrong"),
        _holds("KS-3.5", "the deadline has passed, but all bytes are there: Success"),
        _breaks("KS-3.6", 16, "the second chunk finishes first, and the bytes differ", "KS-3.1"),
        _holds("KS-3.6", "the second chunk finishes first, and the bytes are equal"),
        _breaks("KS-3.7", 7, "poll() asks once, and does not come back"),
        _holds("KS-3.7", "poll() comes back while the transfer is in flight, and when it has ended"),
        _breaks("KS-4.1", 9, "a check raised, so bytes may still be read; the page is not quarantined"),
        _holds("KS-4.1", "the page is quarantined"),
        _breaks("KS-4.2", 7, "a handle is released in flight"),
        _holds("KS-4.2", "a handle is released when it is DONE"),
        _breaks("KS-4.3", 8, "Success, everything has settled, and the handle was never released"),
        _holds("KS-4.3", "it was released once"),
        _breaks("KS-4.4", 8, "the post was rejected, and the page is not quarantined"),
        _holds("KS-4.4", "the page is quarantined"),
        _breaks("KS-5.1", 12, "abort() of a failed room replaces the cause", rules=("KS-2.3",)),
        _holds("KS-5.1", "abort() of a failed room keeps the cause"),
        _breaks("KS-5.2", 11, "Success, clear(), Failed", rules=("KS-2.1",)),
        _holds("KS-5.2", "Success, clear(), Success"),
        _breaks("KS-5.3", 11, "a completion of a cleared room revives it", rules=("KS-2.1",)),
        _holds("KS-5.3", "a completion of a cleared room changes nothing"),
        _breaks("KS-5.4", 10, "a new room of the same id has failed from the start", rules=("KS-3.5",)),
        _holds("KS-5.4", "a new room of the same id waits for its pages"),
        _breaks("KS-6.1", 9, "the room has failed, and the peer was never told"),
        _holds("KS-6.1", "the peer was told once, with a reason"),
        _breaks(
            "KS-6.2", 8, "a peer that the room has nothing to do with is gone, and the room fails", rules=("KS-3.5",)
        ),
        _holds("KS-6.2", "a peer that the room has nothing to do with is gone, and the room succeeds"),
        _breaks("KS-6.3", 2, "a peer came back and was added twice"),
        _holds("KS-6.3", "a peer came back and was added once"),
        _breaks("KS-6.4", 7, "a peer gives the room up, and is told that it has drained while a transfer is in flight"),
        _holds("KS-6.4", "a peer gives the room up, and is told that it has drained when the transfer is done"),
        _breaks("KS-7.1", 1, "a malformed control message ends a thread"),
        _holds("KS-7.1", "a malformed control message ends no thread"),
        _breaks("KS-7.2", 12, "abort() came while poll() was at the transport, and is lost", rules=("KS-2.2",)),
        _holds("KS-7.2", "abort() came while poll() was at the transport, and counts"),
        _breaks("KS-8.1", 4, "a negative page id is posted"),
        _holds("KS-8.1", "a negative page id is refused before anything is posted"),
        _breaks("KS-9.1", 12, "a holder refills pages that a reader may still use"),
        _holds("KS-9.1", "it refuses to"),
        _breaks("KS-9.2", 10, "the request is cleared, and its pages are free while an initiator may write them"),
        _holds("KS-9.2", "they are held"),
        _breaks("KS-9.3", 29, "a lease is renewed after its end, and the reader is told nothing"),
        _holds("KS-9.3", "the reader is told that it is lost"),
        _breaks("KS-9.4", 17, "the stamps are raised after the refill"),
        _holds("KS-9.4", "they are raised before it and after it"),
        _holds("KS-9.5", "a stranger says that a part is in place, and the room goes on"),
        _breaks("KS-9.7", 13, "a success without its parts is one"),
        _breaks("KS-9.8", 8, "abort() asks for notifications until it is stopped"),
        _breaks("KS-9.9", 10, "an initiator is told twice that the room is given up"),
        _holds("KS-9.9", "it is told once"),
        _breaks("KS-9.10", 10, "the announcement raised, and the pages are free", rules=("KS-9.2",)),
        _holds("KS-9.10", "they are held"),
        _breaks("KS-9.11", 11, "what is not UTF-8 leaves the loop"),
        _holds("KS-9.11", "it is dropped"),
        _breaks("KS-9.12", 17, "the fence of one initiator frees the pages of another", rules=("KS-9.2",)),
        _holds("KS-9.12", "they are held"),
        _breaks("KS-9.13", 6, "the pages of a room that goes on are published"),
        _breaks("KS-9.14", 21, "the second failure_exception() shows another reason"),
        _holds("KS-9.14", "it shows the same"),
        _breaks("KS-9.15", 22, "every initiator has given a proof, and the pages are held"),
        _holds("KS-9.15", "they have come back"),
        _breaks("KS-9.16", 30, "a success is lost on the way, and nobody asks"),
        _holds("KS-9.16", "it is asked for, and told again"),
        (
            "lossy",
            Row(
                "events are lost while the transfer is in flight: whether it finished before Success and the release,"
                " nobody can say",
                undecided={"KS-3.1": "events were lost", "KS-4.2": "events were lost"},
            ),
        ),
        (
            "cut-off",
            Row(
                "the history ends while the transfer is in flight",
                undecided={"KS-2.1": "the history ends before it can be told"},
            ),
        ),
        (
            "interrupted",
            Row("after a KeyboardInterrupt has left poll() the sender says what it likes", passes=("KS-1.4",)),
        ),
        (
            "foreign-engine",
            Row(
                "two rooms of an engine that is not Python; the peer of one of them is gone",
                undecided={"KS-3.1": "the source does not record what it needs: bytes.compared"},
                passes=("KS-1.1", "KS-1.2", "KS-2.1", "KS-2.2", "KS-2.3", "KS-2.4", "KS-2.6"),
            ),
        ),
        (
            "foreign-engine-bug",
            Row("the same, but the failed room answers Success at last", {"KS-2.1": "", "KS-2.2": ""}, 44),
        ),
    ]
)
