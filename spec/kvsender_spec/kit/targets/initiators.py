"""What the initiators of a target's run do: bytes land, notifications are said, and questions are answered."""

from __future__ import annotations

from functools import partial

from kvsender_spec.history import events
from kvsender_spec.history.words import MALFORMED, CallName, How, Says
from kvsender_spec.kit.adapter import Peer
from kvsender_spec.kit.targets import adapter as able
from kvsender_spec.kit.targets.adapter import Notice, TargetPlan
from kvsender_spec.kit.targets.situation import TargetRoom, TargetSituation
from kvsender_spec.kit.targets.world import Initiating
from kvsender_spec.trace import Progress, Step


class Initiators(TargetSituation):
    """A run in which the initiators can act."""

    # -- the initiators

    def _land(self, room: TargetRoom, peer: Peer) -> None:
        initiator = room.initiating[peer.name]
        moved = self.target_world.land(room.slot, room.plan, initiator)
        landed = partial(events.BytesLanded, room=room.key, bytes=moved, peer=peer.name, late=room.view.ended)
        self.recorder.note(partial(landed, whole=initiator.landed == initiator.parts))

    def _tell(self, room: TargetRoom, step: Step) -> None:
        peer = room.plan.initiators[step.peer]
        initiator = room.initiating[peer.name]
        assert step.says is not None
        if step.how in MALFORMED or step.how in (How.STRANGER, How.UNKNOWN, How.EARLIER):
            self._tell_wrongly(room, peer, step.says, step.how)
            return
        if step.progress in (Progress.ALL, Progress.LANDED):
            while initiator.may_land:
                self._land(room, peer)
                if step.progress is Progress.ALL:
                    self._say(room, initiator, Says.PROGRESS, How.PROPER)
        self._say(room, initiator, step.says, step.how)

    def _say(self, room: TargetRoom, initiator: Initiating, says: Says, how: How) -> None:
        notice = initiator.notice(says, how)
        message = None if notice is None else self._message(room.plan, initiator.peer, notice)
        if notice is None or message is None:
            return
        initiator.has_said(notice)
        self._arrives(room, initiator.peer, notice, how, message)

    def _tell_wrongly(self, room: TargetRoom, peer: Peer, says: Says, how: How) -> None:
        """Something arrives that changes nothing."""
        about = room.plan
        who = peer
        if how is How.EARLIER:
            earlier = self._earlier(room)
            assert earlier is not None
            about = earlier.plan
        elif how is How.UNKNOWN:
            about = self.target_world.unknown(about)
        elif how is How.STRANGER:
            who = self.target_world.stranger
        quiesced = says is Says.FAILURE
        notice = Notice(says, 0, room.plan.parts, quiesced=quiesced, reason="said wrongly")
        message = self._message(about, who, notice)
        if message is None:
            return
        match how:
            case How.TRUNCATED:
                message = message[: len(message) // 2]
            case How.GARBAGE:
                message = b"\x00\x01garbage" + message[::-1]
            case How.NOT_UTF8:
                message = message[:4] + b"\xff\xfe\x80" + message[4:]
            case _:
                pass
        self._arrives(room, who, notice, how, message)

    def _message(self, plan: TargetPlan, peer: Peer, notice: Notice) -> bytes | None:
        return self.calls.hook("message", lambda: self.system.message(plan, peer, notice))

    def _arrives(self, room: TargetRoom, who: Peer, notice: Notice, how: How, message: bytes) -> None:
        initiator = room.initiating.get(who.name)
        if initiator is not None and how in (How.PROPER, How.NEWEST, How.AGAIN) and notice.says is not Says.RENEW:
            known = (notice.says, notice.part) in initiator.heard
            how = How.AGAIN if known else How.PROPER if how is How.AGAIN else how
            initiator.heard.add((notice.says, notice.part))
        arrived = partial(events.NoticeArrived, room=room.key, peer=who.name, generation=who.generation)
        self.recorder.note(partial(arrived, says=notice.says, part=notice.part, quiesced=notice.quiesced, how=how))
        if how is How.LOST:
            return
        if isinstance(self.system, able.Hears):
            hears = self.system
            self._open_call = self.recorder.call_started(CallName.SWEEP, None)
            error = self.calls.make("hear()", lambda: hears.hear(who, message))[1]
            self.recorder.call_ended(self._open_call, None, error=error)
            self._open_call = None
        else:
            who.agent.send_notif(self.target_world.side, message)

    def _read_what_was_told(self) -> None:
        told: list[tuple[str, bytes]] = [
            (peer.name, m)
            for peer in (*self.target_world.peers, self.target_world.stranger)
            for ms in peer.agent.get_new_notifs().values()
            for m in ms
        ]
        if isinstance(self.system, able.SaysElsewhere):
            told += self.calls.hook("said", self.system.said)
        if not isinstance(self.system, able.TellsInitiators):
            return
        for name, message in told:
            notice = self.calls.hook("read_message", partial(self.system.read_message, message))
            if notice is None or notice.room is None:
                continue
            heard = partial(events.NotificationHeard, peer=name, says=notice.says, id=notice.room)
            self.recorder.note(partial(heard, incarnation=notice.incarnation, reason=notice.reason))
            if notice.says is Says.ASK:
                self._answer(name, notice)

    def _answer(self, name: str, asked: Notice) -> None:
        """An initiator that is well says again how it has ended the room."""
        room = next(
            (r for r in reversed(self.rooms) if asked.incarnation in (None, r.key) and r.plan.room == asked.room), None
        )
        initiator = None if room is None else room.initiating.get(name)
        if room is None or initiator is None or not self.observer.healthy(name) or self._is_another(initiator):
            return
        for part in sorted(initiator.told):
            self._repeat(room, initiator, Notice(Says.PROGRESS, part, initiator.parts))
        if initiator.ended is not None:
            self._repeat(room, initiator, initiator.ended)

    def _repeat(self, room: TargetRoom, initiator: Initiating, notice: Notice) -> None:
        message = self._message(room.plan, initiator.peer, notice)
        if message is not None:
            self._arrives(room, initiator.peer, notice, How.PROPER, message)
