//! Changing a setting, and who hears of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{
    runtime::Runtime,
    sync::{Notify, mpsc, watch},
};
use underpin::{
    config::{Config, Notice},
    otp::{Group, Groups, Intensity, Supervisor, SupervisorSpec},
};

use super::{Holder, HolderMessage, Service, reference::Reference};
use crate::{
    figure::{Goal, LIMIT, Sides, UNDERPIN},
    measure::{Workers, drive, median, nanos},
};

/// At least three times what the reference does in Elixir with its audit event, 150 to 170 thousand a second. In nanoseconds.
pub const UPDATE: &[Goal] = &[Goal::Value(2080.0)];
pub const UPDATE_WATCHED: &[Goal] = &[Goal::Ratio(1.3, LIMIT)];
pub const NOTIFY: &[Goal] = &[Goal::Ratio(1.1, "tokio-watch")];
pub const NOTIFY_ACTORS: &[Goal] = &[Goal::Ratio(1.2, LIMIT)];

/// The setting that is changed, as the reference's own figures change it.
const RATE: &str = "ai.planning.sampling_rate";

/// One change after the other by one task, answered each. The settings and their rules are those that the figures of the reference
/// were taken with, and a task reads the books; what storing costs is told by `events.store`.
///
/// Not equal: `limit` is a bare ractor call that puts a number into a struct; only underpin validates, keeps history and has the
/// change audited.
///
/// The reference, run in turns on the same machine, made 113 to 122 thousand changes a second with its audit event, 8.2 to 8.8 µs each,
/// and 421 to 448 thousand without it; this 440 to 475 thousand, 3.9 times as many as the former.
///
/// It came from 2.4 µs to 2.1, and from 19,800 instructions to 16,500. Of these, 5,500 read the 27 fields into their type, validate it and
/// look at its shape, 3,600 publish and give back what was before, 2,200 write the document anew and 800 read the path; making memory and
/// giving it back is 4,200 of all these, half of it for the type's own texts, and what leaves the history was last touched a thousand
/// changes ago.
pub fn update(sides: &mut Sides) -> Result<()> {
    let service = Service::<Reference>::start()?;
    let config = service.config.clone();
    let configuration = config.configuration();
    let mut books = configuration.audit(configuration.revision());
    service
        .runtime
        .spawn(async move { while books.recv().await.is_some() {} });
    sides.add(UNDERPIN, move |time| {
        let config = config.clone();
        Ok(drive(&service.runtime, async move {
            repeated(time, async move |n| {
                change(&config, n).await;
            })
            .await
        }))
    });
    let runtime = Workers::Two.runtime();
    let (holder, _) = runtime.block_on(Actor::spawn(None, Holder, ()))?;
    sides.add(LIMIT, move |time| {
        let holder = holder.clone();
        Ok(drive(&runtime, async move {
            repeated(time, async move |n| {
                ractor::call!(holder, HolderMessage::Put, n).expect("it lives");
            })
            .await
        }))
    });
    Ok(())
}

/// Nanoseconds of one.
async fn repeated(time: Duration, mut change: impl AsyncFnMut(u64)) -> f64 {
    let (begin, mut done) = (Instant::now(), 0_u64);
    loop {
        for _ in 0..64 {
            change(done % 1000).await;
            done += 1;
        }
        let took = begin.elapsed();
        if took >= time {
            return nanos(took) / f64::from(u32::try_from(done).unwrap_or(u32::MAX));
        }
    }
}

/// The same with followers, each a task that takes every change as it comes: the mean over all changes that were made one right after the
/// other, with whatever the caller waited for when it let others run. `limit` is `config.update.0`, in the same run.
///
/// Changes come faster than so many can be told of each, so followers are behind all the time: each is told in order, and one more than
/// 1024 changes behind gets the newest state and how many it missed. What they have not heard of when the time is over they hear of before
/// the next side begins, not measured.
///
/// With 10,000 it was 35 to 58 µs while all who follow were woken at once and each took all that it had missed in one turn: every 128
/// changes, when the caller let others run, it came back when all of them had run, after 4 to 10 ms. Now 128 are woken at a time and, where
/// there are thousands, take 8 changes a turn, and it was seen at 1.25 to 1.4 times `limit`, more where other programs use the machine. The
/// followers are told 5 million times a second meanwhile (17 before, at a tenth of the changes), a few of a hundred times after missed
/// changes. What is left beyond `limit` is lines of memory that go to and fro between the cores: the task that tells followers reads each
/// change once. With 10 and 100 each follower keeps up with all changes, and the caller waits for its turn as everybody does.
///
/// `spaced` is the median of what the caller waits where the next change comes when all who follow have heard of the one before. Not equal
/// to `limit`: between two changes as many tasks run as there are followers, and what the next change needs, some 500 lines, is not in the
/// caches of the cores any more, 13 ns a line. `same-pace` has nobody who follows, but between two changes as many tasks of somebody else's
/// are woken and run; that is what a change at this pace takes whoever follows it.
pub fn update_watched(sides: &mut Sides, followers: usize) -> Result<()> {
    for (who, followers) in [(UNDERPIN, followers), (LIMIT, 0)] {
        let service = Service::<Reference>::start()?;
        let (arrived, last) = (Arrived::new(followers), Arc::new(AtomicU64::new(u64::MAX)));
        follow_from(&service, followers, &arrived, &last)?;
        let config = service.config.clone();
        sides.add(who, move |time| {
            let changing = config.clone();
            let took = drive(&service.runtime, async move {
                repeated(time, async move |n| change(&changing, n).await).await
            });
            let (config, arrived, last) = (config.clone(), Arc::clone(&arrived), Arc::clone(&last));
            drive(&service.runtime, async move {
                arrived.expect();
                let now = config.configuration().revision();
                last.store(now.0 + 1, Ordering::SeqCst);
                change(&config, 1000).await; // No other change has this value, so everybody is told of it, once.
                arrived.all().await;
                last.store(u64::MAX, Ordering::SeqCst);
            });
            Ok(took)
        });
    }
    let service = Service::<Reference>::start()?;
    let arrived = Arrived::new(followers);
    follow(&service, followers, &arrived)?;
    let config = service.config.clone();
    sides.add("spaced", move |time| {
        let work = caller(config.clone(), Arc::clone(&arrived), time);
        Ok(nanos(drive(&service.runtime, work).0))
    });
    let service = Service::<Reference>::start()?;
    let arrived = Arrived::new(followers);
    let others = Arc::new(watch_followers(&service.runtime, followers, &arrived));
    let config = service.config.clone();
    sides.add("same-pace", move |time| {
        let service = &service; // All of it, so that it lives as long as its side.
        let (config, arrived, others) = (config.clone(), Arc::clone(&arrived), others.clone());
        let work = told(
            arrived,
            time,
            async move |n| change(&config, n).await,
            move |n| {
                others.send_replace(n);
            },
        );
        Ok(nanos(drive(&service.runtime, work).0))
    });
    Ok(())
}

/// From the change to the last task that has the new value, in microseconds.
///
/// Not equal: underpin's time holds the whole change, and its followers get every change in order; those of tokio-watch see the
/// newest state. `limit` is a loop over a channel for each follower.
pub fn notify(sides: &mut Sides, followers: usize) -> Result<()> {
    let service = Service::<Reference>::start()?;
    let arrived = Arrived::new(followers);
    follow(&service, followers, &arrived)?;
    let config = service.config.clone();
    sides.add(UNDERPIN, move |time| {
        let work = caller(config.clone(), Arc::clone(&arrived), time);
        Ok(nanos(drive(&service.runtime, work).1) / 1e3)
    });
    tokio_watch(sides, followers);
    channels(sides, followers);
    Ok(())
}

/// From the change to the last actor that has the new value, in microseconds. `limit` is a loop over actor references.
pub fn notify_actors(sides: &mut Sides, followers: usize) -> Result<()> {
    let service = Service::<Reference>::start()?;
    let arrived = Arrived::new(followers);
    let groups = Groups::new("versus");
    let group: Group<Heard> = groups.group("followers");
    let actors = actors(&service.runtime, followers, &arrived)?;
    service
        .runtime
        .block_on(async { group.join_all(&actors) })?;
    let configuration = service.config.configuration();
    let teller = configuration.telling("teller", &format!("app.{RATE}"), &group)?;
    let intensity = Intensity::new(0, Duration::from_secs(1));
    let spec = SupervisorSpec::new("tellers", intensity).child(teller);
    let teller = service.runtime.block_on(Supervisor::start(spec))?;
    service.runtime.block_on(arrived.all());
    let config = service.config.clone();
    sides.add(UNDERPIN, move |time| {
        let _kept = (&teller, &actors);
        let work = caller(config.clone(), Arc::clone(&arrived), time);
        Ok(nanos(drive(&service.runtime, work).1) / 1e3)
    });

    let runtime = Workers::Two.runtime();
    let arrived = Arrived::new(followers);
    let actors = Arc::new(self::actors(&runtime, followers, &arrived)?);
    sides.add(LIMIT, move |time| {
        let (actors, arrived) = (Arc::clone(&actors), Arc::clone(&arrived));
        let tell = async move |_| {
            for actor in actors.iter() {
                actor.send_message(Heard).expect("it lives");
            }
        };
        let work = told(arrived, time, tell, |_| {});
        Ok(nanos(drive(&runtime, work).1) / 1e3)
    });
    Ok(())
}

/// Counts who has not heard yet.
struct Arrived {
    followers: usize,
    missing: AtomicUsize,
    all: Notify,
}

impl Arrived {
    fn new(followers: usize) -> Arc<Self> {
        Arc::new(Self {
            followers,
            missing: AtomicUsize::new(followers),
            all: Notify::new(),
        })
    }

    fn expect(&self) {
        self.missing.store(self.followers, Ordering::SeqCst);
    }

    fn one(&self) {
        if self.followers > 0 && self.missing.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.all.notify_one();
        }
    }

    async fn all(&self) {
        if self.followers > 0 {
            self.all.notified().await;
        }
    }
}

/// Medians of what the caller waits and of when the last has it.
async fn caller(
    config: Config<Reference>,
    arrived: Arc<Arrived>,
    time: Duration,
) -> (Duration, Duration) {
    told(
        arrived,
        time,
        async move |n| change(&config, n).await,
        |_| {},
    )
    .await
}

async fn change(config: &Config<Reference>, n: u64) {
    let rate = n as f64 / 1000.0;
    config.update(RATE, rate).await.expect("the rate is valid");
}

/// Medians of what `tell` takes and of when the last has heard; `afterwards` is neither's.
async fn told(
    arrived: Arc<Arrived>,
    time: Duration,
    mut tell: impl AsyncFnMut(u64),
    mut afterwards: impl FnMut(u64),
) -> (Duration, Duration) {
    let (begin, mut waited, mut heard) = (Instant::now(), Vec::new(), Vec::new());
    for n in 0.. {
        arrived.expect();
        let start = Instant::now();
        tell(n % 1000).await;
        waited.push(start.elapsed().as_secs_f64());
        afterwards(n % 1000);
        arrived.all().await;
        heard.push(start.elapsed().as_secs_f64());
        if begin.elapsed() >= time {
            break;
        }
    }
    let middle = |mut all: Vec<f64>| Duration::from_secs_f64(median(&mut all));
    (middle(waited), middle(heard))
}

fn follow(service: &Service<Reference>, followers: usize, arrived: &Arc<Arrived>) -> Result<()> {
    follow_from(service, followers, arrived, &Arc::default())
}

/// What is heard of before the revision `from` does not count.
fn follow_from(
    service: &Service<Reference>,
    followers: usize,
    arrived: &Arc<Arrived>,
    from: &Arc<AtomicU64>,
) -> Result<()> {
    for _ in 0..followers {
        let mut subscription = service.config.subscribe(RATE)?;
        subscription.try_recv().context("the current value")?;
        let (arrived, from) = (Arc::clone(arrived), Arc::clone(from));
        service.runtime.spawn(async move {
            while let Some(notice) = subscription.recv().await {
                if notice.revision.0 >= from.load(Ordering::Relaxed) {
                    arrived.one();
                }
            }
        });
    }
    Ok(())
}

fn tokio_watch(sides: &mut Sides, followers: usize) {
    let runtime = Workers::Two.runtime();
    let arrived = Arrived::new(followers);
    let sender = Arc::new(watch_followers(&runtime, followers, &arrived));
    sides.add("tokio-watch", move |time| {
        let (sender, arrived) = (Arc::clone(&sender), Arc::clone(&arrived));
        let tell = async move |n| {
            sender.send_replace(n);
        };
        let work = told(arrived, time, tell, |_| {});
        Ok(nanos(drive(&runtime, work).1) / 1e3)
    });
}

/// Tasks that follow what is sent here.
fn watch_followers(
    runtime: &Runtime,
    followers: usize,
    arrived: &Arc<Arrived>,
) -> watch::Sender<u64> {
    let (sender, receiver) = watch::channel(0);
    for _ in 0..followers {
        let (mut receiver, arrived) = (receiver.clone(), Arc::clone(arrived));
        runtime.spawn(async move {
            while receiver.changed().await.is_ok() {
                receiver.borrow_and_update();
                arrived.one();
            }
        });
    }
    sender
}

fn channels(sides: &mut Sides, followers: usize) {
    let runtime = Workers::Two.runtime();
    let arrived = Arrived::new(followers);
    let open = |_| {
        let (sender, mut receiver) = mpsc::unbounded_channel::<u64>();
        let arrived = Arc::clone(&arrived);
        runtime.spawn(async move {
            while receiver.recv().await.is_some() {
                arrived.one();
            }
        });
        sender
    };
    let senders: Arc<Vec<_>> = Arc::new((0..followers).map(open).collect());
    sides.add(LIMIT, move |time| {
        let (senders, arrived) = (Arc::clone(&senders), Arc::clone(&arrived));
        let tell = async move |n| {
            for sender in senders.iter() {
                sender.send(n).expect("it is read");
            }
        };
        let work = told(arrived, time, tell, |_| {});
        Ok(nanos(drive(&runtime, work).1) / 1e3)
    });
}

struct Follower;

struct Heard;
underpin::otp::message!(Heard);

impl From<Notice> for Heard {
    fn from(_: Notice) -> Self {
        Self
    }
}

impl Actor for Follower {
    type Msg = Heard;
    type State = Arc<Arrived>;
    type Arguments = Arc<Arrived>;

    async fn pre_start(
        &self,
        _: ActorRef<Heard>,
        arrived: Arc<Arrived>,
    ) -> Result<Arc<Arrived>, ActorProcessingErr> {
        Ok(arrived)
    }

    async fn handle(
        &self,
        _: ActorRef<Heard>,
        _: Heard,
        arrived: &mut Arc<Arrived>,
    ) -> Result<(), ActorProcessingErr> {
        arrived.one();
        Ok(())
    }
}

fn actors(runtime: &Runtime, count: usize, arrived: &Arc<Arrived>) -> Result<Vec<ActorRef<Heard>>> {
    let spawn = |_| {
        let spawned = Actor::spawn(None, Follower, Arc::clone(arrived));
        Ok(runtime.block_on(spawned)?.0)
    };
    (0..count).map(spawn).collect()
}
