//! The children of one life of a dynamic supervisor, and what is done to them: part of the shell, the decisions are in `state`.
//!
//! Under a lock, and not behind the actor's mailbox: whoever starts a child does it here and now, without waking the actor,
//! and many can at once. The actor gets what the children tell. Nothing is awaited under the lock,
//! and no code of a user's runs under it: starts are made outside, and what goes is dropped outside.

use std::{
    collections::HashMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use foldhash::fast::RandomState;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use ractor::{ActorId, ActorRef};
use tokio::{sync::oneshot, time::Instant};

use super::{
    ChildRef, DynamicChild,
    child::{Child, Life, StopReply},
    message::Message,
};
use crate::otp::{
    ChildCounts, ChildKind, ChildSpec, ExitReason, Intensity, Report, SupervisorError,
    incarnation::{Incarnation, discard},
    lifecycle::Reports,
    office::Office,
    start::{Control, Seat, Started},
    supervisor::{body::spawn, intensity::Window},
    tree::TreeNode,
};

/// A child that runs, or its answer to wait for.
pub(super) type Begun = Result<ChildRef, oneshot::Receiver<Result<ChildRef, SupervisorError>>>;
/// The answer of an end to wait for.
type Parting = oneshot::Receiver<Result<(), SupervisorError>>;

/// Done when nothing is left of what came of a start.
pub(super) type Rest = BoxFuture<'static, ()>;

/// Where the supervisor stands.
pub(super) struct Place {
    pub(super) me: ActorRef<Message>,
    pub(super) incarnation: Arc<Incarnation>,
    pub(super) node: Arc<TreeNode>,
    pub(super) reports: Reports,
    pub(super) office: Arc<Office<Message>>,
}

/// Asked in this file; what is done about it is in `starting`, `ending` and `stopping`.
pub(super) struct Nursery {
    pub(super) place: Place,
    max: usize,
    pub(super) began: Instant,
    room: Mutex<Room>,
    is_behind: AtomicBool,
}

/// How much may be to be told while somebody tells; beyond it, starts wait. An event of a child is some 200 bytes.
const NEWS_MAX: usize = 1024;

pub(super) struct Room {
    /// Whether children may be started.
    pub(super) open: bool,
    /// Starts that are being made, outside of the lock.
    pub(super) launching: usize,
    /// Those of them that outlast the supervisor: somebody waits for what comes of them.
    pub(super) late: HashMap<u64, oneshot::Sender<Rest>, RandomState>,
    /// The restarts of all.
    pub(super) window: Window,
    next_key: u64,
    /// Each in its own place: the table is half empty, and moves as it grows.
    pub(super) children: HashMap<u64, Box<Child>, RandomState>,
    pub(super) actors: HashMap<ActorId, u64, RandomState>,
    /// What ractor told of the stop of a child that has not told of its end yet.
    pub(super) stops: HashMap<u64, ExitReason, RandomState>,
    /// Children that are gone, with closures of a user's.
    gone: Vec<Child>,
    /// What is to be told, in the order in which it happened.
    pub(super) news: Vec<News>,
    /// Somebody is telling, and goes on until there is no more.
    pub(super) telling: bool,
}

/// What others hear of a child, in code of their own: outside of the lock.
pub(super) enum News {
    Report(Report),
    /// To those who monitor it, when it is dropped.
    Over(Started),
    /// To whoever waits for a start that was still being made when its supervisor ended.
    Late(Option<oneshot::Sender<Rest>>, Rest),
    /// To those who asked for its end: they hear of it last.
    Answer(Vec<StopReply>, Result<(), SupervisorError>),
}

/// What is needed to make a start outside of the lock.
pub(super) struct Birth {
    pub(super) key: u64,
    pub(super) spec: Arc<ChildSpec>,
    pub(super) seat: Seat,
}

impl Nursery {
    pub(super) fn new(place: Place, intensity: Intensity, max: usize) -> Self {
        Self {
            place,
            max,
            began: Instant::now(),
            room: Mutex::new(Room {
                open: true,
                launching: 0,
                late: HashMap::default(),
                window: Window::new(intensity),
                next_key: 1,
                children: HashMap::default(),
                actors: HashMap::default(),
                stops: HashMap::default(),
                gone: Vec::new(),
                news: Vec::new(),
                telling: false,
            }),
            is_behind: AtomicBool::new(false),
        }
    }

    /// Runs this under the lock; what went meanwhile is dropped after it, and what happened is told.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Room) -> T) -> T {
        let (done, gone, news) = {
            let mut room = self.room.lock();
            let done = work(&mut room);
            if room.telling && room.news.len() > NEWS_MAX {
                self.is_behind.store(true, Ordering::Relaxed);
            }
            (done, std::mem::take(&mut room.gone), room.take_news())
        };
        for child in gone {
            let _ = discard(child);
        }
        if let Some(news) = news {
            self.tell_all(news);
        }
        done
    }

    /// One tells at a time, also what others do meanwhile, so that everything is told in its order. A listener that does something
    /// here itself finds somebody telling.
    fn tell_all(&self, mut news: Vec<News>) {
        loop {
            for one in news.drain(..) {
                // Whoever listens and panics harms nobody.
                let told = catch_unwind(AssertUnwindSafe(|| match one {
                    News::Report(report) => self.place.reports.publish(report),
                    News::Over(child) => drop(child),
                    News::Late(waits, rest) => drop(waits.map(|waits| waits.send(rest))),
                    News::Answer(replies, answer) => {
                        for reply in replies {
                            let _ = reply.send(answer.clone());
                        }
                    }
                }));
                if let Err(payload) = told {
                    let _ = discard(payload);
                }
            }
            let mut room = self.room.lock();
            if room.news.is_empty() {
                room.telling = false;
                self.is_behind.store(false, Ordering::Relaxed);
                // For the next ones, since each start is news; not the room that a storm took.
                if news.capacity() <= 64 {
                    room.news = news;
                }
                return;
            }
            std::mem::swap(&mut news, &mut room.news);
        }
    }

    /// More is to be told than should be: whoever listens is slow. Whoever starts more children waits until all is told.
    pub(super) fn is_behind(&self) -> bool {
        self.is_behind.load(Ordering::Relaxed)
    }

    /// Starts a child: at once, or there is something to wait for.
    pub(super) fn start_child(&self, spec: ChildSpec) -> Result<Begun, SupervisorError> {
        let (spec, now) = (Arc::new(spec), Instant::now());
        let birth = self.with(|room| {
            if !room.open {
                return Err(SupervisorError::Down);
            }
            if room.children.len() >= self.max {
                return Err(SupervisorError::MaxChildren(self.max));
            }
            let key = room.next_key;
            room.next_key += 1;
            let node = self.node(key, &spec, now);
            self.place.node.add(key, Arc::clone(&node));
            let mut child = Box::new(Child::new(spec, node));
            let birth = self.conceive(key, &mut child, now);
            room.children.insert(key, child);
            room.launching += 1;
            Ok(birth)
        })?;
        self.bear(birth, true)
    }

    pub(super) fn terminate_child(
        &self,
        who: &ChildRef,
        caller: u64,
    ) -> Result<Parting, SupervisorError> {
        let (reply, wait) = oneshot::channel();
        self.with(|room| {
            let mine = who.supervisor == self.place.incarnation.id;
            let child = room.children.get_mut(&who.key).filter(|_| mine);
            let child = child.ok_or_else(|| SupervisorError::NotFound(who.to_string().into()))?;
            match &mut child.life {
                Life::Launching(replies) => {
                    replies.push(reply);
                    return Ok(());
                }
                Life::Stopping(stopping) => {
                    // A child that hung is not started again either.
                    stopping.hung = None;
                    stopping.replies.push(reply);
                    return Ok(());
                }
                Life::Leaked { hung, .. } => {
                    // It is to stay away when it has ended after all.
                    *hung = None;
                    return Err(SupervisorError::Leaked(who.to_string().into()));
                }
                Life::Running { started, .. } if started.incarnation.id == caller => {
                    return Err(SupervisorError::CallingSelf);
                }
                Life::Waiting { .. } => {
                    room.remove(who.key, &self.place.node);
                    let _ = reply.send(Ok(()));
                    return Ok(());
                }
                Life::Running { .. } | Life::Starting(_) | Life::Ending(_) => {}
            }
            self.stop(room, who.key, vec![reply], None);
            Ok(())
        })?;
        Ok(wait)
    }

    pub(super) fn which(&self) -> Vec<DynamicChild> {
        let supervisor = self.place.incarnation.id;
        let info = |key: u64, child: &Child| DynamicChild {
            child: ChildRef {
                id: Arc::clone(&child.spec.id),
                key,
                supervisor,
            },
            kind: child.spec.kind,
            state: child.state(),
        };
        let mut list: Vec<_> = self.with(|room| {
            let children = room.children.iter();
            children.map(|(key, child)| info(*key, child)).collect()
        });
        list.sort_unstable_by_key(|child| child.child.key);
        list
    }

    pub(super) fn count(&self) -> ChildCounts {
        self.with(|room| {
            let mut counts = ChildCounts {
                specs: room.children.len(),
                ..ChildCounts::default()
            };
            for child in room.children.values() {
                if matches!(child.life, Life::Running { .. }) {
                    counts.active += 1;
                }
                match child.spec.kind {
                    ChildKind::Supervisor => counts.supervisors += 1,
                    ChildKind::Actor | ChildKind::Task => counts.workers += 1,
                }
            }
            counts
        })
    }

    pub(super) fn tell_me(&self, message: Message) {
        // A mailbox that is closed belongs to a supervisor that is ending: nothing of this matters then.
        let _ = self.place.me.send_message(message);
    }
}

impl Room {
    /// What is to be told, where nobody is at it.
    fn take_news(&mut self) -> Option<Vec<News>> {
        if self.telling || self.news.is_empty() {
            return None;
        }
        self.telling = true;
        Some(std::mem::take(&mut self.news))
    }

    /// Takes all children out, and lets no more in. What comes of a start that is still being made goes, and is waited for like a child
    /// that leaked.
    pub(super) fn empty(&mut self) -> HashMap<u64, Box<Child>, RandomState> {
        self.open = false;
        let mut children = std::mem::take(&mut self.children);
        for (key, child) in &mut children {
            let Life::Launching(replies) = &mut child.life else {
                continue;
            };
            let name: Arc<str> = format!("{}#{key}", child.spec.id).into();
            for reply in replies.drain(..) {
                let _ = reply.send(Err(SupervisorError::Leaked(Arc::clone(&name))));
            }
            let (tell, told) = oneshot::channel::<Rest>();
            let gone = async {
                if let Ok(rest) = told.await {
                    rest.await;
                }
            };
            if let Some(task) = spawn(gone) {
                self.late.insert(*key, tell);
                child.life = Life::Leaked { task, hung: None };
            }
        }
        children
    }

    /// A child in its latest incarnation.
    pub(super) fn current(&mut self, key: u64, incarnation: u64) -> Option<&mut Child> {
        let child = self.children.get_mut(&key)?;
        (child.incarnation == incarnation).then_some(&mut **child)
    }

    pub(super) fn remove(&mut self, key: u64, supervisor: &TreeNode) {
        if let Some(child) = self.children.remove(&key) {
            self.stops.remove(&key);
            supervisor.remove(key);
            self.gone.push(*child);
        }
    }

    pub(super) fn forget_actor(&mut self, started: &Started) {
        if let Control::Actor(cell) = &started.control {
            self.actors.remove(&cell.get_id());
        }
    }
}

impl fmt::Debug for Nursery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nursery").finish_non_exhaustive()
    }
}
