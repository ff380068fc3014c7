"""The scripted agent: the calls of a NIXL agent, answered as nixl 1.5.1 was seen to answer them."""

from __future__ import annotations

from collections.abc import Sequence

from kvsender_spec.contract import INIT_AGENT, Operation
from kvsender_spec.faults import RETURNED_BY_TRANSPORT, Fault, Kind, Point
from kvsender_spec.kit.scripted.answers import Answering
from kvsender_spec.kit.scripted.copies import (
    MEMORY,
    WRITES,
    Copy,
    Indices,
    Link,
    Region,
    Rows,
    ScriptedDescs,
    ScriptedDlist,
    ScriptedHandle,
    Span,
    blocks,
    picked,
    rows_of,
)
from kvsender_spec.kit.scripted.ground import TransportEvent
from kvsender_spec.kit.scripted.metadata import Metadata
from kvsender_spec.machine import HandleEvent, HandleState
from kvsender_spec.oracle import TrackedHandle


class ScriptedAgent(Answering):
    """One process's agent, made by ``Fabric.agent``; satisfies ``contract.Transport``. ``Answering`` refuses."""

    # ---------------------------------------------------------------------------------------------- memory

    def register_memory(self, reg_list: Sequence[tuple[int, int, int, str]], mem_type: str) -> list[Region]:
        regions = [(address, length, device, MEMORY[mem_type]) for address, length, device, _ in reg_list]
        if not regions:
            raise IndexError("list index out of range")
        if any(region[0] == 0 for region in regions):
            self.hollow = self.hollow or not self.regions
            raise self.fabric.error(Kind.BACKEND)
        self.regions += regions
        self.has_registered = True
        return regions

    def deregister_memory(self, dereg_list: list[Region]) -> None:
        """Forget regions. Peers that know them go on writing to them."""
        if len(set(dereg_list)) < len(dereg_list):
            raise self.fabric.handle_misuse(f"{self.name}: a list that names a region twice was deregistered")
        if not set(dereg_list) <= set(self.regions):
            raise self.fabric.error(Kind.NOT_FOUND)
        before = list(self.regions)
        for region in dereg_list:
            self.regions.remove(region)
        for handle in self.fabric.in_use(self, before):
            self.fabric.log(TransportEvent(Point.RELEASE, self.name, handle.peer, handle.number, "deregistered"))
        self.hollow = self.hollow and bool(self.regions)
        self.deregistered = True

    # ----------------------------------------------------------------------------------------------- peers

    def get_agent_metadata(self) -> bytes:
        return self.fabric.publish(self)

    def add_remote_agent(self, metadata: bytes) -> bytes:
        """The name as bytes, which is what NIXL 1.5.1 answers although its annotation says str."""
        with self.fabric.lock:
            published = self.fabric.read_metadata(metadata)
            name = published.agent.name
            before = self.links.get(name)
            refused = self._connect(published)
            error = None if refused is None else self.fabric.error(refused)
            self.fabric.connected(self.name, name, error, anew=self.links.get(name) is not before)
            if error is not None:
                raise error
            return published.agent.name.encode()

    def _connect(self, published: Metadata) -> Kind | None:
        """Returns the error by which it is refused."""
        peer = published.agent
        link = self.links.get(peer.name)
        if peer.name == self.name:
            return Kind.INVALID_PARAM
        if published.refused is not None and not published.poisons:
            return published.refused
        if peer.name in self.poisoned:
            return Kind.INVALID_PARAM
        if published.poisons:
            self.poisoned.add(peer.name)
            self._unlink(peer.name)
            return published.refused
        if link is not None and link.peer is not peer:
            return Kind.NOT_ALLOWED
        if link is not None:
            link.regions += (region for region in published.regions if region not in link.regions)
        elif peer.alive:
            self.links[peer.name] = Link(self, peer, list(published.regions))
        else:
            return Kind.BACKEND
        return None

    def remove_remote_agent(self, agent: str) -> None:
        """Never raises. What is in flight raises from now on, while its bytes go on landing."""
        with self.fabric.lock:
            link = self.links.get(agent)
            if link is not None:
                link.given_up = not (link.broken or link.peer.stopped)
            self._unlink(agent)

    def check_remote_metadata(self, agent: str) -> bool:
        return agent in self.links and (agent != self.name or self.has_registered)

    # ----------------------------------------------------------------------------------------- descriptors

    def prep_xfer_dlist(
        self, agent_name: str, xfer_list: Rows | Sequence[tuple[int, int, int]], mem_type: str
    ) -> ScriptedDlist:
        rows = rows_of(xfer_list, widths=(3, 5))
        memory = MEMORY[mem_type]
        local = agent_name in (INIT_AGENT, "")
        link = self.links.get(agent_name)
        found = blocks(self.regions if local else [] if link is None else link.regions, rows, memory)
        if found is None:
            raise self.fabric.error(Kind.NOT_FOUND)
        made = ScriptedDlist(None if local else link, found)
        self.lists.add(made)
        return made

    def release_dlist_handle(self, handle: ScriptedDlist) -> None:
        handle.released = True

    def get_xfer_descs(self, descs: Rows | Sequence[tuple[int, int, int]], mem_type: str) -> ScriptedDescs:
        rows = rows_of(descs, widths=(3,))
        return ScriptedDescs(tuple((address, length, device) for address, length, device in rows), MEMORY[mem_type])

    # ------------------------------------------------------------------------------------------- transfers

    def make_prepped_xfer(
        self,
        operation: Operation,
        local_xfer_side: ScriptedDlist,
        local_indices: Indices | Sequence[int],
        remote_xfer_side: ScriptedDlist,
        remote_indices: Indices | Sequence[int],
        notif_msg: bytes = b"",
    ) -> ScriptedHandle:
        writes = WRITES[operation]
        link = remote_xfer_side.link
        peer = "" if link is None else link.peer.name
        with self._reached(Point.MAKE):
            for side in (local_xfer_side, remote_xfer_side):
                if side.released:
                    raise self._handle_misuse(
                        Point.MAKE, peer, "a released descriptor list was used for a transfer", notif_msg
                    )
            remote = picked(remote_xfer_side.blocks, remote_indices)
            self._aim = remote[0][0] if remote else None
            self._strike(Point.MAKE, peer, notif_msg)
            if link is None or local_xfer_side.link is not None:
                raise self._refused(Kind.INVALID_PARAM, peer, notif_msg)
            if link.removed:
                raise self._raised(Point.MAKE, Kind.NOT_FOUND, peer, notif_msg, own=self._outlived(link))
            local = picked(local_xfer_side.blocks, local_indices)
            return self._make(link, operation, writes, local, remote, notif_msg)

    def initialize_xfer(
        self,
        operation: Operation,
        local_descs: ScriptedDescs,
        remote_descs: ScriptedDescs,
        remote_agent: str,
        notif_msg: bytes = b"",
    ) -> ScriptedHandle:
        writes = WRITES[operation]
        with self._reached(Point.MAKE):
            self._aim = remote_descs.rows[0][0]
            self._strike(Point.MAKE, remote_agent, notif_msg)
            if [length for _, length, _ in local_descs.rows] != [length for _, length, _ in remote_descs.rows]:
                raise self._refused(Kind.INVALID_PARAM, remote_agent, notif_msg)
            link = self.links.get(remote_agent)
            if link is None:
                raise self._raised(Point.MAKE, Kind.NOT_FOUND, remote_agent, notif_msg)
            local = blocks(self.regions, local_descs.rows, local_descs.memory)
            remote = blocks(link.regions, remote_descs.rows, remote_descs.memory)
            if local is None or remote is None:
                raise self._refused(Kind.NOT_FOUND, remote_agent, notif_msg)
            return self._make(link, operation, writes, local, remote, notif_msg)

    def _make(
        self,
        link: Link,
        operation: Operation,
        writes: bool,
        local: tuple[Span, ...] | None,
        remote: tuple[Span, ...] | None,
        message: bytes,
    ) -> ScriptedHandle:
        peer = link.peer.name
        if not local or not remote or [length for _, length in local] != [length for _, length in remote]:
            raise self._refused(Kind.INVALID_PARAM, peer, message)
        source, target = (local, remote) if writes else (remote, local)
        copy = Copy(link, tuple(zip(source, target, strict=True)))
        handle = self.fabric.adopt(copy, operation, message)
        self._log(Point.MAKE, peer, "made", message, handle)
        return handle

    def transfer(self, handle: ScriptedHandle, notif_msg: bytes = b"") -> str:
        link = handle.copy.link
        with self._reached(Point.POST):
            self._forbid_misuse(Point.POST, handle)
            state = handle.state
            # A plan strikes only where the answer is open: at the first post.
            fault = self._struck(Point.POST) if state is HandleState.CREATED else None
            if fault is not None:
                self._raise_untouched(fault, handle)
            if link.removed:
                raise self._raised(Point.POST, Kind.NOT_FOUND, handle.peer, handle=handle)
            if handle.unsettled:
                raise self._raised(Point.POST, Kind.REPOST_ACTIVE, handle.peer, handle=handle)
            if link.broken or handle.outcome is not None or fault is not None:
                return self._reject(handle, fault)
            if state is HandleState.DONE:
                handle.machine, handle.told = TrackedHandle(), False  # NIXL runs a completed transfer again
            handle.message = notif_msg or handle.message
            handle.machine.fire(HandleEvent.ACCEPTED)
            handle.copy.landed = False
            self.fabric.copies_in_flight.append(handle.copy)
            if self.fabric.done_at_post:
                self.fabric.finish(handle)
            if handle.state is HandleState.DONE:
                self._complete(handle)
            return self._answer(Point.POST, handle)

    def _reject(self, handle: ScriptedHandle, fault: Fault | None) -> str:
        """A post that fails proves nothing: where a fault struck in the middle of it, half of the bytes are there."""
        link = handle.copy.link
        if fault is not None:
            if not (link.broken or link.peer.stopped):
                handle.copy.land_half()
            handle.copy.orphaned = True
            self.fabric.copies_in_flight.append(handle.copy)
            handle.outcome, handle.injected = fault.kind, True
            link.cut = link.cut or fault.kind is Kind.REMOTE_DISCONNECT
        elif handle.outcome is None:
            handle.outcome = Kind.REMOTE_DISCONNECT
        if handle.state is HandleState.IN_FLIGHT:
            handle.machine.fire(HandleEvent.RAISED)  # a post that comes too soon finds out what a check would have
            handle.copy.orphaned = True
        else:
            handle.machine.fire(HandleEvent.REJECTED)
        return self._answer(Point.POST, handle)

    def check_xfer_state(self, handle: ScriptedHandle) -> str:
        link = handle.copy.link
        with self._reached(Point.CHECK):
            self._forbid_misuse(Point.CHECK, handle)
            # A worker may take a state that nobody knows for one that is still to change, and ask for ever.
            open_ended = handle.outcome in RETURNED_BY_TRANSPORT
            if self.scripted and (handle.unsettled or open_ended):
                self.fabric.parking.park(handle.number)
                if self.fabric.parking.closed:
                    # Also over a connection that was remade after the end, which nobody has cut.
                    raise self.fabric.error(Kind.CANCELLED)
                self._forbid_misuse(Point.CHECK, handle)  # it may have been released meanwhile
            if handle.state is HandleState.CREATED:
                raise self._raised(Point.CHECK, Kind.NOT_POSTED, handle.peer, handle=handle)
            if handle.told:
                return self._answer(Point.CHECK, handle)
            fault = self._struck(Point.CHECK)
            if fault is not None:
                self._raise_untouched(fault, handle)
                link.cut = link.cut or fault.kind is Kind.REMOTE_DISCONNECT
                handle.outcome, handle.injected = fault.kind, True
            if self.fabric.automatic:
                self.fabric.finish(handle)
            self.fabric.arrive(handle)
            if handle.outcome is None and link.removed:
                handle.outcome = Kind.NOT_FOUND
            # Bytes that were in place before the peer died count, unless there is still a notification to be sent.
            unsent = handle.state is HandleState.IN_FLIGHT or bool(handle.message)
            if handle.outcome is None and link.broken and unsent:
                handle.outcome = Kind.REMOTE_DISCONNECT
            if handle.outcome is not None:
                handle.machine.fire(HandleEvent.RAISED)
                handle.copy.orphaned = True
            elif handle.state is HandleState.DONE:
                self._complete(handle)
            return self._answer(Point.CHECK, handle)

    def _complete(self, handle: ScriptedHandle) -> None:
        """This call has found the transfer complete, so it is the one that sends the notification."""
        handle.told = True
        if handle.message:
            handle.copy.link.peer.deliver(self.name, handle.message)

    def release_xfer_handle(self, handle: ScriptedHandle) -> None:
        """Cancels nothing. The first one may send the notification (``Ground.end``); a second one does nothing, and is
        logged so that it can be counted.
        """
        with self._reached(Point.RELEASE):
            self._strike(Point.RELEASE, handle.peer, handle=handle)
            self.fabric.end(handle, "released")

    # --------------------------------------------------------------------------------------- notifications

    def send_notif(self, remote_agent_name: str, notif_msg: bytes) -> None:
        with self._reached(Point.NOTIFY):
            self._strike(Point.NOTIFY, remote_agent_name, notif_msg)
            link = self.links.get(remote_agent_name)
            if link is None:
                raise self._raised(Point.NOTIFY, Kind.NOT_FOUND, remote_agent_name, notif_msg)
            if link.broken:
                raise self._raised(Point.NOTIFY, Kind.REMOTE_DISCONNECT, remote_agent_name, notif_msg)
            link.peer.deliver(self.name, notif_msg)
            self._log(Point.NOTIFY, remote_agent_name, "sent", notif_msg)

    def get_new_notifs(self) -> dict[str, list[bytes]]:
        if self.scripted:
            self._count("get_new_notifs", workers=False)
        with self.fabric.lock:
            inbox, self.inbox = self.inbox, {}
            return inbox
