//! Who of the plain programs is there, and was.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::roster::Roster;
use crate::{
    cluster::member::{Connection, DownReason, Member, MemberKind, MemberState},
    ids::NodeName,
};

/// As many plain programs are connected at once, and as many that are down are remembered.
pub(super) const PROGRAMS_MAX: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Plain {
    programs: Mutex<BTreeMap<NodeName, Program>>,
    /// This node has left: there is no place any more.
    closed: AtomicBool,
}

#[derive(Debug)]
struct Program {
    listens: String,
    since: Duration,
    /// While it is connected.
    session: Option<Arc<Session>>,
    why: Option<DownReason>,
}

/// One connection of a plain program.
#[derive(Debug, Default)]
pub(super) struct Session {
    pub(super) roster: Mutex<Roster>,
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
    pub(super) messages: AtomicU64,
    /// The last round trip, in microseconds; 0 where there was none.
    pub(super) round_trip: AtomicU64,
    pub(super) closing: CancellationToken,
}

/// Whether somebody new has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entered {
    New,
    /// It takes the place of a connection that it had.
    Again,
    /// There is no place left.
    Full,
}

impl Plain {
    pub(super) fn is_connected(&self, name: &NodeName) -> bool {
        let programs = self.programs.lock();
        programs
            .get(name)
            .is_some_and(|known| known.session.is_some())
    }

    pub(super) fn enter(
        &self,
        name: &NodeName,
        listens: &str,
        session: &Arc<Session>,
        now: Duration,
    ) -> Entered {
        let mut programs = self.programs.lock();
        let before = programs.get(name).and_then(|known| known.session.clone());
        let connected = programs.values().filter(|known| known.session.is_some());
        let is_full = before.is_none() && connected.count() >= PROGRAMS_MAX;
        if is_full || self.closed.load(Relaxed) {
            return Entered::Full;
        }
        if let Some(before) = &before {
            before.closing.cancel();
        }
        let program = Program {
            listens: listens.to_owned(),
            since: now,
            session: Some(Arc::clone(session)),
            why: None,
        };
        programs.insert(name.clone(), program);
        let mut down: Vec<_> = programs
            .iter()
            .filter(|(_, known)| known.session.is_none())
            .map(|(name, known)| (known.since, name.clone()))
            .collect();
        down.sort_unstable();
        let too_many = down.len().saturating_sub(PROGRAMS_MAX);
        for (_, name) in down.drain(..too_many) {
            programs.remove(&name);
        }
        if before.is_some() {
            Entered::Again
        } else {
            Entered::New
        }
    }

    /// A connection is over. Whether its program is down with it; it may have another by now.
    pub(super) fn leave(
        &self,
        name: &NodeName,
        session: &Arc<Session>,
        why: DownReason,
        now: Duration,
    ) -> bool {
        let mut programs = self.programs.lock();
        let Some(known) = programs.get_mut(name) else {
            return false;
        };
        let is_its = known
            .session
            .as_ref()
            .is_some_and(|its| Arc::ptr_eq(its, session));
        if is_its {
            (known.session, known.why, known.since) = (None, Some(why), now);
        }
        is_its
    }

    /// Ends all connections, and lets nobody in any more.
    pub(crate) fn close(&self) {
        let programs = self.programs.lock();
        self.closed.store(true, Relaxed);
        for known in programs.values() {
            if let Some(session) = &known.session {
                session.closing.cancel();
            }
        }
    }

    pub(crate) fn members(&self, now: Duration) -> Vec<Member> {
        let programs = self.programs.lock();
        let members = programs.iter().map(|(name, program)| Member {
            name: name.clone(),
            id: None,
            incarnation: 0,
            kind: MemberKind::Plain,
            state: match program.session {
                Some(_) => MemberState::Alive,
                None => MemberState::Down,
            },
            since: now.saturating_sub(program.since),
            why: program.why,
            address: program.listens.clone(),
            underpin: String::new(),
            connection: program.session.as_ref().map(|session| session.connection()),
            plain: program
                .session
                .as_ref()
                .map(|session| session.roster.lock().seen()),
        });
        members.collect()
    }
}

impl Session {
    fn connection(&self) -> Connection {
        let round_trip = self.round_trip.load(Relaxed);
        Connection {
            round_trip: (round_trip > 0).then(|| Duration::from_micros(round_trip)),
            bytes_sent: self.sent.load(Relaxed),
            bytes_received: self.received.load(Relaxed),
            messages_sent: 0,
            messages_received: self.messages.load(Relaxed),
            backlog_bytes: 0,
            in_flight_bytes: 0,
            serving: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> NodeName {
        NodeName::new(format!("p{number}")).expect("a name")
    }

    #[test]
    fn so_many_are_connected_and_so_many_remembered() {
        let (plain, session) = (Plain::default(), Arc::new(Session::default()));
        let now = Duration::from_secs;
        for number in 0..PROGRAMS_MAX {
            let entered = plain.enter(&name(number), "", &session, now(1));
            assert_eq!(entered, Entered::New);
        }
        let one_more = name(PROGRAMS_MAX);
        assert_eq!(plain.enter(&one_more, "", &session, now(1)), Entered::Full);

        for number in 0..3 * PROGRAMS_MAX {
            let (name, then) = (name(number), now(2 + number as u64));
            plain.enter(&name, "", &session, then);
            plain.leave(&name, &session, DownReason::Closed, then);
        }
        plain.enter(&one_more, "", &session, now(5000));

        let remembered = plain.members(now(5000)).into_iter();
        let mut remembered: Vec<_> = remembered.map(|member| member.name).collect();
        remembered.sort_unstable();
        let mut newest: Vec<_> = (2 * PROGRAMS_MAX..3 * PROGRAMS_MAX).map(name).collect();
        newest.push(one_more);
        newest.sort_unstable();
        assert_eq!(remembered, newest);
    }

    #[test]
    fn the_end_of_an_old_connection_is_not_that_of_the_new_one() {
        let plain = Plain::default();
        let [old, new] = [(); 2].map(|()| Arc::new(Session::default()));
        let now = Duration::ZERO;
        assert_eq!(plain.enter(&name(1), "", &old, now), Entered::New);

        assert_eq!(plain.enter(&name(1), "", &new, now), Entered::Again);

        assert!(old.closing.is_cancelled() && !new.closing.is_cancelled());
        assert!(!plain.leave(&name(1), &old, DownReason::Closed, now));
        assert!(plain.is_connected(&name(1)));
        assert!(plain.leave(&name(1), &new, DownReason::Closed, now));
        assert_eq!(plain.members(now)[0].why, Some(DownReason::Closed));
    }
}
