"""Ctrl-C in a check: the first one ends the exploration, and what was seen is reported; the second one ends all."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Final

from rich.console import Console


class Interrupts:
    """Catches SIGINT as long as a block lasts. Outside the main thread it catches nothing, as Python has it."""

    def __init__(self) -> None:
        self.asked = False
        """Somebody wants the check to end."""
        self._here: Final = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> Interrupts:
        if self._here:
            signal.signal(signal.SIGINT, self._caught)
        return self

    def __exit__(self, *_: object) -> None:
        if self._here:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _caught(self, number: int, _: FrameType | None) -> None:
        if self.asked:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.asked = True
        said = "interrupted: what was seen so far is reported; Ctrl-C once more ends it at once"
        Console(stderr=True, highlight=False).print(said, markup=False, soft_wrap=True)
