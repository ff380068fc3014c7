"""Two machines side by side, as mermaid text and as SVG: what the specification is, and what a sender was found to be.

States stand in columns, by how many letters lead to them; letters have numbers, and a legend says which. A letter that
leaves a state where it is would only be a loop at it, so it is left to a table.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Final

from kvsender_spec.formal.suite.hsi import cover
from kvsender_spec.formal.suite.letters import CallSequence, Letter
from kvsender_spec.formal.suite.sender import SpecMachine
from kvsender_spec.kit.search.learn import Learned
from kvsender_spec.kit.search.sequences import spell
from kvsender_spec.report.svg import Path, Picture, Rect, Shape, Words, draw

_COLUMN: Final = 230.0
_ROW: Final = 92.0
_HALF_W: Final = 40.0
_HALF_H: Final = 20.0
_MARGIN: Final = 64.0
_LINE: Final = 18.0


def _grouped(machine: SpecMachine) -> Mapping[tuple[int, int], list[Letter]]:
    """The letters that lead from one state to another one."""
    found: dict[tuple[int, int], list[Letter]] = {}
    for source in range(machine.size):
        for letter in machine.inputs:
            found.setdefault((source, machine.following[source][letter]), []).append(letter)
    return found


def _numbers(machine: SpecMachine) -> Mapping[Letter, int]:
    return {letter: number for number, letter in enumerate(machine.inputs, 1)}


def _says(machine: SpecMachine, state: int) -> str:
    """What tells a state's kind at a glance: what a poll answers there."""
    return machine.outputs[state][Letter.POLL].value


def verdict(learned: Learned) -> list[str]:
    """What learning has come to, line by line."""
    spec, sender = learned.spec, learned.sender
    lines = [
        f"specification: {spec.size} states, {len(spec.inputs)} inputs; it reports a failure {learned.reading.value}",
        f"{learned.adapter}: {sender.size} states, learned from {learned.sequences} sequences",
    ]
    if learned.stopped:
        lines.append(f"learning was cut short after {learned.stopped}: this is the last hypothesis")
    if learned.sequence is None:
        same = "no sequence was found that tells the two apart" if learned.stopped else "the two are bisimilar"
        return [*lines, same]
    lines += [
        "a shortest sequence that tells the two apart:",
        *(f"  {number}. {step}" for number, step in enumerate(told(learned), 1)),
    ]
    named = ", ".join(learned.clauses)
    return [
        *lines,
        f"it breaks {named}" if named else "it breaks no clause: the contract leaves the sender this freedom",
    ]


def told(learned: Learned) -> list[str]:
    """The distinguishing sequence letter by letter; both outputs where they differ."""
    sequence = learned.sequence or ()
    answers = zip(sequence, learned.spec.run(sequence), learned.sender.run(sequence), strict=True)
    return [
        f"{letter}: {a.value}" if a is b else f"{letter}: the specification {a.value}, the sender {b.value}"
        for letter, a, b in answers
    ]


# -------------------------------------------------------------------------------------------------------- mermaid


def to_markdown(learned: Learned) -> str:
    """A page with both machines as mermaid diagrams."""
    lines = [f"# {learned.adapter} beside the specification", "", *(f"- {line.strip()}" for line in verdict(learned))]
    for title, machine in (("The specification", learned.spec), (learned.adapter, learned.sender)):
        lines += ["", f"## {title}", "", *_mermaid(machine, learned.sequence or ()), "", *_table(machine)]
    lines += ["", "## Letters", ""]
    lines += [f"{number}. {letter}" for letter, number in _numbers(learned.spec).items()]
    return "\n".join([*lines, ""])


def _mermaid(machine: SpecMachine, sequence: CallSequence) -> list[str]:
    numbers = _numbers(machine)
    lines = ["```mermaid", "stateDiagram-v2", "    direction LR", "    classDef way fill:#fdeae8,stroke:#b3261e"]
    lines += [f"    s{state}: s{state} {_says(machine, state)}" for state in range(machine.size)]
    lines.append("    [*] --> s0")
    for (source, target), letters in _grouped(machine).items():
        if source != target:
            lines.append(f"    s{source} --> s{target}: {' '.join(str(numbers[letter]) for letter in letters)}")
    if sequence:
        lines.append(f"    class {','.join(f's{state}' for state in sorted(set(_states(machine, sequence))))} way")
    return [*lines, "```"]


def _states(machine: SpecMachine, sequence: CallSequence) -> list[int]:
    return [machine.after(sequence[:end]) for end in range(len(sequence) + 1)]


def _table(machine: SpecMachine) -> list[str]:
    """Every answer: a row for each state, a column for each letter."""
    head = ["state", *(str(number) for number in _numbers(machine).values())]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for state in range(machine.size):
        cells = [
            f"{machine.outputs[state][letter].value} s{machine.following[state][letter]}" for letter in machine.inputs
        ]
        lines.append(f"| s{state} | " + " | ".join(cells) + " |")
    return lines


# ------------------------------------------------------------------------------------------------------------ SVG


def to_svg(learned: Learned) -> str:
    """Both machines in one SVG picture, with the sequence that tells them apart in red."""
    sequence = learned.sequence or ()
    left, width, height = _machine(learned.spec, "the specification", sequence, 0.0)
    right, more, taller = _machine(learned.sender, learned.adapter, sequence, width)
    y = max(height, taller) + _LINE
    shapes = [*left, *right]
    for line in verdict(learned):
        shapes.append(Words(_MARGIN / 2, y, line.strip(), "bad" if "the sender" in line else ""))
        y += _LINE
    y += _LINE / 2
    for letter, number in _numbers(learned.spec).items():
        shapes.append(Words(_MARGIN / 2, y, f"{number:2} {letter}", "label"))
        y += 13
    label = f"{learned.adapter} beside the specification: {spell(sequence)}"
    return draw(Picture(width + more, y, label, tuple(shapes), style="machines.css"))


def _machine(machine: SpecMachine, title: str, sequence: CallSequence, left: float) -> tuple[list[Shape], float, float]:
    """The drawing of one machine, and its width and height."""
    places = _places(machine, left)
    way = set(pairwise(_states(machine, sequence)))
    numbers = _numbers(machine)
    shapes: list[Shape] = [Words(left + _MARGIN / 2, 28, f"{title}: {machine.size} states", "title")]
    for (source, target), letters in _grouped(machine).items():
        if source != target:
            label = " ".join(str(numbers[letter]) for letter in letters)
            shapes += _arrow(places[source], places[target], label, " way" if (source, target) in way else "")
    walked = {state for pair in way for state in pair}
    for state, place in places.items():
        x, y = place.real, place.imag
        style = "node way" if state in walked else "node"
        shapes.append(Rect(x - _HALF_W, y - _HALF_H, 2 * _HALF_W, 2 * _HALF_H, 9, style))
        shapes.append(Words(x, y - 3, f"s{state}", anchor="middle"))
        shapes.append(Words(x, y + 12, _says(machine, state), "label", "middle"))
    width = max(place.real for place in places.values()) - left + _HALF_W + _MARGIN
    return shapes, width, max(place.imag for place in places.values()) + _ROW


def _places(machine: SpecMachine, left: float) -> Mapping[int, complex]:
    """Where each state is drawn, as x + y*j."""
    columns: dict[int, list[int]] = {}
    for state, access in enumerate(cover(machine)):
        columns.setdefault(len(access), []).append(state)
    tallest = max(len(states) for states in columns.values())
    places: dict[int, complex] = {}
    for column, states in columns.items():
        top = 70 + (tallest - len(states)) * _ROW / 2
        for row, state in enumerate(states):
            # Every other row stands a little aside, so that an arrow within a column does not run through a state.
            places[state] = complex(left + _MARGIN + column * _COLUMN + 36 * (row % 2), top + row * _ROW)
    return places


def _arrow(source: complex, target: complex, label: str, way: str) -> list[Shape]:
    """A bent arrow: one that goes back bends the other way, so that the two do not lie on each other."""
    length = max(1.0, abs(target - source))
    along = (target - source) / length
    middle = (source + target) / 2 + along * 1j * (22.0 + length / 14)
    # The arrow ends at the edge of the box that it points at, along its last direction.
    last = target - middle
    end = target - last * min(_HALF_W / max(abs(last.real), 1e-6), _HALF_H / max(abs(last.imag), 1e-6), 1.0)
    ahead = last / max(1.0, abs(last))
    base, wing = end - 8 * ahead, 4j * ahead
    near = (source + 2 * middle + target) / 4 + 8 * along
    return [
        Path(f"M{_at(source)}Q{_at(middle)} {_at(end)}", f"edge{way}"),
        Path(f"M{_at(end)}L{_at(base + wing)}L{_at(base - wing)}Z", f"head{way}"),
        Words(near.real, near.imag, label, "label", "middle"),
    ]


def _at(point: complex) -> str:
    return f"{point.real:.1f} {point.imag:.1f}"
