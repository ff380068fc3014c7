"""The clauses as pytest tests of somebody's sender. A thin front over ``kvsender_spec.kit.check``.

    class TestMySender(SenderConformance):
        adapter = MyAdapter()
        deviations = {"KS-2.3": "the last cause is shown; fixed in 0.4, see issue 71"}

gives one test for each clause, ``test_clause[KS-2.3]``. The sender is explored once for a class, by the first test
that runs, and only what broke is shortened; the workers of pytest-xdist share that one exploration (``sharing``). How a
verdict becomes the outcome of a test:

* pass: passed.
* fail of a MUST clause: failed, with the clause, what was expected and observed, and the shortest trace found.
* fail of a SHOULD clause: skipped, with "SHOULD not met"; failed where the class sets ``strict = True``. A rule that a
  sender may break for a good reason must not turn its CI red, and must not look kept either.
* inconclusive or error: failed, at either level. A clause that was never observed must not look kept.
* not applicable: skipped, with what the sender does not claim or lacks.

A deviation excuses a clause that *fails*, with a reason, as an expected failure, and with it what is only ever broken
after that clause. It does not excuse a broken adapter or a clause that was not observed, which a mark would do; and a
deviation that is not needed is a failure. ``baseline`` names a file of them, as ``kvsender baseline`` writes it.

An adopter cannot silently weaken the suite. A subclass sets the six names in ``SETTINGS`` and marks other than xfail;
whatever else it defines is refused, so that no test, fixture or hook of this class can be overridden. What is wrong in
a declaration (an unknown id, an empty reason) is an error at collection. Marking the class with skip stays possible:
pytest reports it.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from contextlib import contextmanager
from functools import partial
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Literal, TypeAlias, final

import pytest
from rich.console import Console

from kvsender_spec.clauses import BY_ID, CLAUSES, Level
from kvsender_spec.deviations import Deviation, DeviationError, concerning, excused, read_baseline, require_sense
from kvsender_spec.kit.adapter import Adapter
from kvsender_spec.kit.check import Budget, check
from kvsender_spec.kit.parts import LoadError
from kvsender_spec.kit.sharing import Place, SharingError, place_of, shared
from kvsender_spec.observe.verdict import Outcome, Report, Verdict
from kvsender_spec.report.text import counterexample, relation

if TYPE_CHECKING:
    from collections.abc import Iterator

BudgetName: TypeAlias = Literal["quick", "ci", "nightly"]
SETTINGS: Final = ("adapter", "seed", "budget", "strict", "deviations", "baseline")
_MARKS: Final = "pytestmark"
_MADE_BY_PYTHON: Final = frozenset(
    {
        "__annotate__",
        "__annotate_func__",
        "__annotations__",
        "__annotations_cache__",
        "__dict__",
        "__doc__",
        "__firstlineno__",
        "__module__",
        "__qualname__",
        "__static_attributes__",
        "__weakref__",
    }
)


class DeclarationError(pytest.Collector.CollectError):
    """A subclass that would weaken the suite or that says what cannot be meant. pytest shows the message alone."""


class SenderConformance:
    """Subclass it under a name that pytest collects (``Test...``) and set ``adapter``; the rest is as you like."""

    adapter: ClassVar[Adapter]
    seed: ClassVar[int] = 0
    """The same seed explores the same in the same program; another process layout may explore otherwise."""
    budget: ClassVar[Budget | BudgetName] = "ci"
    """How much is tried. What a small budget does not observe fails as inconclusive, and does not pass."""
    strict: ClassVar[bool] = False
    """SHOULD clauses that are not met are failures as well."""
    deviations: ClassVar[Mapping[str, str]] = {}
    """Clauses that the sender is known to break, each with the reason."""
    baseline: ClassVar[Path | str | None] = None
    """A file of them: a path from the file of the class."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        _require_only_settings(cls)
        _require_sense(cls)

    @final
    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        cls = type(self)
        # Once more: a class can be changed after it was made, and its adapter may have come from a base class.
        _require_only_settings(cls)
        _require_sense(cls)
        _require_adapter(cls)
        _known(cls)
        if any(True for _ in metafunc.definition.iter_markers("xfail")):
            raise DeclarationError(
                f"{cls.__name__} is marked xfail, which would excuse every clause: name the clause in deviations"
            )
        _PLACES.setdefault(cls, place_of(metafunc.config, metafunc.definition.nodeid))
        marked = [pytest.param(c.id, id=c.id, marks=pytest.mark.kvsender_clause(c.id)) for c in CLAUSES]
        metafunc.parametrize("clause", marked)

    @final
    def test_clause(self, clause: str) -> None:
        cls = type(self)
        report = _report(cls)
        (verdict,) = (verdict for verdict in report.verdicts if verdict.clause.id == clause)
        _conclude(cls, report, verdict)


def _require_only_settings(cls: type[SenderConformance]) -> None:
    for found in inspect.classify_class_attrs(cls):
        # What is not in the order of bases is the metaclass's.
        theirs = found.defining_class in cls.__mro__ and found.defining_class not in (SenderConformance, object)
        if theirs and found.name not in (*SETTINGS, _MARKS) and found.name not in _MADE_BY_PYTHON:
            raise DeclarationError(
                f"{cls.__name__} may not define {found.name}: a subclass of SenderConformance sets only"
                f" {', '.join(SETTINGS)}; put other tests and fixtures outside the class"
            )


def _require_sense(cls: type[SenderConformance]) -> None:
    """Judge what a type checker would have refused, too: not everybody has one."""
    seed: object = cls.seed
    strict: object = cls.strict
    deviations: object = cls.deviations
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise DeclarationError(f"{cls.__name__}.seed is {seed!r}; write a whole number")
    if cls.budget not in list(Budget):
        known = " or ".join(repr(budget.value) for budget in Budget)
        raise DeclarationError(f"{cls.__name__}.budget is {cls.budget!r}; write {known}")
    if not isinstance(strict, bool):
        raise DeclarationError(f"{cls.__name__}.strict is {strict!r}; write True or False")
    if not isinstance(deviations, Mapping):
        raise DeclarationError(f'{cls.__name__}.deviations is no dict; write {{"KS-2.3": "the reason"}}')
    for clause, reason in cls.deviations.items():
        text: object = reason
        if clause not in BY_ID:
            raise DeclarationError(
                f"{cls.__name__}.deviations names {clause!r}, which is no clause; `kvsender list` shows them all"
            )
        if not isinstance(text, str) or not text.strip():
            raise DeclarationError(f"{cls.__name__}.deviations gives no reason for {clause}; say why it is broken")


def _known(cls: type[SenderConformance]) -> dict[str, Deviation]:
    """By clause, what the class and its baseline declare. Raises DeclarationError."""
    own = [Deviation(clause=clause, reason=reason) for clause, reason in cls.deviations.items()]
    path = None if cls.baseline is None else Path(inspect.getfile(cls)).parent / cls.baseline
    try:
        listed = () if path is None else read_baseline(path)
        require_sense([*own, *listed], str(path))
    except DeviationError as error:
        raise DeclarationError(f"{cls.__name__}.baseline: {error}") from error
    return concerning([*own, *listed], cls.adapter.name)


def _require_adapter(cls: type[SenderConformance]) -> None:
    if not hasattr(cls, "adapter"):
        raise DeclarationError(f"{cls.__name__} sets no adapter: write adapter = MyAdapter()")
    given: object = cls.adapter
    if inspect.isclass(given):
        raise DeclarationError(f"{cls.__name__}.adapter is a class; write adapter = MyAdapter(), with the brackets")
    missing = [name for name in ("name", "profile", "errors", "usage_errors", "open") if not hasattr(given, name)]
    if missing:
        raise DeclarationError(
            f"{cls.__name__}.adapter is no adapter: it lacks {', '.join(missing)}"
            " (see kvsender_spec.kit.adapter.Adapter)"
        )


_REPORTS: Final[dict[type[SenderConformance], Report]] = {}
"""By class, not as an attribute of one: a subclass of a checked class has an exploration of its own."""


_PLACES: Final[dict[type[SenderConformance], Place | None]] = {}
"""Where the workers of xdist share the report of a class: by the first test of its name, which is the same in each."""


def _report(cls: type[SenderConformance]) -> Report:
    if cls not in _REPORTS:
        explore = partial(check, cls.adapter, seed=cls.seed, examples=Budget(cls.budget).examples)
        with _silence():
            try:
                _REPORTS[cls] = shared(_PLACES.get(cls), explore)
            except (LoadError, SharingError) as error:
                pytest.fail(str(error), pytrace=False)
    return _REPORTS[cls]


@contextmanager
def _silence() -> Iterator[None]:
    """Keep what the sender logs out of pytest's report: injected faults make a careful one log thousands of times."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _conclude(cls: type[SenderConformance], report: Report, verdict: Verdict) -> None:
    """Turn one verdict into the outcome of one test."""
    clause, known = verdict.clause, _known(cls)
    title = f"{clause.id} {clause.name}"
    word = verdict.text
    declared, deviation = known.get(clause.id), excused(verdict, known)
    if declared is not None and not verdict.outcome.failed:
        why = f" ({verdict.note})" if verdict.note else ""
        where = "deviations" if clause.id in cls.deviations else f"baseline, {cls.baseline}"
        pytest.fail(
            f"{title} is declared as a deviation ({declared}), but its verdict is {word}{why}:"
            f" take it out of {cls.__name__}.{where}",
            pytrace=False,
        )
    match verdict.outcome:
        case Outcome.PASS:
            return
        case Outcome.NOT_APPLICABLE | Outcome.NOT_CLAIMED:
            pytest.skip(f"{title}: {word}, {verdict.note}")
        case Outcome.INCONCLUSIVE | Outcome.ERROR:
            pytest.fail(f"{title}: {word}, {verdict.note}\n  {clause.text}", pytrace=False)
        case Outcome.FAIL | Outcome.FAIL_AFTER:
            pass
    if deviation is not None:
        # Under --runxfail this does nothing, and the failure below is reported as any other.
        pytest.xfail(f"{title} is a declared deviation: {deviation}")
    found = None if verdict.evidence is None else verdict.evidence.violation
    if clause.level is Level.SHOULD and not cls.strict:
        seen = "" if found is None else f": expected {found.expected}, saw {found.observed}"
        pytest.skip(f"SHOULD not met: {title}{seen}")
    pytest.fail(f"{_shown(report, verdict)}  explored  {cls.adapter.name}, seed {cls.seed}, {cls.budget}", False)


def _shown(report: Report, verdict: Verdict) -> str:
    """The counterexample as the command prints it, without colours and without a width.

    One bug is one story: a clause that another one's trace breaks as well says so, and is not told again.
    """
    for group in report.groups:
        if verdict in group.consequences:
            cause, found = group.cause, None if verdict.evidence is None else verdict.evidence.violation
            seen = "" if found is None else f": expected {found.expected}; observed: {found.observed}"
            where = f"{relation(cause, verdict)}, which tells it in full (test_clause[{cause.clause.id}])"
            return f"{verdict.clause.id} {verdict.clause.name} ({verdict.clause.level.value}), {where}{seen}\n"
    others = next((group.consequences for group in report.groups if group.cause is verdict), ())
    text = StringIO()
    Console(file=text, color_system=None, highlight=False, soft_wrap=True).print(counterexample(verdict, others))
    return text.getvalue()
