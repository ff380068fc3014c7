"""What a history keeps of an error: where it comes from, its text, and the frames in which it was raised."""

from __future__ import annotations

import sys
import traceback
from collections import deque
from dataclasses import dataclass
from itertools import islice
from types import FrameType
from typing import Final

from kvsender_spec.history.words import Origin

TEXT_LIMIT: Final = 4000
"""Characters of an error that are kept: a sender's error may quote all that it knows."""
_FRAMES: Final = 6


@dataclass(frozen=True, slots=True)
class ErrorClasses:
    """How the subject's world tells errors apart."""

    transport: tuple[type[BaseException], ...]
    disconnect: type[BaseException] | None
    usage: tuple[type[BaseException], ...]
    released: tuple[type[BaseException], ...] = ()
    """Raised where a released handle is used."""

    def origin(self, error: BaseException) -> Origin:
        """Where an error comes from, by its class."""
        if isinstance(error, self.transport) or type(error) is RuntimeError:
            return Origin.TRANSPORT
        if isinstance(error, self.released):
            return Origin.RELEASED
        if isinstance(error, self.usage):
            return Origin.USAGE
        return Origin.OTHER if isinstance(error, Exception) else Origin.BASE

    def disconnects(self, error: BaseException) -> bool:
        """Whether an error means that the connection to the peer is broken."""
        return self.disconnect is not None and isinstance(error, self.disconnect)


def text_of(error: BaseException) -> str:
    """An error's text, which an error of somebody else's may refuse to give."""
    try:
        text = str(error)
    except Exception as broken:
        text = f"<str() raised {type(broken).__name__}>"
    text = text.encode("utf-8", "backslashreplace").decode()  # a lone surrogate is no text
    return text if len(text) <= TEXT_LIMIT else f"{text[:TEXT_LIMIT]} ..."


def frames_of(error: BaseException) -> tuple[str, ...]:
    """The last frames in which an error was raised: file, line, function."""
    return tuple(_frame(frame, line) for frame, line in deque(traceback.walk_tb(error.__traceback__), _FRAMES))


def stack_of(ident: int | None) -> tuple[str, ...]:
    """The last frames of a thread that runs: file, line, function."""
    frame = None if ident is None else sys._current_frames().get(ident)
    frames = tuple(_frame(frame, line) for frame, line in islice(traceback.walk_stack(frame), _FRAMES)) if frame else ()
    return frames[::-1]


def _frame(frame: FrameType, line: int) -> str:
    code = frame.f_code
    return f"{code.co_filename}:{line} in {code.co_name}"
