-------------------------------- MODULE KVSender --------------------------------
(* Written by `python -m kvsender_spec.formal.pages`. Change the tables, not this file.
   One room id: the logical machine of its sender, a physical machine for each transfer handle, a caller that
   calls in any order, a transport that finishes, raises, rejects or stays silent. A chunk has a handle for
   each peer; handle h belongs to the chunk h / peers and to the peer h % peers. A room id that is opened again
   has the chunks that are left, so that every handle of every incarnation has a place of its own. *)
EXTENDS Integers

CONSTANTS Chunks, Peers
ASSUME Chunks >= 1 /\ Peers >= 1

Handles == 0 .. Chunks * Peers - 1
PeerOf(h) == h % Peers
Nobody == -1

States == {"idle", "sending", "done", "failed", "sticky_failed"}
Causes == {"none", "first", "later"}
Words == {"nothing", "success", "failure"}
HandleCodes == {"none", "created", "created_released", "never_submitted", "never_submitted_released",
    "in_flight", "in_flight_released", "in_flight_landed", "in_flight_landed_released", "done",
    "done_released", "errored", "errored_released", "rejected", "rejected_released", "in_doubt",
    "in_doubt_released", "in_doubt_landed", "in_doubt_landed_released", "stray"}

(***** What befalls a handle: what the sender knows of it, _landed, _released *****)

Placed == {"created", "created_released", "never_submitted", "never_submitted_released", "in_flight",
    "in_flight_released", "in_flight_landed", "in_flight_landed_released", "done", "done_released", "errored",
    "errored_released", "rejected", "rejected_released", "in_doubt", "in_doubt_released", "in_doubt_landed",
    "in_doubt_landed_released", "stray"}
InFlight == {"in_flight", "in_flight_released", "in_flight_landed", "in_flight_landed_released"}
Silent == {"in_flight", "in_flight_released", "in_doubt", "in_doubt_released"}
Undone == {"created", "created_released", "never_submitted", "never_submitted_released", "in_flight",
    "in_flight_released", "in_flight_landed", "in_flight_landed_released", "errored", "errored_released",
    "rejected", "rejected_released", "in_doubt", "in_doubt_released", "in_doubt_landed",
    "in_doubt_landed_released", "stray"}
ReleasedEarly == {"in_flight_released", "in_flight_landed_released", "in_doubt_released",
    "in_doubt_landed_released"}
Stray == {"stray"}
WaitedFor == {"in_flight", "in_flight_released", "in_flight_landed", "in_flight_landed_released", "in_doubt",
    "in_doubt_released", "in_doubt_landed", "in_doubt_landed_released", "stray"}
Due == {"created", "in_flight", "in_flight_released", "in_flight_landed", "in_flight_landed_released", "done",
    "errored", "rejected", "in_doubt", "in_doubt_released", "in_doubt_landed", "in_doubt_landed_released"}

(* The states in which send() posts, in which poll() asks, and in which it minds the transfer timeout. *)
Posting == {"idle", "sending"}
Asking == {"sending", "failed"}
Minding == {"sending"}

(* The transport finishes it; nobody knows yet. *)
Finished(c) ==
  CASE c = "in_flight" -> "in_flight_landed"
    [] c = "in_flight_released" -> "in_flight_landed_released"
    [] c = "in_doubt" -> "in_doubt_landed"
    [] c = "in_doubt_released" -> "in_doubt_landed_released"
    [] OTHER -> c
(* It is asked, and answers what is so: DONE where it has landed, PROC otherwise. *)
Answering(c) ==
  CASE c = "in_flight_landed" -> "done"
    [] c = "in_flight_landed_released" -> "done_released"
    [] c = "in_doubt_landed" -> "done"
    [] c = "in_doubt_landed_released" -> "done_released"
    [] OTHER -> c
(* It is asked, and raises, unless it has landed already. *)
Failing(c) ==
  CASE c = "in_flight" -> "errored"
    [] c = "in_flight_released" -> "errored_released"
    [] c = "in_flight_landed" -> "done"
    [] c = "in_flight_landed_released" -> "done_released"
    [] c = "in_doubt" -> "errored"
    [] c = "in_doubt_released" -> "errored_released"
    [] c = "in_doubt_landed" -> "done"
    [] c = "in_doubt_landed_released" -> "done_released"
    [] OTHER -> c
(* It is released where it has settled, each once. *)
Released(c) ==
  CASE c = "created" -> "never_submitted_released"
    [] c = "done" -> "done_released"
    [] c = "errored" -> "errored_released"
    [] c = "rejected" -> "rejected_released"
    [] OTHER -> c
(* What is in flight now is in doubt. So is what a cleared room leaves to the next one. *)
Overdue(c) ==
  CASE c = "in_flight" -> "in_doubt"
    [] c = "in_flight_released" -> "in_doubt_released"
    [] c = "in_flight_landed" -> "in_doubt_landed"
    [] c = "in_flight_landed_released" -> "in_doubt_landed_released"
    [] OTHER -> c
(* The room is over: what is settled and released needs no place any more. *)
Forgotten(c) ==
  CASE c = "created_released" -> "none"
    [] c = "never_submitted_released" -> "none"
    [] c = "in_flight_released" -> "none"
    [] c = "in_flight_landed_released" -> "none"
    [] c = "done_released" -> "none"
    [] c = "errored_released" -> "none"
    [] c = "rejected_released" -> "none"
    [] c = "in_doubt_released" -> "none"
    [] c = "in_doubt_landed_released" -> "none"
    [] OTHER -> c
Accepted == "in_flight"
Rejected == "rejected"

(***** The room *****)

VARIABLES
  logical,      \* the logical machine
  cause,        \* what is latched: nothing, the first thing that went wrong, or a later one
  faulted,      \* something went wrong, and the sender was told of it, before the room was over
  closed,       \* the last chunk is posted
  cleared,      \* the caller has cleared the room
  quarantined,  \* pages have been reported as in doubt
  base,         \* chunks of earlier incarnations
  posted,       \* chunks, those of earlier incarnations among them
  said,         \* the first terminal value that poll() answered
  told,         \* what the peers were told
  handles       \* one code for each chunk and peer
vars == <<logical, cause, faulted, closed, cleared, quarantined, base, posted, said, told, handles>>

Init ==
    /\ logical = "idle" /\ cause = "none" /\ faulted = FALSE /\ closed = FALSE /\ cleared = FALSE
    /\ quarantined = FALSE /\ base = 0 /\ posted = 0 /\ said = "nothing" /\ told = "nothing"
    /\ handles = [h \in Handles |-> "none"]

(* The handles of this incarnation; those before them are the system's to look after. *)
Own == base * Peers .. Chunks * Peers - 1
(* The handles of rooms that are over. *)
Swept == 0 .. (IF cleared \/ said # "nothing" THEN posted ELSE base) * Peers - 1

(* The room with what a call knows while it runs: the cause it brings, whether the handles it has made *)
(* are kept, the facts that the guards ask for, and the reply. *)
Room ==
  [logical |-> logical, cause |-> cause, faulted |-> faulted, closed |-> closed, cleared |-> cleared,
    quarantined |-> quarantined, base |-> base, posted |-> posted, said |-> said, told |-> told,
    handles |-> handles, cause_now |-> "none", adopted |-> TRUE, error_seen |-> FALSE, all_done |-> FALSE,
    deadline_passed |-> FALSE, may_report |-> FALSE, reply |-> "nothing"]

(* The call returns. Nobody will ask about a handle that it has made and not adopted. (A variable *)
(* bound by \E has a value, where TLC would evaluate an argument again at each place.) *)
Becomes(room) == \E r \in {room} :
    /\ logical' = r.logical /\ cause' = r.cause /\ faulted' = r.faulted /\ closed' = r.closed
    /\ cleared' = r.cleared /\ quarantined' = r.quarantined /\ base' = r.base /\ posted' = r.posted
    /\ said' = r.said /\ told' = r.told
    /\ handles' = [h \in Handles |-> IF ~r.adopted /\ h \div Peers = posted
                                       THEN "stray" ELSE r.handles[h]]

(***** Where events lead, and what effects do *****)

Leads == [
  idle |->
  [chunk_posted |-> "sending", completed |-> "never", faulted |-> "failed", reported |-> "never"],
  sending |->
  [chunk_posted |-> "sending", completed |-> "done", faulted |-> "failed", reported |-> "never"],
  done |->
  [chunk_posted |-> "never", completed |-> "done", faulted |-> "done", reported |-> "never"],
  failed |->
  [chunk_posted |-> "never", completed |-> "failed", faulted |-> "failed", reported |-> "sticky_failed"],
  sticky_failed |->
  [chunk_posted |-> "never", completed |-> "sticky_failed", faulted |-> "sticky_failed", reported |-> "sticky_failed"]]

(* An input that the table forbids, or a second word to the peers: what they are told is the clause. *)
Broken(r, clause) == [r EXCEPT !.told = clause]
Each(Op(_), hs) == [h \in Handles |-> IF h \in Own THEN Op(hs[h]) ELSE hs[h]]
Every(Op(_), hs) == [h \in Handles |-> Op(hs[h])]

Adopt(r) ==
  [r EXCEPT !.adopted = TRUE]
Close(r) ==
  [r EXCEPT !.closed = TRUE]
Latch(r) ==
  [r EXCEPT !.cause = IF r.cause = "none" THEN r.cause_now ELSE @]
Release(r) ==
  [r EXCEPT !.handles = Each(Released, @)]
Quarantine(r) ==
  [r EXCEPT !.quarantined = TRUE, !.handles = Each(Overdue, @)]
TellSuccess(r) ==
  IF r.told = "nothing" THEN
    [r EXCEPT !.told = "success"] ELSE Broken(r, "KS-6.1")
TellFailure(r) ==
  IF r.told = "nothing" THEN
    [r EXCEPT !.told = "failure"] ELSE Broken(r, "KS-6.1")
Forget(r) ==
  [r EXCEPT !.cleared = TRUE]
Arrive(r) ==
  [r EXCEPT !.closed = IF r.logical \in {"failed", "sticky_failed"} THEN FALSE ELSE @]
Blame(r) ==
  [r EXCEPT !.cause_now = "later", !.cause_now = IF (r.said = "nothing" /\ ~r.faulted) THEN "first" ELSE @,
    !.faulted = IF (r.said = "nothing" /\ ~r.faulted) THEN TRUE ELSE @]
Say(r) ==
  [r EXCEPT !.said = IF (r.said = "nothing" /\ r.reply = "success") THEN "success" ELSE @,
    !.said = IF (r.said = "nothing" /\ r.reply = "failed") THEN "failure" ELSE @]
Leave(r) ==
  [r EXCEPT !.handles = IF ~(r.said = "nothing") THEN Each(Forgotten, @) ELSE @]
Reopen(r) ==
  [r EXCEPT !.handles = Every(Overdue, @), !.handles = Every(Forgotten, @), !.logical = "idle",
    !.cause = "none", !.faulted = FALSE, !.closed = FALSE, !.cleared = FALSE, !.quarantined = FALSE,
    !.base = r.posted, !.said = "nothing", !.told = "nothing"]
Move(r, event) == Arrive([r EXCEPT !.logical = Leads[r.logical][event]])
Says(r, reply) == [r EXCEPT !.reply = reply]

(***** The table: a row is its effects, from the innermost outwards, then the move, then the reply *****)

(* 1. send_accepted in idle, sending: chunk_posted, after adopt *)
Row1(r) == Says(Move(Adopt(r), "chunk_posted"), "nothing")

(* 2. send_last_accepted in idle, sending: chunk_posted, after adopt, close *)
Row2(r) == Says(Move(Close(Adopt(r)), "chunk_posted"), "nothing")

(* 3. send_rejected in idle, sending: faulted, after adopt, latch *)
Row3(r) == Says(Move(Latch(Adopt(r)), "faulted"), "nothing")

(* 4. send_nothing in idle, sending, done, failed, sticky_failed: nothing happens *)
Row4(r) == Says(Arrive(r), "nothing")

(* 5. observe in idle: nothing happens *)
Row5(r) == Says(Arrive(r), "nothing")

(* 6. observe in sending, if error_seen: faulted, after latch, release *)
Row6(r) == Says(Move(Release(Latch(r)), "faulted"), "nothing")

(* 7. observe in sending, if all_done: completed, after release, tell_success *)
Row7(r) == Says(Move(TellSuccess(Release(r)), "completed"), "nothing")

(* 8. observe in sending, if deadline_passed: faulted, after latch, release *)
Row8(r) == Says(Move(Release(Latch(r)), "faulted"), "nothing")

(* 9. observe in sending: nothing happens, after release *)
Row9(r) == Says(Arrive(Release(r)), "nothing")

(* 10. observe in failed: nothing happens, after release *)
Row10(r) == Says(Arrive(Release(r)), "nothing")

(* 11. observe in done, sticky_failed: nothing happens *)
Row11(r) == Says(Arrive(r), "nothing")

(* 12. answer in idle: nothing happens; reply waiting *)
Row12(r) == Says(Arrive(r), "waiting")

(* 13. answer in sending: nothing happens; reply transferring *)
Row13(r) == Says(Arrive(r), "transferring")

(* 14. answer in done: nothing happens; reply success *)
Row14(r) == Says(Arrive(r), "success")

(* 15. answer in failed, if may_report: reported, after quarantine, tell_failure; reply failed *)
Row15(r) == Says(Move(TellFailure(Quarantine(r)), "reported"), "failed")

(* 16. answer in failed: nothing happens; reply transferring *)
Row16(r) == Says(Arrive(r), "transferring")

(* 17. answer in sticky_failed: reported; reply failed *)
Row17(r) == Says(Move(r, "reported"), "failed")

(* 18. failure_exception in failed, sticky_failed: nothing happens *)
Row18(r) == Says(Arrive(r), "raises the cause")

(* 19. failure_exception in idle, sending, done: nothing happens *)
Row19(r) == Says(Arrive(r), "raises a usage error")

(* 20. abort in idle, sending: faulted, after latch *)
Row20(r) == Says(Move(Latch(r), "faulted"), "nothing")

(* 21. abort in done, failed, sticky_failed: nothing happens *)
Row21(r) == Says(Arrive(r), "nothing")

(* 22. clear in idle, sending: faulted, after latch, forget *)
Row22(r) == Says(Move(Forget(Latch(r)), "faulted"), "nothing")

(* 23. clear in done, failed, sticky_failed: nothing happens, after forget *)
Row23(r) == Says(Arrive(Forget(r)), "nothing")

(***** Which row decides: the first one whose guard holds *****)

OnSendAccepted(r) ==
  CASE r.logical \in {"idle", "sending"} -> Row1(r)
    [] r.logical \in {"done"} -> Broken(r, "KS-8.1")
    [] r.logical \in {"failed", "sticky_failed"} -> Broken(r, "KS-2.5")

OnSendLastAccepted(r) ==
  CASE r.logical \in {"idle", "sending"} -> Row2(r)
    [] r.logical \in {"done"} -> Broken(r, "KS-8.1")
    [] r.logical \in {"failed", "sticky_failed"} -> Broken(r, "KS-2.5")

OnSendRejected(r) ==
  CASE r.logical \in {"idle", "sending"} -> Row3(r)
    [] r.logical \in {"done"} -> Broken(r, "KS-8.1")
    [] r.logical \in {"failed", "sticky_failed"} -> Broken(r, "KS-2.5")

OnSendNothing(r) ==
  CASE r.logical \in {"idle", "sending", "done", "failed", "sticky_failed"} -> Row4(r)

OnObserve(r) ==
  CASE r.logical \in {"idle"} -> Row5(r)
    [] r.logical \in {"sending"} ->
         IF r.error_seen THEN Row6(r) ELSE
         IF r.all_done THEN Row7(r) ELSE
         IF r.deadline_passed THEN Row8(r) ELSE
         Row9(r)
    [] r.logical \in {"done", "sticky_failed"} -> Row11(r)
    [] r.logical \in {"failed"} -> Row10(r)

OnAnswer(r) ==
  CASE r.logical \in {"idle"} -> Row12(r)
    [] r.logical \in {"sending"} -> Row13(r)
    [] r.logical \in {"done"} -> Row14(r)
    [] r.logical \in {"failed"} ->
         IF r.may_report THEN Row15(r) ELSE
         Row16(r)
    [] r.logical \in {"sticky_failed"} -> Row17(r)

OnFailureException(r) ==
  CASE r.logical \in {"idle", "sending", "done"} -> Row19(r)
    [] r.logical \in {"failed", "sticky_failed"} -> Row18(r)

OnAbort(r) ==
  CASE r.logical \in {"idle", "sending"} -> Row20(r)
    [] r.logical \in {"done", "failed", "sticky_failed"} -> Row21(r)

OnClear(r) ==
  CASE r.logical \in {"idle", "sending"} -> Row22(r)
    [] r.logical \in {"done", "failed", "sticky_failed"} -> Row23(r)

(***** What may happen next: one operator for each act *****)

UNCHANGED_BUT_HANDLES == UNCHANGED <<logical, cause, faulted, closed, cleared, quarantined, base, posted, said, told>>

(* The handles that raise together in one look: none, one, all of a peer's, all of every peer's. *)
Troubles(places) ==
  LET silent == {h \in places : handles[h] \in Silent}
  IN {{}, silent} \cup {{h} : h \in silent} \cup {{h \in silent : PeerOf(h) = p} : p \in 0 .. Peers - 1}

Finish(h) ==
  /\ handles[h] \in Silent
  /\ handles' = [handles EXCEPT ![h] = Finished(@)]
  /\ UNCHANGED_BUT_HANDLES

(* Every handle of a chunk is made before the first is posted; a rejection at a peer ends the posting. *)
Sending(at) ==
  LET sent(h) == CASE at = Nobody \/ PeerOf(h) < at -> Accepted
                   [] PeerOf(h) = at -> Rejected
                   [] OTHER -> "created"
  IN [Room EXCEPT !.posted = @ + 1, !.adopted = FALSE,
                  !.handles = [h \in Handles |-> IF h \div Peers = posted THEN sent(h) ELSE handles[h]]]
(* The caller has a chunk, and the sender hands it to the transport. *)
HasAChunk == ~closed /\ posted < Chunks /\ logical \in Posting
Send(at) ==
  /\ HasAChunk /\ posted + 1 < Chunks
  /\ Becomes(IF at = Nobody THEN OnSendAccepted(Sending(at)) ELSE OnSendRejected(Blame(Sending(at))))
SendLast(at) ==
  /\ HasAChunk
  /\ Becomes(IF at = Nobody THEN OnSendLastAccepted(Sending(at)) ELSE OnSendRejected(Blame(Sending(at))))
SendNothing ==
  /\ Becomes(OnSendNothing(Room))

(* What handles have become once they have been asked, and some of them have raised. *)
Asked(raising, places) == [h \in Handles |->
  IF h \notin places THEN handles[h] ELSE IF h \in raising THEN Failing(handles[h]) ELSE Answering(handles[h])]
(* The first half of a poll. *)
Observed(raising, late) ==
  IF logical \notin Asking THEN OnObserve(Room) ELSE
  LET asked == Asked(raising, Own)
      done == closed /\ \A h \in Own : asked[h] \notin Undone
      r == [Room EXCEPT !.handles = asked, !.error_seen = raising # {}, !.all_done = done, !.deadline_passed = late]
  IN OnObserve(IF (r.error_seen \/ (r.deadline_passed /\ ~r.all_done)) THEN Blame(r) ELSE r)
(* late: a handle has been in flight for the whole transfer timeout. drained: so has the drain. *)
Polled(raising, late, drained) ==
  LET seen == Observed(raising, late)
  IN OnAnswer([seen EXCEPT !.may_report = drained \/ \A h \in Own : seen.handles[h] \notin WaitedFor])
PollWhen(raising, late, drained) ==
  /\ late => raising = {} /\ logical \in Minding /\ \E h \in Own : handles[h] \in InFlight
  /\ \E r \in {Polled(raising, late, drained)} : Becomes(Leave(Say(r)))
Poll ==
  \E raising \in IF logical \in Asking THEN Troubles(Own) ELSE {{}}, late, drained \in BOOLEAN :
     PollWhen(raising, late, drained)

FailureException ==
  /\ Becomes(OnFailureException(Room))
Abort ==
  /\ Becomes(OnAbort(Blame(Room)))
Clear ==
  /\ Becomes(OnClear(Blame(Room)))

(* The caller opens the room id again; what the old room left in flight is in doubt. *)
Open ==
  /\ cleared /\ posted < Chunks
  /\ Becomes(Reopen(Room))

(* The system looks after the handles of rooms that are over. *)
SweepWhen(raising) ==
  /\ \E h \in Swept : handles[h] \in Due
  /\ handles' = [h \in Handles |->
        IF h \in Swept THEN Forgotten(Released(Asked(raising, Swept)[h])) ELSE handles[h]]
  /\ UNCHANGED_BUT_HANDLES
Sweep == \E raising \in Troubles(Swept) : SweepWhen(raising)

Next ==
  \/ \E h \in Handles : Finish(h)
  \/ \E at \in Nobody .. Peers - 1 : Send(at)
  \/ \E at \in Nobody .. Peers - 1 : SendLast(at)
  \/ SendNothing
  \/ Poll
  \/ FailureException
  \/ Abort
  \/ Clear
  \/ Open
  \/ Sweep

Spec == Init /\ [][Next]_vars

(***** Who does not put off for ever what may be done all the time *****)
FairSend == WF_vars(\E at \in Nobody .. Peers - 1 : Send(at) \/ SendLast(at))
FairPoll == WF_vars(PollWhen({}, FALSE, FALSE))
FairFinish == \A h \in Handles : WF_vars(Finish(h))
FairLate == WF_vars(PollWhen({}, TRUE, FALSE))
FairDrained == WF_vars(PollWhen({}, FALSE, TRUE))

(***** Properties *****)

(* No step breaks a clause by itself. *)
NothingBroken ==
  told \in Words

(* Every variable is what it is meant to be. *)
TypeOK ==
  /\ logical \in States
  /\ cause \in Causes
  /\ {faulted, closed, cleared, quarantined} \subseteq BOOLEAN
  /\ base \in 0 .. Chunks /\ posted \in base .. Chunks
  /\ {said, told} \subseteq Words
  /\ handles \in [Handles -> HandleCodes]

(* KS-2.2: what went wrong before the end of the room is not hidden by Success *)
NoSuccessAfterFault ==
  faulted => ~(said = "success")

(* KS-2.3: a failure keeps the first thing that went wrong, and nothing else is a failure *)
FirstCause ==
  /\ (logical \in {"failed", "sticky_failed"} => (faulted /\ cause = "first"))
  /\ (logical \in {"failed", "sticky_failed"} \/ cause = "none")

(* sticky_failed is the failure that the caller has been told of *)
FailedIsSticky ==
  (logical = "sticky_failed") <=> (said = "failure")

(* done is the success that the caller has been told of *)
SuccessIsDone ==
  (logical = "done") <=> (said = "success")

(* KS-6.1: caller and peers are told the same *)
PeersAreTold ==
  told = said

(* KS-4.1: after the last word nothing of the room is in flight *)
Quiesced ==
  said = "nothing" \/ (\A h \in Own : handles[h] \notin InFlight)

(* KS-4.4: what a room leaves behind is reported with its pages *)
Quarantined ==
  said = "nothing" \/ quarantined \/ (\A h \in Own : handles[h] \notin Placed)

(* KS-4.2: a handle is released when the transport has said its last word on it *)
NothingReleasedInFlight ==
  \A h \in Handles : handles[h] \notin ReleasedEarly

(* KS-4.3: a handle that was posted is kept until it has settled *)
NoStray ==
  \A h \in Handles : handles[h] \notin Stray

(* KS-2.1: the last word is the last one, until the room id is opened again *)
Sticky ==
  \A drained \in BOOLEAN : \E r \in {Polled({}, FALSE, drained)} :
  said = "nothing" \/ (((said = "success") <=> (r.reply = "success")) /\ ((said = "failure") <=> (r.reply = "failed")))

(* KS-2.4, KS-2.7: failure_exception() raises the cause of a room that has failed, and of no other *)
CauseIsRaised ==
  \E r \in {OnFailureException(Room)} :
  (r.reply = "raises the cause") <=> (logical \in {"failed", "sticky_failed"})

(* The caller gets its answer, unless it clears the room id and opens it again for ever. *)
Answered == []<>(said # "nothing") \/ ([]<>cleared /\ []<>~cleared)
================================================================================
