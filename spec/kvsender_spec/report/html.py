"""Reports as one HTML page. It needs no network, no script and no file beside it; light or dark is the reader's choice.

What failed comes first, one article for each cause. Each trace of it is shown as a picture, next to the same
history in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from kvsender_spec.history.plain import count, short
from kvsender_spec.observe.verdict import Breakdown, Group, Outcome, Report, Verdict
from kvsender_spec.report.sequence import sequence
from kvsender_spec.report.svg import Picture
from kvsender_spec.report.templating import fill
from kvsender_spec.report.text import (
    LIMIT,
    breakdowns,
    broken_unclaimed,
    causes,
    conclusion,
    heading,
    made_by,
    matrix,
    members,
    narrate,
    observed_line,
    reason,
    relation,
    title,
    unclaimed_line,
)
from kvsender_spec.trace import Trace


@dataclass(frozen=True, slots=True)
class Shown:
    """One trace or history, and the clauses that it breaks."""

    clauses: str
    setup: str
    steps: tuple[str, ...]
    picture: Picture | None
    words: str
    dump: str


@dataclass(frozen=True, slots=True)
class Consequence:
    """A clause that is not the cause of its group."""

    anchor: str
    verdict: Verdict
    says: str


@dataclass(frozen=True, slots=True)
class Article:
    """A group: its cause, what else is broken with it, and what shows them."""

    anchor: str
    heading: str
    cause: Verdict
    consequences: tuple[Consequence, ...]
    shown: tuple[Shown, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """One report, as the template shows it."""

    name: str
    report: Report
    conclusion: str
    facts: tuple[str, ...]
    made_by: str
    """In a line; empty where nobody noted it."""
    breakdowns: tuple[Breakdown, ...]
    tiles: tuple[tuple[Outcome, int, str], ...]
    """An outcome, how often it occurs, and the anchor of the section that shows it."""
    articles: tuple[Article, ...]
    unclaimed: tuple[Consequence, ...]
    open_rows: tuple[Verdict, ...]
    """The rows of the table: what failed, then all the others in the order of the clauses."""
    folded_rows: tuple[Verdict, ...]
    """What was not claimed or does not apply, and was not seen broken."""

    def anchor(self, verdict: Verdict) -> str:
        """Where the evidence of a verdict stands; empty where there is none."""
        shown = verdict.outcome.failed or (verdict.outcome is Outcome.NOT_CLAIMED and verdict.broken)
        return f"{self.name}-{verdict.clause.id}" if shown else ""


def to_html(reports: Sequence[Report]) -> str:
    """One page for one report or for several; several begin with a matrix of clauses and senders."""
    sections = [_section(f"report-{number}", report) for number, report in enumerate(reports)]
    return fill(
        "page.html.jinja",
        names=", ".join(short(report.adapter, LIMIT) for report in reports),
        sections=sections,
        matrix=matrix(reports) if len(reports) > 1 else [],
        release=_release(),
        title=title,
        cut=_cut,
        reason=reason,
        sign=_sign,
        style=_class,
    )


def _section(name: str, report: Report) -> Section:
    profile = report.profile.value
    if report.claims is not None:
        profile += f" (the adapter claims {report.claims.value})"
    facts = [f"profile {profile}", f"seed {report.seed}", count(report.runs, "run"), count(report.steps, "step")]
    if report.strict:
        facts.append("strict: a SHOULD counts as a MUST")
    if report.made_by is not None:
        facts.append(f"budget {report.made_by.budget}")
    groups = causes(report)
    unclaimed = broken_unclaimed(report)
    failed = [verdict for group in groups for verdict in members(group)]
    others = [verdict for verdict in report.verdicts if not verdict.outcome.failed]
    folded = [v for v in others if v.outcome in (Outcome.NOT_CLAIMED, Outcome.NOT_APPLICABLE) and not v.broken]
    return Section(
        name=name,
        report=report,
        conclusion=conclusion(report),
        facts=tuple(facts),
        made_by=made_by(report),
        breakdowns=tuple(breakdowns(report)),
        tiles=tuple(
            (outcome, number, f"{name}-{_place(outcome, bool(unclaimed))}")
            for outcome in Outcome
            if (number := len(report.with_outcome(outcome)))
        ),
        articles=tuple(_article(name, group) for group in groups),
        unclaimed=tuple(Consequence(f"{name}-{v.clause.id}", v, unclaimed_line(v)) for v in unclaimed),
        open_rows=(*failed, *(verdict for verdict in others if verdict not in folded)),
        folded_rows=tuple(folded),
    )


def _place(outcome: Outcome, unclaimed: bool) -> str:
    """The section of a report in which the verdicts of an outcome are shown."""
    if outcome.failed:
        return "broken"
    if outcome is Outcome.NOT_CLAIMED and unclaimed:
        return "unclaimed"
    return "folded" if outcome in (Outcome.NOT_CLAIMED, Outcome.NOT_APPLICABLE) else "clauses"


def _article(name: str, group: Group) -> Article:
    consequences = [
        Consequence(f"{name}-{v.clause.id}", v, f"{relation(group.cause, v)}: {observed_line(v)}")
        for v in group.consequences
    ]
    by_trace: dict[Trace | str, list[Verdict]] = {}
    for verdict in members(group):
        evidence = verdict.evidence
        if evidence is not None and (evidence.trace is not None or evidence.history is not None):
            key = evidence.where or verdict.clause.id if evidence.trace is None else evidence.trace
            by_trace.setdefault(key, []).append(verdict)
    shown = tuple(_shown(verdicts) for verdicts in by_trace.values())
    return Article(f"{name}-{group.cause.clause.id}", heading(group), group.cause, tuple(consequences), shown)


def _shown(verdicts: Sequence[Verdict]) -> Shown:
    """What verdicts of one trace have in common. The history is the one of the first that has one."""
    evidences = [verdict.evidence for verdict in verdicts if verdict.evidence is not None]
    violations = [evidence.violation for evidence in evidences]
    trace = evidences[0].trace
    history = next((evidence.history for evidence in evidences if evidence.history is not None), None)
    return Shown(
        clauses=", ".join(verdict.clause.id for verdict in verdicts),
        setup=evidences[0].where if trace is None else str(trace.setup),
        steps=() if trace is None else trace.told,
        picture=None if history is None else sequence(history, violations),
        words="" if history is None else "\n".join(narrate(history, violations)),
        dump="" if trace is None else trace.dump(),
    )


def _cut(words: str) -> str:
    return short(words, LIMIT)


def _class(outcome: Outcome) -> str:
    return outcome.value.replace(" ", "-")


def _sign(outcome: Outcome) -> str:
    """A sign beside the word, for readers who do not tell the colours apart."""
    if outcome.failed:
        return "✗"
    return {Outcome.ERROR: "!", Outcome.INCONCLUSIVE: "?", Outcome.PASS: "✓"}.get(outcome, "-")


def _release() -> str:
    try:
        return f"kvsender-spec {version('kvsender-spec')}"
    except PackageNotFoundError:
        return "kvsender-spec"
