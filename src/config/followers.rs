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
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use super::{
    Notice, Revision,
    record::{Logged, Steps},
};
use crate::value::{Path, Value};

/// How many changes a place remembers the revisions of, 8 bytes each.
const TOUCHED_MAX: usize = 1024;
/// How many are taken from their seats at once, before they are woken outside the lock.
const WOKEN_AT_ONCE: usize = 128;

/// Everybody who follows something.
///
/// A change is brought to the places that it concerns by one task, off the writer's way. Whoever waits at a place that no change
/// concerns sleeps on.
pub(super) struct Followers {
    places: Mutex<BTreeMap<Path, Arc<Place>>>,
    /// Where those wait who keep the books: every change concerns them, and they look it up in the log.
    books: Arc<Place>,
    /// Every change up to this revision has been brought to the places that it concerns.
    told: AtomicU64,
    count: AtomicUsize,
    is_closed: AtomicBool,
}

/// What all subscribers of one path share.
pub(super) struct Place {
    path: Path,
    /// The changes after this revision are brought here; of those before nothing is known.
    since: AtomicU64,
    newest: ArcSwapOption<News>,
    /// Of the newest changes here, oldest first.
    touched: Mutex<VecDeque<Revision>>,
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
            told: AtomicU64::new(now.0),
            count: AtomicUsize::new(0),
            is_closed: AtomicBool::new(false),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
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

    /// Brings changes to the places that they concern, and wakes who waits there. `None` when some of them are not known any more.
    pub(super) fn tell(&self, steps: Option<Steps>, now: Revision) {
        let concerned = match steps {
            Some(steps) => self.bring(&steps),
            None => self.start_anew(now),
        };
        for place in concerned {
            place.wake();
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
            self.told.store(now.0, Ordering::Release);
        }
        self.books.wake();
        true
    }

    fn bring(&self, steps: &Steps) -> Vec<Arc<Place>> {
        let places = self.places.lock();
        let told = self.told();
        let mut concerned = Vec::new();
        let mut before = steps.before.as_ref();
        for step in &steps.steps {
            for place in near(&places, step) {
                if place.bring(step, before).is_some_and(|last| last <= told) {
                    concerned.push(Arc::clone(place));
                }
            }
            before = step.document.as_ref();
            self.told.store(step.record.revision.0, Ordering::Release);
        }
        concerned
    }

    fn start_anew(&self, now: Revision) -> Vec<Arc<Place>> {
        let places = self.places.lock();
        places.values().for_each(|place| place.start_anew(now));
        self.told.store(now.0, Ordering::Release);
        places.values().cloned().collect()
    }
}

/// The places that a change may concern: where it was made, above and beneath.
fn near<'a>(
    places: &'a BTreeMap<Path, Arc<Place>>,
    step: &'a Logged,
) -> impl Iterator<Item = &'a Arc<Place>> {
    let around = step.record.changes.iter().flat_map(|change| {
        let above = std::iter::successors(Some(change.path.clone()), Path::parent);
        let above = above.take_while(|path| !path.is_empty());
        let above = above.filter_map(|path| places.get(&path));
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
            touched: Mutex::default(),
            seats: Mutex::default(),
        }
    }

    fn since(&self) -> Revision {
        Revision(self.since.load(Ordering::Acquire))
    }

    /// Where the change concerns this place: the revision of the one before it.
    fn bring(&self, step: &Logged, before: Option<&Value>) -> Option<Revision> {
        let revision = step.record.revision;
        let last = self.newest.load();
        let last = last
            .as_ref()
            .map_or(Revision(0), |news| news.notice.revision);
        if last >= revision || !step.concerns(&self.path, before) {
            return None;
        }
        {
            let mut touched = self.touched.lock();
            touched.push_back(revision);
            if touched.len() > TOUCHED_MAX {
                touched.pop_front();
            }
        }
        let news = News {
            before: last.max(self.since()),
            notice: Notice {
                revision,
                value: step.value(&self.path).cloned(),
                record: Some(Arc::clone(&step.record)),
                missed: 0,
            },
        };
        self.newest.store(Some(Arc::new(news)));
        Some(last)
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
        let mut wakers: Vec<Waker> = Vec::new();
        for part in 0.. {
            {
                let seats = self.seats.lock();
                let Some(part) = seats.all.chunks(WOKEN_AT_ONCE).nth(part) else {
                    return;
                };
                wakers.extend(part.iter().flatten().filter_map(|waker| waker.take()));
            }
            // Outside the lock: what a waker does is not ours.
            wakers.drain(..).for_each(Waker::wake);
        }
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
        let told = self.followers.told();
        let newest = self.place.newest.load();
        // Last, so that what was read before it is not of an earlier time.
        if seen < self.place.since() {
            return Found::NothingUpTo(seen);
        }
        match newest.as_deref() {
            Some(news) if news.notice.revision <= seen => Found::NothingUpTo(seen.max(told)),
            Some(news) if news.before <= seen => Found::Next(news.notice.clone()),
            Some(_) => Found::NothingUpTo(self.place.before_next(seen)),
            None => Found::NothingUpTo(seen.max(told)),
        }
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
