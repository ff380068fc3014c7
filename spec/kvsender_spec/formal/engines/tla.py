"""The composed model in TLA+, for TLC: the tables row by row, the steps around them as ``model.steps`` takes them.

The variables are the fields of ModelState and nothing else, so that TLC's graph can be laid over ours. What a call
knows only while it runs is a field of the record that its effects hand on, one after the other. Effects and predicates
are renderings of those in ``model``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from kvsender_spec.formal.engines import lowering as low
from kvsender_spec.formal.engines.engine import Fair
from kvsender_spec.formal.engines.languages import OF_CALL, OF_STATE, camel, tla_record, tla_value
from kvsender_spec.formal.model.effects import BLAMES
from kvsender_spec.formal.model.handles import CREATED, STRAY, Op, handle_ops, name_of
from kvsender_spec.formal.model.predicates import CAUSE_IS_RAISED, INVARIANTS, STICKY, Predicate
from kvsender_spec.formal.model.state import Bounds, Cause, Control, Told
from kvsender_spec.formal.model.terms import CONTROL, Var
from kvsender_spec.formal.rules import Rules
from kvsender_spec.machine import Guard, Input, Reply, Row, State

MODULE: Final = "KVSender"
UNBROKEN: Final = "NothingBroken"
"""The invariant that a forbidden step violates. It comes first, since such a step may violate others too."""
TYPE_OK: Final = "TypeOK"


def module(rules: Rules) -> str:
    """The whole module. The bounds are its constants."""
    low.check(rules)
    parts = (_head(), _handles(rules), _variables(), _room(rules), _rows(rules), _steps(), _properties())
    return "\n".join("\n".join(part) + "\n" for part in parts) + "=" * 80 + "\n"


def config(bounds: Bounds, fair: frozenset[Fair] | None = None) -> str:
    """What TLC is to check at these bounds: all that is safety, or that the caller gets its answer."""
    lines = ["SPECIFICATION Spec", "INVARIANTS", *(f"  {name}" for name in (UNBROKEN, TYPE_OK, *low.CHECKED))]
    if fair is not None:
        lines = ["SPECIFICATION FairSpec", f"PROPERTY {low.ANSWERED}"]
    lines += ["CONSTANTS", f"  Chunks = {bounds.chunks}", f"  Peers = {bounds.peers}"]
    return "\n".join(lines) + "\n"


def fair_module(name: str, fair: frozenset[Fair]) -> str:
    """A module whose ``FairSpec`` is Spec with some of the fairness assumptions."""
    conjuncts = "".join(f" /\\ {_fair_name(one)}" for one in Fair if one in fair)
    return f"---- MODULE {name} ----\nEXTENDS {MODULE}\nFairSpec == Spec{conjuncts}\n====\n"


# ------------------------------------------------------------------------------------------------------------- words


def _set(words: Iterable[str]) -> str:
    return "{" + ", ".join(f'"{word}"' for word in words) + "}"


def _states(states: Iterable[State]) -> str:
    return _set(state.value for state in states)


def _comment(text: str) -> str:
    return f"(* {text} *)"


# ------------------------------------------------------------------------------------------------------------- parts


def _head() -> list[str]:
    codes = (f'"{name_of(code)}"' for code in range(STRAY + 1))
    return [
        f"{'-' * 32} MODULE {MODULE} {'-' * 32}",
        "(* " + "\n   ".join(low.ABOUT) + " *)",
        "EXTENDS Integers",
        "",
        "CONSTANTS Chunks, Peers",
        "ASSUME Chunks >= 1 /\\ Peers >= 1",
        "",
        "Handles == 0 .. Chunks * Peers - 1",
        "PeerOf(h) == h % Peers",
        "Nobody == -1",
        "",
        f"States == {_states(State)}",
        f"Causes == {_set(cause.name.lower() for cause in Cause)}",
        f"Words == {_set(word.name.lower() for word in Told)}",
        *low.listed("HandleCodes ==", codes, ("{", "}")),
    ]


def _handles(rules: Rules) -> list[str]:
    ops = handle_ops(rules)
    lines = ["(***** What befalls a handle: what the sender knows of it, _landed, _released *****)", ""]
    for name, members in low.handle_sets(ops).items():
        lines += low.listed(f"{camel(name)} ==", (f'"{member}"' for member in members), ("{", "}"))
    lines += [
        "",
        _comment("The states in which send() posts, in which poll() asks, and in which it minds the transfer timeout."),
        f"Posting == {_states(filter(rules.posts, State))}",
        f"Asking == {_states(filter(rules.asks, State))}",
        f"Minding == {_states(filter(rules.minds, State))}",
        "",
    ]
    for op in Op:
        cases = [f'c = "{before}" -> "{after}"' for before, after in low.changes(ops[op]).items()]
        lines += [_comment(op.value), f"{camel(op.name.lower())}(c) =="]
        lines += ["  CASE " + "\n    [] ".join([*cases, "OTHER -> c"]) if cases else "  c"]
    return [*lines, f'Accepted == "{name_of(ops.accepted)}"', f'Rejected == "{name_of(ops.rejected)}"']


def _variables() -> list[str]:
    fields: dict[str, str] = {**low.FIELDS, "handles": "one code for each chunk and peer"}
    record = [f"{name} |-> {name}" for name in fields]
    record += [f"{Var.CAUSE_NOW} |-> {tla_value(Cause.NONE)}", f"{Var.ADOPTED} |-> TRUE"]
    record += [*(f"{guard.value} |-> FALSE" for guard in Guard), f"{Var.REPLY} |-> {tla_value(Reply.NOTHING)}"]
    begins = [f"{name} = {tla_value(value)}" for name, value in zip(CONTROL, Control(), strict=True)]
    return [
        "(***** The room *****)",
        "",
        "VARIABLES",
        *(f"  {name}{'' if name == 'handles' else ','}".ljust(16) + f"\\* {says}" for name, says in fields.items()),
        f"vars == <<{', '.join(fields)}>>",
        "",
        "Init ==",
        *low.wrapped("   ", (f"/\\ {one}" for one in [*begins, 'handles = [h \\in Handles |-> "none"]'])),
        "",
        _comment("The handles of this incarnation; those before them are the system's to look after."),
        "Own == base * Peers .. Chunks * Peers - 1",
        _comment("The handles of rooms that are over."),
        'Swept == 0 .. (IF cleared \\/ said # "nothing" THEN posted ELSE base) * Peers - 1',
        "",
        _comment("The room with what a call knows while it runs: the cause it brings, whether the handles it has made"),
        _comment("are kept, the facts that the guards ask for, and the reply."),
        "Room ==",
        *low.listed(" ", record, ("[", "]")),
        "",
        _comment("The call returns. Nobody will ask about a handle that it has made and not adopted. (A variable"),
        _comment("bound by \\E has a value, where TLC would evaluate an argument again at each place.)"),
        "Becomes(room) == \\E r \\in {room} :",
        *low.wrapped("   ", (f"/\\ {name}' = r.{name}" for name in low.FIELDS)),
        "    /\\ handles' = [h \\in Handles |-> IF ~r.adopted /\\ h \\div Peers = posted",
        '                                       THEN "stray" ELSE r.handles[h]]',
    ]


def _room(rules: Rules) -> list[str]:
    lines = ["(***** Where events lead, and what effects do *****)", "", "Leads == ["]
    for state, cells in rules.next.items():
        pairs = (f'{event.value} |-> "{"never" if to is None else to.value}"' for event, to in cells.items())
        lines += [f"  {state.value} |->", f"  [{', '.join(pairs)}],"]
    lines[-1] = lines[-1].removesuffix(",") + "]"
    lines += [
        "",
        _comment("An input that the table forbids, or a second word to the peers: what they are told is the clause."),
        "Broken(r, clause) == [r EXCEPT !.told = clause]",
        "Each(Op(_), hs) == [h \\in Handles |-> IF h \\in Own THEN Op(hs[h]) ELSE hs[h]]",
        "Every(Op(_), hs) == [h \\in Handles |-> Op(hs[h])]",
        "",
    ]
    for name, parts in low.CHANGES.items():
        lines += [f"{camel(name)}(r) ==", *tla_record(parts)]
    return [
        *lines,
        "Move(r, event) == Arrive([r EXCEPT !.logical = Leads[r.logical][event]])",
        "Says(r, reply) == [r EXCEPT !.reply = reply]",
    ]


def _rows(rules: Rules) -> list[str]:
    lines = [
        "(***** The table: a row is its effects, from the innermost outwards, then the move, then the reply *****)"
    ]
    for place, row in enumerate(rules.table, 1):
        lines += ["", _comment(f"{place}. {low.in_words(row)}"), f"Row{place}(r) == {_row(row)}"]
    lines += ["", "(***** Which row decides: the first one whose guard holds *****)"]
    for what in Input:
        lines += ["", f"On{camel(what.value)}(r) ==", *_decision(rules, what)]
    return lines


def _row(row: Row) -> str:
    text = "r"
    for effect in row.effects:
        text = f"{camel(effect.value)}({text})"
    text = f"Arrive({text})" if row.event is None else f'Move({text}, "{row.event.value}")'
    return f'Says({text}, "{row.reply.value}")'


def _decision(rules: Rules, what: Input) -> list[str]:
    cases: list[str] = []
    for states, rows, breaks in low.groups(rules, what):
        steps = [f'Broken(r, "{breaks}")'] if breaks is not None else []
        for place, row in rows:
            steps.append(f"Row{place}(r)" if row.guard is None else f"IF r.{row.guard.value} THEN Row{place}(r) ELSE")
        result = "".join(f"\n         {step}" for step in steps) if len(steps) > 1 else f" {steps[0]}"
        cases.append(f"r.logical \\in {_states(states)} ->{result}")
    return ["  CASE " + cases[0], *(f"    [] {case}" for case in cases[1:])]


def _steps() -> list[str]:
    text = _STEPS.replace("$CREATED", name_of(CREATED)).replace("$BLAMES", OF_CALL.of(BLAMES))
    text = text.replace("$FIELDS", ", ".join(low.FIELDS))
    return [*text.strip("\n").splitlines(), *(f"{_fair_name(fair)} == {_FAIRNESS[fair]}" for fair in Fair)]


_STEPS: Final = r"""
(***** What may happen next: one operator for each act *****)

UNCHANGED_BUT_HANDLES == UNCHANGED <<$FIELDS>>

(* The handles that raise together in one look: none, one, all of a peer's, all of every peer's. *)
Troubles(places) ==
  LET silent == {h \in places : handles[h] \in Silent}
  IN {{}, silent} \cup {{h} : h \in silent} \cup {{h \in silent : PeerOf(h) = p} : p \in 0 .. Peers - 1}

Finish(h) ==
  /\ handles[h] \in Silent
  /\ handles' = [handles EXCEPT ![h] = Finished(@)]
  /\ UNCHANGED_BUT_HANDLES

(* Every handle of a chunk is made before the first is posted; a rejection at a peer ends the posting. *)
Sending(at) ==
  LET sent(h) == CASE at = Nobody \/ PeerOf(h) < at -> Accepted
                   [] PeerOf(h) = at -> Rejected
                   [] OTHER -> "$CREATED"
  IN [Room EXCEPT !.posted = @ + 1, !.adopted = FALSE,
                  !.handles = [h \in Handles |-> IF h \div Peers = posted THEN sent(h) ELSE handles[h]]]
(* The caller has a chunk, and the sender hands it to the transport. *)
HasAChunk == ~closed /\ posted < Chunks /\ logical \in Posting
Send(at) ==
  /\ HasAChunk /\ posted + 1 < Chunks
  /\ Becomes(IF at = Nobody THEN OnSendAccepted(Sending(at)) ELSE OnSendRejected(Blame(Sending(at))))
SendLast(at) ==
  /\ HasAChunk
  /\ Becomes(IF at = Nobody THEN OnSendLastAccepted(Sending(at)) ELSE OnSendRejected(Blame(Sending(at))))
SendNothing ==
  /\ Becomes(OnSendNothing(Room))

(* What handles have become once they have been asked, and some of them have raised. *)
Asked(raising, places) == [h \in Handles |->
  IF h \notin places THEN handles[h] ELSE IF h \in raising THEN Failing(handles[h]) ELSE Answering(handles[h])]
(* The first half of a poll. *)
Observed(raising, late) ==
  IF logical \notin Asking THEN OnObserve(Room) ELSE
  LET asked == Asked(raising, Own)
      done == closed /\ \A h \in Own : asked[h] \notin Undone
      r == [Room EXCEPT !.handles = asked, !.error_seen = raising # {}, !.all_done = done, !.deadline_passed = late]
  IN OnObserve(IF $BLAMES THEN Blame(r) ELSE r)
(* late: a handle has been in flight for the whole transfer timeout. drained: so has the drain. *)
Polled(raising, late, drained) ==
  LET seen == Observed(raising, late)
  IN OnAnswer([seen EXCEPT !.may_report = drained \/ \A h \in Own : seen.handles[h] \notin WaitedFor])
PollWhen(raising, late, drained) ==
  /\ late => raising = {} /\ logical \in Minding /\ \E h \in Own : handles[h] \in InFlight
  /\ \E r \in {Polled(raising, late, drained)} : Becomes(Leave(Say(r)))
Poll ==
  \E raising \in IF logical \in Asking THEN Troubles(Own) ELSE {{}}, late, drained \in BOOLEAN :
     PollWhen(raising, late, drained)

FailureException ==
  /\ Becomes(OnFailureException(Room))
Abort ==
  /\ Becomes(OnAbort(Blame(Room)))
Clear ==
  /\ Becomes(OnClear(Blame(Room)))

(* The caller opens the room id again; what the old room left in flight is in doubt. *)
Open ==
  /\ cleared /\ posted < Chunks
  /\ Becomes(Reopen(Room))

(* The system looks after the handles of rooms that are over. *)
SweepWhen(raising) ==
  /\ \E h \in Swept : handles[h] \in Due
  /\ handles' = [h \in Handles |->
        IF h \in Swept THEN Forgotten(Released(Asked(raising, Swept)[h])) ELSE handles[h]]
  /\ UNCHANGED_BUT_HANDLES
Sweep == \E raising \in Troubles(Swept) : SweepWhen(raising)

Next ==
  \/ \E h \in Handles : Finish(h)
  \/ \E at \in Nobody .. Peers - 1 : Send(at)
  \/ \E at \in Nobody .. Peers - 1 : SendLast(at)
  \/ SendNothing
  \/ Poll
  \/ FailureException
  \/ Abort
  \/ Clear
  \/ Open
  \/ Sweep

Spec == Init /\ [][Next]_vars

(***** Who does not put off for ever what may be done all the time *****)
"""


def _fair_name(fair: Fair) -> str:
    return f"Fair{camel(fair.value)}"


_FAIRNESS: Final[Mapping[Fair, str]] = {
    Fair.SEND: "WF_vars(\\E at \\in Nobody .. Peers - 1 : Send(at) \\/ SendLast(at))",
    Fair.POLL: "WF_vars(PollWhen({}, FALSE, FALSE))",
    Fair.FINISH: "\\A h \\in Handles : WF_vars(Finish(h))",
    Fair.LATE: "WF_vars(PollWhen({}, TRUE, FALSE))",
    Fair.DRAINED: "WF_vars(PollWhen({}, FALSE, TRUE))",
}

_TYPE_OK: Final = r"""
(* No step breaks a clause by itself. *)
NothingBroken ==
  told \in Words

(* Every variable is what it is meant to be. *)
TypeOK ==
  /\ logical \in States
  /\ cause \in Causes
  /\ {faulted, closed, cleared, quarantined} \subseteq BOOLEAN
  /\ base \in 0 .. Chunks /\ posted \in base .. Chunks
  /\ {said, told} \subseteq Words
  /\ handles \in [Handles -> HandleCodes]
"""


def _defined(rule: Predicate, answers: str = "") -> list[str]:
    """A predicate of a state, or of what a call ``r`` answers in it."""
    body = [answers] * bool(answers) + OF_STATE.lines(rule.term)
    return ["", _comment(rule.text), f"{rule.name} ==", *(f"  {line}" for line in body)]


def _properties() -> list[str]:
    return [
        "(***** Properties *****)",
        *_TYPE_OK.rstrip("\n").splitlines(),
        *(line for rule in INVARIANTS for line in _defined(rule)),
        *_defined(STICKY, "\\A drained \\in BOOLEAN : \\E r \\in {Polled({}, FALSE, drained)} :"),
        *_defined(CAUSE_IS_RAISED, "\\E r \\in {OnFailureException(Room)} :"),
        "",
        _comment("The caller gets its answer, unless it clears the room id and opens it again for ever."),
        f'{low.ANSWERED} == []<>(said # "nothing") \\/ ([]<>cleared /\\ []<>~cleared)',
    ]
