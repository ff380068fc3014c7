"""The clauses of the contract: what a party must do, where the rule comes from, and what judges it.

These are the initiator's; ``target_clauses`` has the target's.

An initiator is a *sender*, which WRITEs, or a *reader*, which READs. What a clause says of send() it says of a reader's
read(). Pages are the initiator's own: a WRITE in flight reads them, a READ in flight writes them. A peer is the target:
it receives what is written, or holds what is read.

A clause is judged only by *observations*. One that was never observed is inconclusive, not passed. ``layers`` names the
kinds of evidence that can observe it; the ids are the test ids.

Where the contract left room, the reading that is checked is written in ``observation``.
"""

from __future__ import annotations

from typing import Final

from kvsender_spec.clause import SCRIPTED, Clause, Layer, Level
from kvsender_spec.contract import ROLES, Role
from kvsender_spec.machine import Profile
from kvsender_spec.target_clauses import TARGET_CLAUSES

__all__ = ["BY_ID", "CLAUSES", "EVERY_CLAUSE", "TARGET_CLAUSES", "Clause", "Layer", "Level", "claimed", "clauses_for"]


_SEED: Final = "SGLang PR #24296"
_NIXL: Final = "measured on nixl 1.5.1"

CLAUSES: Final[tuple[Clause, ...]] = (
    Clause(
        "KS-1.1",
        "NO-ESCAPE",
        "Construction, init, send or read, poll, abort, clear and the metrics getters never raise because of the"
        " transport or"
        " a peer.",
        f"{_SEED}: the disconnect that killed the prefill scheduler; sglang #23551",
        "every call of the caller during or after which the transport has answered with an error: it returns",
    ),
    Clause(
        "KS-1.2",
        "CATCH-SET",
        "Every answer by which the transport can refuse a post or a check is turned into a failure of this room: the 12"
        ' NIXL classes, plain RuntimeError("BAD_STATUS"), a returned "ERR", an unknown state string.',
        f"{_SEED} caught three classes; {_NIXL}: the 12 classes share no base but Exception",
        "each such answer to a make, a post or a check: the call returns, and the room fails. A transfer that could not"
        " be made may be tried again in the same call, as long as nothing was posted",
    ),
    Clause(
        "KS-1.3",
        "NO-DISGUISE",
        "An error that is not the transport's (KeyError, TypeError in the sender) is never shown as a transport"
        ' failure: it propagates, or it is latched as kind "internal" with its traceback logged. Where it concerns a'
        " room that is over, logging it is enough.",
        f"{_SEED}: only the transport's exceptions are caught",
        "a KeyError or TypeError inside a call of the transport: it propagates, or failure_exception() shows that very"
        " object and, where the sender attributes causes, attributes it to itself",
        layers=SCRIPTED,
    ),
    Clause(
        "KS-1.4",
        "NO-SWALLOW",
        "KeyboardInterrupt, SystemExit and other BaseExceptions are not caught.",
        f"{_SEED}: only the transport's exceptions are caught",
        "a KeyboardInterrupt or SystemExit inside a call of the transport: it leaves the caller's call",
        layers=SCRIPTED,
    ),
    Clause(
        "KS-1.5",
        "IMPORT",
        "Without nixl installed the package imports, and the transport error set is a documented fallback.",
        f"{_SEED}; sglang's ImportError fallback",
        "the adapter's module is imported in a fresh interpreter in which nixl cannot be imported",
        layers=SCRIPTED,
    ),
    Clause(
        "KS-2.1",
        "STICKY",
        "The first terminal value of poll() is the last one.",
        _SEED,
        "every poll() after a terminal one",
    ),
    Clause(
        "KS-2.2",
        "NO-SUCCESS-AFTER-FAIL",
        "After a fault was observed, Success is never reported, in whatever order threads, aborts and completions"
        " land.",
        "SGLang 0.5.10 to 0.5.12: update_status took the larger value, and Failed is 0",
        "every poll() after the transport has answered a make, a post or a check with an error, or the caller has"
        " aborted",
    ),
    Clause(
        "KS-2.3",
        "FIRST-CAUSE",
        "failure_exception() raises the first cause: that very object, or an exception whose __cause__ chain ends in"
        " it; the reason shows its class and message.",
        f"{_SEED} (_send_error); SGLang 0.5.23: record_failure keeps the last writer",
        "every failure_exception() of a failed room. A cause without an object (a returned string) must be named",
    ),
    Clause(
        "KS-2.4",
        "REPEATABLE",
        "failure_exception() raises the same each time, before and after clear().",
        "SGLang 0.5.23: the reason is popped on the first call",
        "every failure_exception() after the first: same class, same text, same root cause",
    ),
    Clause(
        "KS-2.5",
        "SEND-IS-NOOP",
        "send() or read() after a failure posts nothing and raises nothing.",
        _SEED,
        "every send() or read() in failed or sticky_failed",
    ),
    Clause(
        "KS-2.6",
        "NO-REQUERY",
        "poll() in sticky_failed does not ask the transport.",
        _SEED,
        "every poll() after Failed was reported",
        level=Level.SHOULD,
    ),
    Clause(
        "KS-2.7",
        "NOT-FAILED",
        "failure_exception() on a sender that has not failed raises a usage error and changes nothing.",
        "SGLang 0.5.23: it latches Failed on a successful sender",
        "every failure_exception() in idle, sending or done: it raises, nothing is posted, and the room goes on",
    ),
    Clause(
        "KS-2.8",
        "ATTRIBUTION",
        "The failure says whether the cause is local, the peer's, the caller's (abort) or a deadline.",
        "SGLang 0.5.23: a lost reason reads as another rank's, which mutes the log",
        "every failure_exception() whose cause leaves no choice: a disconnect is the peer's, an abort the caller's, a"
        " deadline a deadline; a grant that has ended is the peer's or local",
        level=Level.SHOULD,
    ),
    Clause(
        "KS-3.1",
        "NO-FALSE-SUCCESS",
        "Success only when the last chunk is posted and all handles of all chunks to all non-dummy peers are DONE; the"
        " peer's bytes equal the caller's. A reader's bytes are those that were granted: a holder may have refilled its"
        " pages meanwhile.",
        f"sglang #39846, #25698; vllm #52234, #32208; {_NIXL}: DONE means that all bytes are in place, and of a READ"
        f" not"
        " whose they are",
        "every poll() that answers Success: the machine is in done, and memory is compared byte by byte: the peers'"
        " with"
        " the sender's, or the reader's with what its holders had when they granted it",
    ),
    Clause(
        "KS-3.2",
        "LAST-CHUNK",
        "A last chunk with zero pages still concludes the room and still carries the aux data. A reader with nothing to"
        " read, whose prefix cache has it all, ends its room as well.",
        "sglang #25698: a falsy [] lost the aux data; vLLM's pull worker: a full prefix hit made no entry",
        "every room announced with zero pages, or with none for some peer: after its last chunk it ends, and on Success"
        " the peer of a sender has the aux bytes",
    ),
    Clause(
        "KS-3.3",
        "NO-EMPTY-SUCCESS",
        "No handles and no last chunk is not Success.",
        "all() over no handles is true: a room that has posted nothing looks complete",
        "every poll() before the last chunk while nothing is in flight",
    ),
    Clause(
        "KS-3.4",
        "TERMINATES",
        "When the transport settles, poll() is terminal within a bounded number of polls; with a silent peer, within"
        " the deadline.",
        f"nixl #2047; {_NIXL}: a stopped peer is PROC for ever and there is no timeout",
        "at the end of every run the handles settle, or the clock passes the deadlines: every room whose last chunk is"
        " posted, or which has a cause, ends within as many polls as it has handles, plus two, of a caller that polls"
        " all its rooms in turn",
    ),
    Clause(
        "KS-3.5",
        "NO-FALSE-FAIL",
        "A room fails only after a fault: a completion that is already there beats a deadline, and what the transport"
        " says to a wrong call of the sender is no fault of the transport. That a holder has refilled what it granted"
        " is"
        " a fault.",
        "vLLM and SGLang timeouts measured from the last look, not from the last fact; sglang 0.5.11 asserts that a"
        " chunk has as many pages at the peer as here",
        "every poll() that finds the deadline passed and all handles DONE; every Failed of a room whose cause is a call"
        " that no transport would take",
        layers=SCRIPTED,
    ),
    Clause(
        "KS-3.6",
        "ORDER-INDEPENDENT",
        "The order in which chunks, handles and notifications complete changes nothing.",
        "sglang #37697: a chunk that arrived after the last one hung the decode side",
        "every room whose handles finished in another order than they were posted: it ends as the machine says",
    ),
    Clause(
        "KS-3.7",
        "NO-WAITING",
        "No call waits for the transport, a peer or a worker: send(), poll(), abort(), clear() and failure_exception()"
        " come back whatever is in flight, and ask the transport a bounded number of times. So does a worker.",
        "TensorRT-LLM #14414: a wait for a transfer blocks the executor; SGLang 0.5.12: a silent peer holds its worker",
        "every call: it comes back within seconds, and asks the transport at most 400 times, and four times more for"
        " each transfer that is held; the workers ask at most four times as often before they are idle",
        layers=SCRIPTED,
    ),
    Clause(
        "KS-4.1",
        "QUIESCE-BEFORE-FREE",
        "When poll() returns a terminal value no handle is in flight, or the pages are reported as quarantined. A"
        " READ in"
        " flight is a writer into the reader's own pages.",
        f"sglang #38961, #35049; vllm #56104, #32255; {_NIXL}: releasing a handle cancels nothing",
        "every first terminal poll(): the initiator's pages of each handle that is not quiesced are in the quarantine",
    ),
    Clause(
        "KS-4.2",
        "NO-RELEASE-IN-FLIGHT",
        "A handle is released, and the memory that it reads or writes here deregistered, only after it has settled;"
        " dropping the last reference counts as releasing.",
        f"{_NIXL}: a page refilled after such a release reached the peer with another request's data; after one of a"
        f" READ"
        " 61 of 67 MB still landed in pages that had a new owner",
        "every release, explicit or by the garbage collector, and every deregistration under a posted transfer",
    ),
    Clause(
        "KS-4.3",
        "NO-LEAK",
        "Every handle is released exactly once after the room ended; tables return to their size.",
        "sglang #24539; SGLang 0.5.23 keeps the failure record of a cleared room",
        "at the end of every run, after everything has settled: each handle was released once, no page of a room whose"
        " handles are all DONE is quarantined, and the prefill side keeps no entry of a cleared room",
    ),
    Clause(
        "KS-4.4",
        "IN-DOUBT",
        "A rejected post or an unsettled handle at the drain deadline quarantines the pages.",
        f"SGLang 0.5.23 _NixlPostError; {_NIXL}: a post that raised had landed some of its bytes",
        "every first terminal poll() of a room with such a handle",
    ),
    Clause(
        "KS-5.1",
        "ABORT-IDEMPOTENT",
        "abort() at any time, any number of times: no raise, no post afterwards; after done it changes nothing; after a"
        " fault the first cause stays.",
        "SGLang 0.5.23: a late abort flips Success; sglang #28651",
        "every abort(), the calls after it and the cause that is shown then",
    ),
    Clause(
        "KS-5.2",
        "CLEAR-IDEMPOTENT",
        "clear() at any time, any number of times; poll() afterwards keeps the terminal value.",
        "sglang #40125: a second caller's clear() killed both schedulers",
        "every clear(), and the first answers after it",
    ),
    Clause(
        "KS-5.3",
        "NO-RESURRECT",
        "Late events on a cleared room change nothing and leave nothing.",
        "SGLang 0.5.10 to 0.5.12: a late status re-creates a cleared room (sglang #24539)",
        "every poll() of a cleared room after one of its handles has settled late",
    ),
    Clause(
        "KS-5.4",
        "ROOM-ISOLATION",
        "One room's faults, records and late events never change another room, nor a later room with the same id.",
        "SGLang 0.5.23: a cleared room's record poisons the next room of that id; sglang #40125",
        "every answer of a room that had no fault of its own while another room, or an earlier one of that id, had",
    ),
    Clause(
        "KS-6.1",
        "NOTIFY-PEER",
        "How a room ended reaches every non-dummy peer that is still reachable once: a failure with a reason, a success"
        " when all that the room writes there, or reads from there, is in place; nothing follows either.",
        "sglang #36033, #28651: each abort pinned a decode slot for 300 s; vllm #41269: blocks at a holder that nobody"
        f" told; {_NIXL}: a notification of its own overtakes the bytes of a READ",
        "the notifications at each peer whenever one arrives, and at the end of every run. A sender that sends none of"
        " success, but one with every transfer, leaves it to the peer to count these. So may a reader, which then tells"
        " a holder of which it reads nothing",
    ),
    Clause(
        "KS-6.2",
        "PEER-ISOLATION",
        "A dead, slow or silent peer neither fails nor starves rooms of other peers.",
        "nixl #1983",
        "every answer of a room whose peers are all well while another peer is dead or silent",
    ),
    Clause(
        "KS-6.3",
        "PEER-RECOVERY",
        "After a disconnect the connection stays broken until it is remade; a peer that is back works again for new"
        " rooms, and reconnecting is single-flight and blocks no other peer.",
        "nixl #1983, sglang #33789, #40108",
        "every room opened to a peer after it came back: it ends as if nothing had been, with one reconnection, at"
        " once or when a room first needs it. A room"
        " that was opened before has page ids of the old process: it may fail, and must not end with Success elsewhere",
    ),
    Clause(
        "KS-6.4",
        "TARGET-GIVES-UP",
        "A target that gives a room up and says so ends the room as the peer's. It is told that nothing of the room can"
        " touch its pages any more once, when that is so, also where the room was cleared before; and never where the"
        " transport has not shown it.",
        "sglang #35360: every abort of a decode side waited out a whole time-out; #36707: an acknowledgement while an"
        " errored group was unresolved; #31357: one on receipt; #38961: one that a clear() lost",
        "a target gives up rooms in every state: the sender takes it, does not end with Success what was under way, and"
        " acknowledges it once, when every transfer to that peer is DONE. A failure notification may be the"
        " acknowledgement, and so is one of success",
        layers=SCRIPTED,
    ),
    Clause(
        "KS-7.1",
        "NO-WORKER-DEATH",
        "One room's exception or one malformed control message never ends a worker, bootstrap or heartbeat thread.",
        "sglang #30352: an unknown frame ended the bootstrap thread",
        "every worker of the system is alive after errors in workers and malformed control messages",
        layers=SCRIPTED,
    ),
    Clause(
        "KS-7.2",
        "THREADS",
        "send, poll and abort from different threads keep every clause above.",
        "SGLang 0.5.12: an abort during the last chunk lost to the worker's Success",
        "calls of two threads, the second made while the first is at a call of the transport, answer as if one had come"
        " after the other, and nothing goes wrong that does not with one thread",
        layers=SCRIPTED,
    ),
    Clause(
        "KS-8.1",
        "BAD-INPUT",
        "Misuse by the caller (page ids out of range or overlapping, more pages than announced, wrong dtype, send"
        " before init) raises a clear usage error before anything is posted; nothing is lost.",
        "sglang asserts in worker threads; NIXL accepts wrong addresses inside a registration",
        "every misuse: it raises a usage error, nothing is posted, and the room goes on as if it had not been",
    ),
)

EVERY_CLAUSE: Final = (*CLAUSES, *TARGET_CLAUSES)
"""Of initiators and of targets."""
BY_ID: Final = {clause.id: clause for clause in EVERY_CLAUSE}

_PROFILES: Final = tuple(Profile)


def clauses_for(role: Role) -> tuple[Clause, ...]:
    """The clauses that are about an initiator, or about a target, in order."""
    return TARGET_CLAUSES if role == "target" else CLAUSES


_CLAIMED: Final = {
    (role, profile): tuple(clause for clause in clauses_for(role) if clause.profile in _PROFILES[: rank + 1])
    for rank, profile in enumerate(_PROFILES)
    for role in ROLES
}


def claimed(profile: Profile, role: Role = "initiator") -> tuple[Clause, ...]:
    """The clauses that a party of this profile claims, in order."""
    return _CLAIMED[role, profile]
