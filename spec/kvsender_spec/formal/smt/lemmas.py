"""What is proved about the relation of ``counters``: lemmas about states, lemmas about steps, and rankings.

The lemmas about states are proved together by induction: each holds at the beginning, and each transition that starts
where all hold ends where it holds. A lemma about steps is proved of each transition that starts where all hold. Every
pair of lemma and transition is one obligation.

A ranking proves that something happens in the end, for any number of chunks and peers. It gives each state short of
the goal a rank, a row of natural numbers that is compared like a word, and it says for each such state which deed
helps there. That deed is possible and leads to a lower rank or to the goal; every other step leads to a lower rank or
to the goal too, or keeps the rank and leaves the same deed the helpful one. So a run that misses the goal would put a
deed off for ever that is possible all the time: it is not fair.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import z3

from kvsender_spec.formal.model.handles import (
    DONE,
    DOUBTFUL,
    HANDLES,
    HELD,
    IN_FLIGHT,
    NONE,
    SILENT,
    STRAY,
    UNSETTLED,
    codes,
)
from kvsender_spec.formal.model.state import Act, Cause, Told
from kvsender_spec.formal.smt.proof import Failure, SmtResult
from kvsender_spec.formal.smt.relation import (
    CAUSE,
    LOGICAL,
    TOLD,
    Abstract,
    Relation,
    Term,
    Transition,
    both,
    count,
    either,
    total,
)
from kvsender_spec.machine import LATCHED, HandleState, Reply, State

TIMEOUT_MS: Final = 2000
"""For one question to z3. What it cannot answer in this time is not proved."""

_FLYING: Final = bytes(set(SILENT) & set(IN_FLIGHT))
_RELEASED_EARLY: Final = bytes(code for code, handle in enumerate(HANDLES, 1) if handle.released and code in UNSETTLED)
_WELL: Final = IN_FLIGHT + DONE


# ------------------------------------------------------------------------------------------------------ the lemmas


class Lemma(NamedTuple):
    """``holds(relation, state)``."""

    name: str
    text: str
    holds: Callable[[Relation, Abstract], z3.BoolRef]


class StepLemma(NamedTuple):
    """``holds(relation, transition)``."""

    name: str
    text: str
    holds: Callable[[Relation, Transition], z3.BoolRef]


def _alive(state: Abstract) -> z3.BoolRef:
    return LOGICAL.one_of(state.logical, (State.IDLE, State.SENDING))


def _latched(state: Abstract) -> z3.BoolRef:
    return LOGICAL.one_of(state.logical, LATCHED)


def _silent(state: Abstract) -> z3.BoolRef:
    """The owner has been told nothing yet."""
    return state.said == TOLD(Told.NOTHING)


def _none(state: Abstract, which: Iterable[int]) -> z3.BoolRef:
    """The room has none of these handles."""
    return count(state.own, which) == 0


def _numbers(relation: Relation, state: Abstract) -> z3.BoolRef:
    counters = [*state.own.values(), *state.old.values()]
    some = [relation.chunks >= 1, relation.peers >= 1, state.base >= 0, state.base <= state.posted]
    return both([*some, state.posted <= relation.chunks, *(n >= 0 for n in counters)])


def _accounts(_relation: Relation, state: Abstract) -> z3.BoolRef:
    return z3.And(total(state.own.values()) == state.made, total(state.old.values()) == state.made_before)


def _every_chunk(_relation: Relation, state: Abstract) -> z3.BoolRef:
    own, before = state.posted - state.base, state.base
    counted = [state.made >= own, state.made_before >= before]
    return both([*counted, z3.Implies(own == 0, state.made == 0), z3.Implies(before == 0, state.made_before == 0)])


def _idle(_relation: Relation, state: Abstract) -> z3.BoolRef:
    return z3.And(
        z3.Implies(state.logical == LOGICAL(State.IDLE), state.posted == state.base),
        z3.Implies(LOGICAL.one_of(state.logical, (State.SENDING, State.DONE)), state.posted > state.base),
    )


def _closed(_relation: Relation, state: Abstract) -> z3.BoolRef:
    may = LOGICAL.one_of(state.logical, (State.SENDING, State.DONE))
    return z3.And(z3.Implies(state.closed, may), z3.Implies(state.logical == LOGICAL(State.DONE), state.closed))


def _open(relation: Relation, state: Abstract) -> z3.BoolRef:
    return z3.Implies(z3.And(_alive(state), z3.Not(state.closed)), state.posted < relation.chunks)


def _cleared(_relation: Relation, state: Abstract) -> z3.BoolRef:
    return z3.Implies(state.cleared, z3.Not(_alive(state)))


def _first_cause(_relation: Relation, state: Abstract) -> z3.BoolRef:
    first = state.cause == CAUSE(Cause.FIRST)
    nothing = state.cause == CAUSE(Cause.NONE)
    return both([_latched(state) == state.faulted, first == state.faulted, nothing == z3.Not(state.faulted)])


def _said(_relation: Relation, state: Abstract) -> z3.BoolRef:
    success, failure = state.said == TOLD(Told.SUCCESS), state.said == TOLD(Told.FAILURE)
    done = state.logical == LOGICAL(State.DONE)
    return z3.And(done == success, (state.logical == LOGICAL(State.STICKY_FAILED)) == failure)


def _told(_relation: Relation, state: Abstract) -> z3.BoolRef:
    return state.told == state.said


def _no_stray(_relation: Relation, state: Abstract) -> z3.BoolRef:
    return z3.And(_none(state, [STRAY]), count(state.old, [STRAY]) == 0)


def _released_late(_relation: Relation, state: Abstract) -> z3.BoolRef:
    return z3.And(_none(state, _RELEASED_EARLY), count(state.old, _RELEASED_EARLY) == 0)


def _quiesced(_relation: Relation, state: Abstract) -> z3.BoolRef:
    over = z3.Or(state.said != TOLD(Told.NOTHING), state.quarantined)
    return z3.And(z3.Implies(over, _none(state, IN_FLIGHT)), count(state.old, IN_FLIGHT) == 0)


def _quarantined(_relation: Relation, state: Abstract) -> z3.BoolRef:
    return state.quarantined == (state.said == TOLD(Told.FAILURE))


def _in_doubt(_relation: Relation, state: Abstract) -> z3.BoolRef:
    return z3.Or(state.quarantined, _none(state, codes(HandleState.IN_DOUBT)))


def _done(_relation: Relation, state: Abstract) -> z3.BoolRef:
    kept = (code for code in state.own if code not in DONE and code != NONE)
    return z3.Implies(state.logical == LOGICAL(State.DONE), _none(state, kept))


def _no_leak(_relation: Relation, state: Abstract) -> z3.BoolRef:
    settled = (code for code in state.own if code not in UNSETTLED and code not in (NONE, STRAY))
    return z3.Implies(state.said != TOLD(Told.NOTHING), _none(state, settled))


def _well(_relation: Relation, state: Abstract) -> z3.BoolRef:
    ill = (code for code in state.own if code not in _WELL)
    return z3.Implies(_alive(state), _none(state, ill))


LEMMAS: Final = (
    Lemma("numbers", "0 <= base <= posted <= chunks, and no counter is below zero", _numbers),
    Lemma("accounts", "every handle that was made is counted once, in one place", _accounts),
    Lemma("every chunk", "every posted chunk has handles, and nothing else has", _every_chunk),
    Lemma("idle", "in idle nothing is posted; in sending and done something is", _idle),
    Lemma("closed", "only a room that is sending or done is closed, and every done one is", _closed),
    Lemma("open", "while no chunk was the last, a chunk is left", _open),
    Lemma("cleared", "a room that is cleared is over: the system may sweep its handles", _cleared),
    Lemma("first cause", "a room is faulted exactly in the latched states, and its cause is the first", _first_cause),
    Lemma("said", "done is Success said, sticky_failed is Failed said, and nothing else is either", _said),
    Lemma("told", "the peers were told what the owner was told", _told),
    Lemma("no stray", "no handle is lost, and none is used after its release", _no_stray),
    Lemma("released late", "no handle is released before it has settled", _released_late),
    Lemma(
        "quiesced", "nothing is in flight in a room that has answered, is quarantined or is an earlier one", _quiesced
    ),
    Lemma("quarantined", "pages are quarantined exactly once Failed is said", _quarantined),
    Lemma("in doubt", "a room's handles are given up only when it is quarantined", _in_doubt),
    Lemma("done", "in done every handle of every chunk to every peer is DONE", _done),
    Lemma("no leak", "a room that has answered holds no settled handle", _no_leak),
    Lemma("well", "in idle and sending every handle is in flight or DONE", _well),
)


def _sticky(relation: Relation, step: Transition) -> z3.BoolRef:
    before = relation.before
    if step.act is Act.OPEN:
        return z3.BoolVal(True)
    return z3.Or(_silent(before), step.after.said == before.said)


def _answer(_relation: Relation, step: Transition) -> z3.BoolRef:
    if step.act is not Act.POLL:
        return z3.BoolVal(True)
    word = {Reply.SUCCESS: Told.SUCCESS, Reply.FAILED: Told.FAILURE}.get(step.reply, Told.NOTHING)
    return step.after.said == TOLD(word)


def _no_requery(relation: Relation, step: Transition) -> z3.BoolRef:
    return z3.Not(z3.And(z3.BoolVal(step.asks), relation.before.said == TOLD(Told.FAILURE)))


def _success(relation: Relation, step: Transition) -> z3.BoolRef:
    if step.reply is not Reply.SUCCESS or step.seen is None:
        return z3.BoolVal(True)
    before = relation.before
    complete = z3.And(before.closed, count(step.seen, DONE) == step.after.made)
    return both([z3.Not(step.after.faulted), z3.Implies(_silent(before), complete)])


def _blame(_relation: Relation, step: Transition) -> z3.BoolRef:
    if step.reply is not Reply.FAILED:
        return z3.BoolVal(True)
    return step.after.faulted


def _completes(relation: Relation, step: Transition) -> z3.BoolRef:
    """Asked of polls that find everything finished, whatever the clock says."""
    if step.act is not Act.POLL or step.reply is Reply.SUCCESS:
        return z3.BoolVal(True)
    before = relation.before
    landed = bytes(code for code, handle in enumerate(HANDLES, 1) if handle.landed and code in IN_FLIGHT)
    finished = count(before.own, DONE + landed) == before.made
    return z3.Not(both([_silent(before), z3.Not(before.faulted), before.closed, finished]))


def _kept(relation: Relation, step: Transition) -> z3.BoolRef:
    before = relation.before
    if step.act is Act.OPEN:
        return z3.BoolVal(True)
    return z3.Or(before.cause == CAUSE(Cause.NONE), step.after.cause == before.cause)


def _posts(relation: Relation, step: Transition) -> z3.BoolRef:
    before = relation.before
    if step.act not in (Act.SEND, Act.SEND_LAST):
        return step.after.posted == before.posted
    over = either([before.faulted, before.closed, z3.Not(_silent(before))])
    return z3.And(z3.Not(over), step.after.posted == before.posted + 1)


def _allowed(_relation: Relation, step: Transition) -> z3.BoolRef:
    return z3.Not(step.broken)


def _raises(relation: Relation, step: Transition) -> z3.BoolRef:
    if step.act is not Act.FAILURE_EXCEPTION:
        return z3.BoolVal(True)
    if step.reply is Reply.RAISES_CAUSE:
        return relation.before.faulted
    return z3.And(z3.Not(relation.before.faulted), z3.BoolVal(step.reply is Reply.RAISES_USAGE))


def _reports(relation: Relation, step: Transition) -> z3.BoolRef:
    if step.act is not Act.POLL or step.seen is None:
        return z3.BoolVal(True)
    reports = z3.And(_silent(relation.before), z3.Not(_silent(step.after)))
    quiet = z3.And(count(step.seen, IN_FLIGHT) == 0, z3.Or(step.after.quarantined, count(step.seen, DOUBTFUL) == 0))
    settled = count(step.seen, UNSETTLED) == 0
    return z3.Implies(reports, z3.And(quiet, z3.Or(relation.choice.drained, settled)))


def _releases(relation: Relation, step: Transition) -> z3.BoolRef:
    if step.act is not Act.POLL or step.seen is None:
        return z3.BoolVal(True)
    held = bytes(code for code in HELD if code not in UNSETTLED)
    return z3.Or(z3.Not(_silent(relation.before)), count(step.seen, held) == 0)


def _same(relation: Relation, step: Transition) -> z3.BoolRef:
    """Nothing has changed but handles."""
    pairs = zip(_control(relation.before), _control(step.after), strict=True)
    return both(equal(before, after) for before, after in pairs)


def _control(state: Abstract) -> list[Term]:
    return [term for name, term in state.terms() if name.partition(" ")[0] not in ("own", "old")]


def equal(left: Term, right: Term) -> z3.BoolRef:
    """Two terms of one sort are the same."""
    if isinstance(left, z3.BoolRef) and isinstance(right, z3.BoolRef):
        return left == right
    if isinstance(left, z3.ArithRef) and isinstance(right, z3.ArithRef):
        return left == right
    assert isinstance(left, z3.DatatypeRef), left
    assert isinstance(right, z3.DatatypeRef), right
    return left == right


def _late(relation: Relation, step: Transition) -> z3.BoolRef:
    return _same(relation, step) if step.act in (Act.FINISH, Act.SWEEP) else z3.BoolVal(True)


def _owner(relation: Relation, step: Transition) -> z3.BoolRef:
    before, after = relation.before, step.after
    cleared = replace(step, after=replace(after, cleared=before.cleared))
    over = z3.Or(before.faulted, z3.Not(_silent(before)))
    if step.act is Act.ABORT:
        return z3.If(over, _same(relation, step), _latched(after))
    if step.act is Act.CLEAR:
        return z3.And(after.cleared, z3.If(over, _same(relation, cleared), _latched(after)))
    return z3.BoolVal(True)


def _fresh(relation: Relation, step: Transition) -> z3.BoolRef:
    if step.act is not Act.OPEN:
        return z3.And(step.after.base == relation.before.base, step.after.made_before == relation.before.made_before)
    before = relation.before
    begun = replace(relation.initial, base=before.posted, posted=before.posted)
    made_before = before.made + before.made_before
    expected = _control(replace(begun, made_before=made_before))
    pairs = zip(expected, _control(step.after), strict=True)
    return both([*(equal(left, right) for left, right in pairs), _none(step.after, step.after.own)])


STEP_LEMMAS: Final = (
    StepLemma("sticky", "what was said stays said until the room id is opened again", _sticky),
    StepLemma("answer", "poll() answers what is said, from the first time on", _answer),
    StepLemma("no requery", "poll() in sticky_failed asks nothing", _no_requery),
    StepLemma(
        "success", "Success without a fault, after the last chunk, when every handle of every chunk is DONE", _success
    ),
    StepLemma("blame", "Failed only after a fault", _blame),
    StepLemma("completes", "once everything has finished, poll() answers Success, late or not", _completes),
    StepLemma("kept", "a cause stays until the room id is opened again", _kept),
    StepLemma("posts", "nothing is posted but by a send(), and nothing after a fault or the last chunk", _posts),
    StepLemma("allowed", "no forbidden input, and no second word to the peers", _allowed),
    StepLemma("raises", "failure_exception() raises the cause after a fault, a usage error otherwise", _raises),
    StepLemma(
        "reports", "at the report all has settled or had its time, and what is in doubt is quarantined", _reports
    ),
    StepLemma("releases", "a poll() that asks keeps no settled handle", _releases),
    StepLemma("late events", "the transport and the sweep change nothing but handles", _late),
    StepLemma("abort and clear", "they fail a live room, and change no other", _owner),
    StepLemma("room isolation", "a room id that is opened again begins as if it were new; nothing else does", _fresh),
)


# ---------------------------------------------------------------------------------------------------- the rankings


class Deed(NamedTuple):
    """A deed that is not put off for ever, and the states in which it helps."""

    name: str
    helps: z3.BoolRef
    is_done_by: Callable[[Transition], z3.BoolRef]
    """Of the steps, which are this deed; it may depend on what the world chooses."""


@dataclass(frozen=True)
class Ranking:
    name: str
    text: str
    short: Callable[[Abstract], z3.BoolRef]
    """The goal is not reached, and is owed."""
    rank: Callable[[Relation, Abstract], Sequence[z3.ArithRef]]
    deeds: Callable[[Relation, Abstract], Sequence[Deed]]
    ends: frozenset[Act]
    """Steps after which nothing is owed any more."""
    ignores: frozenset[Act] = frozenset()
    """Steps that do not happen."""


def _phase(state: Abstract) -> z3.ArithRef:
    return z3.If(_alive(state), z3.IntVal(2), z3.IntVal(1))


def _left(relation: Relation, state: Abstract) -> z3.ArithRef:
    return relation.chunks - state.posted


def _sends(state: Abstract) -> z3.BoolRef:
    return z3.And(_alive(state), z3.Not(state.closed))


def _acts(*acts: Act) -> Callable[[Transition], z3.BoolRef]:
    return lambda step: z3.BoolVal(step.act in acts)


def _answering_rank(relation: Relation, state: Abstract) -> Sequence[z3.ArithRef]:
    return (_phase(state), _left(relation, state), count(state.own, _FLYING))


def _answering_deeds(_relation: Relation, state: Abstract) -> Sequence[Deed]:
    flying = count(state.own, _FLYING) > 0
    waits = z3.Not(_sends(state))
    return (
        Deed("send", _sends(state), _acts(Act.SEND, Act.SEND_LAST)),
        Deed(
            "finish",
            z3.And(waits, flying),
            lambda step: z3.BoolVal(step.act is Act.FINISH and step.own),
        ),
        Deed("poll", z3.And(waits, z3.Not(flying)), _acts(Act.POLL)),
    )


def _silent_deeds(relation: Relation, state: Abstract) -> Sequence[Deed]:
    flying = count(relation.before.own, _FLYING) > 0
    choice = relation.choice
    raised = total(choice.raising.values()) > 0
    # Where nothing flies, or the room has failed already, there is no transfer deadline to wait for.
    in_time = either([choice.late, raised, z3.Not(flying), z3.Not(_alive(relation.before))])
    return (
        Deed("send", _sends(state), _acts(Act.SEND, Act.SEND_LAST)),
        Deed(
            "poll after the deadlines",
            z3.Not(_sends(state)),
            lambda step: both([z3.BoolVal(step.act is Act.POLL), choice.drained, in_time]),
        ),
    )


def _swept(state: Abstract, which: Iterable[int]) -> z3.ArithRef:
    """How many of the handles are the system's business and have one of these codes."""
    which = tuple(which)
    return count(state.old, which) + z3.If(state.over, count(state.own, which), z3.IntVal(0))


def _sweeping_rank(relation: Relation, state: Abstract) -> Sequence[z3.ArithRef]:
    # A room that ends hands its handles over: they are counted until then, so that this is no step back.
    kept = z3.If(state.over, z3.IntVal(0), state.made)
    return (_left(relation, state), kept, _swept(state, SILENT))


def _sweeping_deeds(_relation: Relation, state: Abstract) -> Sequence[Deed]:
    flying = _swept(state, SILENT) > 0
    return (
        Deed(
            "finish",
            flying,
            lambda step: z3.And(z3.BoolVal(step.act is Act.FINISH), z3.Or(z3.BoolVal(not step.own), step.after.over)),
        ),
        Deed("sweep", z3.Not(flying), _acts(Act.SWEEP)),
    )


RANKINGS: Final = (
    Ranking(
        "answers",
        "where every handle settles, poll() ends in Success or Failed: (phase, chunks left, handles in flight)",
        _silent,
        _answering_rank,
        _answering_deeds,
        ends=frozenset({Act.OPEN}),
    ),
    Ranking(
        "answers in time",
        "where no handle ever finishes, the deadlines end poll() in Failed: (phase, chunks left)",
        _silent,
        lambda relation, state: (_phase(state), _left(relation, state)),
        _silent_deeds,
        ends=frozenset({Act.OPEN}),
        ignores=frozenset({Act.FINISH}),
    ),
    Ranking(
        "leaves nothing",
        "what a room leaves behind is released: (chunks left, handles not yet left behind, in flight)",
        lambda state: _swept(state, (*HELD, STRAY)) > 0,
        _sweeping_rank,
        _sweeping_deeds,
        ends=frozenset(),
    ),
)


def _lower(after: Sequence[z3.ArithRef], before: Sequence[z3.ArithRef]) -> z3.BoolRef:
    """Compared like words: the first number that differs decides."""
    if not after:
        return z3.BoolVal(False)
    return z3.Or(after[0] < before[0], z3.And(after[0] == before[0], _lower(after[1:], before[1:])))


def _equal(after: Sequence[z3.ArithRef], before: Sequence[z3.ArithRef]) -> z3.BoolRef:
    return both(left == right for left, right in zip(after, before, strict=True))


# -------------------------------------------------------------------------------------------------------- the proof


class _Owed(NamedTuple):
    """An obligation: under what is assumed of the step, ``claim``."""

    lemma: str
    action: str
    claim: z3.BoolRef


def discharge(relation: Relation, *, lemmas: bool = True, rankings: Sequence[Ranking] = RANKINGS) -> SmtResult:
    """Ask z3 for every obligation. Without ``lemmas`` these are taken for granted; that is for planting faults."""
    start = time.process_time()
    return _Proof(relation, lemmas, rankings).result(start)


class _Proof:
    def __init__(self, relation: Relation, lemmas: bool, rankings: Sequence[Ranking]) -> None:
        self.relation: Final = relation
        self.lemmas: Final = LEMMAS if lemmas else ()
        self.step_lemmas: Final = STEP_LEMMAS if lemmas else ()
        self.rankings: Final = rankings
        self.obligations = 0
        self.failures: list[Failure] = []

    def result(self, start: float) -> SmtResult:
        relation = self.relation
        begins = [z3.And(relation.chunks >= 1, relation.peers >= 1)]
        self._ask(
            begins, [_Owed(lemma.name, "init", lemma.holds(relation, relation.initial)) for lemma in self.lemmas], None
        )
        assumed = [lemma.holds(relation, relation.before) for lemma in LEMMAS]
        self._ask(assumed, list(self._in_general()), None)
        for step in relation.transitions:
            self._ask([*assumed, step.guard], list(self._of_step(step)), step)
        failed = tuple(self.failures)
        return SmtResult(self.obligations, self.obligations - len(failed), failed, time.process_time() - start)

    def _of_step(self, step: Transition) -> Iterator[_Owed]:
        relation = self.relation
        for lemma in self.lemmas:
            yield _Owed(lemma.name, str(step), lemma.holds(relation, step.after))
        for about in self.step_lemmas:
            yield _Owed(about.name, str(step), about.holds(relation, step))
        for ranking in self.rankings:
            if step.act not in ranking.ends | ranking.ignores:
                yield from self._ranked(ranking, step)

    def _ranked(self, ranking: Ranking, step: Transition) -> Iterator[_Owed]:
        relation = self.relation
        before, after = ranking.rank(relation, relation.before), ranking.rank(relation, step.after)
        better = z3.Or(z3.Not(ranking.short(step.after)), _lower(after, before))
        deeds = zip(ranking.deeds(relation, relation.before), ranking.deeds(relation, step.after), strict=True)
        for deed, still in deeds:
            helps = z3.And(ranking.short(relation.before), deed.helps)
            waits = z3.And(_equal(after, before), still.helps)
            step_helps = deed.is_done_by(step)
            claim = z3.Or(better, z3.And(waits, z3.Not(step_helps)))
            yield _Owed(f"{ranking.name}: {deed.name}", str(step), z3.Implies(helps, claim))

    def _in_general(self) -> Iterator[_Owed]:
        """A ranking is of natural numbers, some deed helps everywhere, and it is possible there."""
        relation = self.relation
        for ranking in self.rankings:
            short = ranking.short(relation.before)
            natural = both(n >= 0 for n in ranking.rank(relation, relation.before))
            yield _Owed(ranking.name, "every rank is natural", z3.Implies(short, natural))
            deeds = ranking.deeds(relation, relation.before)
            yield _Owed(ranking.name, "some deed helps", z3.Implies(short, either(deed.helps for deed in deeds)))
            for deed in deeds:
                possible = either(
                    self._can(z3.And(step.guard, deed.is_done_by(step)))
                    for step in relation.transitions
                    if step.act not in ranking.ignores
                )
                claim = z3.Implies(z3.And(short, deed.helps), possible)
                yield _Owed(f"{ranking.name}: {deed.name}", "is possible", claim)

    def _can(self, when: z3.BoolRef) -> z3.BoolRef:
        """The world can choose so: it can if nothing raises, with the deadlines passed or not."""
        choice = self.relation.choice
        raising = (*choice.raising.values(), *choice.raising_old.values())
        calm: list[tuple[z3.ExprRef, z3.ExprRef]] = [(n, z3.IntVal(0)) for n in raising]
        calm += [(choice.accepting, z3.IntVal(0)), (choice.drained, z3.BoolVal(True))]
        return either(z3.substitute(when, *calm, (choice.late, z3.BoolVal(late))) for late in (False, True))

    def _ask(self, assumed: Iterable[z3.BoolRef], owed: Sequence[_Owed], step: Transition | None) -> None:
        """All at once, and each by itself only where they do not all hold: the answer is the same, and sooner there."""
        solver = z3.Solver()
        solver.set("timeout", TIMEOUT_MS)
        solver.add(*assumed)
        self.obligations += len(owed)
        if self._refuted(solver, both(one.claim for one in owed), step) is None:
            return
        for one in owed:
            text = self._refuted(solver, one.claim, step)
            if text is not None:
                self.failures.append(Failure(one.lemma, one.action, text))

    def _refuted(self, solver: z3.Solver, claim: z3.BoolRef, step: Transition | None) -> str | None:
        """Why the claim does not follow, in words; None where it does."""
        solver.push()
        solver.add(z3.Not(claim))
        answer = solver.check()
        if answer == z3.unsat:
            text = None
        elif answer == z3.sat:
            text = self._in_words(solver.model(), step)
        else:
            text = f"z3 has no answer: {solver.reason_unknown()}"
        solver.pop()
        return text

    def _in_words(self, model: z3.ModelRef, step: Transition | None) -> str:
        """A counterexample: the bounds, the state before, and what the step changes."""
        relation = self.relation
        before = _values(model, relation.before)
        bounds = [f"{_value(model, relation.chunks)} chunks", f"{_value(model, relation.peers)} peers"]
        words = [", ".join([*bounds, *(_word(name, value) for name, value in before.items() if value not in _DULL)])]
        if step is not None:
            after = _values(model, step.after)
            words += [", ".join(_word(name, value) for name, value in after.items() if value != before[name])]
        return " -> ".join(words)


_DULL: Final = ("0", "no", "NONE", "NOTHING")
"""What goes without saying."""


def _values(model: z3.ModelRef, state: Abstract) -> dict[str, str]:
    return {name: _value(model, term) for name, term in state.terms()}


def _value(model: z3.ModelRef, term: Term) -> str:
    value = model.eval(term, model_completion=True)
    if isinstance(value, z3.BoolRef):
        return "yes" if z3.is_true(value) else "no"
    return str(value.as_long()) if isinstance(value, z3.IntNumRef) else value.decl().name().partition(".")[2]


def _word(name: str, value: str) -> str:
    if value == "yes":
        return name
    return f"not {name}" if value == "no" else f"{name} {value}"
