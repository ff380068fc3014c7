"""The form of messages: one JSON object each, with the protocol and a kind; and reading its fields with care.

Whatever is not what it should be raises ValueError, naming the field and its value, and nothing else (KS-7.1).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Final, TypeAlias, TypeVar

from kvsender_nixl.notifications import MAGIC, text_of

_T = TypeVar("_T")
_KINDS: Final[dict[type, str]] = {
    str: "a string",
    int: "an integer",
    float: "a decimal number",
    bool: "true or false",
}
Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"


def envelope(kind: str, fields: Mapping[str, Json]) -> bytes:
    return json.dumps({"protocol": MAGIC, "kind": kind, **fields}).encode()


def fields_of(message: bytes) -> dict[str, Json]:
    """The fields of a message. Raises ValueError for what is none of this protocol."""
    try:
        body = json.loads(text_of(message))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(body, dict) or body.get("protocol") != MAGIC:
        raise ValueError(f"not a message of {MAGIC}: {message[:80]!r}")
    fields: dict[str, Json] = body
    return fields


def _field(fields: Mapping[str, Json], name: str, kind: type[_T]) -> _T:
    value = fields.get(name)
    if isinstance(value, kind) and type(value) is kind:  # to isinstance() alone a bool is an int
        return value
    raise ValueError(f"{name} is {value!r:.80}, not {_KINDS[kind]}")


def str_field(fields: Mapping[str, Json], name: str) -> str:
    return _field(fields, name, str)


def int_field(fields: Mapping[str, Json], name: str) -> int:
    return _field(fields, name, int)


def float_field(fields: Mapping[str, Json], name: str) -> float:
    return _field(fields, name, float)


def bool_field(fields: Mapping[str, Json], name: str) -> bool:
    return _field(fields, name, bool)


def bytes_field(fields: Mapping[str, Json], name: str) -> bytes:
    try:
        return base64.b64decode(str_field(fields, name), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError(f"{name} is not base64: {error}") from None
