"""KS-9: what a target must do, the side whose memory an initiator writes (a receiver) or reads (a holder).

Pages are the target's own. A peer is an initiator. A *proof* is its end of this incarnation (a success is told after
the last byte), its word that nothing of it can touch the pages any more, or a fence. ``target_machine`` has the states.
"""

from __future__ import annotations

from typing import Final

from kvsender_spec.clause import SCRIPTED, Clause, Level

_NIXL: Final = "measured on nixl 1.5.1"

TARGET_CLAUSES: Final[tuple[Clause, ...]] = (
    Clause(
        "KS-9.1",
        "HOLD",
        "From before an initiator is told of a room's pages until there is a proof of it, the pages are given to nobody"
        " else.",
        "sglang #32564, #35049: the next request's KV overwritten by a late write; Mooncake #730: exposed without a"
        " hold",
        "whenever the target says which pages are held: those of every room that has ended are, as long as an initiator"
        " that was told of them has given no proof",
    ),
    Clause(
        "KS-9.2",
        "NO-PROOF",
        "A deadline, the end of a lease, an abort, a clear(), a failure that an initiator tells, a lost heartbeat, the"
        " death of a peer that nobody has shown, and any call of NIXL end the request and never the hold.",
        f"sglang 0.5.23 frees device pages after 30 s, LightLLM #1406 after a time-out, vLLM at the end of a lease;"
        f" {_NIXL}: after deregister_memory and remove_remote_agent the pages are written and read as before",
        "each of them while an initiator may still write or read: the pages stay held",
    ),
    Clause(
        "KS-9.3",
        "LEASE",
        "Leases are durations on the holder's own monotonic clock. A renewal never shortens one, and one that comes"
        " after its end is answered that the lease is lost.",
        "vLLM's pull worker: another process's monotonic clock; a late heartbeat is ignored and the reader goes on",
        "a holder's room that is renewed lives past the end that it would have had; one that is not, ends; a renewal of"
        " a room that has ended is answered",
        layers=SCRIPTED,
    ),
    Clause(
        "KS-9.4",
        "GENERATION",
        "A holder raises the stamps of pages before it gives them other content, and again afterwards, so that a reader"
        " that looks after its data accepts nothing foreign.",
        f"vllm #52234: another prompt's answer with HTTP 200; {_NIXL}: a READ whose pages were refilled is DONE",
        "whenever a holder refills pages that it has granted: the stamps differ from the granted ones before the first"
        " byte does, and are others again at the end",
        layers=SCRIPTED,
    ),
    Clause(
        "KS-9.5",
        "WHO",
        "Parts, ends and proofs count for the initiator that says them, once, and only where the room was announced to"
        " it.",
        "vllm-ascend #8810: one rank's notification twice is taken for two; vllm #43509",
        "a notification that comes twice, and one of an initiator to which the room was not announced: neither answers"
        " Success, nor ends the room, nor frees a page",
    ),
    Clause(
        "KS-9.6",
        "EARLY-LATE",
        "A notification of another incarnation, of an unknown room, or one that comes after the end changes no answer"
        " and no cause. What comes before its room was announced is kept for it, where the protocol allows that.",
        "TensorRT-LLM #14633: an error overwritten by a late success; sglang #24539; vllm #43509: an early notice is"
        " dropped",
        "each of them, before and after the room's own: the room answers as if it had not come, and its pages stay held"
        " for the others",
    ),
    Clause(
        "KS-9.7",
        "COMPLETE",
        "Success when every part of every initiator of this incarnation is confirmed, in whatever order, and never"
        " before. What has arrived beats the deadline. A request fails for a cause alone.",
        "sglang #39846: one of three components; #32267: a time-out although the KV was there; #37697; T58",
        "every poll(): Success as soon as everything is told and taken, also past the deadline, and not before; Failed"
        " only after an abort, a clear(), a failure that was told, a loss or a deadline",
    ),
    Clause(
        "KS-9.8",
        "TERMINATES",
        "Every wait is bounded: with initiators that stay silent a request ends by its deadline or its lease, whatever"
        " other rooms do, and no call waits for a peer.",
        "sglang #31800: no deadline while Transferring; vllm #50789: a renewed lease at the head hides those that are"
        " over; TensorRT-LLM #14414",
        "after the deadline, or the end of the lease, each room answers a terminal value within three polls; every call"
        " comes back",
    ),
    Clause(
        "KS-9.9",
        "TELL",
        "A target that gives a room up tells each initiator that may be exposed, once, with the incarnation.",
        "sglang #35360, #38961; the reference of this project until KS-9 was written: nobody was told, and 31 MB landed"
        " in the pages of a room that had been given up",
        "at the end of every run: each announced initiator that was reachable and had given no proof was told once of"
        " the abort of this incarnation; one that had was told at most once",
    ),
    Clause(
        "KS-9.10",
        "NO-ANNOUNCE",
        "Nothing is announced for a room that has ended. An announcement that raised may have arrived.",
        "sglang #37483: pages announced for a room that had failed",
        "every announcement: the room goes on; and the pages of a room whose announcement raised are held",
        layers=SCRIPTED,
    ),
    Clause(
        "KS-9.11",
        "ROBUST",
        "Nothing that arrives, and no error of the transport, leaves a call of the owner or ends a loop: malformed,"
        " truncated, not UTF-8, foreign or late. What arrived beside it is taken.",
        "sglang #30352; vllm #25067: a KeyError when abort, expiry and notice of one request meet",
        "every call of the owner, whatever has arrived, with good notifications in the same batch",
        layers=SCRIPTED,
    ),
    Clause(
        "KS-9.12",
        "FENCE",
        "A fence is about one incarnation of one peer, and names its evidence. It frees what that incarnation may have"
        " touched, and nothing else.",
        f"{_NIXL}: the end of the process is one; the end of the own agent is one on tcp and none on shared memory",
        "a fence of another incarnation, and of another peer: the pages stay held; one of the right incarnation: they"
        " come back",
        layers=SCRIPTED,
    ),
    Clause(
        "KS-9.13",
        "PUBLISH",
        "Pages enter a prefix cache, or another request, only after the Success of their room.",
        "vllm #26813, #37827: later requests hit blocks that had never arrived",
        "whenever the target says which pages are published: each room of theirs has answered Success",
        layers=SCRIPTED,
    ),
    Clause(
        "KS-9.14",
        "OWN-TERMINAL",
        "The first terminal value of poll() is the last one, the first cause stays, failure_exception() raises the same"
        " each time and a usage error while nothing has failed; abort() and clear() at any time, any number of times.",
        "SGLang 0.5.23's receiver: Success, then abort(): Failed; the prefill's reason replaced by the abort",
        "every poll() after a terminal one; every failure_exception(); what is shown after a later abort(), clear() or"
        " failure",
    ),
    Clause(
        "KS-9.15",
        "COMES-BACK",
        "Pages that are proved quiet come back by themselves, and a cleared room leaves nothing.",
        "the reference of this project until KS-9 was written: 32 rooms aborted, 256 of 256 pages in quarantine for"
        " ever; vllm #46283; TensorRT-LLM #14633",
        "at the end of every run: no page is held of a cleared room whose initiators have all given a proof, and the"
        " target keeps no entry of it",
    ),
    Clause(
        "KS-9.16",
        "ASK-AGAIN",
        "A notification that is lost does not cost the whole deadline: a target that hears nothing asks.",
        "TensorRT-LLM #17665: one lost notice, and the request hangs",
        "a room whose last notification was lost, of an initiator that answers: Success well before the deadline",
        level=Level.SHOULD,
        layers=SCRIPTED,
    ),
)
