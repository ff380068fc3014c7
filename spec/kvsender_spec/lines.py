"""One line of JSON, decoded by msgspec: whatever is wrong with it is named with the line and the value."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

import msgspec

MOST_SHOWN: Final = 80
"""The most characters of a bad value that a message quotes."""

_T = TypeVar("_T")


class _Format(msgspec.Struct):
    """What is read of a header before anything else: another version may have other fields."""

    format: str = ""


_FORMATS: Final = msgspec.json.Decoder(_Format)
_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def shown(text: str) -> str:
    """The text, or its beginning and its length in characters."""
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}... ({len(text)} characters)"


def decoded(number: int, line: str, decoder: msgspec.json.Decoder[_T], error_class: Callable[[str], ValueError]) -> _T:
    """What the decoder reads from a line, which ends with its newline unless the file was cut off.

    Raises an error of the given class, whose message starts with the number of the line, for whatever it cannot read.
    """
    try:
        return decoder.decode(line)
    except msgspec.ValidationError as error:
        problem = _named(str(error), line)
    except msgspec.DecodeError as error:
        cut = not line.endswith("\n")
        what = "the file ends in the middle of the line" if cut else f"not JSON: {error}"
        problem = f"{what}: {shown(repr(line))}"
    except UnicodeEncodeError as error:
        problem = f"not UTF-8: {shown(repr(line[error.start : error.end]))} at character {error.start}"
    except RecursionError:
        problem = f"nested too deeply: {shown(repr(line))}"
    raise error_class(f"line {number}: {problem}")


def require_format(number: int, line: str, wanted: str, error_class: Callable[[str], ValueError]) -> None:
    """Raises an error of the given class unless the header in this line is of the wanted format."""
    found = decoded(number, line, _FORMATS, error_class).format
    if found != wanted:
        raise error_class(f"line {number}: format must be {wanted!r}, not {shown(repr(found))}")


def _named(problem: str, line: str) -> str:
    """What msgspec says of a value, with the value, which it does not always name."""
    what, _, path = problem.partition(" - at ")
    what = shown(what)
    field = re.match(r"`\$\.(\w+)", path)
    value = line.strip()
    if field is not None:
        # Where the rest of the line is bad as well, the whole line is quoted.
        with suppress(msgspec.DecodeError, RecursionError, KeyError):
            value = bytes(_FIELDS.decode(line)[field[1]]).decode()
        what = f"{path.strip('`').removeprefix('$.')}: {what}"
    return f"{what}: {shown(repr(value))}"
