"""What a broken clause of a target looks like to whoever runs the engine, and how it is usually repaired."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kvsender_spec.advising import Advice

_RECEIVER: Final = "receiver's rooms of 1 pages, 1 peer: "
_TWO: Final = "receiver's rooms of 1 pages, 2 peers: "
_HOLDER: Final = "holder's reads of 1 pages, 1 peer: "

TARGET_ADVICE: Final[Mapping[str, Advice]] = {
    "KS-9.1": Advice(
        "Two requests share a page: wrong tokens, only under load, and no error anywhere.",
        "Take the hold before the first address leaves, in every path, and give pages back in one place only.",
        f"{_HOLDER}open(0); clear(0); refill(0)",
        "pages are given away that a reader may still use",
    ),
    "KS-9.2": Advice(
        "After an abort, a time-out or a dead peer the next request decodes garbage, because the old write lands late.",
        "End the request and keep its pages in a quarantine, until each initiator has said that it is done or a fence"
        " has shown it. Refuse new requests where the quarantine leaves too few pages.",
        f"{_RECEIVER}open(0); clear(0)",
        "the pages are free while an initiator may still write them",
    ),
    "KS-9.3": Advice(
        "A reader goes on for a lease that is gone, or a lease ends although it was renewed.",
        "Send durations, date them by the own monotonic clock when they arrive, let a renewal only lengthen, and answer"
        " one that is late or unknown.",
        f"{_HOLDER}open(0); wait_long; poll(0); tell(0) by peer 0: renew; settle",
        "the reader is told nothing",
    ),
    "KS-9.4": Advice(
        "A slow reader answers with another prompt's text, with status 200.",
        "Raise each page's stamp before its content changes and again afterwards.",
        f"{_HOLDER}open(0); tell(0) by peer 0: success after all finished; poll(0); refill(0)",
        "a stamp is as it was granted when the content is written",
    ),
    "KS-9.5": Advice(
        "A request with several ranks succeeds, or gives its pages back, while one of them still writes.",
        "Keep a record for each announced initiator, by its name, and count none of them twice.",
        f"{_TWO}open(0); tell(0) by peer 0: quiesced; poll(0)",
        "the proof of one initiator frees the pages of the other",
    ),
    "KS-9.6": Advice(
        "A request fails, or succeeds, for what happened to an earlier one of the same id.",
        "Carry the incarnation in every message and compare it before anything else; drop what is late and count it.",
        f"{_RECEIVER}open(0); clear(0); open(0); tell(0 opening 1) by peer 0: quiesced; poll(0)",
        "the new opening fails",
    ),
    "KS-9.7": Advice(
        "Half of a request's KV is decoded, or a complete one waits for ever, or fails at a deadline that it has met.",
        "Look whether everything is there whenever something arrives, for each initiator and part, and look at the"
        " clock last.",
        f"{_TWO}open(0); tell(0) by peer 0: success after all finished; poll(0)",
        "Success without the other initiator",
    ),
    "KS-9.8": Advice(
        "Requests of a dead prefill side never end, and the pool fills up.",
        "Give every state a deadline, look at all entries in every sweep, and never wait on the owner's thread.",
        f"{_RECEIVER}open(0); abort(0)",
        "abort() does not come back",
    ),
    "KS-9.9": Advice(
        "The prefill side goes on for a request that nobody wants, and writes into its pages.",
        "Tell every initiator that was told of the pages, once, and try again what the transport refused.",
        f"{_RECEIVER}open(0); clear(0)",
        "the initiator is told twice",
    ),
    "KS-9.10": Advice(
        "Pages are written of a request that had failed before it was announced.",
        "Look at the state before announcing, and take an announcement that raised for one that has arrived.",
        f"{_RECEIVER}open(0) with notify=nixlBackendError; clear(0)",
        "the pages are free although the announcement may have arrived",
    ),
    "KS-9.11": Advice(
        "One bad message ends the loop that serves every request.",
        "Parse each message for itself, and count what cannot be read.",
        f"{_RECEIVER}open(0); tell(0) by peer 0: progress (not UTF-8); poll(0)",
        "the decoding error leaves the loop",
    ),
    "KS-9.12": Advice(
        "A peer restarts, and what its old process still writes lands in pages that were given away.",
        "Name the process that a fence is about, and free what that one was told of.",
        f"{_TWO}open(0); kill(0); fence(0) by peer 0; poll(0)",
        "the fence of one initiator frees the pages of the other",
    ),
    "KS-9.13": Advice(
        "Later requests hit a prefix that never arrived.",
        "Enter pages into the cache after Success, not when they are allocated.",
        f"{_RECEIVER}open(0)",
        "the pages are published",
    ),
    "KS-9.14": Advice(
        "A request is reported twice with different ends, or its reason is lost.",
        "Keep the first end and the first cause, and let nothing overwrite them.",
        f"{_RECEIVER}open(0); wait_long; tell(0) by peer 0: success after all finished; poll(0); failure_exception(0)",
        "a cause is shown of a room that has succeeded",
    ),
    "KS-9.15": Advice(
        "The pool shrinks with every abort until the process is restarted.",
        "Free the quarantine when the last initiator has given its proof, also of a room that was cleared.",
        f"{_RECEIVER}open(0); tell(0) by peer 0: success after all finished; clear(0); settle",
        "the pages are still held",
    ),
    "KS-9.16": Advice(
        "One lost notification costs the whole time-out.",
        "Ask the initiator how the room stands when nothing was heard for a while.",
        f"{_RECEIVER}open(0); tell(0) by peer 0: success (lost on the way) after all finished; wait; wait; wait; wait;"
        " poll(0)",
        "poll() still answers Transferring",
    ),
}
"""By the id of the clause."""
