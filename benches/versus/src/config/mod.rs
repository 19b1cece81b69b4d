//! Settings: read while another thread changes them a thousand times a second, changed, and followed.

mod changes;
mod reference;

use std::{
    collections::HashMap,
    hint::black_box,
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use dashmap::DashMap;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use serde::{Deserialize, Serialize};
use tokio::{runtime::Runtime, sync::watch};
use underpin::{
    config::{Config, Configuration, FreeTable, Options, Schema, Sources, load},
    otp::{Intensity, Supervisor, SupervisorSpec},
    telemetry::{self, Telemetry},
};

use crate::{
    figure::{Figure, Goal, LIMIT, Sides, UNDERPIN, Unit},
    measure::{Workers, nanos, nanoseconds},
};

pub const FIGURES: &[Figure] = &[
    Figure {
        name: "config.read.1t",
        unit: Unit::Nanoseconds,
        goals: READ,
        sides: |sides| read(sides, 1),
    },
    Figure {
        name: "config.read.2t",
        unit: Unit::Nanoseconds,
        goals: READ,
        sides: |sides| read(sides, 2),
    },
    Figure {
        name: "config.read.cached",
        unit: Unit::Nanoseconds,
        goals: CACHED,
        sides: cached,
    },
    Figure {
        name: "config.get.path",
        unit: Unit::Nanoseconds,
        goals: BY_PATH,
        sides: by_path,
    },
    Figure {
        name: "config.update.0",
        unit: Unit::Nanoseconds,
        goals: changes::UPDATE,
        sides: changes::update,
    },
    Figure {
        name: "config.update.10",
        unit: Unit::Nanoseconds,
        goals: &[],
        sides: |sides| changes::update_watched(sides, 10),
    },
    Figure {
        name: "config.update.100",
        unit: Unit::Nanoseconds,
        goals: &[],
        sides: |sides| changes::update_watched(sides, 100),
    },
    Figure {
        name: "config.update.1000",
        unit: Unit::Nanoseconds,
        goals: &[],
        sides: |sides| changes::update_watched(sides, 1000),
    },
    Figure {
        name: "config.update.10000",
        unit: Unit::Nanoseconds,
        goals: changes::UPDATE_WATCHED,
        sides: |sides| changes::update_watched(sides, 10_000),
    },
    Figure {
        name: "config.notify.100",
        unit: Unit::Microseconds,
        goals: changes::NOTIFY,
        sides: |sides| changes::notify(sides, 100),
    },
    Figure {
        name: "config.notify.1000",
        unit: Unit::Microseconds,
        goals: changes::NOTIFY,
        sides: |sides| changes::notify(sides, 1000),
    },
    Figure {
        name: "config.notify.10000",
        unit: Unit::Microseconds,
        goals: changes::NOTIFY,
        sides: |sides| changes::notify(sides, 10_000),
    },
    Figure {
        name: "config.notify.actors.100",
        unit: Unit::Microseconds,
        goals: changes::NOTIFY_ACTORS,
        sides: |sides| changes::notify_actors(sides, 100),
    },
    Figure {
        name: "config.notify.actors.1000",
        unit: Unit::Microseconds,
        goals: changes::NOTIFY_ACTORS,
        sides: |sides| changes::notify_actors(sides, 1000),
    },
    Figure {
        name: "config.notify.actors.10000",
        unit: Unit::Microseconds,
        goals: changes::NOTIFY_ACTORS,
        sides: |sides| changes::notify_actors(sides, 10_000),
    },
];

const READ: &[Goal] = &[Goal::Ratio(1.2, LIMIT)];
const CACHED: &[Goal] = &[Goal::Ratio(5.0, LIMIT)];
const BY_PATH: &[Goal] = &[Goal::Ratio(2.0, LIMIT)];

/// Some tens of settings, one of which is read.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
struct Settings {
    limit: u64,
    rates: Rates,
    name: String,
    keys: HashMap<String, u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limit: 0,
            rates: Rates::default(),
            name: "service".into(),
            keys: (0..32).map(|key| (format!("key_{key}"), key)).collect(),
        }
    }
}

/// A setting two tables down.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Rates {
    upper: Upper,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Upper {
    share: f64,
}

impl Schema for Settings {}

/// underpin's config service, on two workers and in memory.
struct Service<T = Settings> {
    runtime: Runtime,
    config: Config<T>,
    _supervisor: Supervisor,
}

impl<T: Schema> Service<T> {
    fn start() -> Result<Self> {
        let runtime = Workers::Two.runtime();
        let loaded = load(Sources::new::<FreeTable, T>())?;
        let telemetry = Telemetry::new(telemetry::Options::default());
        let configuration = Configuration::new(loaded, Options::default(), &telemetry);
        let config = configuration
            .app::<T>()
            .context("the table has this type")?;
        let intensity = Intensity::new(0, Duration::from_secs(1));
        let spec = SupervisorSpec::new("versus", intensity).child(configuration.child_spec());
        Ok(Self {
            config,
            _supervisor: runtime.block_on(Supervisor::start(spec))?,
            runtime,
        })
    }
}

impl Service {
    fn write(&self, n: u64) {
        let written = self.runtime.block_on(self.config.update("limit", n));
        written.expect("the change is valid");
    }
}

/// One setting by a reader of the thread's own, while another thread changes the settings a thousand times a second. `limit` looks
/// at a generation and uses the `Arc` that it has; it takes a new one through a lock.
fn cached(sides: &mut Sides) -> Result<()> {
    let service = Service::<Settings>::start()?;
    sides.add(UNDERPIN, move |time| {
        let config = &service.config;
        Ok(while_writing(
            |n| service.write(n),
            || {
                nanoseconds(1, time, |_| {
                    let mut reader = config.reader();
                    move || {
                        black_box(reader.load().limit);
                    }
                })
            },
        ))
    });
    let swap = Arc::new(ArcSwap::from_pointee(Settings::default()));
    sides.add("arc-swap", move |time| {
        let mut ready = Ready::new();
        Ok(while_writing(
            |n| swap.store(ready.next(n)),
            || {
                nanoseconds(1, time, |_| {
                    let mut cache = arc_swap::Cache::new(Arc::clone(&swap));
                    move || {
                        black_box(cache.load().limit);
                    }
                })
            },
        ))
    });
    let current = RwLock::new(Arc::new(Settings::default()));
    let generation = AtomicU64::new(0);
    sides.add(LIMIT, move |time| {
        let mut ready = Ready::new();
        let write = |n| {
            *current.write().expect("no writer panics") = ready.next(n);
            generation.fetch_add(1, Ordering::Release);
        };
        Ok(while_writing(write, || {
            nanoseconds(1, time, |_| {
                let (mut seen, mut mine) = (u64::MAX, Arc::new(Settings::default()));
                let (current, generation) = (&current, &generation);
                move || {
                    let now = generation.load(Ordering::Acquire);
                    if now != seen {
                        mine = current.read().expect("no writer panics").clone();
                        seen = now;
                    }
                    black_box(mine.limit);
                }
            })
        }))
    });
    Ok(())
}

/// One number by a path that was read before, while another thread changes the settings. `limit` is a map behind an ArcSwap.
///
/// Each table on the way is looked through by the lengths of its names; a text of up to eight bytes is compared as one number.
fn by_path(sides: &mut Sides) -> Result<()> {
    let service = Service::<Settings>::start()?;
    let path = underpin::value::Path::parse("rates.upper.share")?;
    sides.add(UNDERPIN, move |time| {
        let (config, path) = (&service.config, &path);
        Ok(while_writing(
            |n| service.write(n),
            || {
                nanoseconds(1, time, |_| {
                    move || {
                        black_box(config.get::<f64>(black_box(path)).expect("it is there"));
                    }
                })
            },
        ))
    });
    let map: HashMap<String, f64> = (0..35).map(|n| (format!("rates.upper.{n}"), 0.5)).collect();
    let swap = ArcSwap::from_pointee(map.clone());
    sides.add(LIMIT, move |time| {
        let states: Vec<_> = (0..64).map(|_| Arc::new(map.clone())).collect();
        let write = |n: u64| swap.store(Arc::clone(&states[usize::try_from(n % 64).unwrap_or(0)]));
        Ok(while_writing(write, || {
            nanoseconds(1, time, |_| {
                || {
                    black_box(swap.load().get(black_box("rates.upper.17")).copied());
                }
            })
        }))
    });
    dashmap(sides, 1);
    Ok(())
}

/// `load()` and one field, by one and by two threads.
///
/// Not equal: only underpin's writer validates, keeps history, audits and notifies, on cores that the readers want too; all
/// others put ready values in place. `limit` is an ArcSwap guard, `arc-swap` the owned `Arc` of `load_full`; dashmap is asked by
/// key; `ractor` is a call to an actor that holds the settings, from tasks on two workers.
fn read(sides: &mut Sides, threads: usize) -> Result<()> {
    underpin(sides, threads)?;
    arc_swap(sides, threads);
    rwlock(sides, threads);
    dashmap(sides, threads);
    tokio_watch(sides, threads);
    ractor(sides, threads);
    Ok(())
}

fn underpin(sides: &mut Sides, threads: usize) -> Result<()> {
    let service = Service::<Settings>::start()?;
    sides.add(UNDERPIN, move |time| {
        let config = &service.config;
        Ok(while_writing(
            |n| service.write(n),
            || {
                nanoseconds(threads, time, |_| {
                    || {
                        black_box(config.load().limit);
                    }
                })
            },
        ))
    });
    Ok(())
}

fn arc_swap(sides: &mut Sides, threads: usize) {
    let swap = Arc::new(ArcSwap::from_pointee(Settings::default()));
    let shared = swap.clone();
    sides.add(LIMIT, move |time| {
        let mut ready = Ready::new();
        Ok(while_writing(
            |n| shared.store(ready.next(n)),
            || {
                nanoseconds(threads, time, |_| {
                    || {
                        black_box(shared.load().limit);
                    }
                })
            },
        ))
    });
    sides.add("arc-swap", move |time| {
        let mut ready = Ready::new();
        Ok(while_writing(
            |n| swap.store(ready.next(n)),
            || {
                nanoseconds(threads, time, |_| {
                    || {
                        black_box(swap.load_full().limit);
                    }
                })
            },
        ))
    });
}

fn rwlock(sides: &mut Sides, threads: usize) {
    let lock = RwLock::new(Settings::default());
    sides.add("rwlock", move |time| {
        Ok(while_writing(
            |n| lock.write().expect("no writer panics").limit = n,
            || {
                nanoseconds(threads, time, |_| {
                    || {
                        black_box(lock.read().expect("no writer panics").limit);
                    }
                })
            },
        ))
    });
}

fn dashmap(sides: &mut Sides, threads: usize) {
    let map: DashMap<String, u64> = Settings::default().keys.into_iter().collect();
    sides.add("dashmap", move |time| {
        Ok(while_writing(
            |n| {
                map.insert("key_17".to_owned(), n);
            },
            || {
                nanoseconds(threads, time, |_| {
                    || {
                        black_box(map.get(black_box("key_17")).map(|value| *value));
                    }
                })
            },
        ))
    });
}

fn tokio_watch(sides: &mut Sides, threads: usize) {
    let (sender, receiver) = watch::channel(Arc::new(Settings::default()));
    sides.add("tokio-watch", move |time| {
        let mut ready = Ready::new();
        Ok(while_writing(
            |n| {
                sender.send_replace(ready.next(n));
            },
            || {
                nanoseconds(threads, time, |_| {
                    let receiver = receiver.clone();
                    move || {
                        black_box(receiver.borrow().limit);
                    }
                })
            },
        ))
    });
}

fn ractor(sides: &mut Sides, threads: usize) {
    let runtime = Workers::Two.runtime();
    let (holder, _) = runtime
        .block_on(Actor::spawn(None, Holder, ()))
        .expect("the actor starts");
    sides.add("ractor", move |time| {
        let write = |n| holder.cast(HolderMessage::Set(n)).expect("it lives");
        Ok(while_writing(write, || {
            ask(&runtime, &holder, threads, time)
        }))
    });
}

fn ask(runtime: &Runtime, holder: &ActorRef<HolderMessage>, tasks: usize, time: Duration) -> f64 {
    let asking: Vec<_> = (0..tasks)
        .map(|_| runtime.spawn(ask_for(holder.clone(), time)))
        .collect();
    let took = asking
        .into_iter()
        .map(|task| runtime.block_on(task).expect("it is answered"));
    took.fold(0.0, f64::max)
}

async fn ask_for(holder: ActorRef<HolderMessage>, time: Duration) -> f64 {
    let (begin, mut calls) = (Instant::now(), 0_u32);
    loop {
        for _ in 0..64 {
            black_box(ractor::call!(holder, HolderMessage::Get).expect("it lives"));
        }
        calls += 64;
        let took = begin.elapsed();
        if took >= time {
            return nanos(took) / f64::from(calls);
        }
    }
}

struct Holder;

enum HolderMessage {
    Get(RpcReplyPort<u64>),
    Put(u64, RpcReplyPort<()>),
    Set(u64),
}

impl Actor for Holder {
    type Msg = HolderMessage;
    type State = Settings;
    type Arguments = ();

    async fn pre_start(
        &self,
        _: ActorRef<HolderMessage>,
        (): (),
    ) -> Result<Settings, ActorProcessingErr> {
        Ok(Settings::default())
    }

    async fn handle(
        &self,
        _: ActorRef<HolderMessage>,
        message: HolderMessage,
        settings: &mut Settings,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            HolderMessage::Get(reply) => reply.send(settings.limit)?,
            HolderMessage::Put(limit, reply) => {
                settings.limit = limit;
                reply.send(())?;
            }
            HolderMessage::Set(limit) => settings.limit = limit,
        }
        Ok(())
    }
}

/// States made before they are needed, so that a writer only puts them in place.
struct Ready(Vec<Arc<Settings>>);

impl Ready {
    fn new() -> Self {
        let state = |limit| Settings {
            limit,
            ..Settings::default()
        };
        Self((0..64).map(|limit| Arc::new(state(limit))).collect())
    }

    fn next(&mut self, n: u64) -> Arc<Settings> {
        let at = usize::try_from(n).unwrap_or(0) % self.0.len();
        self.0[at].clone()
    }
}

/// Runs `work` while `write` is called a thousand times a second by a thread of its own.
fn while_writing<T>(mut write: impl FnMut(u64) + Send, work: impl FnOnce() -> T) -> T {
    const PERIOD: Duration = Duration::from_millis(1);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let begin = Instant::now();
            for n in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                write(u64::from(n));
                let next: Duration = PERIOD * n;
                thread::sleep(next.saturating_sub(begin.elapsed()));
            }
        });
        let out = work();
        stop.store(true, Ordering::Relaxed);
        out
    })
}
