---- MODULE KVTarget ----
\* Written by `python -m kvsender_spec.formal.pages`. Change the tables, not this file.
\* A target whose room id comes back, its initiators, and a network that loses, repeats and reorders: see
\* kvsender_spec.formal.targets. A room is a record, a state is a sequence of them, one for each incarnation.
EXTENDS Integers, Sequences, FiniteSets, TLC
CONSTANTS Initiators, Incarnations, Targets
VARIABLES
  target, \* the tables, or a target with one thing wrong
  rooms,  \* what was opened, in order
  wrong   \* the rule that a step has broken, or nothing
vars == <<target, rooms, wrong>>
All == 1 .. Initiators

Touchable == {"exposed", "quarantined"}
Busy == {"flying", "failing", "dead"}

(***** Where an event leads *****)

HoldLeadsTable == [
  held |-> [announced |-> "exposed", proved |-> "held", ended |-> "drained", freed |-> "never"],
  exposed |-> [announced |-> "exposed", proved |-> "drained", ended |-> "quarantined", freed |-> "never"],
  quarantined |-> [announced |-> "never", proved |-> "drained", ended |-> "quarantined", freed |-> "never"],
  drained |-> [announced |-> "never", proved |-> "drained", ended |-> "drained", freed |-> "free"],
  free |-> [announced |-> "never", proved |-> "free", ended |-> "free", freed |-> "never"]]
HoldLeads(hold, event) ==
  CASE target = "frees when the request ends" /\ hold = "exposed" /\ event = "ended" -> "drained"
    [] OTHER -> HoldLeadsTable[hold][event]
RequestLeadsTable == [
  waiting |-> [confirmed |-> "done", ended |-> "failed"],
  done |-> [confirmed |-> "done", ended |-> "done"],
  failed |-> [confirmed |-> "failed", ended |-> "failed"]]
RequestLeads(request, event) ==
  CASE target = "a request that has ended fails" /\ request = "done" /\ event = "ended" -> "failed"
    [] OTHER -> RequestLeadsTable[request][event]

LateParts == target \in {"frees on a part"}
AnyIncarnation == target = "takes the end of any incarnation"
FenceByName == target = "takes a fence by name, and not by incarnation"
CountsMessages == target = "counts messages, and not who has sent them"
AnnouncedOnly == target = "asks about the initiators that it has announced, and not about all"
HoldsLate == target = "announces first, and takes the hold afterwards"
Sum(counted) == IF Initiators = 1 THEN counted[1] ELSE counted[1] + counted[2]
Most == IF CountsMessages THEN Initiators ELSE 1
Counted(r, i) == [r EXCEPT !.counted[i] = IF @ < Most THEN @ + 1 ELSE @]
AllConfirmed(r) ==
  CASE CountsMessages -> Sum(r.counted) >= Initiators
    [] AnnouncedOnly -> /\ \E i \in All : r.phase[i] # "untold"
                        /\ \A i \in All : r.phase[i] # "untold" => r.counted[i] > 0
    [] OTHER -> \A i \in All : r.counted[i] > 0
AllDrained(r) == \A i \in All : r.hold[i] = "drained"

(***** The table: the row that decides an input, of the initiator i, in the room r *****)

Row(hold, request, effects) == [hold |-> hold, request |-> request, effects |-> effects]
Forbidden == Row("never", "none", {})

OnAnnounce(r, i) ==
  IF target = "announces after the end" THEN
    CASE r.request \in {"waiting"} ->
           Row("announced", "none", {})
      [] r.request \in {"done", "failed"} ->
           Row("none", "none", {})
  ELSE
  CASE r.request \in {"waiting"} ->
         Row("announced", "none", {})
    [] r.request \in {"done", "failed"} ->
         Forbidden

OnPart(r, i) ==
  IF target = "frees on a part" THEN
    CASE r.request \in {"waiting"} ->
           IF AllConfirmed(Counted(r, i)) THEN Row("proved", "confirmed", {"confirm"}) ELSE
           Row("proved", "none", {"confirm"})
      [] r.request \in {"done", "failed"} ->
           Row("proved", "none", {})
  ELSE
  IF target = "succeeds with the first part" THEN
    CASE r.request \in {"waiting"} ->
           Row("none", "confirmed", {"confirm"})
      [] r.request \in {"done", "failed"} ->
           Row("none", "none", {})
  ELSE
  CASE r.request \in {"waiting"} ->
         IF AllConfirmed(Counted(r, i)) THEN Row("none", "confirmed", {"confirm"}) ELSE
         Row("none", "none", {"confirm"})
    [] r.request \in {"done", "failed"} ->
         Row("none", "none", {})

OnEnd(r, i) ==
  IF target = "ignores proofs after the end" THEN
    CASE r.request \in {"waiting"} ->
           IF AllConfirmed(Counted(r, i)) THEN Row("proved", "confirmed", {"confirm"}) ELSE
           Row("proved", "none", {"confirm"})
      [] r.request \in {"done", "failed"} ->
           Row("none", "none", {})
  ELSE
  CASE r.request \in {"waiting"} ->
         IF AllConfirmed(Counted(r, i)) THEN Row("proved", "confirmed", {"confirm"}) ELSE
         Row("proved", "none", {"confirm"})
    [] r.request \in {"done", "failed"} ->
         Row("proved", "none", {})

OnFailure(r, i) ==
  IF target = "frees when told of a failure" THEN
    CASE r.request \in {"waiting"} ->
           Row("proved", "ended", {"latch", "tell_abort"})
      [] r.request \in {"done"} ->
           Row("proved", "none", {"ask"})
      [] r.request \in {"failed"} ->
           Row("proved", "none", {})
  ELSE
  IF target = "tells nobody that the room is given up" THEN
    CASE r.request \in {"waiting"} ->
           Row("none", "ended", {"latch"})
      [] r.request \in {"done"} ->
           Row("none", "none", {"ask"})
      [] r.request \in {"failed"} ->
           Row("none", "none", {})
  ELSE
  IF target = "does not ask who fails after the end" THEN
    CASE r.request \in {"waiting"} ->
           Row("none", "ended", {"latch", "tell_abort"})
      [] r.request \in {"done", "failed"} ->
           Row("none", "none", {})
  ELSE
  CASE r.request \in {"waiting"} ->
         Row("none", "ended", {"latch", "tell_abort"})
    [] r.request \in {"done"} ->
         Row("none", "none", {"ask"})
    [] r.request \in {"failed"} ->
         Row("none", "none", {})

OnQuiesced(r, i) ==
  IF target = "tells nobody that the room is given up" THEN
    CASE r.request \in {"waiting"} ->
           Row("proved", "ended", {"latch"})
      [] r.request \in {"done", "failed"} ->
           Row("proved", "none", {})
  ELSE
  IF target = "ignores proofs after the end" THEN
    CASE r.request \in {"waiting"} ->
           Row("proved", "ended", {"latch", "tell_abort"})
      [] r.request \in {"done", "failed"} ->
           Row("none", "none", {})
  ELSE
  CASE r.request \in {"waiting"} ->
         Row("proved", "ended", {"latch", "tell_abort"})
    [] r.request \in {"done", "failed"} ->
         Row("proved", "none", {})

OnForeign(r, i) ==
  CASE r.request \in {"waiting", "done", "failed"} ->
         Row("none", "none", {"count"})

OnRenew(r, i) ==
  CASE r.request \in {"waiting"} ->
         Row("none", "none", {"extend"})
    [] r.request \in {"done", "failed"} ->
         Row("none", "none", {"answer_lost"})

OnTime(r, i) ==
  IF target = "frees at the deadline" THEN
    CASE r.request \in {"waiting"} ->
           IF AllConfirmed(r) THEN Row("proved", "confirmed", {}) ELSE
           Row("proved", "ended", {"latch", "tell_abort"})
      [] r.request \in {"done", "failed"} ->
           Row("proved", "none", {})
  ELSE
  IF target = "tells nobody that the room is given up" THEN
    CASE r.request \in {"waiting"} ->
           IF AllConfirmed(r) THEN Row("none", "confirmed", {}) ELSE
           Row("none", "ended", {"latch"})
      [] r.request \in {"done", "failed"} ->
           Row("none", "none", {})
  ELSE
  IF target = "has no deadline" THEN
    CASE r.request \in {"waiting"} ->
           IF AllConfirmed(r) THEN Row("none", "confirmed", {}) ELSE
           Row("none", "none", {})
      [] r.request \in {"done", "failed"} ->
           Row("none", "none", {})
  ELSE
  CASE r.request \in {"waiting"} ->
         IF AllConfirmed(r) THEN Row("none", "confirmed", {}) ELSE
         Row("none", "ended", {"latch", "tell_abort"})
    [] r.request \in {"done", "failed"} ->
         Row("none", "none", {})

OnLost(r, i) ==
  IF target = "frees at a lost heartbeat" THEN
    CASE r.request \in {"waiting"} ->
           Row("proved", "ended", {"latch", "tell_abort"})
      [] r.request \in {"done", "failed"} ->
           Row("proved", "none", {})
  ELSE
  IF target = "tells nobody that the room is given up" THEN
    CASE r.request \in {"waiting"} ->
           Row("none", "ended", {"latch"})
      [] r.request \in {"done", "failed"} ->
           Row("none", "none", {})
  ELSE
  CASE r.request \in {"waiting"} ->
         Row("none", "ended", {"latch", "tell_abort"})
    [] r.request \in {"done", "failed"} ->
         Row("none", "none", {})

OnFence(r, i) ==
  IF target = "tells nobody that the room is given up" THEN
    CASE r.request \in {"waiting"} ->
           Row("proved", "ended", {"latch"})
      [] r.request \in {"done", "failed"} ->
           Row("proved", "none", {})
  ELSE
  IF target = "ignores proofs after the end" THEN
    CASE r.request \in {"waiting"} ->
           Row("proved", "ended", {"latch", "tell_abort"})
      [] r.request \in {"done", "failed"} ->
           Row("none", "none", {})
  ELSE
  CASE r.request \in {"waiting"} ->
         Row("proved", "ended", {"latch", "tell_abort"})
    [] r.request \in {"done", "failed"} ->
         Row("proved", "none", {})

OnAbort(r, i) ==
  IF target = "frees at an abort" THEN
    CASE r.request \in {"waiting"} ->
           Row("proved", "ended", {"latch", "tell_abort"})
      [] r.request \in {"done", "failed"} ->
           Row("proved", "none", {})
  ELSE
  IF target = "a request that has ended fails" THEN
    CASE r.request \in {"waiting"} ->
           Row("none", "ended", {"latch", "tell_abort"})
      [] r.request \in {"done", "failed"} ->
           Row("none", "ended", {})
  ELSE
  IF target = "tells nobody that the room is given up" THEN
    CASE r.request \in {"waiting"} ->
           Row("none", "ended", {"latch"})
      [] r.request \in {"done", "failed"} ->
           Row("none", "none", {})
  ELSE
  CASE r.request \in {"waiting"} ->
         Row("none", "ended", {"latch", "tell_abort"})
    [] r.request \in {"done", "failed"} ->
         Row("none", "none", {})

OnClear(r, i) ==
  IF target = "frees at a clear" THEN
    CASE r.request \in {"waiting"} ->
           Row("proved", "ended", {"latch", "tell_abort", "forget"})
      [] r.request \in {"done", "failed"} ->
           Row("proved", "none", {"forget"})
  ELSE
  IF target = "tells nobody that the room is given up" THEN
    CASE r.request \in {"waiting"} ->
           Row("none", "ended", {"latch", "forget"})
      [] r.request \in {"done", "failed"} ->
           Row("none", "none", {"forget"})
  ELSE
  CASE r.request \in {"waiting"} ->
         Row("none", "ended", {"latch", "tell_abort", "forget"})
    [] r.request \in {"done", "failed"} ->
         Row("none", "none", {"forget"})

OnAnswer(r, i) ==
  CASE r.request \in {"waiting", "done", "failed"} ->
         Row("none", "none", {})

OnFailureException(r, i) ==
  CASE r.request \in {"waiting", "done", "failed"} ->
         Row("none", "none", {})

OnReuse(r, i) ==
  CASE r.request \in {"waiting"} ->
         Forbidden
    [] r.request \in {"done", "failed"} ->
         IF AllDrained(r) THEN Row("freed", "none", {}) ELSE
         Row("none", "none", {})

Decided(r, i, what) ==
  CASE what = "announce" -> OnAnnounce(r, i)
    [] what = "part" -> OnPart(r, i)
    [] what = "end" -> OnEnd(r, i)
    [] what = "failure" -> OnFailure(r, i)
    [] what = "quiesced" -> OnQuiesced(r, i)
    [] what = "foreign" -> OnForeign(r, i)
    [] what = "renew" -> OnRenew(r, i)
    [] what = "time" -> OnTime(r, i)
    [] what = "lost" -> OnLost(r, i)
    [] what = "fence" -> OnFence(r, i)
    [] what = "abort" -> OnAbort(r, i)
    [] what = "clear" -> OnClear(r, i)
    [] what = "answer" -> OnAnswer(r, i)
    [] what = "failure_exception" -> OnFailureException(r, i)
    [] what = "reuse" -> OnReuse(r, i)

(***** What may arrive of an initiator *****)

Told(r, i) ==
  (IF r.part[i] THEN {"part"} ELSE {})
  \cup (IF r.phase[i] \in {"over"}
        THEN {"end"} ELSE {})
  \cup (IF r.phase[i] \in {"failing", "quiet", "quiesced"}
        THEN {"failure"} ELSE {})
  \cup (IF r.phase[i] \in {"quiesced"}
        THEN {"quiesced"} ELSE {})
  \cup (IF r.phase[i] \in {"gone"}
        THEN {"fence"} ELSE {})
  \cup (IF r.phase[i] \in {"flying", "over", "failing", "quiet", "quiesced", "dead", "gone"}
        THEN {"renew"} ELSE {})
  \cup (IF r.phase[i] \in {"flying", "over", "failing", "quiet", "quiesced", "dead", "gone"}
        THEN {"lost"} ELSE {})

Crosses ==
  CASE target = "takes the end of any incarnation" -> "end"
    [] target = "takes a fence by name, and not by incarnation" -> "fence"
    [] OTHER -> "nothing"
(***** What a row does: the hold's event, the effects, the request's event, and the end of the request *****)

Nobody == 0
About(i) == IF i = Nobody THEN All ELSE {i}
Allowed(r, i, row) ==
  /\ row.hold # "never"
  /\ row.hold # "none" => \A j \in About(i) : HoldLeads(r.hold[j], row.hold) # "never"
WithHolds(r, i, row) ==
  IF row.hold = "none" THEN r
  ELSE [r EXCEPT !.hold = [j \in All |-> IF j \in About(i) THEN HoldLeads(r.hold[j], row.hold) ELSE r.hold[j]]]
WithEffects(r, i, row) ==
  LET counted == IF "confirm" \in row.effects THEN Counted(r, i) ELSE r
      asking == IF "tell_abort" \in row.effects THEN All ELSE IF "ask" \in row.effects THEN About(i) ELSE {}
  IN [counted EXCEPT !.asked = [j \in All |-> r.asked[j] \/ (j \in asking /\ r.hold[j] \in Touchable)]]
AfterTheEnd(r) ==
  [r EXCEPT !.counted = [j \in All |-> 0], !.hold = [j \in All |-> HoldLeads(r.hold[j], "ended")]]
Applied(r, i, row) ==
  LET done == WithEffects(WithHolds(r, i, row), i, row)
      request == IF row.request = "none" THEN r.request ELSE RequestLeads(r.request, row.request)
      moved == [done EXCEPT !.request = request]
  IN IF r.request = "waiting" /\ request # "waiting" THEN AfterTheEnd(moved) ELSE moved
Breaks(r, row, after) ==
  CASE r.request # "waiting" /\ after.request # r.request -> "a request that has ended changes"
    [] (r.request = "waiting" /\ after.request = "failed") # ("latch" \in row.effects) -> "causes and failures differ"
    [] OTHER -> ""

(***** What may happen next *****)

(* What plays no part any more is forgotten, so that there are fewer states. *)
Without(r) ==
  [r EXCEPT !.part = [i \in All |-> r.part[i] /\ (LateParts \/ r.request # "failed")],
            !.asked = [i \in All |-> r.asked[i] /\ r.phase[i] \in {"flying", "failing", "quiet"}]]
Becomes(n, r, broken) ==
  /\ rooms' = [rooms EXCEPT ![n] = Without(r)]
  /\ wrong' = broken
  /\ UNCHANGED target
Takes(n, i, row) ==
  /\ Allowed(rooms[n], i, row)
  /\ LET after == Applied(rooms[n], i, row) IN Becomes(n, after, Breaks(rooms[n], row, after))

Moves(n, i, from, to, part) ==
  /\ rooms[n].phase[i] \in from
  /\ Becomes(n, [rooms[n] EXCEPT !.phase[i] = to, !.part[i] = @ \/ part], "")
PartInPlace(n, i) == Moves(n, i, {"flying"}, "flying", TRUE)
Ends(n, i) == Moves(n, i, {"flying"}, "over", TRUE)
GivesUp(n, i) == Moves(n, i, {"flying"}, "failing", FALSE)
SettlesAndGivesUp(n, i) == Moves(n, i, {"flying"}, "quiesced", FALSE)
Settles(n, i) == Moves(n, i, {"failing"}, "quiet", FALSE)
SaysThatItIsQuiet(n, i) == rooms[n].asked[i] /\ Moves(n, i, {"quiet"}, "quiesced", FALSE)
Dies(n, i) == Moves(n, i, {"flying", "failing"}, "dead", FALSE) \/ Moves(n, i, {"quiet"}, "gone", FALSE)
IsGone(n, i) == Moves(n, i, {"dead"}, "gone", FALSE)

Announce(n, i) ==
  LET r == rooms[n]
      row == OnAnnounce(r, i)
      after == IF HoldsLate THEN r ELSE Applied(r, i, row)
  IN r.phase[i] = "untold" /\ Allowed(r, i, row) /\ Becomes(n, [after EXCEPT !.phase[i] = "flying"], "")
TakesTheHold(n, i) ==
  /\ HoldsLate /\ rooms[n].phase[i] # "untold" /\ rooms[n].hold[i] = "held" /\ rooms[n].request = "waiting"
  /\ Takes(n, i, OnAnnounce(rooms[n], i))

Arrives(n, i, what) == what \in Told(rooms[n], i) /\ Takes(n, i, Decided(rooms[n], i, what))
Foreign(n, i) == Takes(n, i, OnForeign(rooms[n], i))
Owner(n) ==
  \E what \in {"abort", "clear", "answer", "failure_exception"} :
     Takes(n, Nobody, Decided(rooms[n], Nobody, what))
Reuse(n) == Takes(n, Nobody, OnReuse(rooms[n], Nobody))
Time(n) == Takes(n, Nobody, OnTime(rooms[n], Nobody))
(* Everything was told and is there, and was not looked at before the deadline. *)
TimeWithAllThere(n) ==
  LET there == [rooms[n] EXCEPT !.counted = [i \in All |-> Most]]
      row == OnTime(there, Nobody)
      after == Applied(rooms[n], Nobody, row)
  IN /\ rooms[n].request = "waiting" /\ \A i \in All : rooms[n].part[i]
     /\ Allowed(rooms[n], Nobody, row)
     /\ Becomes(n, after, IF after.request = "failed" THEN "the deadline beats what is there" ELSE "")

(* A message of another incarnation, where the target does not tell them apart. *)
Crossed(n, i) ==
  \E m \in DOMAIN rooms \ {n} : Crosses \in Told(rooms[m], i) /\ Takes(n, i, Decided(rooms[n], i, Crosses))

Room == [request |-> "waiting", hold |-> [i \in All |-> "held"], phase |-> [i \in All |-> "untold"],
         part |-> [i \in All |-> FALSE], counted |-> [i \in All |-> 0], asked |-> [i \in All |-> FALSE]]
Opened ==
  /\ Len(rooms) < Incarnations /\ rooms[Len(rooms)].request # "waiting"
  /\ rooms' = Append(rooms, Room) /\ UNCHANGED <<target, wrong>>

Init == target \in Targets /\ rooms = <<Room>> /\ wrong = ""
Next ==
  \/ \E n \in DOMAIN rooms :
       \/ \E i \in All :
            \/ PartInPlace(n, i) \/ Ends(n, i) \/ GivesUp(n, i) \/ SettlesAndGivesUp(n, i) \/ Settles(n, i)
            \/ SaysThatItIsQuiet(n, i) \/ Dies(n, i) \/ IsGone(n, i)
            \/ Announce(n, i) \/ TakesTheHold(n, i) \/ Foreign(n, i) \/ Crossed(n, i)
            \/ \E what \in Told(rooms[n], i) : Arrives(n, i, what)
       \/ Owner(n) \/ Reuse(n) \/ Time(n) \/ TimeWithAllThere(n)
  \/ Opened
Spec == Init /\ [][Next]_vars

(***** Who does not put off for ever what may be done all the time *****)

ToldAgain == {"end", "quiesced", "fence", "failure"}
FairSpec ==
  /\ Spec
  /\ WF_vars(Time(1)) /\ WF_vars(Reuse(1))
  /\ \A i \in All :
       /\ WF_vars(Ends(1, i) \/ GivesUp(1, i)) /\ WF_vars(Settles(1, i)) /\ WF_vars(SaysThatItIsQuiet(1, i))
       /\ WF_vars(IsGone(1, i)) /\ \A what \in ToldAgain : WF_vars(Arrives(1, i, what))

(***** Properties *****)

(* Pages that another may own are touched by nobody of this room. *)
NothingForeignTouched ==
  \A n \in DOMAIN rooms : \A i \in All : rooms[n].hold[i] = "free" => rooms[n].phase[i] \notin Busy
(* Done says that every initiator has finished. *)
DoneIsComplete ==
  \A n \in DOMAIN rooms : rooms[n].request = "done" => \A i \in All : rooms[n].part[i]
(* And a request that has every part is done. *)
CompleteIsDone ==
  \A n \in DOMAIN rooms : rooms[n].request = "waiting" => \E i \in All : rooms[n].counted[i] = 0
HoldsFit ==
  \A n \in DOMAIN rooms : \A i \in All :
     CASE rooms[n].hold[i] \in {"held", "exposed"} -> rooms[n].request = "waiting"
       [] rooms[n].hold[i] \in {"quarantined", "free"} -> rooms[n].request # "waiting"
       [] OTHER -> TRUE
(* Nobody is told that a room is given up while it is not. *)
NobodyMisled ==
  \A n \in DOMAIN rooms : \A i \in All :
     rooms[n].asked[i] /\ rooms[n].phase[i] = "flying" => rooms[n].request = "failed"
Safe == wrong = "" /\ NothingForeignTouched /\ DoneIsComplete /\ CompleteIsDone /\ HoldsFit /\ NobodyMisled

(* Of the first room, which does not depend on the others. *)
EveryRequestEnds == <>(rooms[1].request # "waiting")
PagesComeBack == rooms[1].request # "waiting" ~> \A i \in All : rooms[1].hold[i] = "free"

(***** For many wrong targets in one run: each is named once, and then left *****)

ASSUME TLCSet(1, {})
Noted ==
  Safe \/ target \in TLCGet(1) \/ (TLCSet(1, TLCGet(1) \cup {target}) /\ PrintT(<<"unsafe", target>>))
NotYetNoted == target \notin TLCGet(1)
====
