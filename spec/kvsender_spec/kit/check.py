"""The check as a plain function: an adapter in, a verdict per clause out. Needs no pytest and prints nothing."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final, NamedTuple, assert_never

from kvsender_spec.clauses import CLAUSES, Clause, Level, claimed
from kvsender_spec.contract import Abortable, Clearable
from kvsender_spec.kit.adapter import (
    Adapter,
    Attributes,
    HidesErrors,
    Notifies,
    Quarantines,
    Reconnects,
    Works,
)
from kvsender_spec.kit.calls import AdapterError
from kvsender_spec.kit.complete import SuiteReport, run_suite
from kvsender_spec.kit.drive import DEEDS, Run
from kvsender_spec.kit.explore import Breakdown, Counterexample, Exploration, explore, shorten
from kvsender_spec.kit.judge import Findings, Violation, show
from kvsender_spec.machine import Profile
from kvsender_spec.trace import Scene, Trace


class Budget(StrEnum):
    """How much a check may try."""

    QUICK = "quick"
    CI = "ci"
    NIGHTLY = "nightly"

    @property
    def examples(self) -> int:
        match self:
            case Budget.QUICK:
                return 100
            case Budget.CI:
                return 1000
            case Budget.NIGHTLY:
                return 10_000
            case _:
                assert_never(self)


EXAMPLES: Final = Budget.CI.examples
IMPORT_TIMEOUT_S: Final = 60.0


class Outcome(Enum):
    """A clause's verdict, the worst first."""

    FAIL = "fail"
    ERROR = "error"
    """The kit or the adapter broke."""
    INCONCLUSIVE = "inconclusive"
    """Never observed."""
    PASS = "pass"
    NOT_APPLICABLE = "not applicable"
    """The profile does not claim the clause, or the system lacks what it is about."""


@dataclass(frozen=True, slots=True)
class ClauseVerdict:
    clause: Clause
    outcome: Outcome
    observations: int
    note: str = ""
    counterexample: Counterexample | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """One check of one adapter."""

    adapter: str
    profile: Profile
    """The one that it was judged against."""
    seed: int
    runs: int
    steps: int
    verdicts: tuple[ClauseVerdict, ...]
    strict: bool = False
    """SHOULD clauses decide the exit code as MUST clauses do."""
    claims: Profile | None = None
    """What the adapter claims, where it was judged against another profile."""
    errors: tuple[Breakdown, ...] = ()
    """Where the adapter broke; those runs judge nothing."""
    suite: SuiteReport | None = None
    """The complete suite, where it was asked for."""

    def with_outcome(self, outcome: Outcome) -> tuple[ClauseVerdict, ...]:
        return tuple(verdict for verdict in self.verdicts if verdict.outcome is outcome)

    def counts(self, verdict: ClauseVerdict) -> bool:
        """Whether the verdict is one that decides the exit code."""
        if verdict.clause.level is not Level.MUST and not self.strict:
            return False
        match verdict.outcome:
            case Outcome.FAIL | Outcome.ERROR | Outcome.INCONCLUSIVE:
                return True
            case Outcome.PASS | Outcome.NOT_APPLICABLE:
                return False
            case _:
                assert_never(verdict.outcome)

    @property
    def exit_code(self) -> int:
        """0: every MUST clause that applies passes. 1: one fails. 3: none fails, but one could not be judged, or the
        adapter broke."""
        deciding = [verdict.outcome for verdict in self.verdicts if self.counts(verdict)]
        if self.suite is not None and self.suite_outcome not in (Outcome.PASS, Outcome.NOT_APPLICABLE):
            deciding.append(self.suite_outcome)
        if Outcome.FAIL in deciding:
            return 1
        return 3 if deciding or self.errors else 0

    @property
    def suite_outcome(self) -> Outcome:
        """What the complete suite came to; not applicable where it was not asked for.

        Words that are answered otherwise and break no clause leave it inconclusive: the sender conforms as far as
        anybody knows, and is not the machine for which the suite is complete.
        """
        suite = self.suite
        if suite is None or suite.not_applicable:
            return Outcome.NOT_APPLICABLE
        if suite.failed:
            return Outcome.FAIL
        if suite.error:
            return Outcome.ERROR
        return Outcome.PASS if suite.passed else Outcome.INCONCLUSIVE


_OWNERS_THREAD: Final = "KS-1.4"
"""An interrupt or an exit reaches the owner's thread only."""
_EXCEPTIONS: Final = "KS-1.3"
"""An error that is not the transport's can only be told from one that is where both are exceptions."""
_NEEDS: Final[dict[str, tuple[type, str]]] = {
    "KS-2.8": (Attributes, "attribution()"),
    "KS-4.4": (Quarantines, "quarantined_pages()"),
    "KS-6.1": (Notifies, "read_notice()"),
    "KS-6.3": (Reconnects, "reconnect()"),
    "KS-7.1": (Works, "workers()"),
}
"""What a system must define for a clause to be about it. The others are about every sender."""


_SENDER_NEEDS: Final[dict[str, tuple[type, str]]] = {
    "KS-5.1": (Abortable, "abort()"),
    "KS-5.2": (Clearable, "clear()"),
    "KS-5.3": (Clearable, "clear()"),
}
"""What a sender must."""


class Parts(NamedTuple):
    """A system and a sender of an adapter's, for what they are able to do."""

    system: object
    sender: object

    def lack(self, clause: str) -> str:
        """What is missing for a clause; empty if nothing is."""
        for part, what, needs in ((self.system, "system", _NEEDS), (self.sender, "sender", _SENDER_NEEDS)):
            capability, method = needs.get(clause, (object, ""))
            if not isinstance(part, capability):
                return f"the {what} has no {method}"
        return ""


class UnknownClause(ValueError):
    """A clause id that the specification does not have."""


def select(ids: Iterable[str]) -> frozenset[str]:
    """The ids, checked; all of them when none is given."""
    known = {clause.id for clause in CLAUSES}
    wanted = frozenset(ids)
    unknown = sorted(wanted - known)
    if unknown:
        raise UnknownClause(f"no such clause: {', '.join(unknown)}; `kvsender list` shows them all")
    return wanted or frozenset(known)


def check(
    adapter: Adapter,
    *,
    seed: int = 0,
    examples: int = EXAMPLES,
    clauses: Iterable[str] = (),
    profile: Profile | None = None,
    strict: bool = False,
    suite: int | None = None,
    on_run: Callable[[Exploration], None] = lambda _: None,
    on_word: Callable[[SuiteReport], None] = lambda _: None,
) -> Report:
    """Explore the adapter's sender, then shorten what broke. ``clauses`` limits the verdicts to some ids,
    ``profile`` judges against another one than the adapter claims, and with ``strict`` a SHOULD counts as a MUST.
    ``suite`` adds the complete suite for so many extra states, which is about all the clauses that are claimed.

    A run in which the adapter breaks judges nothing, and the next one goes on. Where it breaks in too many, the
    exploration ends, and every clause that had not failed by then has the outcome ERROR.

    Raises UnknownClause for an id that does not exist, and LoadError for an adapter whose system or sender lacks a
    method.
    """
    chosen = frozenset(clauses)
    wanted = select(chosen)
    judged = profile or adapter.profile
    parts: Parts | None = None
    found = Exploration()
    try:
        parts = require_methods(adapter)
        found = explore(adapter, seed_number=seed, examples=examples, wanted=chosen, on_run=on_run)
        avoid = DEEDS & found.broken.keys()
        if avoid and not chosen and not found.cut_short:
            # What comes after such a deed was not seen: explore again without it, so that it hides nothing.
            explore(adapter, seed_number=seed, examples=examples, avoid=avoid, into=found, on_run=on_run)
    except AdapterError as error:
        found.errors.append(Breakdown(str(error), Trace(Scene(), ())))
    if parts is not None and "KS-1.5" in wanted:
        _probe_import(adapter, found)
    played: SuiteReport | None = None
    if suite is not None and parts is None:
        played = SuiteReport(suite, error="the adapter could not be opened")
    elif suite is not None and parts is not None:
        played = run_suite(adapter, parts.system, parts.sender, suite, profile=judged, strict=strict, on_word=on_word)
    verdicts = [_verdict(adapter, judged, clause, found, parts) for clause in CLAUSES if clause.id in wanted]
    return Report(
        adapter.name,
        judged,
        seed,
        found.runs,
        found.steps,
        tuple(verdicts),
        strict,
        claims=None if judged is adapter.profile else adapter.profile,
        errors=tuple(found.errors),
        suite=played,
    )


def _verdict(
    adapter: Adapter, profile: Profile, clause: Clause, found: Exploration, parts: Parts | None
) -> ClauseVerdict:
    """``parts`` is None where the adapter could not make them."""
    seen = found.held[clause.id]
    broken = found.broken.get(clause.id)
    if clause not in claimed(profile):
        return ClauseVerdict(clause, Outcome.NOT_APPLICABLE, seen, f"not claimed by profile {profile.value}")
    lack = "" if parts is None else parts.lack(clause.id)
    if lack:
        return ClauseVerdict(clause, Outcome.NOT_APPLICABLE, seen, lack)
    if broken is not None:
        short = shorten(adapter, broken) if broken.trace.steps else broken
        return ClauseVerdict(clause, Outcome.FAIL, seen + 1, counterexample=short)
    if found.errors and (seen == 0 or found.cut_short):
        return ClauseVerdict(clause, Outcome.ERROR, seen, found.errors[0].message)
    if seen == 0 and clause.id == _OWNERS_THREAD and parts is not None and isinstance(parts.system, Works):
        return ClauseVerdict(clause, Outcome.NOT_APPLICABLE, 0, "only workers ask the transport")
    if seen == 0 and clause.id == _EXCEPTIONS and parts is not None and isinstance(parts.system, HidesErrors):
        return ClauseVerdict(clause, Outcome.NOT_APPLICABLE, 0, "its transport raises no exceptions")
    if seen == 0:
        return ClauseVerdict(clause, Outcome.INCONCLUSIVE, 0, "never observed")
    return ClauseVerdict(clause, Outcome.PASS, seen)


def require_methods(adapter: Adapter) -> Parts:
    """Refuse what mypy would have refused: a missing method must not look like a failure of the sender."""
    run = Run(adapter, Scene())
    _require(adapter, "what open() returned", run.system, ("sender",))
    sender = run.any_sender()
    _require(adapter, "what sender() returned", sender, ("send", "poll", "failure_exception"))
    run.finish()
    return Parts(run.system, sender)


def _require(adapter: Adapter, what: str, found: object, methods: Iterable[str]) -> None:
    missing = [f"{name}()" for name in methods if not hasattr(found, name)]
    if missing:
        raise LoadError(
            f"adapter {adapter.name}: {what}, a {type(found).__name__}, lacks {', '.join(missing)}"
            " (see kvsender_spec.contract.Sender and kvsender_spec.kit.adapter.System)"
        )


_IMPORT: Final = """
import importlib.util, sys
name, path = sys.argv[1:]
for library in ("nixl", "nixl_cu12", "nixl_cu13", "nixl_rocm"):
    sys.modules[library] = None
try:
    spec = importlib.util.find_spec(name)
except ModuleNotFoundError as error:
    if not f"{name}.".startswith(f"{error.name}."):
        raise
    spec = None
if spec is None or spec.origin != path:
    spec = importlib.util.spec_from_file_location(name, path)
module = sys.modules[name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
"""
"""By its name where the name leads to the file, and from the file where it does not: a test module under pytest's
importlib mode has a name that nobody else can import."""


def _probe_import(adapter: Adapter, found: Exploration) -> None:
    """KS-1.5: import the adapter's module in a fresh interpreter in which nixl cannot be imported.

    A script that runs as ``__main__``, and a module without a file, cannot be imported again: nothing is observed.
    """
    name = type(adapter).__module__
    path: object = getattr(sys.modules.get(name), "__file__", None)
    if name == "__main__" or not isinstance(path, str):
        return
    program = f"import sys\nsys.path[:0] = {sys.path!r}\n{_IMPORT}"
    done = subprocess.run(
        [sys.executable, "-c", program, name, path],
        capture_output=True,
        text=True,
        timeout=IMPORT_TIMEOUT_S,
        check=False,
    )
    findings = Findings()
    last = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit code {done.returncode}"
    if findings.check("KS-1.5", done.returncode == 0, f"import {name} works without nixl", last):
        found.held["KS-1.5"] += 1
    else:
        found.broken["KS-1.5"] = Counterexample(findings.violations[0], Trace(Scene(), ()))


class LoadError(ValueError):
    """``module:attribute`` names nothing that can be checked; the message says what is wrong and what to do."""


def load_adapter(name: str) -> Adapter:
    """Import ``module:attribute``. Raises LoadError for anything that is not an adapter."""
    module_name, colon, attribute = name.partition(":")
    if not colon or not module_name or not attribute:
        raise LoadError(
            f"{name!r} does not name an adapter: write module:attribute, e.g. kvsender_nixl.adapter:adapter"
        )
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing_name = error.name or module_name
        if f"{module_name}.".startswith(f"{missing_name}."):
            raise LoadError(f"there is no module {module_name!r}: is the name right, and is it on the path?") from error
        raise LoadError(
            f"module {module_name!r} needs {missing_name!r}, which is not installed: pip install it"
            " (for kvsender_nixl: pip install 'kvsender-spec[nixl]')"
        ) from error
    except Exception as error:
        raise LoadError(f"module {module_name!r} fails at its import: {show(error)}") from error
    found: object = getattr(module, attribute, None)
    if found is None:
        public = ", ".join(key for key in dir(module) if not key.startswith("_")) or "nothing"
        raise LoadError(f"module {module_name!r} has no {attribute!r}; it has: {public}")
    missing = [key for key in ("name", "profile", "errors", "usage_errors", "open") if not hasattr(found, key)]
    if missing:
        raise LoadError(
            f"{name} is not an adapter: it lacks {', '.join(missing)} (see kvsender_spec.kit.adapter.Adapter)"
        )
    return _as_adapter(name, found)


def _as_adapter(name: str, found: object) -> Adapter:
    if not isinstance(found, Adapter):
        raise LoadError(f"{name} is not an adapter (see kvsender_spec.kit.adapter.Adapter)")
    return found


__all__ = [
    "AdapterError",
    "Budget",
    "ClauseVerdict",
    "LoadError",
    "Outcome",
    "Report",
    "UnknownClause",
    "Violation",
    "check",
    "load_adapter",
    "require_methods",
    "select",
]
