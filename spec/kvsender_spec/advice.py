"""What a broken clause looks like to whoever runs the engine, and how it is usually repaired.

``kvsender explain`` prints it, and ``docs/clauses.md`` has it. Nothing here is judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kvsender_spec.advising import Advice as Advice
from kvsender_spec.target_advice import TARGET_ADVICE

ADVICE: Final[Mapping[str, Advice]] = {
    "KS-1.1": Advice(
        "A peer dies, and the scheduler of the other side with it: the transport's exception leaves poll() or send().",
        "Catch the transport's error classes around each call of the transport, store the first error in the room, and"
        " answer Failed from then on.",
        "rooms of 1 pages, 1 peer: open(0); send(0) with make=nixlBackendError",
        "send() raises",
    ),
    "KS-1.2": Advice(
        "Some refusals are handled and others are not: a returned ERR counts as pending or as success, one of the less"
        " frequent exception classes escapes, a refused chunk is never repeated and the room waits for ever.",
        "Compare with DONE and PROC, and treat every other answer as a failure. Catch all of NIXL's classes and"
        " RuntimeError, at make, post and check.",
        "rooms of 1 pages, 1 peer: open(0); send(0) with make=nixlNotFoundError",
        "send() raises, or poll() goes on",
    ),
    "KS-1.3": Advice(
        "A KeyError of the sender is logged as a lost connection, and nobody finds the bug.",
        "Put nothing but the call of the transport inside the try block, and catch the transport's classes only.",
        "rooms of 1 pages, 1 peer: open(0); send(0); poll(0) with check=KeyError; failure_exception(0)",
        "failure_exception() shows an error of the transport",
    ),
    "KS-1.4": Advice(
        "The process does not stop on Ctrl-C or on SystemExit while a transfer is posted or checked.",
        "Catch Exception or narrower, never BaseException and never with a bare except.",
        "rooms of 1 pages, 1 peer: open(0); send(0) with post=KeyboardInterrupt",
        "send() returns",
    ),
    "KS-1.5": Advice(
        "Importing the engine fails on a machine without NIXL, although another backend was chosen.",
        "Import nixl inside try/except ImportError, and fall back to a documented tuple of error classes.",
        "",
        "the import of the adapter's module fails where there is no nixl",
    ),
    "KS-2.1": Advice(
        "poll() says Failed and later Transferring, or Success and later Failed: the scheduler has already acted.",
        "Store the first terminal value in the room and return it before anything else is looked at.",
        "rooms of 1 pages, 1 peer: open(0); abort(0); poll(0); poll(0)",
        "the second poll() answers WaitingForInput",
    ),
    "KS-2.2": Advice(
        "A room whose transfer failed is reported as complete; decode reads pages that were never written.",
        "Set the failure in one place, test it before completion is tested, and never merge states with max() or by the"
        " last writer.",
        "rooms of 1 pages, 1 peer: open(0); send(0); poll(0) with check=KeyError; poll(0) after all finished",
        "the second poll() answers Success",
    ),
    "KS-2.3": Advice(
        "The log blames the last of several errors, an abort or a timeout; the disconnect that began it is lost.",
        "Write the cause only while it is None, and raise the public error from it.",
        "rooms of 1+1 pages, 1 peer: open(0); send(0); send(0) with make=nixlRemoteDisconnectError; poll(0);"
        " failure_exception(0)",
        "failure_exception() shows another error",
    ),
    "KS-2.4": Advice(
        "The first failure_exception() names the error, the second says that the reason is unknown.",
        "Keep the cause as long as the sender lives. Do not pop it from a table that clear() empties.",
        "rooms of 1 pages, 1 peer: open(0); send(0); poll(0) with check=KeyError; failure_exception(0);"
        " failure_exception(0)",
        "the second one raises something else",
    ),
    "KS-2.5": Advice(
        "A failed room goes on writing into the peer's memory, which may be another request's by then.",
        "Let send() return at once in a failed room, also in the thread that posts.",
        "rooms of 1+1 pages, 1 peer: open(0); send(0) with post=nixlRemoteDisconnectError; send(0)",
        "the second send() asks the transport",
    ),
    "KS-2.6": Advice(
        "Each poll of a failed room costs calls of the transport, sometimes on handles that were released.",
        "Return the stored answer before the transport is asked.",
        "rooms of 1 pages, 1 peer: open(0); send(0); wait_long; poll(0); wait; poll(0); poll(0)",
        "the last poll() asks the transport",
    ),
    "KS-2.7": Advice(
        "Asking a healthy room for its failure makes it fail, or returns as if it had.",
        "Raise a usage error where no cause is stored, and change nothing.",
        "rooms of 1 pages, 1 peer: open(0); failure_exception(0)",
        "it raises no usage error, although the room has not failed",
    ),
    "KS-2.8": Advice(
        "An operator cannot tell a dead peer from a timeout or from an abort of the caller.",
        "Store, with the cause, who brought it about: local, peer, caller or deadline.",
        "rooms of 1 pages, 1 peer: open(0); send(0) with make=nixlRemoteDisconnectError; failure_exception(0)",
        "attribution() answers LOCAL",
    ),
    "KS-3.1": Advice(
        "Decode starts on pages that are missing or stale: Success came with a transfer still pending, a peer left out,"
        " or the wrong pages.",
        "Answer Success when the last chunk is posted and every handle of every chunk and peer is DONE. Compare the"
        " lengths of page lists before they are zipped.",
        "rooms of 1 pages, 1 peer: open(0); send(0); poll(0)",
        "poll() answers Success while the transfer is in flight",
    ),
    "KS-3.2": Advice(
        "A request whose prefix is cached completely never ends, or decode gets no aux data for it.",
        "Treat the last chunk apart from its pages: an empty one still sends aux data and concludes the room.",
        "rooms of 0 pages, 1 peer: open(0); send(0); poll(0)",
        "poll() answers Success, and the aux data is not there",
    ),
    "KS-3.3": Advice(
        "A room says Success before anything was sent: all() of no handles is true.",
        "Ask for the last chunk as well as for the handles.",
        "rooms of 1 pages, 1 peer: open(0); poll(0)",
        "poll() answers Success, and nothing was sent",
    ),
    "KS-3.4": Advice(
        "A request hangs, and its pages with it, until the process is restarted.",
        "Give each room a deadline that counts from the post, look at every transfer that is in flight, and check the"
        " deadline in each poll.",
        "rooms of 1 pages, 1 peer, silent at the end: open(0); send(0); faults_over; wait_long; poll(0);"
        " poll(0); poll(0); wait; poll(0); poll(0); poll(0)",
        "poll() never answers Success or Failed",
    ),
    "KS-3.5": Advice(
        "Requests fail under load although every byte arrived, or because the sender made a wrong call itself.",
        "Ask the transport before the deadline is compared, and repair the call that NIXL refuses.",
        "rooms of 1 pages, 1 peer: open(0); send(0); poll(0) after all finished",
        "poll() answers Failed, and nothing went wrong",
    ),
    "KS-3.6": Advice(
        "Rooms hang or fail now and then, when a later chunk completes before an earlier one.",
        "Keep the state of each handle. Do not infer earlier ones from the last, and do not pop completions in order.",
        "rooms of 1+1 pages, 1 peer: open(0); send(0); send(0); poll(0) after newest finished; faults_over;"
        " poll(0); poll(0); poll(0); poll(0)",
        "the room never ends",
    ),
    "KS-3.7": Advice(
        "The scheduler's loop stands still while one transfer is slow, and all requests with it.",
        "Ask once and return. Leave loops, sleeps, joins and retries to later polls or to a worker.",
        "rooms of 1 pages, 1 peer: open(0); send(0); poll(0)",
        "poll() does not come back while the transfer is in flight",
    ),
    "KS-4.1": Advice(
        "Another request's KV cache arrives at the peer: pages were reused while a write still read them.",
        "Wait until every handle has settled before a terminal value is reported, or report the pages as quarantined.",
        "rooms of 1 pages, 1 peer: open(0); send(0); poll(0) with check=nixlNotPostedError",
        "poll() answers Failed, and page 39 is in no quarantine",
    ),
    "KS-4.2": Advice(
        "The process crashes in UCX, or bytes of freed memory are sent: a handle was released in flight, perhaps by the"
        " garbage collector, or its memory was deregistered.",
        "Keep handles in a list of their own until check_xfer_state has said how they ended; release them then.",
        "rooms of 1+1 pages, 1 peer: open(0); send(0); send(0) with post=nixlBackendError; wait_long; poll(0)",
        "the handle of the first chunk is released in flight",
    ),
    "KS-4.3": Advice(
        "Memory, handles or slots run out after hours with failures.",
        "Release in one place that every end of a room passes, and empty every table there.",
        "rooms of 1 pages, 1 peer: open(0); send(0); settle; poll(0)",
        "poll() answers Success, and the handle is never released",
    ),
    "KS-4.4": Advice(
        "Pages of a refused or abandoned post are used again, and are overwritten or sent late.",
        "Put the pages of each transfer whose end is unknown into quarantine, and free them when it is known.",
        "rooms of 1 pages, 1 peer: open(0); send(0) with post=nixlNotPostedError; poll(0)",
        "poll() answers Failed, and page 39 is in no quarantine",
    ),
    "KS-5.1": Advice(
        "A late abort() turns a success into a failure, replaces the first cause, or a worker goes on posting.",
        "Let abort() do nothing in a room that is over, and store its cause like any other: only the first.",
        "rooms of 1 pages, 1 peer: open(0); send(0) with post=nixlBackendError; abort(0); failure_exception(0)",
        "failure_exception() shows the abort",
    ),
    "KS-5.2": Advice(
        "poll() after clear() raises KeyError, or forgets how the room ended.",
        "Keep the answer in the sender object, and remove table entries with pop(room, None).",
        "rooms of 1 pages, 1 peer, transfers complete at the post: open(0); send(0); poll(0); clear(0);"
        " clear(0); failure_exception(0)",
        "failure_exception() says that the room has failed",
    ),
    "KS-5.3": Advice(
        "An entry of a room that is gone comes back when its last transfer ends, and stays.",
        "Update entries only where they exist, and compare the incarnation and not only the id.",
        "rooms of 1 pages, 1 peer: open(0); send(0); clear(0); poll(0); poll(0) after all finished",
        "the last poll() answers Success",
    ),
    "KS-5.4": Advice(
        "One request's failure fails another one, or a reused room id fails from the start.",
        "Key every table by incarnation, catch errors per room, and let no shared object carry one room's state.",
        "rooms of 1 pages, 1 peer: open(0); clear(0); open(0); poll(0)",
        "poll() answers Failed for the new room of that id",
    ),
    "KS-6.1": Advice(
        "Decode waits for its timeout because nobody told it, or reads pages because it was told too early.",
        "Send the end once, to each peer that is not a dummy, after all that the room writes there is in place; send"
        " failures as well as successes.",
        "rooms of 1 pages, 1 peer: open(0); send(0); poll(0) with check=KeyError; poll(0) after all finished;"
        " faults_over",
        "the peer is told nothing",
    ),
    "KS-6.2": Advice(
        "One dead or slow decode worker stalls or fails requests of all others.",
        "Never wait for one peer before the next room is looked at, and mark peers, not the transport, as failed.",
        "rooms of 1 pages and 1 pages, 2 peers, one peer a room: open(0); open(1); send(0); send(1); kill(0);"
        " poll(0); poll(1) after all finished",
        "poll() answers Failed for the room of the other peer",
    ),
    "KS-6.3": Advice(
        "A decode worker that was restarted is unusable until prefill is restarted as well.",
        "On its registration remove the old agent, add the new metadata once, and prepare its descriptor lists again.",
        "rooms of 1 pages, 1 peer: kill(0); restart(0); open(0); send(0)",
        "the peer is not added again",
    ),
    "KS-6.4": Advice(
        "A decode side that gives a request up waits out a time-out before it reuses its pages, or reuses them under a"
        " write.",
        "Fail the room with the peer as the cause. Say 'quiesced' with the failure if every transfer to that peer is"
        " DONE, else when the last of them is, whoever holds them then; say nothing of one that ended in an error.",
        "rooms of 1 pages, 1 peer: open(0); send(0); target_aborts(0); poll(0); wait; poll(0)",
        "the peer is told that its pages are free while a transfer is in flight",
    ),
    "KS-7.1": Advice(
        "All requests hang after one odd message or one failed room: the worker thread has ended.",
        "Catch Exception per message and per room inside the worker's loop, and log it.",
        "rooms of 1 pages, 1 peer: open(0); send(0) with make=KeyError",
        "the worker thread has ended",
    ),
    "KS-7.2": Advice(
        "Rare states that no single thread can reach: a room half failed, an end told twice, a post after an abort.",
        "Hold one lock of the room for the whole of each call.",
        "rooms of 1 pages, 1 peer: open(0); send(0) overlapping abort from another thread at make;"
        " poll(0) after half finished",
        "poll() answers Success",
    ),
    "KS-8.1": Advice(
        "A wrong page id writes over other memory, or fails a room in a way that looks like the transport's.",
        "Check ids, counts and dtype before anything is posted, and raise a usage error.",
        "rooms of 1+1 pages, 1 peer: open(0); send(0) with page twice in a chunk",
        "send() returns, and a transfer was made",
    ),
    **TARGET_ADVICE,
}
"""By the id of the clause: of initiators, then of targets."""
