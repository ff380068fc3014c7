/* Written by `python -m kvsender_spec.formal.pages`. Change the tables, not this file.
   One room id: the logical machine of its sender, a physical machine for each transfer handle, a caller that
   calls in any order, a transport that finishes, raises, rejects or stays silent. A chunk has a handle for
   each peer; handle h belongs to the chunk h / peers and to the peer h % peers. A room id that is opened again
   has the chunks that are left, so that every handle of every incarnation has a place of its own.

   spin -a kvsender.pml
   safety:   gcc -O2 -DSAFETY -DNOCLAIM -DNOREDUCE -o pan pan.c && ./pan
   liveness: the same with -DLAZY_LATE -DLAZY_DRAINED for spin (peers answer), or with -DLAZY_POLL
             -DLAZY_FINISH (peers are silent); gcc -O2 -DNOREDUCE -DNFAIR=4 -o pan pan.c && ./pan -a -f */

#define CHUNKS 2
#define PEERS 2
#define HANDLES 4

/***** Words *****/

#define IDLE 0
#define SENDING 1
#define DONE 2
#define FAILED 3
#define STICKY_FAILED 4
#define CAUSE_NONE 0
#define CAUSE_FIRST 1
#define CAUSE_LATER 2
#define WORD_NOTHING 0
#define WORD_SUCCESS 1
#define WORD_FAILURE 2
#define REPLY_NOTHING 0
#define REPLY_WAITING 1
#define REPLY_TRANSFERRING 2
#define REPLY_SUCCESS 3
#define REPLY_FAILED 4
#define REPLY_RAISES_CAUSE 5
#define REPLY_RAISES_USAGE 6
/* Who raises in a look at the handles, or rejects a post: the one of that number, a peer, everybody. */
#define PEER(p) (100 + p)
#define EVERYBODY 200
#define NOBODY 255

/***** What befalls a handle: what the sender knows of it, _LANDED, _RELEASED *****/

#define H_NONE 0
#define H_CREATED 1
#define H_CREATED_RELEASED 2
#define H_NEVER_SUBMITTED 3
#define H_NEVER_SUBMITTED_RELEASED 4
#define H_IN_FLIGHT 5
#define H_IN_FLIGHT_RELEASED 6
#define H_IN_FLIGHT_LANDED 7
#define H_IN_FLIGHT_LANDED_RELEASED 8
#define H_DONE 9
#define H_DONE_RELEASED 10
#define H_ERRORED 11
#define H_ERRORED_RELEASED 12
#define H_REJECTED 13
#define H_REJECTED_RELEASED 14
#define H_IN_DOUBT 15
#define H_IN_DOUBT_RELEASED 16
#define H_IN_DOUBT_LANDED 17
#define H_IN_DOUBT_LANDED_RELEASED 18
#define H_STRAY 19
#define IS_PLACED(c) (c == H_CREATED || c == H_CREATED_RELEASED || c == H_NEVER_SUBMITTED || c == \
    H_NEVER_SUBMITTED_RELEASED || c == H_IN_FLIGHT || c == H_IN_FLIGHT_RELEASED || c == H_IN_FLIGHT_LANDED || c \
    == H_IN_FLIGHT_LANDED_RELEASED || c == H_DONE || c == H_DONE_RELEASED || c == H_ERRORED || c == \
    H_ERRORED_RELEASED || c == H_REJECTED || c == H_REJECTED_RELEASED || c == H_IN_DOUBT || c == \
    H_IN_DOUBT_RELEASED || c == H_IN_DOUBT_LANDED || c == H_IN_DOUBT_LANDED_RELEASED || c == H_STRAY)
#define IS_IN_FLIGHT(c) (c == H_IN_FLIGHT || c == H_IN_FLIGHT_RELEASED || c == H_IN_FLIGHT_LANDED || c == \
    H_IN_FLIGHT_LANDED_RELEASED)
#define IS_SILENT(c) (c == H_IN_FLIGHT || c == H_IN_FLIGHT_RELEASED || c == H_IN_DOUBT || c == \
    H_IN_DOUBT_RELEASED)
#define IS_UNDONE(c) (c == H_CREATED || c == H_CREATED_RELEASED || c == H_NEVER_SUBMITTED || c == \
    H_NEVER_SUBMITTED_RELEASED || c == H_IN_FLIGHT || c == H_IN_FLIGHT_RELEASED || c == H_IN_FLIGHT_LANDED || c \
    == H_IN_FLIGHT_LANDED_RELEASED || c == H_ERRORED || c == H_ERRORED_RELEASED || c == H_REJECTED || c == \
    H_REJECTED_RELEASED || c == H_IN_DOUBT || c == H_IN_DOUBT_RELEASED || c == H_IN_DOUBT_LANDED || c == \
    H_IN_DOUBT_LANDED_RELEASED || c == H_STRAY)
#define IS_RELEASED_EARLY(c) (c == H_IN_FLIGHT_RELEASED || c == H_IN_FLIGHT_LANDED_RELEASED || c == \
    H_IN_DOUBT_RELEASED || c == H_IN_DOUBT_LANDED_RELEASED)
#define IS_STRAY(c) (c == H_STRAY)
#define IS_WAITED_FOR(c) (c == H_IN_FLIGHT || c == H_IN_FLIGHT_RELEASED || c == H_IN_FLIGHT_LANDED || c == \
    H_IN_FLIGHT_LANDED_RELEASED || c == H_IN_DOUBT || c == H_IN_DOUBT_RELEASED || c == H_IN_DOUBT_LANDED || c \
    == H_IN_DOUBT_LANDED_RELEASED || c == H_STRAY)
#define IS_DUE(c) (c == H_CREATED || c == H_IN_FLIGHT || c == H_IN_FLIGHT_RELEASED || c == H_IN_FLIGHT_LANDED \
    || c == H_IN_FLIGHT_LANDED_RELEASED || c == H_DONE || c == H_ERRORED || c == H_REJECTED || c == H_IN_DOUBT \
    || c == H_IN_DOUBT_RELEASED || c == H_IN_DOUBT_LANDED || c == H_IN_DOUBT_LANDED_RELEASED)
/* The transport finishes it; nobody knows yet. */
#define FINISHED(c) (c == H_IN_FLIGHT -> H_IN_FLIGHT_LANDED : (c == H_IN_FLIGHT_RELEASED -> \
    H_IN_FLIGHT_LANDED_RELEASED : (c == H_IN_DOUBT -> H_IN_DOUBT_LANDED : (c == H_IN_DOUBT_RELEASED -> \
    H_IN_DOUBT_LANDED_RELEASED : c))))
/* It is asked, and answers what is so: DONE where it has landed, PROC otherwise. */
#define ANSWERING(c) (c == H_IN_FLIGHT_LANDED -> H_DONE : (c == H_IN_FLIGHT_LANDED_RELEASED -> H_DONE_RELEASED \
    : (c == H_IN_DOUBT_LANDED -> H_DONE : (c == H_IN_DOUBT_LANDED_RELEASED -> H_DONE_RELEASED : c))))
/* It is asked, and raises, unless it has landed already. */
#define FAILING(c) (c == H_IN_FLIGHT -> H_ERRORED : (c == H_IN_FLIGHT_RELEASED -> H_ERRORED_RELEASED : (c == \
    H_IN_FLIGHT_LANDED -> H_DONE : (c == H_IN_FLIGHT_LANDED_RELEASED -> H_DONE_RELEASED : (c == H_IN_DOUBT -> \
    H_ERRORED : (c == H_IN_DOUBT_RELEASED -> H_ERRORED_RELEASED : (c == H_IN_DOUBT_LANDED -> H_DONE : (c == \
    H_IN_DOUBT_LANDED_RELEASED -> H_DONE_RELEASED : c))))))))
/* It is released where it has settled, each once. */
#define RELEASED(c) (c == H_CREATED -> H_NEVER_SUBMITTED_RELEASED : (c == H_DONE -> H_DONE_RELEASED : (c == \
    H_ERRORED -> H_ERRORED_RELEASED : (c == H_REJECTED -> H_REJECTED_RELEASED : c))))
/* What is in flight now is in doubt. So is what a cleared room leaves to the next one. */
#define OVERDUE(c) (c == H_IN_FLIGHT -> H_IN_DOUBT : (c == H_IN_FLIGHT_RELEASED -> H_IN_DOUBT_RELEASED : (c == \
    H_IN_FLIGHT_LANDED -> H_IN_DOUBT_LANDED : (c == H_IN_FLIGHT_LANDED_RELEASED -> H_IN_DOUBT_LANDED_RELEASED : \
    c))))
/* The room is over: what is settled and released needs no place any more. */
#define FORGOTTEN(c) (c == H_CREATED_RELEASED -> H_NONE : (c == H_NEVER_SUBMITTED_RELEASED -> H_NONE : (c == \
    H_IN_FLIGHT_RELEASED -> H_NONE : (c == H_IN_FLIGHT_LANDED_RELEASED -> H_NONE : (c == H_DONE_RELEASED -> \
    H_NONE : (c == H_ERRORED_RELEASED -> H_NONE : (c == H_REJECTED_RELEASED -> H_NONE : (c == \
    H_IN_DOUBT_RELEASED -> H_NONE : (c == H_IN_DOUBT_LANDED_RELEASED -> H_NONE : c)))))))))
#define ACCEPTED H_IN_FLIGHT
#define REJECTED H_REJECTED

/***** The room *****/

byte logical;         /* the logical machine */
byte cause;           /* what is latched: nothing, the first thing that went wrong, or a later one */
bool faulted;         /* something went wrong, and the sender was told of it, before the room was over */
bool closed;          /* the last chunk is posted */
bool cleared;         /* the caller has cleared the room */
bool quarantined;     /* pages have been reported as in doubt */
byte base;            /* chunks of earlier incarnations */
byte posted;          /* chunks, those of earlier incarnations among them */
byte said;            /* the first terminal value that poll() answered */
byte told;            /* what the peers were told */
byte handles[HANDLES];

/* What a call knows while it runs is no part of the state. */
hidden byte i;
hidden byte raises;
hidden byte cause_now;
hidden byte adopted;
hidden byte error_seen;
hidden byte all_done;
hidden byte deadline_passed;
hidden byte may_report;
hidden byte reply;
/* A property that does not hold is the name in a failed assertion. */
hidden byte NoSuccessAfterFault;
hidden byte FirstCause;
hidden byte FailedIsSticky;
hidden byte SuccessIsDone;
hidden byte PeersAreTold;
hidden byte Quiesced;
hidden byte Quarantined;
hidden byte NothingReleasedInFlight;
hidden byte NoStray;
hidden byte Sticky;
hidden byte CauseIsRaised;
hidden byte KS_2_5;
hidden byte KS_6_1;
hidden byte KS_8_1;

/* The handles of this incarnation; those before them are the system's to look after. */
#define OWN (base * PEERS)
/* The handles of rooms that are over. */
#define SWEPT ((cleared || said != WORD_NOTHING -> posted : base) * PEERS)

/***** Where events lead, and what effects do *****/

inline adopt() { adopted = true }
inline close() { closed = true }
inline latch() { cause = (cause == CAUSE_NONE -> cause_now : cause) }
inline release() { for (i : OWN .. HANDLES - 1) { handles[i] = RELEASED(handles[i]) } }
inline quarantine() { quarantined = true; for (i : OWN .. HANDLES - 1) { handles[i] = OVERDUE(handles[i]) } }
inline tell_success() { KS_6_1 = (told == WORD_NOTHING); assert(KS_6_1); told = WORD_SUCCESS }
inline tell_failure() { KS_6_1 = (told == WORD_NOTHING); assert(KS_6_1); told = WORD_FAILURE }
inline forget() { cleared = true }
inline arrive() { closed = (logical == FAILED || logical == STICKY_FAILED -> false : closed) }
inline blame() { cause_now = CAUSE_LATER; cause_now = ((said == WORD_NOTHING) && !faulted -> CAUSE_FIRST :
    cause_now); faulted = ((said == WORD_NOTHING) && !faulted -> true : faulted) }
inline say() { said = ((said == WORD_NOTHING) && (reply == REPLY_SUCCESS) -> WORD_SUCCESS : said); said =
    ((said == WORD_NOTHING) && (reply == REPLY_FAILED) -> WORD_FAILURE : said) }
inline leave() { if :: !(said == WORD_NOTHING) -> for (i : OWN .. HANDLES - 1) { handles[i] =
    FORGOTTEN(handles[i]) } :: else fi }
inline reopen() { for (i : 0 .. HANDLES - 1) { handles[i] = OVERDUE(handles[i]) }; for (i : 0 .. HANDLES - 1) {
    handles[i] = FORGOTTEN(handles[i]) }; logical = IDLE; cause = CAUSE_NONE; faulted = false; closed = false;
    cleared = false; quarantined = false; base = posted; said = WORD_NOTHING; told = WORD_NOTHING }
inline move_chunk_posted() {
  if
  :: (logical == IDLE || logical == SENDING) -> logical = SENDING
  fi;
  arrive()
}
inline move_completed() {
  if
  :: (logical == SENDING || logical == DONE) -> logical = DONE
  :: (logical == FAILED) -> logical = FAILED
  :: (logical == STICKY_FAILED) -> logical = STICKY_FAILED
  fi;
  arrive()
}
inline move_faulted() {
  if
  :: (logical == DONE) -> logical = DONE
  :: (logical == IDLE || logical == SENDING || logical == FAILED) -> logical = FAILED
  :: (logical == STICKY_FAILED) -> logical = STICKY_FAILED
  fi;
  arrive()
}
inline move_reported() {
  if
  :: (logical == FAILED || logical == STICKY_FAILED) -> logical = STICKY_FAILED
  fi;
  arrive()
}

/***** The table: a row is its effects, in order, then the move, then the reply *****/

/* 1. send_accepted in idle, sending: chunk_posted, after adopt */
inline row1() { adopt(); move_chunk_posted(); reply = REPLY_NOTHING }
/* 2. send_last_accepted in idle, sending: chunk_posted, after adopt, close */
inline row2() { adopt(); close(); move_chunk_posted(); reply = REPLY_NOTHING }
/* 3. send_rejected in idle, sending: faulted, after adopt, latch */
inline row3() { adopt(); latch(); move_faulted(); reply = REPLY_NOTHING }
/* 4. send_nothing in idle, sending, done, failed, sticky_failed: nothing happens */
inline row4() { arrive(); reply = REPLY_NOTHING }
/* 5. observe in idle: nothing happens */
inline row5() { arrive(); reply = REPLY_NOTHING }
/* 6. observe in sending, if error_seen: faulted, after latch, release */
inline row6() { latch(); release(); move_faulted(); reply = REPLY_NOTHING }
/* 7. observe in sending, if all_done: completed, after release, tell_success */
inline row7() { release(); tell_success(); move_completed(); reply = REPLY_NOTHING }
/* 8. observe in sending, if deadline_passed: faulted, after latch, release */
inline row8() { latch(); release(); move_faulted(); reply = REPLY_NOTHING }
/* 9. observe in sending: nothing happens, after release */
inline row9() { release(); arrive(); reply = REPLY_NOTHING }
/* 10. observe in failed: nothing happens, after release */
inline row10() { release(); arrive(); reply = REPLY_NOTHING }
/* 11. observe in done, sticky_failed: nothing happens */
inline row11() { arrive(); reply = REPLY_NOTHING }
/* 12. answer in idle: nothing happens; reply waiting */
inline row12() { arrive(); reply = REPLY_WAITING }
/* 13. answer in sending: nothing happens; reply transferring */
inline row13() { arrive(); reply = REPLY_TRANSFERRING }
/* 14. answer in done: nothing happens; reply success */
inline row14() { arrive(); reply = REPLY_SUCCESS }
/* 15. answer in failed, if may_report: reported, after quarantine, tell_failure; reply failed */
inline row15() { quarantine(); tell_failure(); move_reported(); reply = REPLY_FAILED }
/* 16. answer in failed: nothing happens; reply transferring */
inline row16() { arrive(); reply = REPLY_TRANSFERRING }
/* 17. answer in sticky_failed: reported; reply failed */
inline row17() { move_reported(); reply = REPLY_FAILED }
/* 18. failure_exception in failed, sticky_failed: nothing happens */
inline row18() { arrive(); reply = REPLY_RAISES_CAUSE }
/* 19. failure_exception in idle, sending, done: nothing happens */
inline row19() { arrive(); reply = REPLY_RAISES_USAGE }
/* 20. abort in idle, sending: faulted, after latch */
inline row20() { latch(); move_faulted(); reply = REPLY_NOTHING }
/* 21. abort in done, failed, sticky_failed: nothing happens */
inline row21() { arrive(); reply = REPLY_NOTHING }
/* 22. clear in idle, sending: faulted, after latch, forget */
inline row22() { latch(); forget(); move_faulted(); reply = REPLY_NOTHING }
/* 23. clear in done, failed, sticky_failed: nothing happens, after forget */
inline row23() { forget(); arrive(); reply = REPLY_NOTHING }

/***** Which row decides: the first one whose guard holds *****/

inline on_send_accepted() {
  if
  :: (logical == IDLE || logical == SENDING) ->
     row1()
  :: (logical == DONE) ->
     KS_8_1 = false; assert(KS_8_1)
  :: (logical == FAILED || logical == STICKY_FAILED) ->
     KS_2_5 = false; assert(KS_2_5)
  fi
}

inline on_send_last_accepted() {
  if
  :: (logical == IDLE || logical == SENDING) ->
     row2()
  :: (logical == DONE) ->
     KS_8_1 = false; assert(KS_8_1)
  :: (logical == FAILED || logical == STICKY_FAILED) ->
     KS_2_5 = false; assert(KS_2_5)
  fi
}

inline on_send_rejected() {
  if
  :: (logical == IDLE || logical == SENDING) ->
     row3()
  :: (logical == DONE) ->
     KS_8_1 = false; assert(KS_8_1)
  :: (logical == FAILED || logical == STICKY_FAILED) ->
     KS_2_5 = false; assert(KS_2_5)
  fi
}

inline on_send_nothing() {
  if
  :: (logical == IDLE || logical == SENDING || logical == DONE || logical == FAILED || logical == STICKY_FAILED) ->
     row4()
  fi
}

inline on_observe() {
  if
  :: (logical == IDLE) ->
     row5()
  :: (logical == SENDING) ->
     if :: error_seen -> row6() :: else ->
       if :: all_done -> row7() :: else ->
         if :: deadline_passed -> row8() :: else ->
           row9()
     fi fi fi
  :: (logical == DONE || logical == STICKY_FAILED) ->
     row11()
  :: (logical == FAILED) ->
     row10()
  fi
}

inline on_answer() {
  if
  :: (logical == IDLE) ->
     row12()
  :: (logical == SENDING) ->
     row13()
  :: (logical == DONE) ->
     row14()
  :: (logical == FAILED) ->
     if :: may_report -> row15() :: else ->
       row16()
     fi
  :: (logical == STICKY_FAILED) ->
     row17()
  fi
}

inline on_failure_exception() {
  if
  :: (logical == IDLE || logical == SENDING || logical == DONE) ->
     row19()
  :: (logical == FAILED || logical == STICKY_FAILED) ->
     row18()
  fi
}

inline on_abort() {
  if
  :: (logical == IDLE || logical == SENDING) ->
     row20()
  :: (logical == DONE || logical == FAILED || logical == STICKY_FAILED) ->
     row21()
  fi
}

inline on_clear() {
  if
  :: (logical == IDLE || logical == SENDING) ->
     row22()
  :: (logical == DONE || logical == FAILED || logical == STICKY_FAILED) ->
     row23()
  fi
}

/***** What the calls do *****/

/* The caller has a chunk, and the sender hands it to the transport. */
#define HAS_A_CHUNK (!closed && posted < CHUNKS && (logical == IDLE || logical == SENDING))
#define ASKING (logical == SENDING || logical == FAILED)
#define STRIKES(at, h) (at == EVERYBODY || at == h || at == PEER(h % PEERS))
#define IS_LATE(h) (h >= OWN && IS_IN_FLIGHT(handles[h]))
#define MAY_BE_LATE ((logical == SENDING) && (IS_LATE(0) || IS_LATE(1) || IS_LATE(2) || IS_LATE(3)))
#define IS_LEFT(h) (h < SWEPT && IS_DUE(handles[h]))
#define SOME_LEFT (IS_LEFT(0) || IS_LEFT(1) || IS_LEFT(2) || IS_LEFT(3))

inline begin() {
  cause_now = CAUSE_NONE; adopted = true; error_seen = false; all_done = false; deadline_passed = false;
  may_report = false; reply = REPLY_NOTHING
}

/* Every handle of a chunk is made before the first is posted; a rejection at a peer ends the posting. */
inline post(at) {
  begin();
  for (i : 0 .. PEERS - 1) {
    if
    :: i < at -> handles[posted * PEERS + i] = ACCEPTED
    :: i == at -> handles[posted * PEERS + i] = REJECTED
    :: else -> handles[posted * PEERS + i] = H_CREATED
    fi
  }
  posted++; adopted = false
}
/* send() returns. Nobody will ask about a handle that it has made and not adopted. */
inline posted_all() {
  if
  :: !adopted -> for (i : (posted - 1) * PEERS .. posted * PEERS - 1) { handles[i] = H_STRAY }
  :: else
  fi
}
inline reject(at) { post(at); blame(); on_send_rejected(); posted_all() }

inline ask(at) {
  raises = IS_SILENT(handles[i]) && STRIKES(at, i);
  if
  :: raises -> handles[i] = FAILING(handles[i])
  :: else -> handles[i] = ANSWERING(handles[i])
  fi
}
/* The first half of a poll. */
inline observed(at, late) {
  if
  :: ASKING ->
     deadline_passed = late; all_done = closed;
     for (i : OWN .. HANDLES - 1) {
       ask(at);
       error_seen = error_seen || raises;
       all_done = all_done && !IS_UNDONE(handles[i])
     }
     if :: error_seen || (deadline_passed && !all_done) -> blame() :: else fi
  :: else
  fi;
  on_observe()
}
/* late: a handle has been in flight for the whole transfer timeout. drained: so has the drain. */
inline poll(at, late, drained) {
  begin();
  observed(at, late);
  may_report = true;
  for (i : OWN .. HANDLES - 1) { may_report = may_report && !IS_WAITED_FOR(handles[i]) }
  may_report = may_report || drained;
  on_answer();
  /* KS-2.1: the last word is the last one, until the room id is opened again */
  Sticky = ((said == WORD_NOTHING) || (((said == WORD_SUCCESS) == (reply == REPLY_SUCCESS)) && ((said ==
    WORD_FAILURE) == (reply == REPLY_FAILED)))); assert(Sticky);
  say();
  leave()
}

inline failure_exception() {
  begin();
  on_failure_exception();
  /* KS-2.4, KS-2.7: failure_exception() raises the cause of a room that has failed, and of no other */
  CauseIsRaised = ((reply == REPLY_RAISES_CAUSE) == (logical == FAILED || logical == STICKY_FAILED));
    assert(CauseIsRaised);
  skip
}

/* The system looks after the handles of rooms that are over. */
inline sweep(at) {
  for (i : 0 .. SWEPT - 1) {
    ask(at);
    handles[i] = RELEASED(handles[i]);
    handles[i] = FORGOTTEN(handles[i])
  }
}

/***** Properties *****/

inline properties() {
  /* KS-2.2: what went wrong before the end of the room is not hidden by Success */
  NoSuccessAfterFault = (!faulted || !(said == WORD_SUCCESS)); assert(NoSuccessAfterFault);
  /* KS-2.3: a failure keeps the first thing that went wrong, and nothing else is a failure */
  FirstCause = ((!(logical == FAILED || logical == STICKY_FAILED) || (faulted && (cause == CAUSE_FIRST))) &&
    ((logical == FAILED || logical == STICKY_FAILED) || (cause == CAUSE_NONE))); assert(FirstCause);
  /* sticky_failed is the failure that the caller has been told of */
  FailedIsSticky = ((logical == STICKY_FAILED) == (said == WORD_FAILURE)); assert(FailedIsSticky);
  /* done is the success that the caller has been told of */
  SuccessIsDone = ((logical == DONE) == (said == WORD_SUCCESS)); assert(SuccessIsDone);
  /* KS-6.1: caller and peers are told the same */
  PeersAreTold = (told == said); assert(PeersAreTold);
  for (i : 0 .. HANDLES - 1) {
    /* KS-4.1: after the last word nothing of the room is in flight */
    Quiesced = ((said == WORD_NOTHING) || (i < OWN || !IS_IN_FLIGHT(handles[i]))); assert(Quiesced);
    /* KS-4.4: what a room leaves behind is reported with its pages */
    Quarantined = ((said == WORD_NOTHING) || quarantined || (i < OWN || !IS_PLACED(handles[i])));
    assert(Quarantined);
    /* KS-4.2: a handle is released when the transport has said its last word on it */
    NothingReleasedInFlight = (!IS_RELEASED_EARLY(handles[i])); assert(NothingReleasedInFlight);
    /* KS-4.3: a handle that was posted is kept until it has settled */
    NoStray = (!IS_STRAY(handles[i])); assert(NoStray);
    skip
  }
}

/* The caller gets its answer, unless it clears the room id and opens it again for ever. */
ltl answered { ([] <> (said != WORD_NOTHING)) || (([] <> cleared) && ([] <> !cleared)) }

/***** Who acts: a process for each actor that weak fairness is about, and one for everything else *****/

active proctype sender() {
  do
  :: d_step { HAS_A_CHUNK && posted + 1 < CHUNKS -> printf("> send\n");
       post(NOBODY); on_send_accepted(); posted_all(); skip }
  :: d_step { HAS_A_CHUNK && posted + 1 < CHUNKS -> printf("> send, rejected at 0\n");
       reject(0); skip }
  :: d_step { HAS_A_CHUNK && posted + 1 < CHUNKS -> printf("> send, rejected at 1\n");
       reject(1); skip }
  :: d_step { HAS_A_CHUNK -> printf("> send_last\n");
       post(NOBODY); on_send_last_accepted(); posted_all(); skip }
  :: d_step { HAS_A_CHUNK -> printf("> send_last, rejected at 0\n");
       reject(0); skip }
  :: d_step { HAS_A_CHUNK -> printf("> send_last, rejected at 1\n");
       reject(1); skip }
#ifdef LAZY_SEND
  :: d_step { true -> skip }
#endif
  od
}

active proctype poller() {
  do
  :: d_step { true -> printf("> poll\n");
       poll(NOBODY, false, false); skip }
#ifdef LAZY_POLL
  :: d_step { true -> skip }
#endif
  od
}

active proctype transport_0() {
  do
  :: d_step { IS_SILENT(handles[0]) -> printf("> finish(0)\n");
       handles[0] = FINISHED(handles[0]); skip }
#ifdef LAZY_FINISH
  :: d_step { true -> skip }
#endif
  od
}

active proctype transport_1() {
  do
  :: d_step { IS_SILENT(handles[1]) -> printf("> finish(1)\n");
       handles[1] = FINISHED(handles[1]); skip }
#ifdef LAZY_FINISH
  :: d_step { true -> skip }
#endif
  od
}

active proctype transport_2() {
  do
  :: d_step { IS_SILENT(handles[2]) -> printf("> finish(2)\n");
       handles[2] = FINISHED(handles[2]); skip }
#ifdef LAZY_FINISH
  :: d_step { true -> skip }
#endif
  od
}

active proctype transport_3() {
  do
  :: d_step { IS_SILENT(handles[3]) -> printf("> finish(3)\n");
       handles[3] = FINISHED(handles[3]); skip }
#ifdef LAZY_FINISH
  :: d_step { true -> skip }
#endif
  od
}

active proctype late_poller() {
  do
  :: d_step { MAY_BE_LATE -> printf("> poll, late\n");
       poll(NOBODY, true, false); skip }
#ifdef LAZY_LATE
  :: d_step { true -> skip }
#endif
  od
}

active proctype drained_poller() {
  do
  :: d_step { true -> printf("> poll, drained\n");
       poll(NOBODY, false, true); skip }
#ifdef LAZY_DRAINED
  :: d_step { true -> skip }
#endif
  od
}

active proctype anybody() {
  do
  :: d_step { true -> printf("> send_nothing\n");
       begin(); on_send_nothing(); skip }
  :: d_step { MAY_BE_LATE -> printf("> poll, late, drained\n");
       poll(NOBODY, true, true); skip }
  :: d_step { ASKING -> printf("> poll, handle 0 raises\n");
       poll(0, false, false); skip }
  :: d_step { ASKING -> printf("> poll, handle 0 raises, drained\n");
       poll(0, false, true); skip }
  :: d_step { ASKING -> printf("> poll, handle 1 raises\n");
       poll(1, false, false); skip }
  :: d_step { ASKING -> printf("> poll, handle 1 raises, drained\n");
       poll(1, false, true); skip }
  :: d_step { ASKING -> printf("> poll, handle 2 raises\n");
       poll(2, false, false); skip }
  :: d_step { ASKING -> printf("> poll, handle 2 raises, drained\n");
       poll(2, false, true); skip }
  :: d_step { ASKING -> printf("> poll, handle 3 raises\n");
       poll(3, false, false); skip }
  :: d_step { ASKING -> printf("> poll, handle 3 raises, drained\n");
       poll(3, false, true); skip }
  :: d_step { ASKING -> printf("> poll, peer 0 disconnects\n");
       poll(PEER(0), false, false); skip }
  :: d_step { ASKING -> printf("> poll, peer 0 disconnects, drained\n");
       poll(PEER(0), false, true); skip }
  :: d_step { ASKING -> printf("> poll, peer 1 disconnects\n");
       poll(PEER(1), false, false); skip }
  :: d_step { ASKING -> printf("> poll, peer 1 disconnects, drained\n");
       poll(PEER(1), false, true); skip }
  :: d_step { ASKING -> printf("> poll, every peer disconnects\n");
       poll(EVERYBODY, false, false); skip }
  :: d_step { ASKING -> printf("> poll, every peer disconnects, drained\n");
       poll(EVERYBODY, false, true); skip }
  :: d_step { true -> printf("> failure_exception\n");
       failure_exception(); skip }
  :: d_step { true -> printf("> abort\n");
       begin(); blame(); on_abort(); skip }
  :: d_step { true -> printf("> clear\n");
       begin(); blame(); on_clear(); skip }
  :: d_step { cleared && posted < CHUNKS -> printf("> open\n");
       begin(); reopen(); skip }
  :: d_step { SOME_LEFT -> printf("> sweep\n");
       sweep(NOBODY); skip }
  :: d_step { SOME_LEFT -> printf("> sweep, handle 0 raises\n");
       sweep(0); skip }
  :: d_step { SOME_LEFT -> printf("> sweep, handle 1 raises\n");
       sweep(1); skip }
  :: d_step { SOME_LEFT -> printf("> sweep, handle 2 raises\n");
       sweep(2); skip }
  :: d_step { SOME_LEFT -> printf("> sweep, handle 3 raises\n");
       sweep(3); skip }
  :: d_step { SOME_LEFT -> printf("> sweep, peer 0 disconnects\n");
       sweep(PEER(0)); skip }
  :: d_step { SOME_LEFT -> printf("> sweep, peer 1 disconnects\n");
       sweep(PEER(1)); skip }
  :: d_step { SOME_LEFT -> printf("> sweep, every peer disconnects\n");
       sweep(EVERYBODY); skip }
  :: d_step { true -> printf("> properties\n");
       properties(); skip }
  od
}
