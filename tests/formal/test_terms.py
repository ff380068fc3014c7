"""The language of predicates and effects: its renderings agree, and a wrong predicate is noticed by every engine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import z3
from hypothesis import given
from hypothesis import strategies as st
from tests.formal.tools import needs_spin, needs_tlc

from kvsender_spec.formal.engines import languages, promela, tla
from kvsender_spec.formal.engines.lowering import CHANGES
from kvsender_spec.formal.engines.spin import run_spin
from kvsender_spec.formal.engines.tlc import run_tlc
from kvsender_spec.formal.explicit import owed
from kvsender_spec.formal.explicit.search import explore_generated
from kvsender_spec.formal.model.handles import Kind
from kvsender_spec.formal.model.predicates import INVARIANTS, PROPERTIES, Predicate
from kvsender_spec.formal.model.state import Bounds, Cause, Control, Told
from kvsender_spec.formal.model.terms import (
    CONTROL,
    FALSE,
    TRUE,
    Atom,
    Before,
    Both,
    Change,
    Demand,
    Either,
    Iff,
    Implies,
    Is,
    Kept,
    Map,
    NoneOf,
    Not,
    Same,
    Scope,
    Set,
    Term,
    Text,
    Var,
    both,
    reduce,
    var,
)
from kvsender_spec.formal.rules import SPEC
from kvsender_spec.formal.smt import discharge, lemmas
from kvsender_spec.formal.smt.abstract import Formula
from kvsender_spec.formal.smt.relation import Relation
from kvsender_spec.machine import State

FLAGS = (Var.FAULTED, Var.CLOSED, Var.CLEARED)
TERMS: st.SearchStrategy[Term] = st.recursive(
    st.sampled_from([var(flag) for flag in FLAGS] + [var(flag, False) for flag in FLAGS]),
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(Both, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Either, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Implies, inner, inner),
        st.builds(Iff, inner, inner),
    ),
    max_leaves=8,
)


class PythonText(Text):
    def atom(self, atom: Atom, before: bool) -> str:
        assert isinstance(atom, Is)
        return f"({atom.var.value} is {atom.values[0]})"


@given(TERMS, st.lists(st.booleans(), min_size=3, max_size=3))
def test_three_renderings_of_a_term_agree(term: Term, values: list[bool]) -> None:
    known = dict(zip(FLAGS, values, strict=True))

    def decide(atom: Atom, _before: bool) -> bool:
        assert isinstance(atom, Is)
        return known[atom.var] in atom.values

    def half(atom: Atom, before: bool) -> bool | None:
        return decide(atom, before) if isinstance(atom, Is) and atom.var is Var.FAULTED else None

    as_text: object = eval(PythonText().of(term), {flag.value: value for flag, value in known.items()})
    formula = Formula(lambda which: z3.BoolVal(known[which])).of(term)
    assert reduce(term, decide) is (TRUE if as_text else FALSE)
    assert z3.is_true(z3.simplify(formula)) == as_text
    # What is left when a part is known comes to the same once the rest is.
    assert reduce(reduce(term, half), decide) is reduce(term, decide)


def test_before_and_kept_are_about_the_state_before() -> None:
    def known(atom: Atom, before: bool) -> bool | None:
        return before if isinstance(atom, Is) else None

    flag, kept = var(Var.CLOSED), Kept(Var.CLOSED)
    assert reduce(both(Before(flag), Not(flag)), known) is TRUE
    assert reduce(both(Before(flag), kept), known) == kept
    assert reduce(Before(NoneOf(Scope.OWN, Kind.STRAY)), known) == Before(NoneOf(Scope.OWN, Kind.STRAY))


def _read(terms: Iterable[Term]) -> set[Var]:
    """The variables in terms."""
    names: set[Var] = set()

    class Names(PythonText):
        def atom(self, atom: Atom, before: bool) -> str:
            names.update([atom.var] if isinstance(atom, Is | Kept) else [])
            names.update([atom.left, atom.right] if isinstance(atom, Same) else [])
            return "True"

    for term in terms:
        Names().of(term)
    return names


@pytest.mark.parametrize("name", CHANGES)
def test_no_change_reads_what_an_earlier_one_has_changed(name: str) -> None:
    """TLA+ takes the changes of an effect at once, the others one after the other."""
    changed: set[Var] = set()
    for change in CHANGES[name]:
        assert not read(change) & changed
        changed |= {change.var} if isinstance(change, Set) else set()


def read(change: Change) -> set[Var]:
    match change:
        case Set(which, value, when):
            return (_read([when]) | ({value} if isinstance(value, Var) else set())) - {which}
        case Map():
            return _read([change.when])
        case Demand():
            return _read([change.term])


def test_both_languages_write_every_value_of_a_state() -> None:
    values = [*State, *Cause, *Told, True, False, *Control()]
    assert len({languages.tla_value(value) for value in values}) == len({languages.promela_value(v) for v in values})
    assert {type(value) for value in Control()} <= {State, Cause, Told, bool, int}
    assert len(CONTROL) == len(Control())


# ---------------------------------------------------------------------------------------------- a wrong predicate


def wrong(rules: tuple[Predicate, ...], name: str) -> tuple[Predicate, ...]:
    """The predicates, one of them about something that a sender of the specification does not keep."""
    assert name in {rule.name for rule in rules}
    return tuple(replace(rule, term=Not(var(Var.CLEARED))) if rule.name == name else rule for rule in rules)


@needs_tlc
@pytest.mark.parametrize("name", [rule.name for rule in INVARIANTS])
def test_tlc_notices_a_wrong_predicate(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tla, "INVARIANTS", wrong(INVARIANTS, name))
    assert [found.property for found in run_tlc(SPEC, Bounds(1, 1), tmp_path, 60).violations] == [name]


@needs_spin
@pytest.mark.parametrize("name", [rule.name for rule in INVARIANTS])
def test_spin_notices_a_wrong_predicate(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promela, "INVARIANTS", wrong(INVARIANTS, name))
    assert [found.property for found in run_spin(SPEC, Bounds(1, 1), tmp_path, 60).violations] == [name]


def test_promela_refuses_a_predicate_that_a_loop_over_the_handles_would_change(monkeypatch: pytest.MonkeyPatch) -> None:
    some = Predicate("Some", "some handle is in flight", Not(NoneOf(Scope.OWN, Kind.IN_FLIGHT)))
    monkeypatch.setattr(promela, "INVARIANTS", (some,))
    with pytest.raises(TypeError, match="says more of handles"):
        promela.model(SPEC, Bounds(1, 1))


@pytest.mark.parametrize("rule", PROPERTIES, ids=lambda rule: rule.text)
def test_the_explorer_and_z3_notice_a_wrong_property(rule: Predicate, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = tuple(replace(one, term=Not(var(Var.CLEARED))) if one is rule else one for one in PROPERTIES)
    monkeypatch.setattr(owed, "PROPERTIES", changed)
    monkeypatch.setattr(owed, "_PROPERTIES_OF", {act: owed._of_act(act) for act in owed._PROPERTIES_OF})
    monkeypatch.setattr(owed, "_OWED", {})
    result, _ = explore_generated(SPEC, Bounds(1, 1))
    assert [(found.clause, found.text) for found in result.found] == [(rule.name, rule.text)]
    monkeypatch.setattr(lemmas, "PROPERTIES", changed)
    bad = next(one for one in changed if one.text == rule.text)
    monkeypatch.setattr(discharge, "STEP_LEMMAS", (lemmas._of_steps(bad),))
    failures = discharge.discharge(Relation(SPEC), rankings=()).failures
    assert {failure.lemma.partition(" ")[0] for failure in failures} == {rule.name}
