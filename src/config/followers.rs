//! Who follows what: the subscribers of a path share a place, where they find what is new and where they are woken.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::Waker,
};

use arc_swap::ArcSwapOption;
use crossbeam_utils::CachePadded;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use super::{
    Notice, Revision,
    record::{Logged, Steps},
};
use crate::value::{Path, Value};

/// How many changes a place remembers the revisions of, 8 bytes each.
const TOUCHED_MAX: usize = 1024;
/// How many are taken from their seats at once, to be woken outside the lock.
const WOKEN_AT_ONCE: usize = 128;

/// How many changes one is told of before others have their turn, where no more follow than are woken at once: as many as a task of
/// tokio's makes in a turn, so that who follows keeps up. Where there are more, all of them together take no longer, down to `TURN_MIN`.
const TURN_MAX: usize = 128;
const TURN_MIN: usize = 8;

/// Everybody who follows something.
///
/// A change is brought to the places that it concerns by one task, off the writer's way. Whoever waits at a place that no change
/// concerns sleeps on.
pub(super) struct Followers {
    places: Mutex<BTreeMap<Path, Arc<Place>>>,
    /// Where those wait who keep the books: every change concerns them, and they look it up in the log.
    books: Arc<Place>,
    /// Every change up to this revision has been brought to the places that it concerns. Written all the time, and so apart
    /// from what the writer looks at.
    told: CachePadded<AtomicU64>,
    /// The writer looks at it with each change.
    count: CachePadded<AtomicUsize>,
    is_closed: AtomicBool,
}

/// What all subscribers of one path share.
pub(super) struct Place {
    path: Path,
    /// The changes after this revision are brought here; of those before nothing is known.
    since: AtomicU64,
    newest: ArcSwapOption<News>,
    /// Its revision, and the one before it: most look no further.
    newest_at: AtomicU64,
    before_newest: AtomicU64,
    /// Of the newest changes here, oldest first.
    touched: Mutex<VecDeque<Revision>>,
    /// Whether those who wait here are to be woken, and none of them was yet.
    is_due: AtomicBool,
    seats: Mutex<Seats>,
}

/// A change at a place.
struct News {
    /// Between this revision and the notice's own, nothing concerned the place.
    before: Revision,
    notice: Notice,
}

#[derive(Default)]
struct Seats {
    /// A seat keeps its number, so that who is woken in parts is not skipped.
    all: Vec<Option<Arc<AtomicWaker>>>,
    free: Vec<usize>,
}

/// Those who are to be woken, some at a time, so that ten thousand of them are not all before everybody else's turn.
#[derive(Default)]
pub(super) struct Waking {
    due: VecDeque<Arc<Place>>,
    /// With the seat to go on with.
    under_way: Option<(Arc<Place>, usize)>,
}

/// One subscriber at a place.
pub(super) struct Seat {
    followers: Arc<Followers>,
    place: Arc<Place>,
    number: usize,
    waker: Arc<AtomicWaker>,
}

/// What a place has for one who has seen everything up to some revision.
pub(super) enum Found {
    /// The next change.
    Next(Notice),
    /// Nothing up to this revision; what comes after it was not brought here yet.
    NothingUpTo(Revision),
}

impl Followers {
    pub(super) fn new(now: Revision) -> Self {
        Self {
            places: Mutex::default(),
            books: Arc::new(Place::new(Path::root(), now)),
            told: CachePadded::new(AtomicU64::new(now.0)),
            count: CachePadded::new(AtomicUsize::new(0)),
            is_closed: AtomicBool::new(false),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// How many changes one is told of before others have their turn.
    pub(super) fn turn(&self) -> usize {
        (TURN_MAX * WOKEN_AT_ONCE / self.count().max(1)).clamp(TURN_MIN, TURN_MAX)
    }

    pub(super) fn told(&self) -> Revision {
        Revision(self.told.load(Ordering::Acquire))
    }

    /// From here on there is nothing new for anybody.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        let places: Vec<_> = self.places.lock().values().cloned().collect();
        for place in places {
            place.wake();
        }
        self.books.wake();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    /// A seat at the place of `path`, which is made when there is none.
    pub(super) fn sit(self: &Arc<Self>, path: &Path) -> Seat {
        let mut places = self.places.lock();
        let place = places
            .entry(path.clone())
            .or_insert_with(|| Arc::new(Place::new(path.clone(), self.told())));
        // Under the lock, so that the place stays.
        self.sit_at(place)
    }

    /// A seat where all changes are told of.
    pub(super) fn sit_with_the_books(self: &Arc<Self>) -> Seat {
        self.sit_at(&self.books)
    }

    fn sit_at(self: &Arc<Self>, place: &Arc<Place>) -> Seat {
        self.count.fetch_add(1, Ordering::SeqCst);
        let waker = Arc::new(AtomicWaker::new());
        Seat {
            followers: Arc::clone(self),
            place: Arc::clone(place),
            number: place.seats.lock().take(Arc::clone(&waker)),
            waker,
        }
    }

    /// Brings changes up to `now`, or the next of them, to the places that they concern. `None` when some of them are not known any more.
    pub(super) fn tell(&self, steps: Option<&Steps>, now: Revision, waking: &mut Waking) {
        match steps {
            Some(steps) => self.bring(steps, now, waking),
            None => self.start_anew(now, waking),
        }
        self.books.wake();
    }

    /// Where nobody follows a path, only those who keep the books are told. Whether that is so.
    pub(super) fn tell_books(&self, now: Revision) -> bool {
        {
            let places = self.places.lock();
            if !places.is_empty() {
                return false;
            }
            self.have_told(now);
        }
        self.books.wake();
        true
    }

    fn bring(&self, steps: &Steps, now: Revision, waking: &mut Waking) {
        let places = self.places.lock();
        let told = self.told();
        let mut before = steps.before.as_ref();
        let mut concerned = Vec::new();
        for step in &steps.steps {
            let revision = step.record.revision;
            // Otherwise the server's next life has told of it: this one has ended, and is in its last turn.
            if revision > told {
                for place in near(&places, step) {
                    if step.concerns(&place.path, before) && place.touch(revision) {
                        concerned.push(place);
                    }
                }
            }
            before = step.document.as_ref();
        }
        for place in concerned {
            place.bring(&steps.steps);
            waking.add(place);
        }
        let last = steps.steps.last();
        self.have_told(last.map_or(now, |step| step.record.revision));
    }

    fn start_anew(&self, now: Revision, waking: &mut Waking) {
        let places = self.places.lock();
        if now <= self.told() {
            return;
        }
        for place in places.values() {
            place.start_anew(now);
            waking.add(place);
        }
        self.have_told(now);
    }

    /// Only for who holds the places.
    fn have_told(&self, revision: Revision) {
        self.told.fetch_max(revision.0, Ordering::AcqRel);
    }
}

/// The places that a change may concern: where it was made, above and beneath.
fn near<'a>(
    places: &'a BTreeMap<Path, Arc<Place>>,
    step: &'a Logged,
) -> impl Iterator<Item = &'a Arc<Place>> {
    let around = step.record.changes.iter().flat_map(|change| {
        // The path itself is not cloned: its counter is the writer's, who gives it back when the change is forgotten.
        let above = std::iter::successors(change.path.parent(), Path::parent);
        let above = above.take_while(|path| !path.is_empty());
        let above = above.filter_map(|path| places.get(&path));
        let here = places.get(&change.path).filter(|_| !change.path.is_empty());
        let above = here.into_iter().chain(above);
        let beneath = places.range((Bound::Excluded(&change.path), Bound::Unbounded));
        let beneath = beneath.take_while(|(path, _)| path.starts_with(&change.path));
        above.chain(beneath.map(|(_, place)| place))
    });
    places.get(&Path::root()).into_iter().chain(around)
}

impl Place {
    fn new(path: Path, since: Revision) -> Self {
        Self {
            path,
            since: AtomicU64::new(since.0),
            newest: ArcSwapOption::empty(),
            newest_at: AtomicU64::new(0),
            before_newest: AtomicU64::new(0),
            touched: Mutex::default(),
            is_due: AtomicBool::new(false),
            seats: Mutex::default(),
        }
    }

    fn since(&self) -> Revision {
        Revision(self.since.load(Ordering::Acquire))
    }

    /// A change concerns this place. Whether it is the first one since the last were brought.
    fn touch(&self, revision: Revision) -> bool {
        let mut touched = self.touched.lock();
        if touched.back() >= Some(&revision) {
            return false;
        }
        let newest = self.newest_at.load(Ordering::Acquire);
        let is_first = touched.back().is_none_or(|last| last.0 <= newest);
        touched.push_back(revision);
        if touched.len() > TOUCHED_MAX {
            touched.pop_front();
        }
        is_first
    }

    /// Brings the last of those changes that touched this place: whoever has not heard of the others finds them in the log.
    fn bring(&self, steps: &[Logged]) {
        let (last, newest) = {
            let touched = self.touched.lock();
            let mut newest = touched.iter().rev();
            let Some(revision) = newest.next() else {
                return;
            };
            (newest.next().copied().unwrap_or_default(), *revision)
        };
        let Some(step) = steps
            .iter()
            .rev()
            .find(|step| step.record.revision == newest)
        else {
            return;
        };
        let before = last.max(self.since());
        let news = News {
            before,
            notice: Notice {
                revision: newest,
                value: step.value(&self.path).cloned(),
                record: Some(Arc::clone(&step.record)),
                missed: 0,
            },
        };
        // In the opposite order of `Seat::find`.
        self.newest.store(Some(Arc::new(news)));
        self.before_newest.store(before.0, Ordering::Release);
        self.newest_at.store(newest.0, Ordering::Release);
    }

    /// What has been brought here is not all that concerned it.
    fn start_anew(&self, now: Revision) {
        // In the opposite order of `Seat::find`.
        self.since.store(now.0, Ordering::Release);
        self.touched.lock().clear();
        self.newest.store(None);
    }

    /// The revision before the first change here that comes after `seen`.
    fn before_next(&self, seen: Revision) -> Revision {
        let touched = self.touched.lock();
        let at = touched.partition_point(|revision| *revision <= seen);
        match touched.get(at) {
            // Those that came before the oldest known one are forgotten.
            Some(next) if at > 0 || touched.len() < TOUCHED_MAX => Revision(next.0 - 1),
            _ => seen,
        }
    }

    fn wake(&self) {
        let mut from = 0;
        while let Some(next) = self.wake_some(from) {
            from = next;
        }
    }

    /// Wakes those who wait on some seats from this one on; gives the seat to go on with, unless there is none.
    fn wake_some(&self, from: usize) -> Option<usize> {
        let to = from + WOKEN_AT_ONCE;
        let (wakers, is_last): (Vec<Waker>, bool) = {
            let all = &self.seats.lock().all;
            let some = all.get(from..to.min(all.len()))?;
            let wakers = some.iter().flatten().filter_map(|waker| waker.take());
            (wakers.collect(), to >= all.len())
        };
        // Outside the lock: what a waker does is not ours.
        wakers.into_iter().for_each(Waker::wake);
        (!is_last).then_some(to)
    }
}

impl Waking {
    fn add(&mut self, place: &Arc<Place>) {
        if !place.is_due.swap(true, Ordering::AcqRel) {
            self.due.push_back(Arc::clone(place));
        }
    }

    /// Wakes some; whether there are more.
    pub(super) fn wake_some(&mut self) -> bool {
        if self.under_way.is_none() {
            self.under_way = self.due.pop_front().map(|place| {
                // What is brought from here on may come too late for those who are woken first.
                place.is_due.swap(false, Ordering::AcqRel);
                (place, 0)
            });
        }
        if let Some((place, from)) = self.under_way.take() {
            self.under_way = place.wake_some(from).map(|next| (place, next));
        }
        self.under_way.is_some() || !self.due.is_empty()
    }
}

impl Drop for Waking {
    /// Whoever was to be woken is: what they wait for was brought, and nobody comes to bring it again.
    fn drop(&mut self) {
        while self.wake_some() {}
    }
}

impl Seats {
    fn take(&mut self, waker: Arc<AtomicWaker>) -> usize {
        let Some(free) = self.free.pop() else {
            self.all.push(Some(waker));
            return self.all.len() - 1;
        };
        self.all[free] = Some(waker);
        free
    }

    /// Whether all seats are free now.
    fn leave(&mut self, number: usize) -> bool {
        self.all[number] = None;
        self.free.push(number);
        self.free.len() == self.all.len()
    }
}

impl Seat {
    pub(super) fn path(&self) -> &Path {
        &self.place.path
    }

    /// Whoever polls with this waker is woken by the next change here.
    pub(super) fn wait(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// What comes after `seen`; `seen` or a later revision where that has to be looked up in the log.
    pub(super) fn find(&self, seen: Revision) -> Found {
        let place = &self.place;
        let told = self.followers.told();
        let newest = Revision(place.newest_at.load(Ordering::Acquire));
        let is_next = place.before_newest.load(Ordering::Acquire) <= seen.0;
        let news = (newest > seen && is_next).then(|| place.newest.load());
        // Last, so that what was read before it is not of an earlier time.
        if seen < place.since() {
            return Found::NothingUpTo(seen);
        }
        if newest <= seen {
            return Found::NothingUpTo(seen.max(told));
        }
        match news.as_deref().and_then(Option::as_deref) {
            Some(news) if news.before <= seen => Found::Next(news.notice.clone()),
            _ => Found::NothingUpTo(place.before_next(seen)),
        }
    }

    /// What stands here, and the revision up to which that is known, where that is not before `recent`.
    pub(super) fn newest(&self, recent: Revision) -> Option<(Option<Value>, Revision)> {
        let told = self.followers.told();
        let newest = self.place.newest.load();
        let news = newest.as_deref().filter(|_| told >= recent)?;
        Some((news.notice.value.clone(), news.notice.revision.max(told)))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        {
            let mut places = self.followers.places.lock();
            let is_empty = self.place.seats.lock().leave(self.number);
            if is_empty && !Arc::ptr_eq(&self.place, &self.followers.books) {
                places.remove(&self.place.path);
            }
        }
        self.followers.count.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn whoever_was_to_be_woken_is_also_when_the_server_ends_meanwhile() {
        let followers = Arc::new(Followers::new(Revision(0)));
        let woken = Arc::new(Woken::default());
        let count = || woken.0.load(Ordering::SeqCst);
        let paths = ["a", "b"].map(|path| Path::parse(path).expect("a path"));
        let seats: Vec<_> = paths
            .iter()
            .flat_map(|path| (0..300).map(|_| followers.sit(path)))
            .collect();
        for seat in &seats {
            seat.wait(&Waker::from(Arc::clone(&woken)));
        }
        let mut waking = Waking::default();
        followers.tell(None, Revision(1), &mut waking);
        assert_eq!(count(), 0);

        assert!(waking.wake_some());
        assert_eq!(count(), WOKEN_AT_ONCE);
        drop(waking);
        assert_eq!(count(), 600);
    }
}
