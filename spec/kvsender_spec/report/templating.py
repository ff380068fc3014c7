"""The templates of the page and of the pictures. Whatever they show is escaped here, and nowhere else."""

from __future__ import annotations

from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from kvsender_spec.history.plain import printable


def _shown(value: object) -> object:
    """What an expression of a template shows. A text of the templates' own (``Markup``) is not exactly a ``str``."""
    if type(value) is str:
        return printable(value)
    return f"{value:g}" if isinstance(value, float) else value


_ENVIRONMENT: Final = Environment(
    loader=PackageLoader("kvsender_spec.report"),
    autoescape=True,
    undefined=StrictUndefined,
    finalize=_shown,
    trim_blocks=True,
    lstrip_blocks=True,
)


def fill(template: str, **values: object) -> str:
    """Fill a template of this package. Raises jinja2.UndefinedError for a value that it needs and does not get."""
    return _ENVIRONMENT.get_template(template).render(**values)
