"""An object in the place of another one: everything falls through to it, and some of its calls are told of.

The test that uses it must behave as before. So what a call returns or raises is passed on as it is, whatever is set is
set on the real object, and ``isinstance`` sees the real class. Special methods that Python looks up in the class, such
as those of ``with`` and ``len()``, are not passed on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol, TypeAlias, cast


class AnyCall(Protocol):
    """A method of the real object."""

    def __call__(self, *args: object, **kwargs: object) -> object: ...


Given: TypeAlias = tuple[tuple[object, ...], dict[str, object]]
"""The arguments of a call."""
Tells: TypeAlias = Callable[[AnyCall, Given], object]
"""Makes the call and tells of it. It returns and raises what the call does."""


def argument(given: Given, position: int, *names: str) -> object:
    """One argument of a call, by its position or by one of its names; None where it was not given."""
    args, kwargs = given
    if position < len(args):
        return args[position]
    return next((kwargs[name] for name in names if name in kwargs), None)


class _Told:
    """A method that is told of. Whatever else is asked of it is asked of the real one, which may be a mock."""

    def __init__(self, real: AnyCall, tells: Tells) -> None:
        self._kvsender_real: Final = real
        self._kvsender_tells: Final = tells

    def __call__(self, *args: object, **kwargs: object) -> object:
        return self._kvsender_tells(self._kvsender_real, (args, kwargs))

    def __getattr__(self, name: str) -> object:
        found: object = getattr(self._kvsender_real, name)
        return found


class Wrapper:
    """Stands in the place of ``inner``; ``tells`` has the methods that are told of, by name.

    A method that the real object lacks, the wrapper lacks as well.
    """

    __slots__ = ("__weakref__", "_kvsender_inner", "_kvsender_tells")

    _kvsender_inner: object
    _kvsender_tells: Mapping[str, Tells]

    def __init__(self, inner: object, tells: Mapping[str, Tells]) -> None:
        object.__setattr__(self, "_kvsender_inner", inner)
        object.__setattr__(self, "_kvsender_tells", tells)

    @property  # type: ignore[misc]  # nobody sets the class of a wrapper
    def __class__(self) -> type:
        return self._kvsender_inner.__class__

    def __getattr__(self, name: str) -> object:
        found: object = getattr(self._kvsender_inner, name)
        tells = self._kvsender_tells.get(name)
        return found if tells is None or not callable(found) else _Told(cast("AnyCall", found), tells)

    def __setattr__(self, name: str, value: object) -> None:
        # Whoever puts back what was read here puts back the real method.
        setattr(self._kvsender_inner, name, value._kvsender_real if isinstance(value, _Told) else value)

    def __delattr__(self, name: str) -> None:
        delattr(self._kvsender_inner, name)

    def __dir__(self) -> list[str]:
        return dir(self._kvsender_inner)

    def __repr__(self) -> str:
        return repr(self._kvsender_inner)

    def __str__(self) -> str:
        return str(self._kvsender_inner)

    def __eq__(self, other: object) -> bool:
        return self._kvsender_inner == (other._kvsender_inner if isinstance(other, Wrapper) else other)

    def __hash__(self) -> int:
        return hash(self._kvsender_inner)
