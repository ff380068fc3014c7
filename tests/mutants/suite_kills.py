"""Which of the mutants without workers the complete suite tells apart, senders and readers: ``make suite-kills``.

What it cannot tell apart lies outside its alphabet, and ``OUTSIDE`` says why; a test holds the list against the
registry. A sequence of k=0 is the beginning of sequences of k=1, so what k=0 kills k=1 kills as well.
"""

from __future__ import annotations

import sys
import time
from typing import Annotated, Final

import typer
from rich.console import Console
from tests.mutants.acking import BROKEN as BROKEN_ACKING
from tests.mutants.pool import chosen
from tests.mutants.registry import EVERY, Mutant

from kvsender_spec.kit.parts import abilities
from kvsender_spec.kit.search.complete import SuiteReport, run_suite

OUTSIDE: Final = {
    **dict.fromkeys(
        (f"{broken.__name__}{reading}" for broken in BROKEN_ACKING for reading in ("", "Reading")),
        "no letter is a peer that gives a room up (KS-6.4)",
    ),
    **dict.fromkeys(
        ("WrapsPagesRound", "CountsFromTheEnd", "ReadsWhatThereIs", "ComparesTheStampsThatThereAre"),
        "every grant of a sequence is one that can be",
    ),
    "CatchesBaseException": "no letter is an interrupt (KS-1.4)",
    "ReleaseErrorEscapes": "no letter makes a release fail",
    "DisguisesBugs": "no letter is an error that is not the transport's (KS-1.3)",
    "AsksAgain": "what it breaks is a SHOULD, which the suite judges only where a SHOULD counts as a MUST",
    "BlamesItself": "what it breaks is a SHOULD, which the suite judges only where a SHOULD counts as a MUST",
    "LosesAuxOfEmptyChunk": "every chunk of a sequence has a page",
    "PoisonsTheRoom": "a sequence is about one room",
    "Panics": "a sequence is about one room",
    "NeverReconnects": "no letter brings a peer back",
    "TripsOverALostPeer": "no letter brings a peer back",
    "BlamesItsCallerForALostPeer": "no letter brings a peer back",
    "CutsLargeChunks": "a chunk of a sequence has one page",
    "StopsAtTheFirstThatIsNotDue": "a sequence is about one room",
    "KeepsTheFirstAuxSlot": "a sequence is about one room",
    "CutsToThePeersPages": "every peer wants every page",
    "AbortReconnects": "a sequence is about one room",
    "RefusedWordFailsOthers": "a sequence is about one room",
    "LateErrorHitsTheNewRoom": "a sequence is about one room",
    "PreparesForEachChunk": "a sequence is about one room",
    "LosesItsSlot": "a sequence is about one room",
    "WaitsForALostSlot": "a sequence is about one room",
    "KeepsTheOldLists": "no letter brings a peer back",
    "KnowsThePeerByItsNumber": "no letter brings a peer back",
    "ConnectsForEachRoom": "no letter brings a peer back",
    "ClearsByItsId": "a sequence is about one room",
    "LooksAtTheOldestRoom": "a sequence is about one room",
    "TakesNotFoundForALoss": "a sequence is about one room",
    "OneWindowForAll": "a sequence is about one room",
    "CountsFromTheLastLook": "the deadline passes at once, and not while the caller polls",
    "FirstContactRaises": "no letter is a first contact",
    "MakesUntilMade": "no letter makes a transfer impossible: posts are rejected, and makes are not",
    "Careless": "no letter is a mistake of the caller",
    **dict.fromkeys(
        (
            "NeverLooksAtTheGrant",
            "CountsAnswers",
            "LooksAtTheGrantBefore",
            "LooksAtOneHolder",
            "LooksAtTheFirstPage",
            "LooksAtTheLastPage",
            "TakesANewerStamp",
            "TakesAStampUnderWay",
            "LooksAgainAfterSuccess",
        ),
        "no letter is a holder that refills what it granted",
    ),
    "LeavesTheEndToItsReads": "every chunk of a sequence has a page",
    "NothingToReadIsNoRoom": "every chunk of a sequence has a page",
    "ReadsTheFirstPages": "every holder grants as many pages as are read",
    "TheIdHasANewOwner": "a sequence is about one room",
    "StopsAtTheFirstThatWaits": "a sequence is about one room",
    "ListsOutliveTheirHolder": "no letter brings a peer back",
    "FailedOnceIsFailedForEver": "no letter brings a peer back",
    "NeedsNixl": "it answers as a good sender does; KS-1.5 is about its import",
}
"""Each mutant that survives, with the reason."""
INLINE: Final = tuple(mutant for mutant in EVERY if not mutant.threads)
STRICT: Final = frozenset({"AsksAgain", "BlamesItself"})


def hunt(mutant: Mutant, extra: int, *, strict: bool = False) -> SuiteReport:
    """Run the suite until a sequence breaks a clause."""
    return run_suite(mutant.adapter, abilities(mutant.adapter), extra, strict=strict, most_differences=1)


def main(
    only: Annotated[list[str] | None, typer.Argument(help="Mutants, clauses, senders or readers; else all.")] = None,
    extra: Annotated[int, typer.Option(min=0, max=1, help="How many extra states.")] = 0,
    strict: Annotated[bool, typer.Option("--strict", help="A SHOULD counts as a MUST.")] = False,
) -> None:
    """Run the suite against every mutant without workers, and print which is told apart by which sequence."""
    console = Console(highlight=False, soft_wrap=True)
    told = {False: 0, True: 0}
    good = True
    asked = [EVERY[number] for number in chosen(only or []) if EVERY[number] in INLINE]
    for mutant in asked:
        began = time.process_time()
        report = hunt(mutant, extra, strict=strict)
        outside = mutant.name in OUTSIDE and not (strict and mutant.name in STRICT)
        told[mutant.reads] += report.failed
        good = good and report.failed != outside
        what = str(report.shown[0]) if report.failed else f"survives: {OUTSIDE.get(mutant.name, 'NOBODY KNOWS WHY')}"
        spent_s = time.process_time() - began
        console.print(
            f"{mutant.name} {mutant.breaks}: {what} ({report.sequences} sequences, {spent_s:.1f} s)", markup=False
        )
    for reads, who in ((False, "inline"), (True, "readers'")):
        number = sum(mutant.reads is reads for mutant in asked)
        console.print(f"k={extra}: {told[reads]} of {number} {who} mutants are told apart")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    typer.run(main)
