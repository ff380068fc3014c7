"""The sequence diagram of a history, and pictures as SVG."""

from __future__ import annotations

from xml.etree import ElementTree

from tests.report.made import HOSTILE, LONG, Script, every_event, success_after_failure

from kvsender_spec.history import events as h
from kvsender_spec.history.plain import printable
from kvsender_spec.history.words import CallName
from kvsender_spec.observe.verdict import Violation
from kvsender_spec.report.sequence import MOST_EVENTS, MOST_PEERS, MOST_STEPS, sequence
from kvsender_spec.report.svg import Path, Picture, Rect, Words, draw


def words(picture: Picture) -> list[str]:
    return [shape.text for shape in picture.shapes if isinstance(shape, Words)]


def boxes(picture: Picture) -> list[float]:
    """How far down the red boxes are."""
    return [shape.y for shape in picture.shapes if isinstance(shape, Rect) and shape.class_ == "broken"]


def at(picture: Picture, text: str) -> float:
    """How far down the only such text is."""
    (y,) = [shape.y for shape in picture.shapes if isinstance(shape, Words) and shape.text == text]
    return y


def test_it_shows_lanes_calls_answers_and_steps() -> None:
    history, _ = success_after_failure()
    picture = sequence(history)
    said = words(picture)
    assert said[:5] == ["caller", "sender", "transport", "decode0", "decode1"]
    for expected in (
        "2. send(0) with post[1]=nixlBackendError",
        "make handle 2 for decode1",
        "PROC",
        "raised nixlBackendError:",
        "handle 1: all bytes",
        "answered Success",
        "success of room 7",
        "the bytes of sender and peers differ: page 0 of decode1",
    ):
        assert expected in said
    assert boxes(picture) == []


def test_the_event_of_a_violation_gets_the_red_box() -> None:
    history, shown = success_after_failure()
    violations = [Violation("KS-2.2", "Failed", "Success", seq=shown), Violation("KS-3.1", "a", "b", seq=shown + 1)]
    picture = sequence(history, violations)
    first, second = boxes(picture)
    told = "KS-2.2 NO-SUCCESS-AFTER-FAIL (MUST): expected Failed; observed: Success"
    answers = [shape.y for shape in picture.shapes if isinstance(shape, Words) and shape.text == "answered Success"]
    compared = at(picture, "the bytes of sender and peers differ: page 0 of decode1")
    assert answers[0] < first < at(picture, told) < compared < second < at(picture, "4. poll(0)") < answers[1]
    assert "KS-3.1 NO-FALSE-SUCCESS (MUST)" in words(picture)
    styles = [shape.class_ for shape in picture.shapes if isinstance(shape, Path)]
    assert styles.count("arrow reply bad") == 1


def test_a_violation_without_an_event_has_its_box_at_the_end() -> None:
    history, _ = success_after_failure()
    picture = sequence(history, [Violation("KS-4.3", "a release", "none")])
    (box,) = boxes(picture)
    assert box > at(picture, "4. poll(0)")
    assert "KS-4.3 NO-LEAK (MUST): expected a release; observed: none" in words(picture)


def test_many_events_of_a_step_are_cut_with_a_count_but_never_the_violation() -> None:
    script = Script()
    script.step("poll(0)")
    script.call(CallName.POLL)
    for handle in range(100):
        script.check(handle, "PROC")
    script.ended("Success")
    picture = sequence(script.history, [Violation("KS-2.6", "no check", "a check", seq=80)])
    assert f"{102 - MOST_EVENTS - 2} more events of this step are not shown" in words(picture)
    assert "check handle 79" not in words(picture)
    assert "check handle 78" in words(picture)
    assert "answered Success" in words(picture)
    assert len(boxes(picture)) == 1


def test_many_steps_are_cut_with_a_count_but_never_the_violation() -> None:
    script = Script()
    for number in range(100):
        script.step(f"poll({number})")
        script.call(CallName.POLL)
        script.ended("Success")
    seq = script.history.events[151].seq
    said = words(sequence(script.history, [Violation("KS-2.1", "", "", seq=seq)]))
    titles = [text for text in said if ". poll(" in text]
    assert len(titles) == MOST_STEPS + 1
    assert "51. poll(50)" in titles
    left_out = [int(text.split()[0]) for text in said if "steps are left out here" in text]
    assert sum(left_out) == 100 - len(titles)


def test_steps_alike_are_drawn_once() -> None:
    script = Script()
    seqs: list[int] = []
    for _ in range(9):
        script.step("poll(0)")
        script.call(CallName.POLL)
        seqs.append(script.ended("Transferring"))
    assert [text for text in words(sequence(script.history)) if "poll(0)" in text] == ["1 to 9. poll(0), 9 times alike"]
    said = words(sequence(script.history, [Violation("KS-3.4", "an end", "none", seq=seqs[6])]))
    assert [text for text in said if "poll(0)" in text] == [
        "1 to 6. poll(0), 6 times alike",
        "7. poll(0)",
        "8 to 9. poll(0), 2 times alike",
    ]


def test_every_event_is_drawn() -> None:
    for event in every_event().events:
        if isinstance(event, h.ErrorSeen | h.StepStarted):
            continue
        history = every_event()
        history.events[:] = [e for e in history.events if isinstance(e, h.ErrorSeen) or e.seq == event.seq]
        drawn = [shape.class_ for shape in sequence(history).shapes if not shape.class_.startswith("lane")]
        assert drawn[:2] == ["band", "title"]
        assert len(drawn) > 2, event


def test_a_copy_is_drawn_when_it_lands_and_not_once_more_when_it_is_told() -> None:
    script = Script()
    script.step("poll(0)")
    script.make(1, "decode0")
    script.add(h.BytesLanded(seq=script.seq, t=0.0, handle=1, bytes=64, whole=True))
    script.check(1)
    said = words(sequence(script.history))
    assert "all 64 bytes of handle 1" in said
    assert "handle 1: all bytes" not in said


def test_more_peers_than_lanes_share_one() -> None:
    script = Script()
    script.opened(*(f"decode{number}" for number in range(20)))
    script.add(h.PeerLost(seq=script.seq, t=0.0, peer="decode9"))
    picture = sequence(script.history)
    assert words(picture)[: 3 + MOST_PEERS + 1][-1] == "other peers"
    assert picture.width < 3000


def test_hostile_and_long_texts_stay_within_a_bounded_picture() -> None:
    for text in (HOSTILE, LONG, "\ud800" * 9000):
        picture = sequence(every_event(text), [Violation("KS-1.1", text, text, seq=5, after="KS-1.2")])
        assert picture.height < 6000
        assert all(printable(line) == line and len(line) * 7 < picture.width for line in words(picture))
        svg = draw(picture)
        assert len(svg) < 200_000
        root = ElementTree.fromstring(svg.encode("utf-8"))
        assert {element.tag.rpartition("}")[2] for element in root.iter()} == {"svg", "rect", "path", "text"}


def test_a_picture_alone_has_its_colours_and_nothing_unescaped() -> None:
    shapes = (Rect(1.5, 2, 3, 4, 5, '"><b>'), Path("M0 0", "edge"), Words(1, 2, "<&\x00>", "title", "middle"))
    svg = draw(Picture(100, 50.25, '"<x>', shapes, style="machines.css"))
    assert svg.startswith('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 50.25" ')
    root = ElementTree.fromstring(svg)
    style, rect, path, text = root
    assert ".node.way{" in (style.text or "")
    assert (rect.get("x"), rect.get("class"), root.get("aria-label")) == ("1.5", '"><b>', '"<x>')
    assert (path.get("d"), text.text, text.get("text-anchor")) == ("M0 0", "<&\\x00>", "middle")
    assert "<style>" not in draw(Picture(1, 1, "", shapes))
