"""``kvsender learn``: learns a sender's machine.

Exit codes: 0 the sender's machine is the specification's, 1 it is another one, 2 wrong use or AALpy is missing, 3
learning was cut short or the adapter broke.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kvsender_spec.adapter_arguments import load, plain_console
from kvsender_spec.front import refuse
from kvsender_spec.history.plain import one_line
from kvsender_spec.kit.parts import LoadError, abilities
from kvsender_spec.kit.run.calls import AdapterError
from kvsender_spec.kit.search.automata import to_markdown, to_svg, verdict
from kvsender_spec.kit.search.learn import MOST_SECONDS, MOST_SEQUENCES, CannotLearn, learn, require_aalpy
from kvsender_spec.report.text import LIMIT


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
    console = plain_console()
    try:
        require_aalpy()
        adapter = load(adapter_name, verbose=verbose)
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
