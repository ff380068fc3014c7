"""Who acts in the Promela model: a process for each actor that fairness is about, and one for everything else.

SPIN's weak fairness is that of processes; an option to do nothing relieves an actor of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kvsender_spec.formal.engines.engine import Fair
from kvsender_spec.formal.model.state import Bounds


def lazy(fair: frozenset[Fair]) -> tuple[str, ...]:
    """The macros that leave only these actors fair."""
    return tuple(f"LAZY_{one.name}" for one in Fair if one not in fair)


def processes(bounds: Bounds) -> Iterator[str]:
    """The last part of the model, as lines."""
    peers, handles = range(bounds.peers), range(bounds.handles)
    chunk, more = "HAS_A_CHUNK", "HAS_A_CHUNK && posted + 1 < CHUNKS"
    sends = [(f"{more}", "send", "post(NOBODY); on_send_accepted(); posted_all()")]
    sends += [(more, f"send, rejected at {peer}", f"reject({peer})") for peer in peers]
    sends += [(chunk, "send_last", "post(NOBODY); on_send_last_accepted(); posted_all()")]
    sends += [(chunk, f"send_last, rejected at {peer}", f"reject({peer})") for peer in peers]
    trouble = [(f"{handle}", f"handle {handle} raises") for handle in handles]
    trouble += [(f"PEER({peer})", f"peer {peer} disconnects") for peer in peers]
    trouble += [("EVERYBODY", "every peer disconnects")] if bounds.peers > 1 else []
    others = [("true", "send_nothing", "begin(); on_send_nothing()")]
    others += [("MAY_BE_LATE", "poll, late, drained", "poll(NOBODY, true, true)")]
    for who, words in trouble:
        others += [("ASKING", f"poll, {words}", f"poll({who}, false, false)")]
        others += [("ASKING", f"poll, {words}, drained", f"poll({who}, false, true)")]
    others += [
        ("true", "failure_exception", "failure_exception()"),
        ("true", "abort", "begin(); blame(); on_abort()"),
        ("true", "clear", "begin(); blame(); on_clear()"),
        ("cleared && posted < CHUNKS", "open", "begin(); reopen()"),
        ("SOME_LEFT", "sweep", "sweep(NOBODY)"),
        *(("SOME_LEFT", f"sweep, {words}", f"sweep({who})") for who, words in trouble),
        ("true", "properties", "properties()"),
    ]
    yield "/***** Who acts: a process for each actor that weak fairness is about, and one for everything else *****/"
    actors: dict[Fair, list[tuple[str, list[tuple[str, str, str]]]]] = {
        Fair.SEND: [("sender", sends)],
        Fair.POLL: [("poller", [("true", "poll", "poll(NOBODY, false, false)")])],
        Fair.FINISH: [
            (f"transport_{h}", [(f"IS_SILENT(handles[{h}])", f"finish({h})", f"handles[{h}] = FINISHED(handles[{h}])")])
            for h in handles
        ],
        Fair.LATE: [("late_poller", [("MAY_BE_LATE", "poll, late", "poll(NOBODY, true, false)")])],
        Fair.DRAINED: [("drained_poller", [("true", "poll, drained", "poll(NOBODY, false, true)")])],
    }
    for fair in Fair:
        for name, options in actors[fair]:
            yield from _process(name, options, fair)
    yield from _process("anybody", others, None)


def _process(name: str, options: Iterable[tuple[str, str, str]], fair: Fair | None) -> Iterator[str]:
    """A process that takes any of its steps, for ever: the condition of each, its name in a trace, what it does.

    A ``d_step`` may not end in a loop, since that would be left to a place outside of it: hence the last ``skip``.
    """
    yield ""
    yield f"active proctype {name}() {{"
    yield "  do"
    for condition, words, step in options:
        yield f'  :: d_step {{ {condition} -> printf("> {words}\\n");'
        yield f"       {step}; skip }}"
    if fair is not None:
        yield from (f"#ifdef LAZY_{fair.name}", "  :: d_step { true -> skip }", "#endif")
    yield "  od"
    yield "}"
