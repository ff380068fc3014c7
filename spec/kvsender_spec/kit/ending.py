"""The end of a run: every room is brought to its end, and what only the end can show is judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from kvsender_spec.contract import Abortable, Clearable
from kvsender_spec.kit.adapter import CountsResidue
from kvsender_spec.kit.rooms import Room
from kvsender_spec.trace import Call, Progress, Step

if TYPE_CHECKING:
    from kvsender_spec.kit.drive import Run

_SETTLE_ROUNDS: Final = 3


def end(run: Run) -> None:
    """End every room, let everything settle, and judge what only the end can show."""
    run.record.ending = True
    for ending in (_end_rooms, _show_failures, _clear_rooms, _settle_everything):
        if run.over:
            return
        ending(run)
        run.take_stock()
        run.record.add_rest("after these calls")
    if run.over:
        return
    for room in run.all_rooms():
        room.judge.check_notices(run.stage.reachable)
        room.judge.check_released()
    system = run.system
    if isinstance(system, CountsResidue) and all(room.judge.cleared for room in run.all_rooms()):
        residue = run.calls.hook("residue", system.residue)
        run.findings.check("KS-4.3", residue == 0, "no entry of a cleared room is kept", f"{residue} are")
    run.record.add_rest("what only the end can show")
    run.over = True


def _end_rooms(run: Run) -> None:
    # First the rooms whose own peers have been well ever since: they end before any clock moves, whatever other
    # rooms still wait for (KS-6.2).
    rooms = run.all_rooms()
    for room in [*(room for room in rooms if not room.ill), *(room for room in rooms if room.ill)]:
        abort = Step(Call.ABORT, room.slot)
        if not room.judge.owes_an_end and isinstance(room.sender, Abortable) and not run.is_avoided(room, abort):
            run.call_at_end(room, abort)
        if run.over or run.is_broken():
            return
        owes_an_end = room.judge.owes_an_end
        polls = _enough_polls(run, room)
        for wait_s in (0.0, run.world.transfer_timeout_s, run.world.drain_timeout_s):
            if room.judge.ended:
                break
            if wait_s and not run.scene.silent and not room.ill:
                break  # all that concerns the room has settled: no deadline is needed
            run.world.clock.now += wait_s
            if wait_s:
                run.record.add(f"{wait_s:g} s pass")
            _poll_until_ended(run, room, polls)
            if run.is_broken():
                return
        if owes_an_end:
            by_deadline = run.scene.silent or room.ill
            room.judge.must_have_ended(polls, run.surroundings(room), by_deadline=by_deadline)
            run.record.add_rest(f"room {room.slot} has had all its time")
        if run.is_broken():
            return


def _enough_polls(run: Run, room: Room) -> int:
    """One for each handle, and some. A worker may have other rooms' chunks to post before it comes to this one."""
    if run.calls.system is None:
        return len(room.judge.oracle.handles) + 2
    return _enough_rounds(run)


def _enough_rounds(run: Run) -> int:
    """Of the workers, until all that was ever given to them is done."""
    chunks = sum(len(run.scene.chunks[room.slot]) for room in run.all_rooms())
    return 2 * chunks * run.scene.peers + 4


def _poll_until_ended(run: Run, room: Room, polls: int) -> None:
    rooms = [room] if run.calls.system is None else run.all_rooms()
    for _ in range(polls):
        if room.judge.ended or run.is_broken():
            return
        if not run.scene.silent and _everything_finishes(run, rooms):
            run.record.add(f"everything in flight of room {room.slot} finishes")
        run.call_at_end(room, Step(Call.POLL, room.slot))


def _everything_finishes(run: Run, rooms: Sequence[Room]) -> bool:
    finished = [room for room in rooms if run.let_progress(room, Progress.ALL)]
    for room in finished:
        if room.judge.cleared:
            room.judge.settled_late()
    return bool(finished)


def _each_room(run: Run, *calls: Call) -> None:
    for room in run.all_rooms():
        for call in calls:
            if not run.is_broken() and not run.is_avoided(room, Step(call)):
                run.call_at_end(room, Step(call, room.slot))


def _show_failures(run: Run) -> None:
    _each_room(run, Call.FAILURE_EXCEPTION, Call.FAILURE_EXCEPTION, Call.POLL)


def _clear_rooms(run: Run) -> None:
    if all(isinstance(room.sender, Clearable) for room in run.all_rooms()):
        _each_room(run, Call.CLEAR, Call.POLL, Call.CLEAR, Call.FAILURE_EXCEPTION, Call.POLL)


def _settle_everything(run: Run) -> None:
    for peer in run.world.peers:
        run.stage.fabric.cont(peer.name)
    for _ in range(_SETTLE_ROUNDS if run.calls.system is None else _enough_rounds(run)):
        _everything_finishes(run, run.all_rooms())
        run.settle()
        run.meanwhile(round_=True)
    run.take_stock()
    run.record.add("everything settles: what is in flight finishes, the system has its time")
    _each_room(run, Call.POLL)
