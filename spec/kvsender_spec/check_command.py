"""``kvsender check``: explores senders, and writes what came of it.

Exit codes: 0 every MUST clause that applies passes, 1 one fails, 2 the command was used wrongly or the adapter broke in
every run, 3 none fails but one could not be judged, or the adapter broke, 130 it was interrupted; of several adapters
the worst counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from kvsender_spec.adapter_arguments import load, plain_console, refusing
from kvsender_spec.choosing import UnknownClause, is_clause, select
from kvsender_spec.deviations import Deviation, DeviationError, with_deviations
from kvsender_spec.front import USAGE, refuse
from kvsender_spec.interrupts import Interrupts
from kvsender_spec.kit.adapter import Adapter, operation_of
from kvsender_spec.kit.check import Budget, check
from kvsender_spec.kit.loading import load_adapter
from kvsender_spec.kit.parts import LoadError, abilities
from kvsender_spec.kit.run.calls import AdapterError
from kvsender_spec.kit.search.processes import in_processes
from kvsender_spec.kit.search.whole import sweep_of
from kvsender_spec.machine import Profile
from kvsender_spec.observe.attribution import Tally
from kvsender_spec.observe.verdict import INTERRUPTED, Report, worst_exit_code
from kvsender_spec.outputs import Outputs
from kvsender_spec.project import Project, ProjectError, Settings, find_project
from kvsender_spec.provenance import provenance
from kvsender_spec.report.text import next_steps, render, render_matrix


class Summary(StrEnum):
    """What ``--summary`` prints on standard output in place of the text, which goes to standard error."""

    MARKDOWN = "markdown"


Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[MODULE:ADAPTER]... [CLAUSE]...",
        help="the adapters to check, and clauses for only these: KS-2.3, KS-2 or STICKY; without adapters those of the"
        " project file",
        show_default=False,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(help="the same command with the same seed explores the same [default: 0]", show_default=False),
]
TheBudget = Annotated[
    Budget | None,
    typer.Option(help="random runs after the sweep: 100, 1000 or 10000 [default: ci]", show_default=False),
]
Examples = Annotated[int | None, typer.Option(min=1, max=1_000_000, help="random runs, instead of a budget")]
TheProfile = Annotated[
    Profile | None, typer.Option(help="judge against this profile instead of the one the adapter claims")
]
Strict = Annotated[bool, typer.Option("--strict", help="a SHOULD that fails counts as a MUST")]
Jobs = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="processes; of several adapters each has one, and the reports are the same [default: 1]",
        show_default=False,
    ),
]
Verbose = Annotated[bool, typer.Option(help="show what the sender logs")]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be checked, and how: the command line, then the project file, then the defaults."""

    project: Project
    names: tuple[str, ...]
    adapters: tuple[Adapter, ...]
    clauses: frozenset[str]
    seed: int
    budget: str
    examples: int
    profile: Profile | None
    strict: bool
    jobs: int
    from_the_project: bool
    """Its adapters are those of the project file, and so the reports go where that says."""

    @property
    def uses_the_project(self) -> bool:
        """The project file says something that counts here."""
        return self.project.file is not None and self.project.settings != Settings()

    def reports(self, stop: Interrupts, suite: int | None = None, *, quiet: bool = False) -> Iterable[Report]:
        """One after the other, until somebody wants it to end."""
        checked = partial(
            check,
            seed=self.seed,
            examples=self.examples,
            clauses=self.clauses,
            profile=self.profile,
            strict=self.strict,
            suite=suite,
        )
        explored = partial(_explored, checked, self.examples, self.jobs, stop, quiet)
        found: Iterable[Report] = map(explored, self.names, self.adapters)
        if self.jobs > 1 and len(self.adapters) > 1:
            found = in_processes(partial(_checked_by_name, checked, self.project), self.names, self.jobs)
        made = [provenance(name, self.budget) for name in self.names]
        with refusing(LoadError):
            for report, by in zip(found, made, strict=False):
                yield replace(report, made_by=by)
                if stop.asked:
                    return


def project_here() -> Project:
    """The project file of the caller's folder, or a refusal."""
    with refusing(ProjectError):
        return find_project(Path.cwd())


def plan(
    project: Project,
    names: Sequence[str],
    *,
    seed: int | None,
    budget: Budget | None,
    examples: int | None,
    profile: Profile | None,
    strict: bool,
    jobs: int | None,
    verbose: bool,
) -> Plan:
    """Load every adapter, or refuse before the first of them is explored."""
    project.import_from_here()
    told = project.settings
    named = [name for name in names if not is_clause(name)]
    words = [name for name in names if is_clause(name)]
    adapters = _load_all(named or told.adapters, verbose=verbose)
    with refusing(UnknownClause, about="" if words else f"{project.file}: "):
        clauses = select(words or told.clauses)
    chosen = budget or told.budget
    return Plan(
        project,
        tuple(named or told.adapters),
        tuple(adapters),
        clauses,
        told.seed if seed is None else seed,
        chosen.value if examples is None else f"{examples} runs",
        examples or chosen.examples,
        profile or told.profile,
        strict or told.strict,
        jobs or told.jobs,
        not named,
    )


def _load_all(names: Sequence[str], *, verbose: bool) -> list[Adapter]:
    if not names:
        raise refuse(
            "names no adapter: write module:attribute, e.g. kvsender_nixl.adapter:adapter, or name your adapters in"
            " [tool.kvsender] of pyproject.toml"
        )
    adapters = [load(name, verbose=verbose) for name in names]
    for adapter in adapters:
        with refusing(LoadError), suppress(AdapterError):  # the latter is a verdict of its report
            abilities(adapter)
    titles = [adapter.name for adapter in adapters]
    for position, title in enumerate(titles):
        if title in titles[:position]:
            first = names[titles.index(title)]
            raise refuse(
                f"{first} and {names[position]} are both named {title!r}, and no report could tell them apart:"
                " give each adapter a name of its own"
            )
    return adapters


def check_command(
    names: Names = None,
    seed: Seed = None,
    budget: TheBudget = None,
    examples: Examples = None,
    profile: TheProfile = None,
    strict: Strict = False,
    suite: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            help="run the complete suite for so many extra states as well; 0 takes seconds, 1 minutes",
        ),
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="known failures, as `kvsender baseline` writes them; only new ones fail")
    ] = None,
    json_path: Annotated[str, typer.Option("--json", help="write the report there as JSON; - is standard output")] = "",
    junit_path: Annotated[str, typer.Option("--junit", help="write it there as JUnit XML")] = "",
    html_path: Annotated[str, typer.Option("--html", help="write it there as one HTML page")] = "",
    badge_path: Annotated[str, typer.Option("--badge", help="write a badge for shields.io there")] = "",
    summary: Annotated[
        Summary | None, typer.Option(help="print the summary for a CI job on standard output instead of the text")
    ] = None,
    histories: Annotated[
        Path | None, typer.Option("--histories", help="keep the history of each shortest failing run in this folder")
    ] = None,
    jobs: Jobs = None,
    verbose: Verbose = False,
) -> None:
    """Explore senders on the scripted transport and print a verdict for each clause; several are compared as well."""
    if suite is not None:
        _require_known(suite)
    project = project_here()
    asked = {"--json": json_path, "--junit": junit_path, "--html": html_path, "--badge": badge_path}
    asked["--summary"] = "-" if summary is Summary.MARKDOWN else ""
    outputs = _outputs(project, asked, histories, listed=all(map(is_clause, names or ())))
    outputs.keep_clean()  # before the adapter's module is imported, which may print
    todo = plan(
        project,
        names or (),
        seed=seed,
        budget=budget,
        examples=examples,
        profile=profile,
        strict=strict,
        jobs=jobs,
        verbose=verbose,
    )
    known = _known(todo, baseline)
    console = plain_console()
    reports: list[Report] = []
    with Interrupts() as stop:
        for found in todo.reports(stop, suite):
            reports.append(with_deviations(found, known))
            render(reports[-1], console)
    if len(reports) > 1:
        render_matrix(reports, console)
    unchecked = [adapter.name for adapter in todo.adapters[len(reports) :]]
    if unchecked:
        console.print(f"not checked, because the command was interrupted: {', '.join(unchecked)}")
    if todo.uses_the_project:
        console.print(f"settings: {todo.project.file}")
    failed = outputs.write(reports)
    try:
        kept = outputs.keep_histories(reports)
    except OSError as error:
        kept, failed = [], [*failed, f"--histories {outputs.histories}: {error.strerror}"]
    for path in kept:
        console.print(f"kept {path}")
    for line in next_steps(reports, todo.names, _repeating(todo), outputs.paths.get("--json", "")):
        console.print(line)
    for what in failed:
        refuse(f"the verdicts are above, but a report could not be written: {what}")
    code = INTERRUPTED if stop.asked else USAGE if failed else worst_exit_code(reports)
    raise typer.Exit(code)


def _known(todo: Plan, baseline: Path | None) -> tuple[Deviation, ...]:
    """The known failures. One that names an adapter which nobody checks would never be stale."""
    if baseline is not None and not baseline.exists():
        raise refuse(f"there is no baseline {baseline}; `kvsender baseline --output {baseline}` writes one")
    with refusing(DeviationError):
        known = todo.project.known(baseline or todo.project.baseline)
    names = {adapter.name for adapter in todo.adapters}
    for entry in known if todo.from_the_project else ():
        if entry.adapter and entry.adapter not in names:
            raise refuse(f"a known failure, {entry.clause}, is of {entry.adapter!r}, and no such adapter is checked")
    return known


def _outputs(project: Project, asked: dict[str, str], histories: Path | None, *, listed: bool) -> Outputs:
    """Where the command line says, or else where the project file does, if the adapters are those that are listed
    there."""
    if listed:
        told = project.settings.reports
        said = {"--json": told.json, "--junit": told.junit, "--html": told.html, "--badge": told.badge}
        asked = asked | {k: str(project.path(path)) for k, path in said.items() if path and not asked[k]}
        histories = histories or project.path(told.histories)
    return Outputs({option: path for option, path in asked.items() if path}, histories)


def _repeating(todo: Plan) -> str:
    """The options that make another check explore the same."""
    budget = f"--budget {todo.budget}" if todo.budget in list(Budget) else f"--examples {todo.examples}"
    return f"--seed {todo.seed} {budget}" + (f" --profile {todo.profile.value}" if todo.profile else "")


def _require_known(suite: int) -> None:
    from kvsender_spec.kit.search.complete import MOST_EXTRA

    if not 0 <= suite <= MOST_EXTRA:
        raise refuse(f"--suite takes 0 to {MOST_EXTRA} extra states, not {suite}")


def _checked_by_name(checked: partial[Report], project: Project, name: str) -> Report:
    """One of several checks, in a process of its own."""
    from kvsender_spec.front import import_from_here

    import_from_here()
    project.import_from_here()
    return checked(load_adapter(name))


def _explored(
    checked: partial[Report], runs: int, jobs: int, stop: Interrupts, quiet: bool, name: str, adapter: Adapter
) -> Report:
    """One check, with a bar that shows how far it is where somebody may be looking."""
    here = partial(checked, adapter, jobs=jobs, load=partial(load_adapter, name), stop=lambda: stop.asked)
    first = _FirstFailure(adapter.name, quiet=quiet)
    if not Console(stderr=True).is_terminal:
        return here(on_run=first.run)
    from kvsender_spec.progress import Bar

    with Bar(adapter.name, len(sweep_of(operation_of(adapter))) + runs) as bar:

        def made(tally: Tally) -> None:
            first.run(tally)
            bar.run(tally)

        return here(on_run=made, on_sequence=bar.sequence)


class _FirstFailure:
    """Says on standard error, as soon as a run has broken something, what that was. Its cause is looked for later."""

    def __init__(self, name: str, *, quiet: bool) -> None:
        self._name = name
        self._said = quiet

    def run(self, tally: Tally) -> None:
        broken = [rule for rule in tally.first if rule in tally.claimed]
        if self._said or not broken:
            return
        self._said = True
        violation = tally.first[broken[0]].violation
        said = f"{self._name}: run {tally.runs} breaks {broken[0]}: {violation.observed}"
        Console(stderr=True, highlight=False).print(said, markup=False, soft_wrap=True)
