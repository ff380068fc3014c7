"""The composed model in Promela, for SPIN: the tables row by row, the steps around them as ``model.steps`` takes them.

What SPIN stores are the fields of ModelState and nothing else: every step is a ``d_step``, what a call knows only
while it runs is ``hidden``, and every process is a loop that has one place.
Effects and predicates are renderings of those in ``model``; ``promela_processes`` has who acts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from kvsender_spec.formal.engines import lowering as low
from kvsender_spec.formal.engines.languages import PROMELA, among, asserted, identifier, promela_step, promela_value
from kvsender_spec.formal.engines.promela_processes import processes
from kvsender_spec.formal.model.effects import BLAMES
from kvsender_spec.formal.model.handles import CREATED, STRAY, Op, handle_ops, name_of
from kvsender_spec.formal.model.predicates import CAUSE_IS_RAISED, INVARIANTS, STICKY, Predicate
from kvsender_spec.formal.model.state import Bounds, Cause, Control, Told
from kvsender_spec.formal.model.terms import CONTROL, Either, NoneOf, Term, Var, bare
from kvsender_spec.formal.rules import Rules
from kvsender_spec.machine import Event, Input, Reply, Row, State


def model(rules: Rules, bounds: Bounds) -> str:
    """The whole model at these bounds."""
    low.check(rules)
    parts = (_head(bounds), _words(), _handles(rules), _variables(rules), _effects(rules), _rows(rules))
    rest = (_calls(rules, bounds), _properties(), processes(bounds))
    return "\n".join("\n".join(part) + "\n" for part in (*parts, *rest))


def clause(identifier: str) -> str:
    """The clause of such a name; other names stay as they are."""
    return "KS-" + identifier[3:].replace("_", ".") if identifier.startswith("KS_") else identifier


# ------------------------------------------------------------------------------------------------------------- words


def _handle(name: str) -> str:
    return f"H_{name.upper()}"


def _defines(words: Iterable[str]) -> list[str]:
    return [f"#define {word} {number}" for number, word in enumerate(words)]


def _in(states: Iterable[State]) -> str:
    return among(Var.LOGICAL, (state.name for state in states))


def _macro(head: str, text: str) -> list[str]:
    return low.wrapped(f"#define {head}", text.split(" "), " \\")


def _about_handles(term: Term) -> bool:
    """Whether a term is to be asserted of each handle. Raises TypeError where that would not be the same."""
    found = isinstance(term, NoneOf) or (isinstance(term, Either) and any(map(_about_handles, term.terms)))
    if not found and "handles[i]" in PROMELA.of(term):
        raise TypeError(f"{term} says more of handles than that none is of a kind, or else something of the room")
    return found


def _checked(rule: Predicate, indent: str) -> list[str]:
    words = f"{asserted(rule.name, PROMELA.of(rule.term))};".split(" ")
    return [f"{indent}/* {rule.text} */", *low.wrapped(f"{indent}{words[0]}", words[1:])]


# ------------------------------------------------------------------------------------------------------------- parts


def _head(bounds: Bounds) -> list[str]:
    return [
        "/* " + "\n   ".join(low.ABOUT),
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
        *(line for words in (State, Cause, Told, Reply) for line in _defines(map(promela_value, words))),
        "/* Who raises in a look at the handles, or rejects a post: the one of that number, a peer, everybody. */",
        "#define PEER(p) (100 + p)",
        "#define EVERYBODY 200",
        "#define NOBODY 255",
    ]


def _handles(rules: Rules) -> list[str]:
    ops = handle_ops(rules)
    lines = ["/***** What befalls a handle: what the sender knows of it, _LANDED, _RELEASED *****/", ""]
    lines += _defines(_handle(name_of(code)) for code in range(STRAY + 1))
    for name, members in low.handle_sets(ops).items():
        lines += _macro(f"IS_{name.upper()}(c)", among("c", map(_handle, members)))
    for op in Op:
        changed = low.changes(ops[op])
        cases = "".join(f"(c == {_handle(before)} -> {_handle(after)} : " for before, after in changed.items())
        lines += [f"/* {op.value} */", *_macro(f"{op.name}(c)", f"{cases}c{')' * len(changed)}")]
    return [
        *lines,
        f"#define ACCEPTED {_handle(name_of(ops.accepted))}",
        f"#define REJECTED {_handle(name_of(ops.rejected))}",
    ]


def _variables(rules: Rules) -> list[str]:
    kinds = (
        f"{'bool' if isinstance(value, bool) else 'byte'} {name}"
        for name, value in zip(CONTROL, Control(), strict=True)
    )
    hidden = (Var.CAUSE_NOW, Var.ADOPTED, Var.ERROR_SEEN, Var.ALL_DONE, Var.DEADLINE_PASSED, Var.MAY_REPORT, Var.REPLY)
    breakable = sorted({identifier(never.breaks) for never in rules.never} | {"KS_6_1"})
    return [
        "/***** The room *****/",
        "",
        *(f"{kind};".ljust(22) + f"/* {says} */" for kind, says in zip(kinds, low.FIELDS.values(), strict=True)),
        "byte handles[HANDLES];",
        "",
        "/* What a call knows while it runs is no part of the state. */",
        *(f"hidden byte {name};" for name in ("i", "raises", *hidden)),
        "/* A property that does not hold is the name in a failed assertion. */",
        *(f"hidden byte {name};" for name in (*low.CHECKED, *breakable)),
        "",
        "/* The handles of this incarnation; those before them are the system's to look after. */",
        "#define OWN (base * PEERS)",
        "/* The handles of rooms that are over. */",
        "#define SWEPT ((cleared || said != WORD_NOTHING -> posted : base) * PEERS)",
    ]


def _effects(rules: Rules) -> list[str]:
    lines = ["/***** Where events lead, and what effects do *****/", ""]
    for name, parts in low.CHANGES.items():
        lines += low.wrapped(f"inline {name}() {{", [*"; ".join(map(promela_step, parts)).split(" "), "}"])
    for event in Event:
        lines += [f"inline move_{event.value}() {{", "  if"]
        lines += [f"  :: {_in(sources)} -> logical = {dest.name}" for dest, sources in low.leads(rules, event).items()]
        lines += ["  fi;", "  arrive()", "}"]
    return lines


def _rows(rules: Rules) -> list[str]:
    lines = ["/***** The table: a row is its effects, in order, then the move, then the reply *****/", ""]
    for place, row in enumerate(rules.table, 1):
        lines += [f"/* {place}. {low.in_words(row)} */", f"inline row{place}() {{ {_row(row)} }}"]
    lines += ["", "/***** Which row decides: the first one whose guard holds *****/"]
    for what in Input:
        lines += ["", f"inline on_{what.value}() {{", "  if", *_decision(rules, what), "  fi", "}"]
    return lines


def _row(row: Row) -> str:
    steps = [f"{effect.value}()" for effect in row.effects]
    steps.append("arrive()" if row.event is None else f"move_{row.event.value}()")
    return "; ".join([*steps, f"reply = {promela_value(row.reply)}"])


def _decision(rules: Rules, what: Input) -> Iterator[str]:
    for states, rows, breaks in low.groups(rules, what):
        yield f"  :: {_in(states)} ->"
        if breaks is not None:
            yield f"     {asserted(identifier(breaks), 'false')}"
        for depth, (place, row) in enumerate(rows):
            tried = f"row{place}()" if row.guard is None else f"if :: {row.guard.value} -> row{place}() :: else ->"
            yield "     " + "  " * depth + tried
        yield from [f"     {'fi ' * (len(rows) - 1)}".rstrip()] if len(rows) > 1 else []


def _calls(rules: Rules, bounds: Bounds) -> list[str]:
    def some(macro: str) -> str:
        return "(" + " || ".join(f"{macro}({handle})" for handle in range(bounds.handles)) + ")"

    text = _CALLS.strip("\n")
    for name, value in {
        "CREATED": _handle(name_of(CREATED)),
        "BLAMES": bare(PROMELA.of(BLAMES)),
        "STICKY": "\n".join(_checked(STICKY, "  ")),
        "CAUSE_IS_RAISED": "\n".join(_checked(CAUSE_IS_RAISED, "  ")),
    }.items():
        text = text.replace(f"${name}", value)
    return [
        "/***** What the calls do *****/",
        "",
        "/* The caller has a chunk, and the sender hands it to the transport. */",
        *_macro("HAS_A_CHUNK", f"(!closed && posted < CHUNKS && {_in(filter(rules.posts, State))})"),
        f"#define ASKING {_in(filter(rules.asks, State))}",
        "#define STRIKES(at, h) (at == EVERYBODY || at == h || at == PEER(h % PEERS))",
        "#define IS_LATE(h) (h >= OWN && IS_IN_FLIGHT(handles[h]))",
        *_macro("MAY_BE_LATE", f"({_in(filter(rules.minds, State))} && {some('IS_LATE')})"),
        "#define IS_LEFT(h) (h < SWEPT && IS_DUE(handles[h]))",
        *_macro("SOME_LEFT", some("IS_LEFT")),
        "",
        *text.splitlines(),
    ]


_CALLS: Final = """
inline begin() {
  cause_now = CAUSE_NONE; adopted = true; error_seen = false; all_done = false; deadline_passed = false;
  may_report = false; reply = REPLY_NOTHING
}

/* Every handle of a chunk is made before the first is posted; a rejection at a peer ends the posting. */
inline post(at) {
  begin();
  for (i : 0 .. PEERS - 1) {
    if
    :: i < at -> handles[posted * PEERS + i] = ACCEPTED
    :: i == at -> handles[posted * PEERS + i] = REJECTED
    :: else -> handles[posted * PEERS + i] = $CREATED
    fi
  }
  posted++; adopted = false
}
/* send() returns. Nobody will ask about a handle that it has made and not adopted. */
inline posted_all() {
  if
  :: !adopted -> for (i : (posted - 1) * PEERS .. posted * PEERS - 1) { handles[i] = H_STRAY }
  :: else
  fi
}
inline reject(at) { post(at); blame(); on_send_rejected(); posted_all() }

inline ask(at) {
  raises = IS_SILENT(handles[i]) && STRIKES(at, i);
  if
  :: raises -> handles[i] = FAILING(handles[i])
  :: else -> handles[i] = ANSWERING(handles[i])
  fi
}
/* The first half of a poll. */
inline observed(at, late) {
  if
  :: ASKING ->
     deadline_passed = late; all_done = closed;
     for (i : OWN .. HANDLES - 1) {
       ask(at);
       error_seen = error_seen || raises;
       all_done = all_done && !IS_UNDONE(handles[i])
     }
     if :: $BLAMES -> blame() :: else fi
  :: else
  fi;
  on_observe()
}
/* late: a handle has been in flight for the whole transfer timeout. drained: so has the drain. */
inline poll(at, late, drained) {
  begin();
  observed(at, late);
  may_report = true;
  for (i : OWN .. HANDLES - 1) { may_report = may_report && !IS_WAITED_FOR(handles[i]) }
  may_report = may_report || drained;
  on_answer();
$STICKY
  say();
  leave()
}

inline failure_exception() {
  begin();
  on_failure_exception();
$CAUSE_IS_RAISED
  skip
}

/* The system looks after the handles of rooms that are over. */
inline sweep(at) {
  for (i : 0 .. SWEPT - 1) {
    ask(at);
    handles[i] = RELEASED(handles[i]);
    handles[i] = FORGOTTEN(handles[i])
  }
}
"""


def _properties() -> list[str]:
    return [
        "/***** Properties *****/",
        "",
        "inline properties() {",
        *(line for rule in INVARIANTS if not _about_handles(rule.term) for line in _checked(rule, "  ")),
        "  for (i : 0 .. HANDLES - 1) {",
        *(line for rule in INVARIANTS if _about_handles(rule.term) for line in _checked(rule, "    ")),
        "    skip",
        "  }",
        "}",
        "",
        "/* The caller gets its answer, unless it clears the room id and opens it again for ever. */",
        "ltl answered { ([] <> (said != WORD_NOTHING)) || (([] <> cleared) && ([] <> !cleared)) }",
    ]
