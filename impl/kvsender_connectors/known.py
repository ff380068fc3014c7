"""What published senders are known to do: in which of them, which clauses it breaks, why, and where it was said before.

A clause that some run breaks first needs an entry, and an entry needs clauses that fail; the command says what is
missing and ends with an error. The trace of an entry shows it in the connectors that it names, and in no other one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Final

from kvsender_spec.printed import parse_setup, parse_step
from kvsender_spec.trace import Trace


class Kind(StrEnum):
    PUBLIC = "known public issue"
    FOUND_HERE = "we found no public issue"
    OURS = "a clause of this project, beyond their documented contract"


@dataclass(frozen=True, slots=True)
class Known:
    """Something that senders do."""

    kind: Kind
    connectors: tuple[str, ...]
    clauses: tuple[str, ...]
    """What it breaks in each of the connectors."""
    why: str
    """What the sender does, in a sentence. No two entries with a trace have the same one."""
    references: tuple[str, ...] = ()
    """Public issues and pull requests, as ``owner/repository#number``."""
    trace: Trace | None = None
    """It is shown where one of the clauses breaks, or a rule because of the circumstance that one is about."""
    at_end: bool = False
    """The trace shows it only in the end of the run."""


_KEYS: Final = {
    "11": "sglang-0.5.11",
    "seed": "seed",
    "12": "sglang-0.5.12",
    "23": "sglang-0.5.23",
    "mooncake": "mooncake-0.5.23",
}
_REPOSITORIES: Final = {
    "nixl": "ai-dynamo/nixl",
    "sglang": "sgl-project/sglang",
    "mooncake": "kvcache-ai/Mooncake",
}
_SETUP: Final = "rooms of 1 pages, 1 peer"


def _known(kind: Kind, where: str, why: str, trace: str = "", *, cites: str = "") -> Known:
    """``where`` is the connectors and the clauses. ``trace`` is a setup, if it is not the smallest one, and the steps;
    with ``...`` after them they show it only in the end of the run."""
    keys, _, clauses = where.partition(": ")
    cited = (reference.partition("#") for reference in cites.split())
    setup, bar, steps = trace.rpartition(" | ")
    at_end = steps.endswith("; ...")
    run = tuple(parse_step(step) for step in steps.removesuffix("; ...").split("; ")) if steps else ()
    return Known(
        kind,
        tuple(_KEYS[key] for key in keys.split()),
        tuple(clauses.split()),
        why,
        tuple(f"{_REPOSITORIES[repository]}#{number}" for repository, _, number in cited),
        Trace(parse_setup(setup if bar else _SETUP), run) if run else None,
        at_end,
    )


_public: Final = partial(_known, Kind.PUBLIC)
_found: Final = partial(_known, Kind.FOUND_HERE)
_ours: Final = partial(_known, Kind.OURS)


KNOWN: Final = (
    # -- errors of the transport that leave a call
    _public(
        "11: KS-1.1 KS-1.2",
        "a disconnect at the post leaves send() as an exception",
        "open(0); send(0) with post=nixlRemoteDisconnectError",
        cites="sglang#24296 sglang#23551",
    ),
    _public(
        "11: KS-1.1 KS-1.2",
        "a disconnect at a check leaves poll() as an exception",
        "open(0); send(0); poll(0) with check=nixlRemoteDisconnectError",
        cites="sglang#24296 sglang#23551",
    ),
    _public(
        "11 seed: KS-1.1 KS-1.2",
        "a peer that is not found leaves send() as an exception",
        "open(0); send(0) with make=nixlNotFoundError",
        cites="sglang#23551",
    ),
    _ours(
        "11 seed: KS-3.1",
        "a caller that catches what escaped and goes on gets Success without that chunk",
        "rooms of 1+1 pages, 1 peer | open(0); send(0) with make=nixlNotFoundError; send(0);"
        " poll(0) after all finished",
    ),
    # -- states that nobody knows
    _ours(
        "11 seed: KS-2.5",
        "a post that answers a state nobody knows is taken for good: the next one follows",
        "rooms of 1+1 pages, 1 peer | open(0); send(0) with post=returns an unknown state; send(0)",
    ),
    _ours(
        "11 seed 12 23: KS-2.3 KS-3.4",
        "a state that nobody knows is taken for a running transfer, and not shown",
        "open(0); send(0); poll(0) with check=returns an unknown state; failure_exception(0)",
    ),
    # -- giving up
    _public(
        "11 12: KS-2.2",
        "Success is reported after an abort",
        "open(0); send(0); abort(0); poll(0) after all finished",
        cites="sglang#24522 sglang#30352",
    ),
    _public(
        "11: KS-2.5 KS-3.4", "abort() is not looked at: send() goes on posting, no end comes", cites="sglang#24522"
    ),
    _public(
        "11 12: KS-2.5",
        "after an abort, and once a chunk in flight has ended, send() posts the next one",
        "rooms of 1+1+1 pages, 1 peer | open(0); send(0); abort(0); poll(0) after half finished; send(0)",
        cites="sglang#24522 sglang#30352",
    ),
    _found(
        "12 23 mooncake: KS-5.1",
        "a late abort() turns Success into Failed",
        "open(0); send(0); poll(0) after all finished; poll(0) after all finished; abort(0); poll(0)",
    ),
    _found(
        "23: KS-5.1",
        "a later abort() takes the place of the first cause, which a check had returned",
        "open(0); send(0); poll(0) with check=returns ERR; poll(0) after all finished; poll(0) after all finished;"
        " abort(0); failure_exception(0)",
    ),
    _found(
        "mooncake: KS-5.1",
        "a later abort() takes the place of the first cause",
        "open(0); send(0); poll(0) with check=nixlRemoteDisconnectError; abort(0); failure_exception(0)",
    ),
    _found(
        "mooncake: KS-2.5",
        "a chunk in hand goes on after abort(): the aux data is posted after the pages",
        "open(0); send(0); abort(0); poll(0) after all finished; poll(0)",
    ),
    _found(
        "12 mooncake: KS-5.3",
        "a chunk in hand goes on after clear(): it posts more, or turns Failed into Success",
        "open(0); send(0); clear(0); poll(0) after all finished; poll(0)",
    ),
    # -- what failure_exception() shows
    _found(
        "11 23: KS-2.3",
        "the first cause, an error that a check raised, is lost",
        "open(0); send(0); poll(0) with check=nixlRemoteDisconnectError; failure_exception(0)",
    ),
    _found(
        "23: KS-1.3 KS-2.3",
        "the reason is a text: the exception is not chained, and its class is not named",
        "open(0); send(0) with post=KeyError; failure_exception(0)",
    ),
    _found(
        "12 mooncake: KS-2.4",
        "the first failure_exception() pops what it raises, and the second one raises something else",
        "open(0); send(0) with post=nixlRemoteDisconnectError; failure_exception(0); failure_exception(0)",
    ),
    _found(
        "12 23 mooncake: KS-2.3",
        "failure_exception() of a sender that was cleared pops what the next room of its number has to show",
        "open(0); clear(0); open(0); send(0) with post=nixlRemoteDisconnectError; failure_exception(0 opening 1);"
        " failure_exception(0)",
    ),
    _found(
        "12 23: KS-1.3",
        "failure_exception() of a sender that was cleared pops an error of the program's own that is the next room's",
        "open(0); clear(0); open(0); send(0) with make=TypeError; failure_exception(0 opening 1); failure_exception(0)",
    ),
    _found(
        "23 mooncake: KS-2.4",
        "the second failure_exception() blames another rank",
        "open(0); abort(0); poll(0); failure_exception(0); failure_exception(0)",
    ),
    _ours("11 seed 12: KS-2.7", "failure_exception() raises the same constant whether the room has failed or not"),
    _found("23 mooncake: KS-2.7", "failure_exception() fails and clears a room that has not failed"),
    # -- rooms of one number, and rooms of one peer
    _ours(
        "12 23 mooncake: KS-5.2",
        "a sender that was cleared answers for whatever room has its number now, or for none",
        "open(0); clear(0); open(0); send(0); poll(0) after all finished; poll(0) after all finished;"
        " poll(0 opening 1)",
    ),
    _ours("mooncake: KS-3.1", "a sender that was cleared answers Success for the next room of its number"),
    _found("23: KS-3.1", "a chunk of a cleared room ends the next room of its number before its own pages are sent"),
    _found(
        "23 mooncake: KS-5.4",
        "the failure of a cleared room fails the next room of its number",
        "open(0); abort(0); clear(0); open(0); send(0); poll(0) after all finished; poll(0) after all finished",
    ),
    _found(
        "12 23: KS-5.4",
        "a chunk of a cleared room ends in the next room of its number, or fails it",
        "open(0); send(0); clear(0); open(0); send(0); faults_over; poll(0)",
    ),
    _found(
        "12 23: KS-3.3",
        "a chunk of a cleared room ends the next one of its number before that has sent anything",
        "rooms of 0 pages and 1 pages, 1 peer | open(0); open(1); send(1); send(0); clear(0); open(0);"
        " poll(1) after all finished; poll(0) after newest finished",
    ),
    _public(
        "mooncake: KS-5.4 KS-3.5",
        "one failed write bars the peer for every room until it is probed or registers",
        "rooms of 1 pages and 1 pages, 1 peer | open(0); open(1); send(0) with post=nixlInvalidParamError; send(1);"
        " poll(1)",
        cites="sglang#13054 sglang#35823",
    ),
    # -- bytes
    _public(
        "12: KS-3.1 KS-3.2 KS-3.6",
        "the last chunk of a dense model takes no aux data along",
        "open(0); send(0); poll(0) after all finished",
        cites="sglang#25698",
    ),
    # -- peers
    _public(
        "11 seed 12 23: KS-3.4",
        "a peer that stays silent keeps the room open: neither NIXL nor the sender has a deadline",
        "rooms of 1 pages, 1 peer, silent at the end | open(0); send(0); ...",
        cites="nixl#2047",
    ),
    _found(
        "mooncake: KS-3.4", "a worker writes synchronously: behind a silent room, the next one's timeout begins late"
    ),
    _found(
        "12 23: KS-6.2",
        "a worker waits for one room's transfers: a silent peer keeps rooms of other peers from being posted",
        "rooms of 1 pages and 1 pages, 2 peers, one peer a room | open(0); open(1); send(0); stop(0); send(1); ...",
    ),
    _public(
        "12 23 mooncake: KS-6.1",
        "abort() tells no peer, which waits for its own timeout",
        "open(0); faults_over; abort(0); settle; poll(0)",
        cites="sglang#28651 sglang#36160",
    ),
    _public(
        "seed 23 mooncake: KS-6.1",
        "a failure at a check is not told to the peer, or without a reason",
        "open(0); send(0); poll(0) after all finished with check[1]=nixlBackendError; faults_over; settle; poll(0)",
        cites="sglang#36033 sglang#30329",
    ),
    # -- pages and handles
    _public(
        "12 23: KS-4.1",
        "poll() says Failed, and the caller frees the pages, while a transfer still reads them",
        "open(0); send(0); poll(0) with check=KeyError; poll(0)",
        cites="sglang#38961",
    ),
    _ours("seed: KS-4.1", "the first error ends the room while its other transfers are in flight"),
    _public(
        "mooncake: KS-4.1",
        "a write that outlasts the engine's timeout is answered -1 and goes on",
        "open(0); send(0); wait_long; poll(0)",
        cites="mooncake#4247 sglang#38961",
    ),
    _found(
        "11: KS-4.2",
        "when the post of a chunk's second transfer does not return, nobody holds the first one, which is in flight",
    ),
    _found(
        "12: KS-4.2",
        "when one peer's transfer fails, the worker drops the others while they are in flight",
        "rooms of 1 pages and 1 pages, 2 peers | open(0); open(1); send(0) with post[1]=nixlNotPostedError; send(1)",
    ),
    _found(
        "23: KS-4.2",
        "a transfer that was given up after 5 s goes with the worker's next chunk, while it is in flight",
        "rooms of 1 pages and 1 pages, 1 peer | open(0); send(0); poll(0) with check=returns ERR; open(1); send(1);"
        " wait_long; poll(1)",
    ),
    _public(
        "11 seed 23: KS-4.3",
        "nobody calls release_xfer_handle(); handles go when Python drops them",
        cites="sglang#14070 sglang#14072",
    ),
    _public("mooncake: KS-4.3", "a write that outlasts the engine's timeout is never freed", cites="mooncake#4247"),
    # -- workers and wrong calls
    _public(
        "11 12 23 mooncake: KS-7.1",
        "a message that the control thread does not expect ends it",
        cites="sglang#30352 sglang#33043",
    ),
    _ours("11 seed: KS-8.1", "page ids are not checked; what is wrong with them shows in the transport, or nowhere"),
    _ours(
        "12 23 mooncake: KS-8.1",
        "send() queues whatever it is given, and the worker fails the room, cuts the chunk short, or writes elsewhere",
    ),
)
