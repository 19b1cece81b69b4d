//! Reading one setting while another thread changes the settings a thousand times a second.

use std::{
    collections::HashMap,
    hint::black_box,
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, Ordering},
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
    config::{Configuration, FreeTable, Options, Schema, Sources, load},
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
];

const READ: &[Goal] = &[Goal::Ratio(1.2, LIMIT)];

/// Some tens of settings, one of which is read.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
struct Settings {
    limit: u64,
    name: String,
    keys: HashMap<String, u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limit: 0,
            name: "service".into(),
            keys: (0..32).map(|key| (format!("key_{key}"), key)).collect(),
        }
    }
}

impl Schema for Settings {}

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
    let runtime = Workers::Two.runtime();
    let loaded = load(Sources::new::<FreeTable, Settings>())?;
    let telemetry = Telemetry::new(telemetry::Options::default());
    let configuration = Configuration::new(loaded, Options::default(), &telemetry);
    let config = configuration
        .app::<Settings>()
        .context("the table has this type")?;
    let intensity = Intensity::new(0, Duration::from_secs(1));
    let spec = SupervisorSpec::new("versus", intensity).child(configuration.child_spec());
    let supervisor = runtime.block_on(Supervisor::start(spec))?;
    sides.add(UNDERPIN, move |time| {
        let _running = &supervisor;
        let write = |n: u64| {
            let written = runtime.block_on(config.update("limit", i64::try_from(n).unwrap_or(0)));
            written.expect("the change is valid");
        };
        Ok(while_writing(write, || {
            nanoseconds(threads, time, |_| {
                || {
                    black_box(config.load().limit);
                }
            })
        }))
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
