//! Readers beside what goes on: rows that are pruned while they are read, how much is done on the caller's task, and long chains.

use std::{
    cell::Cell,
    io,
    ops::Range,
    sync::{Arc, atomic::AtomicBool},
};

use super::{
    Event, EventBuilder, Query, Timestamp,
    bloom::Membership,
    candidates::Candidates,
    columns::Zone,
    finding,
    search::{Asked, Halt, PAGE_BYTES_MAX, QUICK_BYTES, QUICK_EVENTS, Search},
    segment::Segment,
    subscription,
    view::{Access, Key, Term, View},
};
use crate::{
    ids::{CorrelationId, EventId},
    value::Value,
};

fn id(id: u64) -> EventId {
    EventId::new(id).expect("test id is valid")
}

fn event(number: u64, data: impl Into<Value>) -> Event {
    let event = EventBuilder::new(id(number), "k").time(Timestamp::from_nanos(1));
    let text = if number.is_multiple_of(2) {
        "even"
    } else {
        "odd"
    };
    let correlation = CorrelationId::new(text).expect("short");
    let event = event.correlation(correlation).data(data);
    event.build().expect("valid")
}

/// A segment in memory.
fn segment(events: impl IntoIterator<Item = Event>) -> Arc<Segment> {
    let segment = Segment::new(1, String::new());
    let mut body = Vec::new();
    for event in events {
        event.encode(&mut body).expect("within the limits");
    }
    let rows = segment.push(0, 0, &body, 0);
    segment.publish(rows);
    Arc::new(segment)
}

/// A segment that is pruned in the moment in which its records are read.
#[derive(Debug)]
struct Fading(Arc<Segment>);

impl View for Fading {
    fn base(&self) -> u64 {
        View::base(&*self.0)
    }

    fn rows(&self) -> u32 {
        self.0.rows()
    }

    fn span(&self) -> Option<Zone> {
        self.0.span()
    }

    fn zones(&self, zones: Range<u32>, out: &mut Vec<Zone>) {
        self.0.zones(zones, out);
    }

    fn kinds(
        &self,
        prefix: &str,
        access: Access<'_>,
        out: &mut Vec<(Arc<str>, u32)>,
    ) -> io::Result<()> {
        self.0.kinds(prefix, access, out)
    }

    fn links(&self) -> Option<&Membership> {
        self.0.links()
    }

    fn count(&self, term: Term<'_>, access: Access<'_>, few: &mut Vec<u32>) -> io::Result<u32> {
        self.0.count(term, access, few)
    }

    fn rows_with(
        &self,
        term: Term<'_>,
        within: Range<u32>,
        access: Access<'_>,
        out: &mut Vec<u32>,
    ) -> io::Result<()> {
        self.0.rows_with(term, within, access, out)
    }

    fn keys(&self, rows: &[u32], access: Access<'_>, out: &mut Vec<Key>) -> io::Result<()> {
        self.0.keys(rows, access, out)
    }

    fn find(&self, id: u64, access: Access<'_>) -> io::Result<Option<u32>> {
        self.0.find(id, access)
    }

    fn read_while(
        &self,
        rows: &[u32],
        access: Access<'_>,
        work: &mut dyn FnMut(io::Result<&[u8]>) -> bool,
    ) -> io::Result<()> {
        self.0.hide_oldest(u64::MAX, self.0.rows());
        self.0.go();
        self.0.read_while(rows, access, work)
    }
}

/// They were told that the event could not be read, and the store said from then on that it had lost something.
#[test]
fn an_event_that_is_pruned_while_it_is_read_is_not_there_and_is_no_damage() {
    let fading = || {
        let segment = segment((1..=3).map(|number| event(number, number)));
        [Arc::new(Fading(segment))]
    };

    let read = finding::get(&fading(), id(2), Access::Disk);
    assert!(matches!(read, Ok(None)), "{read:?}");
    let (filter, views) = (Query::new().filter, fading());
    let never = AtomicBool::new(false);
    let stretch = subscription::read_on(&filter, &views, (0, 0), &never, Access::Disk);
    let stretch = stretch.expect("readable");
    assert_eq!((stretch.found(), stretch.place()), (0, (1, 3)));
}

/// A comparison of data decoded thousands of events on the caller's task, a large one alone could take milliseconds.
#[test]
fn on_the_callers_task_only_so_many_events_and_bytes_are_looked_at() {
    let never = AtomicBool::new(false);
    let comparing = Query::parse("data.n=1", &super::When::utc(Timestamp::from_nanos(0)));
    let comparing = comparing.expect("a query");
    let searched = |query: &Query, views: &[Arc<Segment>]| {
        let parts = Cell::new(32);
        let access = Access::AtHand(&parts);
        let asked = Asked::Page(PAGE_BYTES_MAX);
        Search::new(query, asked, views, &never, access)
            .page()
            .map(|_| ())
    };
    let few = [segment((1..=200).map(|number| event(number, number)))];
    let many = [segment((1..=600).map(|number| event(number, number)))];
    let large = event(1, "x".repeat(QUICK_BYTES + 1));
    let large = [segment([large])];

    assert!(searched(&comparing, &few).is_ok());
    for (query, views) in [
        (&comparing, &many),
        (&Query::new(), &many),
        (&comparing, &large),
    ] {
        let halted = searched(query, views);
        assert!(matches!(halted, Err(Halt::NotQuick)), "{halted:?}");
    }
    assert!(matches!(
        finding::get(&large, id(1), Access::Memory),
        Err(Halt::NotQuick)
    ));
    assert!(matches!(
        finding::get(&large, id(1), Access::Disk),
        Ok(Some(Ok(_)))
    ));

    // A subscription hands over what it has, and searches on beside the runtime only where it found nothing.
    let read_on = |query: &Query, views: &[Arc<Segment>]| {
        let parts = Cell::new(32);
        let access = Access::AtHand(&parts);
        subscription::read_on(&query.filter, views, (0, 0), &never, access)
            .map(|stretch| stretch.found())
    };
    assert!(matches!(read_on(&Query::new(), &many), Ok(QUICK_EVENTS)));
    assert!(matches!(read_on(&comparing, &many), Err(Halt::NotQuick)));
    assert!(matches!(
        read_on(&Query::new(), &large),
        Err(Halt::NotQuick)
    ));
}

/// Each window looked into the list of each kind.
#[test]
fn many_kinds_that_begin_alike_are_listed_once_in_either_direction() {
    const ROWS: u32 = 3000;
    let of = |number: u64| EventBuilder::new(id(number), format!("k.{}", number % 1000));
    let events = (1..=u64::from(ROWS)).map(|number| of(number).build().expect("valid"));
    let segment = segment(events);
    let query = Query::new().kind_prefix("k.");
    let starts: Vec<u32> = (0..ROWS).step_by(500).collect();
    let hasty = Candidates::plan(
        &Query::new().kind_prefix("").filter,
        &*segment,
        ROWS,
        Access::Memory,
    )
    .map(drop);
    assert!(
        hasty.is_ok(),
        "a thousand are looked at on the caller's task"
    );
    for ordered in [starts.clone(), starts.into_iter().rev().collect()] {
        let plan = Candidates::plan(&query.filter, &*segment, ROWS, Access::Memory);
        let mut candidates = plan.expect("in memory").expect("there are rows");
        for start in ordered {
            let mut found = Vec::new();
            let window = start..start + 500;
            let listed = candidates.within(window.clone(), &mut found);
            listed.expect("in memory");
            let rows: Vec<u32> = found.iter().map(|candidate| candidate.row).collect();
            assert_eq!(rows, window.collect::<Vec<_>>());
        }
        assert!(candidates.walked() <= ROWS + 500, "{}", candidates.walked());
    }

    let more = self::segment((1..=1100).map(|number| {
        let event = EventBuilder::new(id(number), format!("k.{number}"));
        event.build().expect("valid")
    }));
    let plan = |access| Candidates::plan(&query.filter, &*more, 1100, access).map(|_| ());
    let left = Cell::new(32);
    let hasty = plan(Access::AtHand(&left)).map_err(|error| error.kind());
    assert_eq!(hasty, Err(io::ErrorKind::WouldBlock));
    assert!(plan(Access::Disk).is_ok());
}

/// Each window walked from the newest row back: with the square of the rows in the end.
#[test]
fn a_chain_is_listed_window_by_window_in_either_direction() {
    const ROWS: u32 = 5000;
    let segment = segment((1..=u64::from(ROWS)).map(|number| event(number, 1)));
    let odd = CorrelationId::new("odd").expect("short");
    let query = Query::new().correlation(odd);
    let starts: Vec<u32> = (0..ROWS).step_by(512).collect();
    for descends in [false, true] {
        let plan = Candidates::plan(&query.filter, &*segment, ROWS, Access::Memory);
        let mut candidates = plan.expect("in memory").expect("there are rows");
        let mut ordered = starts.clone();
        if descends {
            ordered.reverse();
        }
        for start in ordered {
            let window = start..ROWS.min(start + 512);
            let mut found = Vec::new();
            let listed = candidates.within(window.clone(), &mut found);
            listed.expect("in memory");
            let rows: Vec<u32> = found.iter().map(|candidate| candidate.row).collect();
            let expected: Vec<u32> = window.filter(|row| row.is_multiple_of(2)).collect();
            assert_eq!(rows, expected);
        }
        // Walked once to its end; from below, a first window's part of it before.
        let of_the_first_window = if descends {
            (ROWS - starts[starts.len() - 1]) / 2
        } else {
            0
        };
        assert_eq!(candidates.walked(), ROWS / 2 + of_the_first_window);
    }
}
