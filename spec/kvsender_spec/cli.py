"""The command ``kvsender``. A thin front over ``kvsender_spec.kit.check`` and ``kvsender_spec.kit.replay``.

Exit codes: 0 every MUST clause that applies passes, 1 one fails, 2 the command was used wrongly, 3 none fails but one
could not be judged, or the adapter broke; of several adapters the worst counts. ``replay``: 0 nothing broke, 1 a clause
did, 2 wrong use, 3 the adapter broke. ``learn``: 0 the sender's machine is the specification's, 1 it is another one, 2
wrong use or AALpy is missing, 3 learning was cut short or the adapter broke.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from kvsender_spec.clauses import CLAUSES
from kvsender_spec.formal.command import prove_command
from kvsender_spec.front import import_from_here, refuse, require_writable
from kvsender_spec.history.ndjson import write
from kvsender_spec.history.plain import one_line
from kvsender_spec.kit.adapter import Adapter
from kvsender_spec.kit.check import Budget, UnknownClause, check, select
from kvsender_spec.kit.loading import load_adapter
from kvsender_spec.kit.parts import LoadError, abilities
from kvsender_spec.kit.replay import Replay, read_trace, replay
from kvsender_spec.kit.run.calls import AdapterError
from kvsender_spec.kit.search.automata import to_markdown, to_svg, verdict
from kvsender_spec.kit.search.complete import MOST_EXTRA, SuiteReport
from kvsender_spec.kit.search.learn import MOST_SECONDS, MOST_SEQUENCES, CannotLearn, learn, require_aalpy
from kvsender_spec.kit.search.sweep import SWEEP
from kvsender_spec.kit.template import write_template
from kvsender_spec.machine import Profile
from kvsender_spec.observe.attribution import Tally
from kvsender_spec.observe.verdict import Report, worst_exit_code
from kvsender_spec.report.html import to_html
from kvsender_spec.report.json import to_json
from kvsender_spec.report.junit import to_junit
from kvsender_spec.report.text import LIMIT, render, render_matrix, render_run
from kvsender_spec.trace import Trace, TraceError
from kvsender_spec.trace_command import trace_app

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@contextmanager
def _refusing(*errors: type[Exception], about: str = "") -> Iterator[None]:
    """What the block raises of these errors is wrong use of the command."""
    try:
        yield
    except errors as error:
        raise refuse(f"{about}{error}") from error


def _console() -> Console:
    """Where a command prints. What it quotes is no markup and is not broken into lines; a table is asked to fit."""
    return Console(highlight=False, markup=False, soft_wrap=True)


def _load(adapter_name: str, *, verbose: bool) -> Adapter:
    import_from_here()
    if not verbose:
        logging.disable(logging.CRITICAL)  # injected faults make a careful sender log thousands of times
    with _refusing(LoadError):
        return load_adapter(adapter_name)


def _is_clause(name: str) -> bool:
    """Whether an argument is meant to be the id of a clause; a name with a colon is an adapter's."""
    return name.upper().startswith("KS-") and ":" not in name


def _load_all(names: Sequence[str], *, verbose: bool) -> list[Adapter]:
    """Every adapter, or a refusal before the first of them is explored."""
    if not names:
        raise refuse("names no adapter: write module:attribute, e.g. kvsender_nixl.adapter:adapter")
    adapters = [_load(name, verbose=verbose) for name in names]
    for adapter in adapters:
        with _refusing(LoadError), suppress(AdapterError):  # the latter is a verdict of its report
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


@app.callback()
def about() -> None:
    """Check KV-cache senders against the sender contract."""


@app.command("check")
def check_command(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="MODULE:ADAPTER... [KS-ID]...", help="the adapters to check, and the ids of clauses for only these"
        ),
    ],
    seed: Annotated[int, typer.Option(help="the same command with the same seed explores the same")] = 0,
    budget: Annotated[Budget, typer.Option(help="random runs after the sweep: 100, 1000 or 10000")] = Budget.CI,
    examples: Annotated[int | None, typer.Option(min=1, max=1_000_000, help="random runs, instead of a budget")] = None,
    profile: Annotated[
        Profile | None, typer.Option(help="judge against this profile instead of the one the adapter claims")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="a SHOULD that fails counts as a MUST")] = False,
    suite: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            help="run the complete suite for so many extra states as well; 0 takes seconds, 1 minutes",
        ),
    ] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="write the report there as JSON")] = None,
    junit_path: Annotated[Path | None, typer.Option("--junit", help="write it there as JUnit XML")] = None,
    html_path: Annotated[Path | None, typer.Option("--html", help="write it there as one HTML page")] = None,
    histories: Annotated[
        Path | None, typer.Option("--histories", help="keep the history of each shortest failing run in this folder")
    ] = None,
    verbose: Annotated[bool, typer.Option(help="show what the sender logs")] = False,
) -> None:
    """Explore senders on the scripted transport and print a verdict for each clause; several are compared as well."""
    console = _console()
    adapters = _load_all([name for name in names if not _is_clause(name)], verbose=verbose)
    with _refusing(UnknownClause):
        wanted = select(name for name in names if _is_clause(name))
    if suite is not None and not 0 <= suite <= MOST_EXTRA:
        raise refuse(f"--suite takes 0 to {MOST_EXTRA} extra states, not {suite}")
    for option, path in (("--json", json_path), ("--junit", junit_path), ("--html", html_path)):
        require_writable(path, option)
    if histories is not None:
        _make_folder(histories, "--histories")
    reports: list[Report] = []
    for adapter in adapters:
        reports.append(
            _explored(
                adapter,
                seed=seed,
                examples=examples or budget.examples,
                clauses=wanted,
                profile=profile,
                strict=strict,
                suite=suite,
            )
        )
        render(reports[-1], console)
    if len(reports) > 1:
        render_matrix(reports, console)
    for path, written in ((json_path, to_json), (junit_path, to_junit), (html_path, to_html)):
        if path is not None:
            path.write_text(written(reports), encoding="utf-8")
    if histories is not None:
        for kept in _keep(reports, histories):
            console.print(f"kept {kept}")
    raise typer.Exit(worst_exit_code(reports))


def _make_folder(folder: Path, option: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refuse(f"cannot write into {folder}: {error.strerror}; choose another {option} folder") from error
    require_writable(folder / ".kvsender", option)


def _keep(reports: Sequence[Report], folder: Path) -> list[Path]:
    """Write the history of each shortest failing run. Returns the files."""
    paths: list[Path] = []
    for report in reports:
        sender = "".join(letter if letter.isalnum() else "-" for letter in report.adapter)
        for found in report.verdicts:
            evidence = found.evidence
            if found.outcome.failed and evidence is not None and evidence.history is not None:
                paths.append(folder / f"{sender}.{found.clause.id}.ndjson")
                write(evidence.history, paths[-1])
    return paths


def _explored(
    adapter: Adapter,
    *,
    seed: int,
    examples: int,
    clauses: frozenset[str],
    profile: Profile | None,
    strict: bool,
    suite: int | None,
) -> Report:
    """One check, with a bar that shows how far it is."""
    planned = len(SWEEP) + examples
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"{adapter.name}: exploring", total=planned)

        def show(found: Tally) -> None:
            if found.runs == planned:
                what = "shortening what broke" if found.broken else "concluding"
                progress.update(task, description=f"{adapter.name}: {what}")
            progress.update(task, completed=found.runs)

        def show_sequence(report: SuiteReport) -> None:
            what = f"{adapter.name}: the complete suite"
            progress.update(task, description=what, total=report.planned, completed=report.sequences)

        with _refusing(LoadError):
            return check(
                adapter,
                seed=seed,
                examples=examples,
                clauses=clauses,
                profile=profile,
                strict=strict,
                suite=suite,
                on_run=show,
                on_sequence=show_sequence,
            )


@app.command("replay")
def replay_command(
    path: Annotated[Path, typer.Argument(metavar="TRACE|REPORT", help="a trace (NDJSON), or a report (JSON)")],
    names: Annotated[
        list[str], typer.Argument(metavar="[KS-ID] MODULE:ADAPTER", help="of a report: which clause; then the adapter")
    ],
    profile: Annotated[
        Profile | None, typer.Option(help="check against this profile instead of the one the adapter claims")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="a SHOULD that fails counts as a MUST")] = False,
    verbose: Annotated[bool, typer.Option(help="show what the sender logs")] = False,
) -> None:
    """Run one trace on a sender, and tell step by step what was asked, answered and broken."""
    adapters = [name for name in names if not _is_clause(name)]
    clauses = [name for name in names if _is_clause(name)]
    if len(adapters) != 1 or len(clauses) > 1:
        raise refuse(f"replay takes one adapter and at most one clause, not {' '.join(names)}")
    with _refusing(TraceError, about=f"{path}: "):
        trace, clause = read_trace(path, *clauses)
    with _refusing(LoadError):
        done = replay(_load(adapters[0], verbose=verbose), trace, profile=profile, strict=strict)
    _render_replay(trace, done, clause, _console())
    raise typer.Exit(done.exit_code)


def _render_replay(trace: Trace, done: Replay, clause: str | None, console: Console) -> None:
    console.print(f"setup: {trace.setup}")
    if done.history is not None:
        render_run(done.history, done.violations, console)
    if done.left_out:
        console.print(
            f"left out, as they made no sense where they stood: {', '.join(map(str, done.left_out))}", style="yellow"
        )
    for found in done.unclaimed:
        console.print(f"not claimed, and broken: {found.clause}: {one_line(found.observed, LIMIT)}", style="yellow")
    if done.error is not None:
        console.print(f"stopped: {one_line(str(done.error), LIMIT)}", style="bold red")
        for frame in done.error.frames:
            console.print(f"  {one_line(frame, LIMIT)}")
    if clause is not None:
        broken = done.shows(clause)
        console.print(
            f"{clause} {'still breaks' if broken else 'does not break any more'}",
            style="bold red" if broken else "green",
        )


@app.command("learn")
def learn_command(
    adapter_name: Annotated[str, typer.Argument(metavar="MODULE:ADAPTER", help="the adapter whose sender to learn")],
    directory: Annotated[
        Path | None, typer.Option("--out", help="write drawings there, and the trace of a difference")
    ] = None,
    sequences: Annotated[int, typer.Option(min=1, max=1_000_000, help="the most sequences to ask")] = MOST_SEQUENCES,
    seconds: Annotated[float, typer.Option(min=1.0, max=86_400.0, help="the longest time to learn")] = MOST_SECONDS,
    verbose: Annotated[bool, typer.Option(help="show what the sender logs")] = False,
) -> None:
    """Learn a sender's machine, and say whether it is the specification's; needs AALpy."""
    console = _console()
    try:
        require_aalpy()
        adapter = _load(adapter_name, verbose=verbose)
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
        abilities(adapter)
        learned = learn(adapter, most_sequences=sequences, most_seconds=seconds)
    except (LoadError, CannotLearn) as error:
        raise refuse(str(error)) from error
    except OSError as error:
        raise refuse(f"cannot write into {directory}: {error.strerror}; choose another --out directory") from error
    except AdapterError as error:
        console.print(f"stopped: {one_line(str(error), LIMIT)}", style="bold red")
        raise typer.Exit(3) from error
    console.print(*verdict(learned), sep="\n")
    if directory is not None:
        files = {"machines.md": to_markdown(learned), "machines.svg": str(to_svg(learned))}
        if learned.trace is not None:
            files["difference.ndjson"] = learned.trace.dump()
        for name, content in files.items():
            (directory / name).write_text(content, encoding="utf-8")
        console.print(*(f"wrote {directory / name}" for name in files), sep="\n")
    raise typer.Exit(learned.exit_code)


@app.command("list")
def list_command() -> None:
    """List the clauses of the contract."""
    table = Table(show_lines=True)
    for heading in ("clause", "level", "profile", "text", "source"):
        table.add_column(heading, overflow="fold", no_wrap=heading in ("level", "profile"))
    for clause in CLAUSES:
        table.add_row(
            f"{clause.id} {clause.name}", clause.level.value, clause.profile.value, clause.text, clause.source
        )
    Console(highlight=False, markup=False).print(table)


@app.command("init-adapter")
def init_adapter_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="the module to write, e.g. my_adapter")],
    directory: Annotated[Path, typer.Option(help="where to write it")] = Path("."),
) -> None:
    """Write an adapter that runs at once, and the pytest file that asks for every clause."""
    with _refusing(ValueError):
        written = write_template(directory, name)
    _console().print(*(f"wrote {path}" for path in written), sep="\n")


app.command("prove")(prove_command)
app.add_typer(trace_app, name="trace")


def main() -> None:
    """The console script."""
    app()
