"""Reports as one HTML page. It needs no network, no script and no file beside it; light or dark is the reader's choice.

Each failed clause has the run that broke it as a picture, next to the words that the same run makes in ``narrative``.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Final, assert_never

from kvsender_spec.clauses import CLAUSES
from kvsender_spec.kit.check import ClauseVerdict, Outcome, Report
from kvsender_spec.kit.drawing import machine, sequence
from kvsender_spec.kit.explore import Counterexample
from kvsender_spec.kit.markup import Markup, tag, text
from kvsender_spec.kit.narrative import narrate
from kvsender_spec.kit.report import breakdowns, conclusion, suite_lines

_STYLE: Final = """
:root{color-scheme:light dark;--page:#f6f7f9;--card:#fff;--ink:#1b1f24;--soft:#5b6470;--line:#d9dee5;--band:#eef1f5;
--good:#187a3c;--bad:#b3261e;--warn:#8a5a00;--info:#2456b8;--good-bg:#e3f4e8;--bad-bg:#fdeae8;--warn-bg:#fdf2dc;
--info-bg:#e6eefc;--off-bg:#eceff2}
@media (prefers-color-scheme:dark){:root{--page:#12151a;--card:#1a1f26;--ink:#e6e9ee;--soft:#9aa4b2;--line:#313944;
--band:#232a33;--good:#6fd08c;--bad:#ff8f85;--warn:#eebd62;--info:#8ab4ff;--good-bg:#15301f;--bad-bg:#3a1a18;
--warn-bg:#36290f;--info-bg:#182842;--off-bg:#262d36}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1180px;margin:0 auto;padding:32px 20px 56px}
h1{font-size:26px;line-height:1.25;margin:0 0 4px}
h2{font-size:19px;margin:40px 0 12px}
h3{font-size:16px;margin:0}
p{margin:6px 0}
code,pre,.mono{font-family:ui-monospace,"SFMono-Regular",Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:13px}
.soft{color:var(--soft)}
.lead{color:var(--soft);margin:0 0 20px}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:18px 20px;margin:0 0 18px}
.tiles{display:flex;flex-wrap:wrap;gap:10px;margin:14px 0}
.tile{background:var(--off-bg);border-radius:8px;padding:8px 16px;min-width:104px}
.tile b{display:block;font-size:22px;line-height:1.2}
.bar{display:flex;height:10px;border-radius:5px;overflow:hidden;background:var(--off-bg)}
.bar span{display:block;border-right:2px solid var(--card)}
.bar span:last-child{border-right:0}
.tile.pass,.badge.pass{background:var(--good-bg);color:var(--good)}
.tile.fail,.tile.error,.badge.fail,.badge.error{background:var(--bad-bg);color:var(--bad)}
.tile.inconclusive,.badge.inconclusive{background:var(--warn-bg);color:var(--warn)}
.badge.not-applicable{background:var(--off-bg);color:var(--soft)}
.bar .pass{background:var(--good)}.bar .fail,.bar .error{background:var(--bad)}
.bar .inconclusive{background:var(--warn)}
.badge{display:inline-block;border-radius:11px;padding:1px 10px;font-size:13px;font-weight:600;white-space:nowrap}
a{color:var(--info)}
a.badge{text-decoration:none}
a.badge:hover{text-decoration:underline}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%}
th{text-align:left;font-size:12px;letter-spacing:.03em;text-transform:uppercase;color:var(--soft);font-weight:600}
th.sender{text-transform:none;letter-spacing:0;font-size:13px;color:var(--ink)}
th,td{padding:8px 12px;border-bottom:1px solid var(--line);vertical-align:top}
tbody tr:last-child td{border-bottom:0}
td.number,th.number{text-align:right;font-variant-numeric:tabular-nums}
td .id{white-space:nowrap;font-weight:600}
td.rule{min-width:380px}
td small{display:block;color:var(--soft);font-size:13px}
tr.fail td:first-child{box-shadow:inset 3px 0 var(--bad)}
dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 16px;margin:12px 0}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}
dd.seen{color:var(--bad);font-weight:600}
figure{margin:18px 0 0}
figcaption{color:var(--soft);font-size:13px;margin-bottom:6px}
summary{cursor:pointer;color:var(--info);margin-top:12px}
pre{background:var(--band);border-radius:8px;padding:12px;overflow-x:auto;margin:8px 0 0}
footer{color:var(--soft);font-size:13px;margin-top:32px}
svg text{font:12px ui-monospace,"SFMono-Regular",Menlo,Consolas,"DejaVu Sans Mono",monospace;fill:var(--ink)}
svg text.title{font-weight:600}
svg text.bad{fill:var(--bad)}svg text.warn{fill:var(--warn)}
svg text.remark,svg text.edge{fill:var(--soft)}
svg .lane{stroke:var(--line);stroke-width:1.5;fill:none}
svg rect.lane-head{fill:var(--info-bg);stroke:none}
svg text.lane-head{fill:var(--info);font-weight:600}
svg rect.band{fill:var(--band)}
svg rect.band.end{fill:var(--card);stroke:var(--line)}
svg .arrow{stroke:var(--ink);stroke-width:1.4;fill:none}
svg .reply{stroke-dasharray:5 4}
svg .head{fill:var(--ink)}
svg .arrow.bad{stroke:var(--bad)}svg .head.bad{fill:var(--bad)}
svg .arrow.warn{stroke:var(--warn)}svg .head.warn{fill:var(--warn)}
svg rect.broken{fill:var(--bad-bg);stroke:var(--bad)}
svg rect.struck{fill:var(--bad)}svg text.struck{fill:var(--card);font-weight:600}
svg rect.state{fill:var(--card);stroke:var(--info)}svg text.state{fill:var(--info)}
svg path.edge{stroke:var(--soft);stroke-width:1.2;fill:none}
svg path.edge.walked{stroke:var(--info);stroke-width:3}
svg text.edge.walked{fill:var(--info);font-weight:600}
svg path.head.walked{fill:var(--info)}
svg circle.start{fill:var(--ink)}
svg rect.node{fill:var(--card);stroke:var(--soft);stroke-width:1.2}
svg rect.node.walked{stroke:var(--info);stroke-width:2.5}
svg rect.node.last{fill:var(--info-bg);stroke:var(--info);stroke-width:2.5}
svg text.node{font-weight:600}
@media print{body{background:#fff}.card{break-inside:avoid}}
"""


def to_html(reports: Sequence[Report]) -> str:
    """One page for one report or for several; several begin with a matrix of clauses and senders."""
    names = ", ".join(report.adapter for report in reports)
    parts = [
        tag("h1", text("KV sender conformance")),
        tag("p", text(f"{names}, checked against the sender contract on the scripted transport"), class_="lead"),
    ]
    if len(reports) > 1:
        parts.append(_matrix(reports))
    for number, report in enumerate(reports):
        parts += [_summary(report), _clauses(number, report), *_complete_suite(report), *_failures(number, report)]
    parts.append(_footer())
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        # Whatever a sender's error may hold: the page loads nothing and runs nothing.
        tag("meta", http_equiv="Content-Security-Policy", content="default-src 'none'; style-src 'unsafe-inline'"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", text(f"{names}: KV sender conformance")),
        tag("style", Markup(_STYLE)),
    )
    page = tag("html", head, tag("body", tag("main", *parts)), lang="en")
    return f"<!doctype html>\n{page}\n"


def _class(outcome: Outcome) -> str:
    return outcome.value.replace(" ", "-")


def _sign(outcome: Outcome) -> str:
    """A sign beside the word, for readers who do not tell the colours apart."""
    match outcome:
        case Outcome.FAIL:
            return "✗"
        case Outcome.ERROR:
            return "!"
        case Outcome.INCONCLUSIVE:
            return "?"
        case Outcome.PASS:
            return "✓"
        case Outcome.NOT_APPLICABLE:
            return "-"
        case _:
            assert_never(outcome)


def _badge(outcome: Outcome, link: str = "") -> Markup:
    words = text(f"{_sign(outcome)} {outcome.value}")
    style = f"badge {_class(outcome)}"
    return tag("a", words, class_=style, href=f"#{link}") if link else tag("span", words, class_=style)


def _anchor(number: int, verdict: ClauseVerdict) -> str:
    """Where the counterexample of a failed clause is; empty for the others."""
    return f"report-{number}-{verdict.clause.id}" if verdict.counterexample is not None else ""


def _summary(report: Report) -> Markup:
    counts = [(outcome, len(report.with_outcome(outcome))) for outcome in Outcome]
    profile = report.profile.value
    if report.claims is not None:
        profile += f" (the adapter claims {report.claims.value})"
    facts = [f"profile {profile}", f"seed {report.seed}", f"{report.runs} runs", f"{report.steps} steps"]
    if report.strict:
        facts.append("strict: a SHOULD counts as a MUST")
    tiles = [
        tag("div", tag("b", text(str(count))), text(outcome.value), class_=f"tile {_class(outcome)}")
        for outcome, count in counts
        if count
    ]
    bar = [tag("span", class_=_class(outcome), style=f"flex:{count}") for outcome, count in counts if count]
    return tag(
        "section",
        tag("h2", text(report.adapter), style="margin-top:0"),
        tag("p", tag("b", text(conclusion(report)))),
        tag("p", text(" · ".join(facts)), class_="soft"),
        *(tag("p", text(f"The adapter broke: {message}")) for message in breakdowns(report)),
        tag("div", *tiles, class_="tiles"),
        tag("div", *bar, class_="bar"),
        class_="card",
    )


def _matrix(reports: Sequence[Report]) -> Markup:
    head = [tag("th", text("clause")), *(tag("th", text(report.adapter), class_="sender") for report in reports)]
    rows: list[Markup] = []
    for clause in CLAUSES:
        cells: list[Markup] = []
        for number, report in enumerate(reports):
            verdict = next((verdict for verdict in report.verdicts if verdict.clause is clause), None)
            cells.append(tag("td", *([] if verdict is None else [_badge(verdict.outcome, _anchor(number, verdict))])))
        name = tag("td", tag("span", text(f"{clause.id} {clause.name}"), class_="id"))
        rows.append(tag("tr", name, *cells, data_matrix=clause.id))
    table = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *rows))
    return tag("section", tag("h2", text("All senders")), tag("div", table, class_="card scroll"))


def _clauses(number: int, report: Report) -> Markup:
    heads = ("clause", "level", "verdict", "observations", "requirement, and where it comes from")
    head = [tag("th", text(name), class_="number" if name == "observations" else "") for name in heads]
    rows: list[Markup] = []
    for verdict in report.verdicts:
        clause = verdict.clause
        says = [text(clause.text), tag("small", text(f"Source: {clause.source}"))]
        if verdict.note:
            says.append(tag("small", text(f"{verdict.outcome.value.capitalize()}: {verdict.note}")))
        rows.append(
            tag(
                "tr",
                tag("td", tag("span", text(clause.id), class_="id"), tag("small", text(clause.name))),
                tag("td", text(clause.level.value), tag("small", text(clause.profile.value))),
                tag("td", _badge(verdict.outcome, _anchor(number, verdict))),
                tag("td", text(str(verdict.observations)), class_="number"),
                tag("td", *says, class_="rule"),
                class_=_class(verdict.outcome),
                data_clause=clause.id,
            )
        )
    table = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *rows))
    return tag("section", tag("h2", text(f"Clauses for {report.adapter}")), tag("div", table, class_="card scroll"))


def _complete_suite(report: Report) -> list[Markup]:
    lines = suite_lines(report)
    if not lines:
        return []
    first = tag("p", _badge(report.suite_outcome), text(f" {lines[0].partition(': ')[2].partition(': ')[2]}"))
    says = [tag("p", text(lines[1].strip()), class_="soft")] if len(lines) > 1 else []
    says += [tag("pre", text("\n".join(lines[2:])))] if len(lines) > 2 else []
    card = tag("div", first, *says, class_="card", id="complete-suite")
    return [tag("section", tag("h2", text(f"The complete suite for {report.adapter}")), card)]


def _failures(number: int, report: Report) -> list[Markup]:
    failed = report.with_outcome(Outcome.FAIL)
    if not failed:
        return []
    articles = [_failure(_anchor(number, verdict), verdict) for verdict in failed]
    return [tag("section", tag("h2", text(f"What broke in {report.adapter}")), *articles)]


def _failure(anchor: str, verdict: ClauseVerdict) -> Markup:
    clause, example = verdict.clause, verdict.counterexample
    says: list[Markup] = [
        tag("h3", text(f"{clause.id} {clause.name} "), _badge(verdict.outcome)),
        tag("p", tag("b", text(clause.level.value)), text(f" {clause.text}")),
    ]
    if example is not None:
        says += _example(clause.id, example)
    return tag("article", *says, class_="card", id=anchor)


def _example(clause: str, example: Counterexample) -> list[Markup]:
    facts = [
        tag("dt", text("Expected")),
        tag("dd", text(example.violation.expected)),
        tag("dt", text("Observed")),
        tag("dd", text(example.violation.observed), class_="seen"),
    ]
    if not example.trace.steps:
        return [tag("dl", *facts)]
    facts += [tag("dt", text("Scene")), tag("dd", text(str(example.trace.scene)))]
    parts = [tag("dl", *facts)]
    if example.moments:
        parts += [
            _figure("The shortest trace found. Dashed: answers.", sequence(example.moments, clause)),
            _figure(
                "The logical machine of the room at fault. Blue: the states that the specification allowed it, one"
                " after the other, with the shortest ways between them; filled: the last ones before it broke the"
                " clause.",
                machine(example.moments, clause),
            ),
            _details("The same run in words", "\n".join(narrate(example.moments))),
        ]
    parts.append(_details("The trace, for kvsender replay TRACE.ndjson MODULE:ADAPTER", example.trace.dump()))
    return parts


def _figure(caption: str, picture: Markup) -> Markup:
    return tag("figure", tag("figcaption", text(caption)), tag("div", picture, class_="scroll"))


def _details(summary: str, words: str) -> Markup:
    return tag("details", tag("summary", text(summary)), tag("pre", text(words)))


def _footer() -> Markup:
    try:
        release = f"kvsender-spec {version('kvsender-spec')}"
    except PackageNotFoundError:
        release = "kvsender-spec"
    return tag(
        "footer",
        tag(
            "p",
            text(
                f"Written by {release}. Exploration is random: a pass says that nothing was found on this seed. A"
                " clause that was never observed is inconclusive, never passed; one that the profile does not claim, or"
                " that needs what the system lacks, is not applicable."
            ),
        ),
    )
