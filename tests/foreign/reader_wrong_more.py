"""The pump's readers with one thing wrong each: pages, handles, connections and what a holder is told.

Each names the clause that it breaks, and what the report puts before it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Final

from tests.foreign.reader_base import Flight, Job, Kind, Request
from tests.foreign.reader_right_pump import Engine, PullReader, PullSystem, pull

from kvsender_spec.contract import Attribution, KVPoll
from kvsender_spec.kit.adapter import Adapter, Notification, Peer, World
from kvsender_spec.kit.scripted.fabric import ScriptedHandle

# Pages and handles.


class FirstFailEnds(Engine):
    """KS-4.1: the first handle that fails ends the room, and its siblings' pages are free. vllm #56104, T04 of the
    field catalogue."""

    def fail(self, req: Request, error: Exception, who: Attribution) -> None:
        super().fail(req, error, who)
        if req.over is None:
            self.conclude(req, KVPoll.Failed)

    def quarantined_pages(self) -> set[int]:
        return set(self.doubt)


class ReleaseOnAbort(PullReader):
    """KS-4.2: abort() releases the handles and frees the pages. vllm #32255, T06 of the field catalogue."""

    def abort(self) -> None:
        super().abort()
        if self.ready and self.req.over is None:
            for flight in list(self.req.flights):
                self.engine.settled(flight, clean=True)


class LeakAfterAbort(Engine):
    """KS-4.3: the handles of rooms that are over are never looked at again. vllm #46289, T06 of the field catalogue."""

    def look(self, flight: Flight) -> None:
        if flight.req.over is None:
            super().look(flight)


class RejectedIsFree(Engine):
    """KS-4.4: frees the pages of a refused post, and of a READ that ended in an error."""

    def settled(self, flight: Flight, *, clean: bool) -> None:
        super().settled(flight, clean=True)


class ClearFrees(Engine):
    """KS-4.1: the quarantine goes with the entry of the room, so clear() frees pages under a READ."""

    def quarantined_pages(self) -> set[int]:
        held = [flight for flight in self.flights if flight.req.incarnation in self.reqs]
        return self.doubt.union(*(flight.pages for flight in held if flight.req.over is not None))


class Resurrects(Engine):
    """KS-4.3: a late completion puts a cleared room back into the table. Its author expected KS-5.3, which is about
    what poll() answers; here the entry that stays is all that shows. T07 of the field catalogue."""

    def heard(self, flight: Flight, answer: str) -> None:
        super().heard(flight, answer)
        if flight.req.over is not None and answer == "DONE":
            self.reqs[flight.req.incarnation] = flight.req


# Connections.


class EvictsInFlight(Engine):
    """KS-5.4: an error evicts the connection with other rooms' READs in flight. Its author expected KS-6.2; but those
    rooms have the same holder. ray #65905, T14 of the field catalogue."""

    def settled(self, flight: Flight, *, clean: bool) -> None:
        super().settled(flight, clean=clean)
        for holder in flight.req.holders if not clean else ():
            conn = self.conns.pop(holder.peer.name, None)
            if conn is not None:
                self.disconnect(conn)


class StaleLists(Engine):
    """KS-6.3: the old descriptor lists are used towards the new process. nixl #2027, T20 of the field catalogue."""

    def connect(self, peer: Peer) -> None:
        old = self.conns.get(peer.name)
        if old is None:
            super().connect(peer)
            return
        self.agent.remove_remote_agent(peer.name)
        self.agent.add_remote_agent(peer.agent.get_agent_metadata())
        old.generation = peer.generation


# What a holder is told.


class UntoldBeforePost(Engine):
    """KS-6.1: a room that fails before its first READ tells nobody. vllm #41269, T08 of the field catalogue."""

    def tell(self, req: Request) -> None:
        if req.cause is not None and not req.begun:
            req.untold.clear()
        super().tell(req)


class PrefixHitUntold(Engine):
    """KS-6.1: the holders of a full prefix hit are not told. T10 of the field catalogue."""

    def tell(self, req: Request) -> None:
        if not req.pages and req.over is KVPoll.Success:
            req.untold.clear()
        super().tell(req)


class OkAtPost(Engine):
    """KS-6.1: Success is told when the last READ is posted, and overtakes the bytes."""

    def __init__(self, world: World) -> None:
        self.early: set[int] = set()
        super().__init__(world)

    def launch(self, req: Request, job: Job, handle: ScriptedHandle) -> None:
        super().launch(req, job, handle)
        posted = job.kind == "data" and req.complete and not any(left.kind == "data" for left in req.jobs)
        if posted and req.cause is None and req.incarnation not in self.early:
            self.early.add(req.incarnation)
            for holder in req.holders:
                self.send(holder, f"{req.room} {req.incarnation} ok".encode())

    def tell(self, req: Request) -> None:
        if req.incarnation in self.early and req.over is KVPoll.Success:
            req.untold.clear()
        super().tell(req)


class OkOnFailure(Engine):
    """KS-6.1: Success is told of a failure as well."""

    def message(self, req: Request) -> bytes:
        return f"{req.room} {req.incarnation} ok".encode()


class WrongId(Engine):
    """KS-6.1: names another room, and the right incarnation. vllm #36958, T09 of the field catalogue."""

    def message(self, req: Request) -> bytes:
        return super().message(req).replace(f"{req.room} ".encode(), f"{req.room + 1000} ".encode(), 1)


class WrongIncarnation(Engine):
    """KS-6.1: names the right room, and another incarnation. T09 of the field catalogue."""

    def message(self, req: Request) -> bytes:
        right, wrong = (f"{req.room} {incarnation} ".encode() for incarnation in (req.incarnation, req.incarnation + 1))
        return super().message(req).replace(right, wrong, 1)


class UntellingSystem(PullSystem):
    """Its messages tell no incarnation."""

    def read_notification(self, message: bytes) -> Notification | None:
        said = super().read_notification(message)
        return None if said is None else replace(said, incarnation=None)


WRONG: Final[tuple[tuple[Adapter, str], ...]] = (
    (pull("first_fail_ends", FirstFailEnds), "KS-4.1"),
    (pull("release_on_abort", reader=ReleaseOnAbort), "KS-4.2"),
    (pull("leak_after_abort", LeakAfterAbort), "KS-4.3"),
    (pull("rejected_is_free", RejectedIsFree), "KS-4.4"),
    (pull("clear_frees", ClearFrees), "KS-4.1"),
    (pull("resurrects", Resurrects), "KS-4.3"),
    (pull("evicts_in_flight", EvictsInFlight), "KS-5.4"),
    (pull("stale_lists", StaleLists), "KS-6.3"),
    (pull("untold_before_post", UntoldBeforePost), "KS-6.1"),
    (pull("prefix_hit_untold", PrefixHitUntold), "KS-6.1"),
    (pull("ok_at_post", OkAtPost), "KS-6.1"),
    (pull("ok_on_failure", OkOnFailure), "KS-6.1"),
    (pull("wrong_id", WrongId), "KS-6.1"),
    (pull("wrong_incarnation", WrongIncarnation), "KS-6.1"),
    (Kind("foreign-read-wrong_id_only", partial(UntellingSystem, engine=WrongId)), "KS-6.1"),
)
