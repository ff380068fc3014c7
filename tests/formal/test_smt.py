"""The proof for any number of chunks and peers: that it succeeds, that it can fail, and that it is about the model."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import pytest
import z3
from tests.formal import tables
from tests.formal.counted import Counted, explicit_graph
from tests.formal.interpreted import Model

from kvsender_spec.formal.engines.engine import ToolMissing
from kvsender_spec.formal.model.handles import CREATED, FLYING, STRAY, Handle, code_of
from kvsender_spec.formal.model.state import Act, Bounds, Cause, Told
from kvsender_spec.formal.mutate import mutants
from kvsender_spec.formal.rules import SPEC, Rules, ill_formed
from kvsender_spec.formal.smt.abstract import CAUSE, LOGICAL, TOLD, Abstract, Transition
from kvsender_spec.formal.smt.discharge import SmtResult, discharge
from kvsender_spec.formal.smt.lemmas import LEMMAS, STEP_LEMMAS
from kvsender_spec.formal.smt.proof import prove
from kvsender_spec.formal.smt.rankings import RANKINGS, Ranking
from kvsender_spec.formal.smt.relation import Relation
from kvsender_spec.machine import HandleState, Reply, State

WRONG_TABLES: Final = {
    "forgets the pages": (tables.FORGETS_THE_PAGES, "quarantined"),
    "loses handles": (tables.LOSES_HANDLES, "no stray"),
    "never closes": (tables.NEVER_CLOSES, "open"),
    "abort is lost": (tables.ABORT_IS_LOST, "KS-5.1"),
}
ENDLESS: Final = {
    "observe in sending if deadline_passed: no such row": {"answers in time"},
    "answer in failed if may_report: no such row": {"KS-3.4", "answers", "answers in time"},
}
"""Tables under which no state is bad, and nothing good happens: the second has polls that break a promise (KS-3.4)."""
_T = TypeVar("_T")
SMALL: Final = (Bounds(1, 1), Bounds(2, 1), Bounds(1, 2), Bounds(2, 2), Bounds(3, 1))


@pytest.fixture(scope="module")
def relation() -> Relation:
    return Relation(SPEC)


def lost(result: SmtResult) -> set[str]:
    """The lemmas and rankings that are not proved any more."""
    return {failure.lemma.partition(":")[0] for failure in result.failures}


# ----------------------------------------------------------------------------------------------------- it succeeds


def test_everything_is_proved_in_five_seconds() -> None:
    result = prove()
    assert result.failures == ()
    assert result.proved == result.obligations > 1500
    assert result.seconds < 5


# ----------------------------------------------------------------------------------------------------- it can fail


@pytest.mark.parametrize("name", WRONG_TABLES)
def test_a_wrong_table_is_not_proved_safe(name: str) -> None:
    rules, lemma = WRONG_TABLES[name]
    assert ill_formed(rules) is None
    result = prove(rules)
    assert lemma in lost(result)
    assert result.proved == result.obligations - len(result.failures)
    assert all(" chunks, " in failure.text for failure in result.failures), "the counterexample in words"


@pytest.mark.parametrize("name", ENDLESS)
def test_a_table_under_which_nothing_ends_loses_a_ranking_and_no_lemma_about_states(name: str) -> None:
    rules = next(mutant.rules for mutant in mutants() if mutant.what == name)
    assert ill_formed(rules) is None
    assert lost(prove(rules)) == ENDLESS[name]


@dataclass(frozen=True)
class Bent:
    """A transition that does something else than the tables say."""

    act: Act
    bend: Callable[[Relation, Transition], Transition]

    def of(self, relation: Relation) -> Relation:
        bent = copy.copy(relation)
        bent.transitions = tuple(self.bend(relation, step) for step in relation.transitions if step.act is self.act)
        return bent


def after(act: Act, change: Callable[[Relation, Abstract], Abstract]) -> Bent:
    """It leads elsewhere."""
    return Bent(act, lambda relation, step: replace(step, after=change(relation, step.after)))


def more(act: Act, code: int) -> Bent:
    """One handle more."""
    return after(act, lambda _, state: replace(state, own={**state.own, code: state.own[code] + 1}))


def reply(act: Act, new: Reply) -> Bent:
    return Bent(act, lambda _, step: replace(step, reply=new))


NO, YES = z3.BoolVal(False), z3.BoolVal(True)
DONE_HELD = code_of(Handle(HandleState.DONE))
IN_DOUBT = code_of(Handle(HandleState.IN_DOUBT))
BENT: Final = {
    "numbers": after(Act.OPEN, lambda r, s: replace(s, posted=r.chunks + 1)),
    "accounts": after(Act.SEND_NOTHING, lambda _, s: replace(s, made=s.made + 1)),
    "every chunk": after(Act.OPEN, lambda _, s: replace(s, made_before=z3.IntVal(0))),
    "idle": after(Act.SEND, lambda _, s: replace(s, logical=LOGICAL(State.IDLE))),
    "closed": after(Act.ABORT, lambda _, s: replace(s, closed=YES)),
    "open": after(Act.SEND_LAST, lambda _, s: replace(s, closed=NO)),
    "cleared": after(Act.SEND_NOTHING, lambda _, s: replace(s, cleared=YES)),
    "first cause": after(Act.ABORT, lambda _, s: replace(s, cause=CAUSE(Cause.LATER))),
    "said": after(Act.POLL, lambda _, s: replace(s, said=TOLD(Told.NOTHING))),
    "told": after(Act.POLL, lambda _, s: replace(s, told=TOLD(Told.NOTHING))),
    "no stray": more(Act.FINISH, STRAY),
    "quiesced": more(Act.POLL, FLYING),
    "quarantined": after(Act.POLL, lambda _, s: replace(s, quarantined=NO)),
    "in doubt": more(Act.ABORT, IN_DOUBT),
    "done": more(Act.FINISH, FLYING),
    "no leak": more(Act.POLL, DONE_HELD),
    "well": more(Act.SEND, CREATED),
    "KS-1.2": Bent(Act.POLL, lambda _, step: replace(step, troubled=YES)),
    "KS-2.1": reply(Act.POLL, Reply.TRANSFERRING),
    "KS-2.2": reply(Act.POLL, Reply.SUCCESS),
    "KS-2.3": after(Act.ABORT, lambda _, s: replace(s, cause=CAUSE(Cause.LATER))),
    "KS-2.4": after(Act.CLEAR, lambda _, s: replace(s, cause=CAUSE(Cause.NONE))),
    "KS-2.5": Bent(Act.POLL, lambda _, step: replace(step, act=Act.SEND)),
    "KS-2.6": Bent(Act.POLL, lambda _, step: replace(step, asks=True)),
    "KS-2.7": reply(Act.FAILURE_EXCEPTION, Reply.RAISES_USAGE),
    "KS-3.1": reply(Act.POLL, Reply.SUCCESS),
    "KS-3.3": reply(Act.POLL, Reply.SUCCESS),
    "KS-3.3 (2)": after(Act.SEND, lambda _, s: replace(s, logical=LOGICAL(State.IDLE))),
    "KS-3.4": after(Act.POLL, lambda _, s: replace(s, said=TOLD(Told.NOTHING))),
    "KS-3.5": reply(Act.POLL, Reply.FAILED),
    "KS-3.6": reply(Act.POLL, Reply.TRANSFERRING),
    "KS-4.1": Bent(Act.POLL, lambda _, step: replace(step, seen={FLYING: z3.IntVal(1)})),
    "KS-4.3": Bent(Act.POLL, lambda _, step: replace(step, seen={DONE_HELD: z3.IntVal(1)})),
    "KS-4.4": Bent(
        Act.POLL,
        lambda _, step: replace(step, seen={IN_DOUBT: z3.IntVal(1)}, after=replace(step.after, quarantined=NO)),
    ),
    "KS-5.1": after(Act.ABORT, lambda _, s: replace(s, closed=YES)),
    "KS-5.2": after(Act.CLEAR, lambda _, s: replace(s, cleared=NO)),
    "KS-5.3": after(Act.SWEEP, lambda _, s: replace(s, cleared=NO)),
    "KS-5.4": after(Act.OPEN, lambda _, s: replace(s, faulted=YES)),
    "KS-6.1": after(Act.POLL, lambda _, s: replace(s, told=TOLD(Told.NOTHING))),
    "success": Bent(Act.POLL, lambda _, step: replace(step, reply=Reply.SUCCESS, seen={})),
    "posts": after(Act.POLL, lambda _, s: replace(s, posted=s.posted + 1)),
    "allowed": Bent(Act.ABORT, lambda _, step: replace(step, broken=YES)),
    "reports": Bent(Act.POLL, lambda _, step: replace(step, seen={FLYING: z3.IntVal(1)})),
    "room isolation": after(Act.OPEN, lambda _, s: replace(s, made=s.made + 1)),
}
"""For each lemma a transition that does not keep it."""


def test_each_lemma_has_a_planted_fault() -> None:
    lemmas = {lemma.name for lemma in LEMMAS} | {lemma.name for lemma in STEP_LEMMAS}
    # The counter that this one is about is there only where a table leads to it: it has a test of its own.
    assert lemmas - BENT.keys() == {"released late"}
    assert BENT.keys() <= lemmas


@pytest.mark.parametrize("lemma", BENT)
def test_a_transition_that_does_not_keep_a_lemma_is_found(lemma: str, relation: Relation) -> None:
    result = discharge(BENT[lemma].of(relation), rankings=())
    # Without the bend the same transitions keep it.
    unbent = copy.copy(relation)
    unbent.transitions = tuple(step for step in relation.transitions if step.act is BENT[lemma].act)
    assert lemma in lost(result)
    assert discharge(unbent, rankings=()).failures == ()


def test_a_release_in_flight_is_found() -> None:
    early = replace(SPEC, releasable=SPEC.releasable | {HandleState.IN_FLIGHT})
    assert "released late" in lost(prove(early))


def test_a_beginning_that_breaks_a_lemma_is_found(relation: Relation) -> None:
    late = copy.copy(relation)
    late.initial = replace(relation.initial, said=TOLD(Told.SUCCESS))
    begins = {failure.lemma for failure in discharge(late).failures if failure.action == "init"}
    assert begins == {"said", "told"}


@pytest.mark.parametrize("ranking", RANKINGS, ids=lambda ranking: ranking.name)
def test_a_ranking_can_fail_in_each_of_its_obligations(ranking: Ranking, relation: Relation) -> None:
    def failures(changed: Ranking, about: Relation = relation) -> set[str]:
        return {failure.action for failure in discharge(about, lemmas=False, rankings=[changed]).failures}

    assert failures(ranking) == set()
    below = replace(ranking, rank=lambda r, s: [z3.IntVal(-1), *ranking.rank(r, s)])
    assert failures(below) == {"every rank is natural"}
    # Every helpful action is needed: without it there are states in which nothing helps.
    for number in range(len(ranking.helpful(relation, relation.before))):
        assert "some action helps" in failures(without_helpful(ranking, number))
    impossible = replace(
        ranking, helpful=lambda r, s: [action._replace(is_done_by=nobody) for action in ranking.helpful(r, s)]
    )
    assert failures(impossible) == {"is possible"}
    # Every number of the rank is needed: without it some step is no progress.
    for number in range(len(ranking.rank(relation, relation.before))):
        assert failures(without_number(ranking, number)) & {str(step) for step in relation.transitions}
    idle = copy.copy(relation)
    idle.transitions = tuple(replace(step, after=relation.before) for step in relation.transitions)
    assert failures(ranking, idle)


def without_helpful(ranking: Ranking, number: int) -> Ranking:
    return replace(ranking, helpful=lambda r, s: without(ranking.helpful(r, s), number))


def without_number(ranking: Ranking, number: int) -> Ranking:
    return replace(ranking, rank=lambda r, s: without(ranking.rank(r, s), number))


def without(these: Sequence[_T], number: int) -> list[_T]:
    return [one for n, one in enumerate(these) if n != number]


def nobody(_step: Transition) -> z3.BoolRef:
    return z3.BoolVal(False)


def test_no_answer_is_no_proof(monkeypatch: pytest.MonkeyPatch, relation: Relation) -> None:
    monkeypatch.setattr(z3.Solver, "check", lambda _solver: z3.unknown)
    monkeypatch.setattr(z3.Solver, "reason_unknown", lambda _solver: "timeout")
    result = discharge(relation)
    assert result.proved == 0
    assert {failure.text for failure in result.failures} == {"z3 has no answer: timeout"}


def test_undecided_tables_are_refused() -> None:
    with pytest.raises(ValueError, match="decided by nothing"):
        prove(tables.UNDECIDED)


def test_without_z3_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("relation", "discharge"):
        monkeypatch.delitem(sys.modules, f"kvsender_spec.formal.smt.{module}")
    monkeypatch.setitem(sys.modules, "z3", None)
    with pytest.raises(ToolMissing, match="pip install z3-solver"):
        prove()


# ------------------------------------------------------------------------------------------- it is about the model


@pytest.mark.parametrize("bounds", SMALL, ids=str)
def test_the_relation_is_the_explicit_model_with_its_handles_counted(bounds: Bounds, relation: Relation) -> None:
    counted, explicit = Counted(relation, bounds).graph(), explicit_graph(Model(SPEC, bounds), relation)
    assert counted.keys() == explicit.keys()
    for state, edges in explicit.items():
        assert counted[state] == edges, state


@pytest.mark.parametrize("rules", [*(rules for rules, _ in WRONG_TABLES.values()), tables.GIVES_UP_EARLY])
def test_so_it_is_for_tables_that_lead_elsewhere(rules: Rules) -> None:
    bounds, changed = Bounds(2, 1), Relation(rules)
    explicit = explicit_graph(Model(rules, bounds), changed)
    assert Counted(changed, bounds).graph() == explicit
    # And the comparison can fail: these tables are not the specification's.
    assert Counted(changed, bounds).graph() != explicit_graph(Model(SPEC, bounds), changed)


def test_the_python_is_what_z3_computes(relation: Relation) -> None:
    counted = Counted(relation, Bounds(1, 1))
    for state in counted.graph():
        for step, values, edge in counted.taken(state):
            terms = [step.guard, step.broken, *(term for _, term in step.after.terms())]
            assert counted.by_z3(values, *terms) == (1, int(edge.broken), *edge.after)
