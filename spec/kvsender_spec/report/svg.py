"""Pictures as data. A template turns them into SVG, alone or within a page; their colours come from classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from kvsender_spec.report.templating import fill


@dataclass(frozen=True, slots=True)
class Rect:
    """A box. Coordinates and lengths are pixels; y grows downwards."""

    tag: ClassVar = "rect"
    x: float
    y: float
    width: float
    height: float
    rx: float
    class_: str = ""


@dataclass(frozen=True, slots=True)
class Path:
    """Lines: ``d`` is SVG's."""

    tag: ClassVar = "path"
    d: str
    class_: str = ""


@dataclass(frozen=True, slots=True)
class Words:
    """One line of text; y is its base line."""

    tag: ClassVar = "text"
    x: float
    y: float
    text: str
    class_: str = ""
    anchor: Literal["start", "middle"] = "start"


Shape: TypeAlias = Rect | Path | Words


@dataclass(frozen=True, slots=True)
class Picture:
    """Shapes, the later ones on top."""

    width: float
    height: float
    label: str
    """What it shows, for readers who do not see it."""
    shapes: tuple[Shape, ...]
    style: str = ""
    """The template with the colours of a picture that stands alone; empty where the page has them."""


def draw(picture: Picture) -> str:
    """The picture as SVG, to be written to a file or shown by a page as it is."""
    return fill("picture.svg.jinja", picture=picture)
