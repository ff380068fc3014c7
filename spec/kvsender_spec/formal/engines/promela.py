"""The composed model in Promela, for SPIN: the tables row by row, the steps around them as ``model`` takes them.

What SPIN stores are the fields of ModelState and nothing else: every step is a ``d_step``, what a call knows only
while it runs is ``hidden``, and every process is a loop that has one place. There is a process for each actor that
fairness is about, because SPIN's weak fairness is that of processes; an option to do nothing relieves an actor of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, assert_never

from kvsender_spec.formal.engines.engine import Fair
from kvsender_spec.formal.engines.lowering import (
    asking,
    changes,
    check,
    groups,
    in_words,
    minding,
    names,
    numbered,
    posting,
)
from kvsender_spec.formal.model.handles import (
    CREATED,
    DONE,
    HANDLES,
    IN_FLIGHT,
    SILENT,
    STRAY,
    UNSETTLED,
    handle_ops,
    name_of,
)
from kvsender_spec.formal.model.state import Bounds, Cause, Told
from kvsender_spec.formal.rules import Rules
from kvsender_spec.machine import Effect, Event, Guard, HandleState, Input, Reply, Row, State

ANSWERED: Final = "Answered"
"""The liveness property, which a violation of SPIN's claim ``answered`` is."""

INVARIANTS: Final = {
    "NoSuccessAfterFault": (
        "KS-2.2: what went wrong before the end is not hidden by Success",
        "!faulted || said != WORD_SUCCESS",
    ),
    "FirstCause": (
        "KS-2.3: a failure keeps the first thing that went wrong, and nothing else is a failure",
        "(IS_LATCHED -> faulted && cause == CAUSE_FIRST : cause == CAUSE_NONE)",
    ),
    "FailedIsSticky": (
        "sticky_failed is the failure that the owner has been told of",
        "(logical == STICKY_FAILED) == (said == WORD_FAILURE)",
    ),
    "SuccessIsDone": (
        "done is the success that the owner has been told of",
        "(logical == DONE) == (said == WORD_SUCCESS)",
    ),
    "PeersAreTold": ("KS-6.1: owner and peers are told the same", "told == said"),
}
"""Predicates of the room alone: what each says, and its body."""
OF_HANDLES: Final = {
    "Quiesced": (
        "KS-4.1: after the last word nothing of the room is in flight",
        "i < OWN || said == WORD_NOTHING || !IS_IN_FLIGHT(handles[i])",
    ),
    "Quarantined": (
        "KS-4.4: what a room leaves behind is reported with its pages",
        "i < OWN || said == WORD_NOTHING || handles[i] == H_NONE || quarantined",
    ),
    "NothingReleasedInFlight": (
        "KS-4.2: a handle is released when the transport has said its last word on it",
        "!IS_RELEASED_TOO_EARLY(handles[i])",
    ),
    "NoStray": ("a handle that was posted is kept until it has settled", "handles[i] != H_STRAY"),
}
"""Predicates of each handle."""
OF_CALLS: Final = ("Sticky", "CauseIsRaised")
"""What is asserted where the call answers."""


def model(rules: Rules, bounds: Bounds) -> str:
    """The whole model at these bounds."""
    check(rules)
    parts = (
        _head(bounds),
        _words(),
        _handles(rules),
        _variables(),
        _effects(rules),
        _rows(rules),
        _calls(rules, bounds),
    )
    return "\n".join("\n".join(part) + "\n" for part in (*parts, _judge(), list(_processes(bounds))))


def lazy(fair: frozenset[Fair]) -> tuple[str, ...]:
    """The macros that leave only these actors fair."""
    return tuple(f"LAZY_{one.name}" for one in Fair if one not in fair)


def identifier(clause: str) -> str:
    """A clause as a name: KS-6.1 is KS_6_1."""
    return clause.replace("-", "_").replace(".", "_")


def clause(identifier: str) -> str:
    """The clause of such a name; other names stay as they are."""
    return "KS-" + identifier[3:].replace("_", ".") if identifier.startswith("KS_") else identifier


# ------------------------------------------------------------------------------------------------------------- words


def _handle(name: str) -> str:
    return f"H_{name.upper()}"


def _defines(prefix: str, words: Iterable[str]) -> list[str]:
    return [f"#define {prefix}{word.upper().replace(' ', '_')} {number}" for number, word in enumerate(words)]


def _among(subject: str, words: Iterable[str]) -> str:
    found = [f"{subject} == {word}" for word in words]
    return "(" + " || ".join(found) + ")" if found else "false"


def _lines(head: str, text: str) -> list[str]:
    """A macro, continued over as many lines as it needs."""
    lines, line = [], head
    for word in text.split(" "):
        if len(line) + len(word) > 112:
            lines.append(line + " \\")
            line = "   "
        line += " " + word
    return [*lines, line]


def _reply(reply: Reply) -> str:
    return f"REPLY_{reply.name}"


# ------------------------------------------------------------------------------------------------------------- parts


def _head(bounds: Bounds) -> list[str]:
    return [
        "/* Written by `python -m kvsender_spec.formal.pages`. Change the tables, not this file.",
        "",
        "   One room id: the logical machine of its sender, a physical machine for each transfer handle, an owner that",
        "   calls in any order, a transport that finishes, raises, rejects or stays silent. A chunk has a handle for",
        "   each peer; the handle h belongs to chunk h / PEERS and to peer h % PEERS. A room id that is opened again",
        "   has the chunks that are left, so that every handle of every incarnation has a place of its own.",
        "",
        "   spin -a kvsender.pml",
        "   safety:   gcc -O2 -DSAFETY -DNOCLAIM -DNOREDUCE -o pan pan.c && ./pan",
        "   liveness: the same with -DLAZY_LATE -DLAZY_DRAINED for spin (peers answer), or with -DLAZY_POLL",
        "             -DLAZY_FINISH (peers are silent); gcc -O2 -DNOREDUCE -DNFAIR=4 -o pan pan.c && ./pan -a -f */",
        "",
        f"#define CHUNKS {bounds.chunks}",
        f"#define PEERS {bounds.peers}",
        f"#define HANDLES {bounds.handles}",
    ]


def _words() -> list[str]:
    return [
        "/***** Words *****/",
        "",
        *_defines("", (state.value for state in State)),
        "#define IS_LATCHED (logical == FAILED || logical == STICKY_FAILED)",
        *_defines("CAUSE_", (cause.name for cause in Cause)),
        *_defines("WORD_", (word.name for word in Told)),
        *(f"#define {_reply(reply)} {number}" for number, reply in enumerate(Reply)),
        "/* Who raises in a look at the handles, or rejects a post: the one of that number, a peer, everybody. */",
        "#define PEER(p) (100 + p)",
        "#define EVERYBODY 200",
        "#define NOBODY 255",
    ]


def _handles(rules: Rules) -> list[str]:
    ops = handle_ops(rules)
    early = [
        name_of(code)
        for code, handle in enumerate(HANDLES, 1)
        if handle.released and handle.state in (HandleState.IN_FLIGHT, HandleState.IN_DOUBT)
    ]
    lines = ["/***** What befalls a handle: what the sender knows of it, _LANDED, _RELEASED *****/", ""]
    lines += _defines("H_", (name_of(code) for code in range(STRAY + 1)))
    for name, members in (
        ("IS_IN_FLIGHT", names(IN_FLIGHT)),
        ("IS_SILENT", names(SILENT)),
        ("IS_UNSETTLED", names(UNSETTLED)),
        ("IS_SETTLED", names(ops.settled)),
        ("IS_DONE", ("none", *names(DONE))),
        ("IS_RELEASED_TOO_EARLY", early),
        ("IS_DUE", changes(ops.release)),
    ):
        lines += _lines(f"#define {name}(c)", _among("c", (_handle(member) for member in members)))
    for name, says, table in (
        ("FINISHED", "The transport finishes it; nobody knows yet.", ops.finish),
        ("ANSWERING", "It is asked, and answers what is so.", ops.answer),
        ("FAILING", "It is asked, and raises, unless it has landed already.", ops.fail),
        ("RELEASED", "It is released where it has settled, each once.", ops.release),
        ("OVERDUE", "What is in flight now is in doubt.", ops.overdue),
        ("FORGOTTEN", "What is settled and released needs no place any more.", ops.forget),
    ):
        changed = changes(table)
        cases = "".join(f"(c == {_handle(before)} -> {_handle(after)} : " for before, after in changed.items())
        lines += [f"/* {says} */", *_lines(f"#define {name}(c)", f"{cases}c{')' * len(changed)}")]
    return [
        *lines,
        f"#define ACCEPTED {_handle(name_of(ops.accepted))}",
        f"#define REJECTED {_handle(name_of(ops.rejected))}",
    ]


def _variables() -> list[str]:
    return [
        "/***** The room *****/",
        "",
        "byte logical = IDLE;",
        "byte cause;           /* what is latched: nothing, the first thing that went wrong, or a later one */",
        "bool faulted;         /* something went wrong, and the sender was told of it, before the room was over */",
        "bool closed;          /* the last chunk is posted */",
        "bool cleared;",
        "bool quarantined;     /* pages have been reported as in doubt */",
        "byte base;            /* chunks of earlier incarnations */",
        "byte posted;          /* chunks, those of earlier incarnations among them */",
        "byte said;            /* the first terminal value that poll() answered */",
        "byte told;            /* what the peers were told */",
        "byte handles[HANDLES];",
        "",
        "/* What a call knows while it runs is no part of the state. */",
        "hidden byte i;",
        "hidden byte cause_now;",
        "hidden byte adopted;",
        "hidden byte raises;",
        "hidden byte error_seen;",
        "hidden byte all_done;",
        "hidden byte deadline_passed;",
        "hidden byte may_report;",
        "hidden byte reply;",
        "hidden byte word;",
        "/* A property that does not hold is the name in a failed assertion. */",
        *(f"hidden byte {name};" for name in (*INVARIANTS, *OF_HANDLES, *OF_CALLS)),
        "",
        "/* The handles of this incarnation; those before them are the system's to look after. */",
        "#define OWN (base * PEERS)",
        "/* The handles of rooms that are over. */",
        "#define SWEPT ((cleared || said != WORD_NOTHING -> posted : base) * PEERS)",
    ]


def _effects(rules: Rules) -> list[str]:
    lines = ["/***** Where events lead, and what effects do *****/", ""]
    clauses = sorted({never.breaks for never in rules.never} | {"KS-6.1"})
    lines += [f"hidden byte {identifier(clause)};" for clause in clauses]
    lines += [
        "",
        "/* That no chunk follows is forgotten with the failure, since nothing depends on it any more. */",
        "inline arrive() { if :: IS_LATCHED -> closed = false :: else fi }",
    ]
    for event in Event:
        lines += [f"inline move_{event.value}() {{", "  if"]
        for dest in State:
            sources = [state for state in State if rules.next[state][event] is dest]
            lines += [f"  :: {_in(sources)} -> logical = {dest.name}"] * bool(sources)
        lines += ["  fi;", "  arrive()", "}"]
    lines += [
        "",
        "/* Something goes wrong. If it is the first such thing in a room that is not over, it is owed. */",
        "inline blame() {",
        "  if",
        "  :: said == WORD_NOTHING && !faulted -> cause_now = CAUSE_FIRST; faulted = true",
        "  :: else -> cause_now = CAUSE_LATER",
        "  fi",
        "}",
        "inline tell(what) { KS_6_1 = (told == WORD_NOTHING); assert(KS_6_1); told = what }",
        *(f"inline {effect.value}() {{ {_effect(effect)} }}" for effect in Effect),
    ]
    return lines


def _effect(effect: Effect) -> str:
    match effect:
        case Effect.ADOPT:
            return "adopted = true"
        case Effect.CLOSE:
            return "closed = true"
        case Effect.LATCH:
            return "cause = (cause == CAUSE_NONE -> cause_now : cause)"
        case Effect.RELEASE:
            return "for (i : OWN .. HANDLES - 1) { handles[i] = RELEASED(handles[i]) }"
        case Effect.QUARANTINE:
            return "quarantined = true; for (i : OWN .. HANDLES - 1) { handles[i] = OVERDUE(handles[i]) }"
        case Effect.TELL_SUCCESS:
            return "tell(WORD_SUCCESS)"
        case Effect.TELL_FAILURE:
            return "tell(WORD_FAILURE)"
        case Effect.FORGET:
            return "cleared = true"
        case _:
            assert_never(effect)


def _guard(guard: Guard) -> str:
    match guard:
        case Guard.ERROR_SEEN:
            return "error_seen"
        case Guard.ALL_DONE:
            return "all_done"
        case Guard.DEADLINE_PASSED:
            return "deadline_passed"
        case Guard.MAY_REPORT:
            return "may_report"
        case _:
            assert_never(guard)


def _rows(rules: Rules) -> list[str]:
    lines = ["/***** The table: a row is its effects, in order, then the move, then the reply *****/", ""]
    for place, row in enumerate(rules.table, 1):
        lines += [f"/* {place}. {in_words(row)} */", f"inline row{place}() {{ {_row(row)} }}"]
    lines += ["", "/***** Which row decides: the first one whose guard holds *****/"]
    for what in Input:
        lines += ["", f"inline on_{what.value}() {{", "  if", *_decision(rules, what), "  fi", "}"]
    return lines


def _row(row: Row) -> str:
    steps = [f"{effect.value}()" for effect in row.effects]
    steps.append("arrive()" if row.event is None else f"move_{row.event.value}()")
    return "; ".join([*steps, f"reply = {_reply(row.reply)}"])


def _decision(rules: Rules, what: Input) -> Iterator[str]:
    rows = dict(numbered(rules, what))
    for states, places, breaks in groups(rules, what):
        yield f"  :: {_among('logical', (state.name for state in states))} ->"
        if breaks is not None:
            yield f"     {identifier(breaks)} = false; assert({identifier(breaks)})"
        indent = "     "
        for place in places:
            guard = rows[place].guard
            yield (
                f"{indent}row{place}()"
                if guard is None
                else f"{indent}if :: {_guard(guard)} -> row{place}() :: else ->"
            )
            indent += "  " * (guard is not None)
        yield from ([f"     {'fi ' * (len(places) - 1)}".rstrip()] if len(places) > 1 else [])


def _calls(rules: Rules, bounds: Bounds) -> list[str]:
    def some(macro: str) -> str:
        return "(" + " || ".join(f"{macro}({handle})" for handle in range(bounds.handles)) + ")"

    return [
        "/***** What the calls do *****/",
        "",
        "inline begin() {",
        "  cause_now = CAUSE_NONE; adopted = true; error_seen = false; all_done = false; deadline_passed = false;",
        f"  may_report = false; reply = {_reply(Reply.NOTHING)}",
        "}",
        "",
        "/* The owner has a chunk, and the sender hands it to the transport. */",
        *_lines("#define HAS_A_CHUNK", f"(!closed && posted < CHUNKS && {_in(posting(rules))})"),
        "/* Every handle of a chunk is made before the first is posted; a rejection at a peer ends the posting. */",
        "inline post(at) {",
        "  begin();",
        "  for (i : 0 .. PEERS - 1) {",
        "    if",
        "    :: i < at -> handles[posted * PEERS + i] = ACCEPTED",
        "    :: i == at -> handles[posted * PEERS + i] = REJECTED",
        f"    :: else -> handles[posted * PEERS + i] = {_handle(name_of(CREATED))}",
        "    fi",
        "  }",
        "  posted++; adopted = false",
        "}",
        "/* send() returns. Nobody will ask about a handle that it has made and not adopted. */",
        "inline posted_all() {",
        "  if",
        "  :: !adopted -> for (i : (posted - 1) * PEERS .. posted * PEERS - 1) { handles[i] = H_STRAY }",
        "  :: else",
        "  fi",
        "}",
        "inline reject(at) { post(at); blame(); on_send_rejected(); posted_all() }",
        "",
        "#define STRIKES(at, h) (at == EVERYBODY || at == h || at == PEER(h % PEERS))",
        f"#define ASKING ({_in(asking(rules))})",
        "#define IS_LATE(h) (h >= OWN && IS_IN_FLIGHT(handles[h]))",
        *_lines("#define MAY_BE_LATE", f"({_in(minding(rules))} && {some('IS_LATE')})"),
        "/* The first half of a poll. A deadline is no blame where everything is done (KS-3.5). */",
        "inline observed(at, late) {",
        "  if",
        "  :: ASKING ->",
        "     deadline_passed = late; all_done = closed;",
        "     for (i : OWN .. HANDLES - 1) {",
        "       raises = IS_SILENT(handles[i]) && STRIKES(at, i);",
        "       error_seen = error_seen || raises;",
        "       if",
        "       :: raises -> handles[i] = FAILING(handles[i])",
        "       :: else -> handles[i] = ANSWERING(handles[i])",
        "       fi;",
        "       all_done = all_done && IS_DONE(handles[i])",
        "     }",
        "     if :: error_seen || (late && !all_done) -> blame() :: else fi",
        "  :: else",
        "  fi;",
        "  on_observe()",
        "}",
        "/* late: a handle has been in flight for the whole transfer timeout. drained: so has the drain. */",
        "inline poll(at, late, drained) {",
        "  begin();",
        "  observed(at, late);",
        "  may_report = true;",
        "  for (i : OWN .. HANDLES - 1) { may_report = may_report && IS_SETTLED(handles[i]) }",
        "  may_report = may_report || drained;",
        "  on_answer();",
        f"  word = (reply == {_reply(Reply.SUCCESS)} -> WORD_SUCCESS :"
        f" (reply == {_reply(Reply.FAILED)} -> WORD_FAILURE : WORD_NOTHING));",
        "  /* KS-2.1: the last word is the last one, until the room id is opened again. */",
        "  Sticky = (said == WORD_NOTHING || word == said); assert(Sticky);",
        "  said = (said == WORD_NOTHING -> word : said);",
        "  if",
        "  :: said != WORD_NOTHING -> for (i : OWN .. HANDLES - 1) { handles[i] = FORGOTTEN(handles[i]) }",
        "  :: else",
        "  fi",
        "}",
        "",
        "inline failure_exception() {",
        "  begin();",
        "  on_failure_exception();",
        "  /* KS-2.4, KS-2.7: it raises the cause of a room that has failed, and of no other. */",
        f"  CauseIsRaised = ((reply == {_reply(Reply.RAISES_CAUSE)}) == IS_LATCHED); assert(CauseIsRaised)",
        "}",
        "",
        "/* The owner opens the room id again; what the old room left in flight is in doubt. */",
        "inline open() {",
        "  for (i : 0 .. HANDLES - 1) {",
        "    handles[i] = OVERDUE(handles[i]);",
        "    handles[i] = FORGOTTEN(handles[i])",
        "  }",
        "  logical = IDLE; cause = CAUSE_NONE; faulted = false; closed = false; cleared = false; quarantined = false;",
        "  base = posted; said = WORD_NOTHING; told = WORD_NOTHING",
        "}",
        "",
        "#define IS_LEFT(h) (h < SWEPT && (IS_UNSETTLED(handles[h]) || IS_DUE(handles[h])))",
        *_lines("#define SOME_LEFT", some("IS_LEFT")),
        "/* The system looks after the handles of rooms that are over. */",
        "inline sweep(at) {",
        "  for (i : 0 .. SWEPT - 1) {",
        "    raises = IS_SILENT(handles[i]) && STRIKES(at, i);",
        "    if",
        "    :: raises -> handles[i] = FAILING(handles[i])",
        "    :: else -> handles[i] = ANSWERING(handles[i])",
        "    fi;",
        "    handles[i] = RELEASED(handles[i]);",
        "    handles[i] = FORGOTTEN(handles[i])",
        "  }",
        "}",
    ]


def _in(states: Iterable[State]) -> str:
    return _among("logical", (state.name for state in states))


def _judge() -> list[str]:
    lines = ["/***** Properties *****/", "", "inline judge() {"]
    for name, (says, body) in INVARIANTS.items():
        lines += [f"  /* {says} */", f"  {name} = ({body}); assert({name});"]
    lines.append("  for (i : 0 .. HANDLES - 1) {")
    for name, (says, body) in OF_HANDLES.items():
        lines += [f"    /* {says} */", f"    {name} = ({body}); assert({name});"]
    return [
        *lines,
        "    skip",
        "  }",
        "}",
        "",
        "/* The owner gets its answer, unless it clears the room id and opens it again for ever. */",
        "ltl answered { ([] <> (said != WORD_NOTHING)) || (([] <> cleared) && ([] <> !cleared)) }",
    ]


def _processes(bounds: Bounds) -> Iterator[str]:
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
        ("cleared && posted < CHUNKS", "open", "open()"),
        ("SOME_LEFT", "sweep", "sweep(NOBODY)"),
        *(("SOME_LEFT", f"sweep, {words}", f"sweep({who})") for who, words in trouble),
        ("true", "judge", "judge()"),
    ]
    yield "/***** Who acts: a process for each actor that weak fairness is about, and one for everything else *****/"
    for fair in Fair:
        match fair:
            case Fair.SEND:
                yield from _process("sender", sends, fair)
            case Fair.POLL:
                yield from _process("poller", [("true", "poll", "poll(NOBODY, false, false)")], fair)
            case Fair.LATE:
                yield from _process("late_poller", [("MAY_BE_LATE", "poll, late", "poll(NOBODY, true, false)")], fair)
            case Fair.DRAINED:
                yield from _process("drained_poller", [("true", "poll, drained", "poll(NOBODY, false, true)")], fair)
            case Fair.FINISH:
                for h in handles:
                    step = f"handles[{h}] = FINISHED(handles[{h}])"
                    yield from _process(f"transport_{h}", [(f"IS_SILENT(handles[{h}])", f"finish({h})", step)], fair)
            case _:
                assert_never(fair)
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
