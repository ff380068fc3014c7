"""The composed model in TLA+, for TLC: the tables row by row, the steps around them as ``model`` takes them.

The variables are the fields of ModelState and nothing else, so that TLC's graph can be laid over ours. What a call
knows only while it runs is a field of the record that its effects hand on, one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable
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

MODULE: Final = "KVSender"

UNBROKEN: Final = "NothingBroken"
"""The invariant that a forbidden step violates. It comes first, since such a step may violate others too."""
INVARIANTS: Final = {
    UNBROKEN: ("No step breaks a clause by itself.", "told \\in Words"),
    "TypeOK": (
        "Every variable is what it is meant to be.",
        "/\\ logical \\in States\n"
        "/\\ cause \\in Causes\n"
        "/\\ {faulted, closed, cleared, quarantined} \\subseteq BOOLEAN\n"
        "/\\ base \\in 0 .. Chunks /\\ posted \\in base .. Chunks\n"
        "/\\ {said, told} \\subseteq Words\n"
        "/\\ handles \\in [Handles -> HandleCodes]",
    ),
    "NoSuccessAfterFault": (
        "What went wrong before the end of the room is not hidden by Success (KS-2.2).",
        'faulted => said # "success"',
    ),
    "FirstCause": (
        "A failure keeps the first thing that went wrong, and nothing else is a failure (KS-2.3).",
        'IF logical \\in Latched THEN faulted /\\ cause = "first" ELSE cause = "none"',
    ),
    "FailedIsSticky": (
        "sticky_failed is the failure that the owner has been told of.",
        '(logical = "sticky_failed") <=> (said = "failure")',
    ),
    "SuccessIsDone": (
        "done is the success that the owner has been told of.",
        '(logical = "done") <=> (said = "success")',
    ),
    "PeersAreTold": ("Owner and peers are told the same (KS-6.1).", "told = said"),
    "Quiesced": (
        "After the last word nothing of the room is in flight (KS-4.1).",
        'said # "nothing" => \\A h \\in Own : handles[h] \\notin InFlight',
    ),
    "Quarantined": (
        "What a room leaves behind is reported with its pages (KS-4.4).",
        '(said # "nothing" /\\ \\E h \\in Own : handles[h] # "none") => quarantined',
    ),
    "NothingReleasedInFlight": (
        "A handle is released when the transport has said its last word on it (KS-4.2).",
        "\\A h \\in Handles : handles[h] \\notin ReleasedTooEarly",
    ),
    "NoStray": ("A handle that was posted is kept until it has settled.", '\\A h \\in Handles : handles[h] # "stray"'),
    "Sticky": (
        "The last word is the last one, until the room id is opened again (KS-2.1).",
        'said # "nothing" => \\A drained \\in BOOLEAN : WordOf(Polled({}, FALSE, drained)) = said',
    ),
    "CauseIsRaised": (
        "failure_exception() raises the cause of a room that has failed, and of no other (KS-2.4, KS-2.7).",
        '(OnFailureException(Room).reply = "raises the cause") <=> (logical \\in Latched)',
    ),
}
"""State predicates: what each says, and its body."""

ANSWERED: Final = "Answered"
"""The liveness property."""


def module(rules: Rules) -> str:
    """The whole module. The bounds are its constants."""
    check(rules)
    parts = (_head(), _handles(rules), _variables(), _room(rules), _rows(rules), _actions(), _next(), _properties())
    return "\n".join("\n".join(part) + "\n" for part in parts) + "=" * 80 + "\n"


def config(bounds: Bounds, fair: frozenset[Fair] | None = None) -> str:
    """What TLC is to check at these bounds: all that is safety, or that the owner gets its answer."""
    specification = "Spec" if fair is None else "FairSpec"
    lines = [f"SPECIFICATION {specification}", "CONSTANTS", f"  Chunks = {bounds.chunks}", f"  Peers = {bounds.peers}"]
    lines += ["INVARIANTS", *(f"  {name}" for name in INVARIANTS)] if fair is None else [f"PROPERTY {ANSWERED}"]
    return "\n".join(lines) + "\n"


def fair_module(name: str, fair: frozenset[Fair]) -> str:
    """A module whose ``FairSpec`` is Spec with some of the fairness assumptions."""
    conjuncts = "".join(f" /\\ {_fair_name(one)}" for one in Fair if one in fair)
    return f"---- MODULE {name} ----\nEXTENDS {MODULE}\nFairSpec == Spec{conjuncts}\n====\n"


# ------------------------------------------------------------------------------------------------------------- words


def _camel(word: str) -> str:
    return "".join(part.capitalize() for part in word.split("_"))


def _set(words: Iterable[str]) -> str:
    return "{" + ", ".join(f'"{word}"' for word in words) + "}"


def _states(states: Iterable[State]) -> str:
    return _set(state.value for state in states)


def _wrapped(name: str, words: Iterable[str]) -> list[str]:
    """A definition of a set that may need several lines."""
    lines, line = [], f"{name} == {{"
    for word in words:
        item = f'"{word}", '
        if len(line) + len(item) > 110:
            lines.append(line.rstrip())
            line = "  "
        line += item
    return [*lines, line.removesuffix(", ") + "}"]


def _comment(text: str) -> str:
    return f"(* {text} *)"


# ------------------------------------------------------------------------------------------------------------- parts


def _head() -> list[str]:
    return [
        f"{'-' * 32} MODULE {MODULE} {'-' * 32}",
        "(* Written by `python -m kvsender_spec.formal.pages`. Change the tables, not this file.",
        "",
        "   One room id: the logical machine of its sender, a physical machine for each transfer handle, an owner that",
        "   calls in any order, a transport that finishes, raises, rejects or stays silent. A chunk has a handle for",
        "   each peer; the handle h belongs to chunk h \\div Peers and to peer h % Peers. A room id that is opened",
        "   again has the chunks that are left, so that every handle of every incarnation has a place of its own. *)",
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
        f"Latched == {_states((State.FAILED, State.STICKY_FAILED))}",
        f"Causes == {_set(cause.name.lower() for cause in Cause)}",
        f"Words == {_set(word.name.lower() for word in Told)}",
        *_wrapped("HandleCodes", (name_of(code) for code in range(STRAY + 1))),
    ]


def _handles(rules: Rules) -> list[str]:
    ops = handle_ops(rules)
    lines = ["(***** What befalls a handle: what the sender knows of it, _landed, _released *****)", ""]
    lines += _wrapped("InFlight", names(IN_FLIGHT))
    lines += [_comment("They would answer PROC now, and may finish or raise instead.")]
    lines += _wrapped("Silent", names(SILENT))
    lines += _wrapped("Unsettled", names(UNSETTLED))
    lines += [_comment("The transport has said its last word, or there is no handle.")]
    lines += _wrapped("Settled", names(ops.settled))
    lines += _wrapped("AllDone", ("none", *names(DONE)))
    early = [
        name_of(code)
        for code, handle in enumerate(HANDLES, 1)
        if handle.released and handle.state in (HandleState.IN_FLIGHT, HandleState.IN_DOUBT)
    ]
    lines += [
        *_wrapped("ReleasedTooEarly", early),
        "",
        _comment("The states in which send() posts, in which poll() asks, and in which it minds the transfer timeout."),
        f"Posting == {_states(posting(rules))}",
        f"Asking == {_states(asking(rules))}",
        f"Minding == {_states(minding(rules))}",
        "",
    ]
    for name, says, table in (
        ("Finished", "The transport finishes it; nobody knows yet.", ops.finish),
        ("Answering", "It is asked, and answers what is so.", ops.answer),
        ("Failing", "It is asked, and raises, unless it has landed already.", ops.fail),
        ("Released", "It is released where it has settled, each once.", ops.release),
        ("Overdue", "What is in flight now is in doubt.", ops.overdue),
        ("Forgotten", "What is settled and released needs no place any more.", ops.forget),
    ):
        cases = [f'c = "{before}" -> "{after}"' for before, after in changes(table).items()]
        lines += [
            _comment(says),
            f"{name}(c) ==",
            "  CASE " + "\n    [] ".join([*cases, "OTHER -> c"]) if cases else "  c",
        ]
    return [*lines, f'Accepted == "{name_of(ops.accepted)}"', f'Rejected == "{name_of(ops.rejected)}"']


def _variables() -> list[str]:
    fields = {
        "logical": "the logical machine",
        "cause": "what is latched: nothing, the first thing that went wrong, or a later one",
        "faulted": "something went wrong, and the sender was told of it, before the room was over",
        "closed": "the last chunk is posted",
        "cleared": "the owner has cleared the room",
        "quarantined": "pages have been reported as in doubt",
        "base": "chunks of earlier incarnations",
        "posted": "chunks, those of earlier incarnations among them",
        "said": "the first terminal value that poll() answered",
        "told": "what the peers were told",
        "handles": "one code for each chunk and peer",
    }
    last = list(fields)[-1]
    return [
        "(***** The room *****)",
        "",
        "VARIABLES",
        *(f"  {name}{'' if name == last else ','}".ljust(16) + f"\\* {says}" for name, says in fields.items()),
        f"vars == <<{', '.join(fields)}>>",
        "",
        "Init ==",
        '  /\\ logical = "idle" /\\ cause = "none" /\\ faulted = FALSE /\\ closed = FALSE /\\ cleared = FALSE',
        "  /\\ quarantined = FALSE /\\ base = 0 /\\ posted = 0",
        '  /\\ said = "nothing" /\\ told = "nothing" /\\ handles = [h \\in Handles |-> "none"]',
        "",
        _comment("The handles of this incarnation; those before them are the system's to look after."),
        "Own == base * Peers .. Chunks * Peers - 1",
        _comment("The handles of rooms that are over."),
        'Swept == 0 .. (IF cleared \\/ said # "nothing" THEN posted ELSE base) * Peers - 1',
        "",
        _comment("The room with what a call knows while it runs: the cause it brings, the handles it has made and"),
        _comment("not adopted, the facts that the guards ask for, and the reply."),
        "Room ==",
        "  [logical |-> logical, cause |-> cause, faulted |-> faulted, closed |-> closed, cleared |-> cleared,",
        "   quarantined |-> quarantined, posted |-> posted, said |-> said, told |-> told, handles |-> handles,",
        '   cause_now |-> "none", fresh |-> {}, error_seen |-> FALSE, all_done |-> FALSE,',
        f'   deadline_passed |-> FALSE, may_report |-> FALSE, reply |-> "{Reply.NOTHING.value}"]',
        "",
        _comment("The call returns. Nobody will ask about a handle that it has made and not adopted. (A variable"),
        _comment("bound by \\E has a value, where TLC would evaluate an argument again at each place.)"),
        "Becomes(room) == \\E r \\in {room} :",
        "  /\\ logical' = r.logical /\\ cause' = r.cause /\\ faulted' = r.faulted /\\ closed' = r.closed",
        "  /\\ cleared' = r.cleared /\\ quarantined' = r.quarantined /\\ base' = base /\\ posted' = r.posted",
        "  /\\ said' = r.said /\\ told' = r.told",
        '  /\\ handles\' = [h \\in Handles |-> IF h \\in r.fresh THEN "stray" ELSE r.handles[h]]',
    ]


def _room(rules: Rules) -> list[str]:
    lines = ["(***** Where events lead, and what effects do *****)", "", "Leads =="]
    for state in State:
        cells = ((event, rules.next[state][event]) for event in Event)
        pairs = [f'{event.value} |-> "{"never" if to is None else to.value}"' for event, to in cells]
        lines += [
            f"  {'[' if state is State.IDLE else ' '}{state.value} |->",
            f"      [{', '.join(pairs[:2])},",
            f"       {', '.join(pairs[2:])}],",
        ]
    lines[-1] = lines[-1].removesuffix(",") + "]"
    lines += [
        "",
        _comment("That no chunk follows is forgotten with the failure, since nothing depends on it any more."),
        "To(r, dest) == [r EXCEPT !.logical = dest, !.closed = @ /\\ dest \\notin Latched]",
        "Move(r, event) == To(r, Leads[r.logical][event])",
        "Stay(r) == To(r, r.logical)",
        "Says(r, reply) == [r EXCEPT !.reply = reply]",
        _comment("An input that the table forbids, or a second word to the peers: what they are told is the clause."),
        "Broken(r, clause) == [r EXCEPT !.told = clause]",
        "",
        _comment("Something goes wrong. If it is the first such thing in a room that is not over, it is owed."),
        "Blame(r) ==",
        '  LET first == r.said = "nothing" /\\ ~r.faulted',
        '  IN [r EXCEPT !.cause_now = IF first THEN "first" ELSE "later", !.faulted = @ \\/ first]',
        "",
        "Each(Op(_), hs) == [h \\in Handles |-> IF h \\in Own THEN Op(hs[h]) ELSE hs[h]]",
        'Tell(r, word) == IF r.told = "nothing" THEN [r EXCEPT !.told = word] ELSE Broken(r, "KS-6.1")',
        *(f"{_camel(effect.value)}(r) == {_effect(effect)}" for effect in Effect),
    ]
    return lines


def _effect(effect: Effect) -> str:
    match effect:
        case Effect.ADOPT:
            return "[r EXCEPT !.fresh = {}]"
        case Effect.CLOSE:
            return "[r EXCEPT !.closed = TRUE]"
        case Effect.LATCH:
            return '[r EXCEPT !.cause = IF @ = "none" THEN r.cause_now ELSE @]'
        case Effect.RELEASE:
            return "[r EXCEPT !.handles = Each(Released, @)]"
        case Effect.QUARANTINE:
            return "[r EXCEPT !.quarantined = TRUE, !.handles = Each(Overdue, @)]"
        case Effect.TELL_SUCCESS:
            return 'Tell(r, "success")'
        case Effect.TELL_FAILURE:
            return 'Tell(r, "failure")'
        case Effect.FORGET:
            return "[r EXCEPT !.cleared = TRUE]"
        case _:
            assert_never(effect)


def _guard(guard: Guard) -> str:
    match guard:
        case Guard.ERROR_SEEN:
            return "r.error_seen"
        case Guard.ALL_DONE:
            return "r.all_done"
        case Guard.DEADLINE_PASSED:
            return "r.deadline_passed"
        case Guard.MAY_REPORT:
            return "r.may_report"
        case _:
            assert_never(guard)


def _rows(rules: Rules) -> list[str]:
    lines = [
        "(***** The table: a row is its effects, from the innermost outwards, then the move, then the reply *****)"
    ]
    for place, row in enumerate(rules.table, 1):
        lines += ["", _comment(f"{place}. {in_words(row)}"), f"Row{place}(r) == {_row(row)}"]
    lines += ["", "(***** Which row decides: the first one whose guard holds *****)"]
    for what in Input:
        lines += ["", f"On{_camel(what.value)}(r) ==", *_decision(rules, what)]
    return lines


def _row(row: Row) -> str:
    text = "r"
    for effect in row.effects:
        text = f"{_camel(effect.value)}({text})"
    text = f"Stay({text})" if row.event is None else f'Move({text}, "{row.event.value}")'
    reply = row.reply.value
    return text if reply == Reply.NOTHING.value else f'Says({text}, "{reply}")'


def _decision(rules: Rules, what: Input) -> list[str]:
    rows = dict(numbered(rules, what))
    cases: list[str] = []
    for states, places, breaks in groups(rules, what):
        steps = [f"Row{place}(r)" for place in places] if breaks is None else [f'Broken(r, "{breaks}")']
        for number, place in enumerate(places):
            guard = rows[place].guard
            steps[number] = steps[number] if guard is None else f"IF {_guard(guard)} THEN {steps[number]} ELSE"
        result = "".join(f"\n         {step}" for step in steps) if len(steps) > 1 else " " + steps[0]
        cases.append(f"r.logical \\in {_states(states)} ->{result}")
    return ["  CASE " + cases[0], *(f"    [] {case}" for case in cases[1:])]


def _actions() -> list[str]:
    return [
        "(***** What may happen next: one operator for each act *****)",
        "",
        "UNCHANGED_BUT_HANDLES ==",
        "  UNCHANGED <<logical, cause, faulted, closed, cleared, quarantined, base, posted, said, told>>",
        "",
        _comment("The handles that raise together in one look: none, one, all of a peer's, all of every peer's."),
        "Troubles(places) ==",
        "  LET silent == {h \\in places : handles[h] \\in Silent}",
        "  IN {{}, silent} \\cup {{h} : h \\in silent} \\cup {{h \\in silent : PeerOf(h) = p} : p \\in 0 .. Peers - 1}",
        "",
        "Finish(h) ==",
        "  /\\ handles[h] \\in Silent",
        "  /\\ handles' = [handles EXCEPT ![h] = Finished(@)]",
        "  /\\ UNCHANGED_BUT_HANDLES",
        "",
        _comment("Every handle of a chunk is made before the first is posted; a rejection at a peer ends the posting."),
        "Sending(at) ==",
        "  LET sent(h) == CASE at = Nobody \\/ PeerOf(h) < at -> Accepted",
        "                   [] PeerOf(h) = at -> Rejected",
        f'                   [] OTHER -> "{name_of(CREATED)}"',
        "      chunk == posted * Peers .. (posted + 1) * Peers - 1",
        "  IN [Room EXCEPT !.posted = @ + 1, !.fresh = chunk,",
        "                  !.handles = [h \\in Handles |-> IF h \\in chunk THEN sent(h) ELSE handles[h]]]",
        _comment("The owner has a chunk, and the sender hands it to the transport."),
        "HasAChunk == ~closed /\\ posted < Chunks /\\ logical \\in Posting",
        "Send(at) ==",
        "  /\\ HasAChunk /\\ posted + 1 < Chunks",
        "  /\\ Becomes(IF at = Nobody THEN OnSendAccepted(Sending(at)) ELSE OnSendRejected(Blame(Sending(at))))",
        "SendLast(at) ==",
        "  /\\ HasAChunk",
        "  /\\ Becomes(IF at = Nobody THEN OnSendLastAccepted(Sending(at)) ELSE OnSendRejected(Blame(Sending(at))))",
        "SendNothing ==",
        "  /\\ Becomes(OnSendNothing(Room))",
        "",
        _comment("The first half of a poll. A deadline is no blame where everything is done (KS-3.5)."),
        "Observed(raising, late) ==",
        "  IF logical \\notin Asking THEN OnObserve(Room) ELSE",
        "  LET asked == [h \\in Handles |->",
        "        IF h \\notin Own THEN handles[h]",
        "        ELSE IF h \\in raising THEN Failing(handles[h]) ELSE Answering(handles[h])]",
        "      error == raising # {}",
        "      done == closed /\\ \\A h \\in Own : asked[h] \\in AllDone",
        "      r == [Room EXCEPT !.handles = asked, !.error_seen = error, !.all_done = done, !.deadline_passed = late]",
        "  IN OnObserve(IF error \\/ (late /\\ ~done) THEN Blame(r) ELSE r)",
        "",
        _comment("late: a handle has been in flight for the whole transfer timeout. drained: so has the drain."),
        "Polled(raising, late, drained) ==",
        "  LET seen == Observed(raising, late)",
        "      may == drained \\/ \\A h \\in Own : seen.handles[h] \\in Settled",
        f'  IN OnAnswer([seen EXCEPT !.may_report = may, !.reply = "{Reply.NOTHING.value}"])',
        "WordOf(r) ==",
        f'  CASE r.reply = "{Reply.SUCCESS.value}" -> "success"',
        f'    [] r.reply = "{Reply.FAILED.value}" -> "failure"',
        '    [] OTHER -> "nothing"',
        "PollWhen(raising, late, drained) ==",
        "  /\\ late => raising = {} /\\ logical \\in Minding /\\ \\E h \\in Own : handles[h] \\in InFlight",
        "  /\\ \\E r \\in {Polled(raising, late, drained)} :",
        '     LET word == IF said = "nothing" THEN WordOf(r) ELSE said',
        "     IN Becomes([r EXCEPT !.said = word,",
        '                          !.handles = IF word = "nothing" THEN @ ELSE Each(Forgotten, @)])',
        "Poll ==",
        "  \\E raising \\in IF logical \\in Asking THEN Troubles(Own) ELSE {{}}, late, drained \\in BOOLEAN :",
        "     PollWhen(raising, late, drained)",
        "",
        "FailureException ==",
        "  /\\ Becomes(OnFailureException(Room))",
        "Abort ==",
        "  /\\ Becomes(OnAbort(Blame(Room)))",
        "Clear ==",
        "  /\\ Becomes(OnClear(Blame(Room)))",
        "",
        _comment("The owner opens the room id again; what the old room left in flight is in doubt."),
        "Open ==",
        "  /\\ cleared /\\ posted < Chunks",
        "  /\\ logical' = \"idle\" /\\ cause' = \"none\" /\\ faulted' = FALSE /\\ closed' = FALSE /\\ cleared' = FALSE",
        "  /\\ quarantined' = FALSE /\\ base' = posted /\\ posted' = posted",
        '  /\\ said\' = "nothing" /\\ told\' = "nothing"',
        "  /\\ handles' = [h \\in Handles |-> Forgotten(Overdue(handles[h]))]",
        "",
        _comment("The system looks after the handles of rooms that are over."),
        "SweepWhen(raising) ==",
        "  /\\ \\E h \\in Swept : handles[h] \\in Unsettled \\/ Released(handles[h]) # handles[h]",
        "  /\\ handles' = [h \\in Handles |->",
        "        IF h \\notin Swept THEN handles[h]",
        "        ELSE Forgotten(Released(IF h \\in raising THEN Failing(handles[h]) ELSE Answering(handles[h])))]",
        "  /\\ UNCHANGED_BUT_HANDLES",
        "Sweep == \\E raising \\in Troubles(Swept) : SweepWhen(raising)",
    ]


def _next() -> list[str]:
    return [
        "Next ==",
        "  \\/ \\E h \\in Handles : Finish(h)",
        "  \\/ \\E at \\in Nobody .. Peers - 1 : Send(at)",
        "  \\/ \\E at \\in Nobody .. Peers - 1 : SendLast(at)",
        "  \\/ SendNothing",
        "  \\/ Poll",
        "  \\/ FailureException",
        "  \\/ Abort",
        "  \\/ Clear",
        "  \\/ Open",
        "  \\/ Sweep",
        "",
        "Spec == Init /\\ [][Next]_vars",
        "",
        "(***** Who does not put off for ever what may be done all the time *****)",
        "",
        *(f"{_fair_name(fair)} == {_fairness(fair)}" for fair in Fair),
    ]


def _fair_name(fair: Fair) -> str:
    return f"Fair{_camel(fair.value)}"


def _fairness(fair: Fair) -> str:
    match fair:
        case Fair.SEND:
            return "WF_vars(\\E at \\in Nobody .. Peers - 1 : Send(at) \\/ SendLast(at))"
        case Fair.POLL:
            return "WF_vars(PollWhen({}, FALSE, FALSE))"
        case Fair.FINISH:
            return "\\A h \\in Handles : WF_vars(Finish(h))"
        case Fair.LATE:
            return "WF_vars(PollWhen({}, TRUE, FALSE))"
        case Fair.DRAINED:
            return "WF_vars(PollWhen({}, FALSE, TRUE))"
        case _:
            assert_never(fair)


def _properties() -> list[str]:
    lines = ["(***** Properties *****)", ""]
    for name, (says, body) in INVARIANTS.items():
        lines += ["", _comment(says), f"{name} ==", *(f"  {line}" for line in body.splitlines())]
    return [
        *lines,
        "",
        _comment("The owner gets its answer, unless it clears the room id and opens it again for ever."),
        f'{ANSWERED} == []<>(said # "nothing") \\/ ([]<>cleared /\\ []<>~cleared)',
    ]
