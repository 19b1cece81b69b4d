//! A thousand names, and who is looked up by them.

use std::{
    collections::HashMap,
    hint::black_box,
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::Result;
use dashmap::DashMap;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef};
use underpin::otp::{Keys, Registry};

use crate::{
    figure::{LIMIT, Sides, UNDERPIN},
    measure::{Workers, nanoseconds},
};

const NAMES: usize = 1000;

struct Named;

struct Nothing;

impl Actor for Named {
    type Msg = Nothing;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Nothing>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

/// One look-up after the other, of all names in turn; each thread begins elsewhere. All give the actor itself.
///
/// Seen: 1.0 to 1.4 times the best peer on one thread, 0.9 on two. What a look-up has beyond `dashmap` is that it counts (one locked
/// operation of five), hashes the key twice (for the part of the registry, and in it), and reads the owner's state. The floor with
/// a count that loses nothing is that operation, some 5 of 34 ns.
///
/// Not equal: underpin also looks whether the owner is alive and counts look-ups; `limit` is a map that nobody can write to;
/// `ractor` is one table for the whole process.
pub(super) fn lookup(sides: &mut Sides, threads: usize) -> Result<()> {
    let runtime = Workers::Two.runtime();
    let names = names("plain");
    let actors: Vec<ActorCell> = runtime.block_on(start(&names, false));

    let registry: Registry<String> = Registry::new("versus", Keys::Unique);
    let map: DashMap<String, ActorCell> = DashMap::new();
    let mut limit: HashMap<String, ActorCell, foldhash::fast::RandomState> = HashMap::default();
    let entered = runtime.enter();
    for (name, actor) in names.iter().zip(&actors) {
        registry.register(name.clone(), actor.clone(), ())?;
        map.insert(name.clone(), actor.clone());
        limit.insert(name.clone(), actor.clone());
    }
    drop(entered);

    // It keeps the actors, which the others look up too.
    let keys = names.clone();
    sides.add(UNDERPIN, move |time| {
        let _actors = &runtime;
        Ok(nanoseconds(threads, time, |thread| {
            let mut names = turn(&keys, thread);
            let registry = registry.clone();
            move || drop(black_box(registry.whereis(names()).expect(THERE)))
        }))
    });
    let keys = names.clone();
    sides.add(LIMIT, move |time| {
        Ok(nanoseconds(threads, time, |thread| {
            let mut names = turn(&keys, thread);
            let limit = &limit;
            move || drop(black_box(limit.get(names()).expect(THERE).clone()))
        }))
    });
    sides.add("dashmap", move |time| {
        Ok(nanoseconds(threads, time, |thread| {
            let mut keys = turn(&names, thread);
            let map = &map;
            move || drop(black_box(map.get(keys()).expect(THERE).clone()))
        }))
    });
    let runtime = Workers::Two.runtime();
    // Their names are the process's, so each figure has its own.
    static ROUND: AtomicU64 = AtomicU64::new(0);
    let names = self::names(&format!("named {}", ROUND.fetch_add(1, Ordering::Relaxed)));
    let actors = runtime.block_on(start(&names, true));
    sides.add("ractor", move |time| {
        let _alive = (&runtime, &actors);
        Ok(nanoseconds(threads, time, |thread| {
            let mut names = turn(&names, thread);
            move || drop(black_box(ractor::registry::where_is(names()).expect(THERE)))
        }))
    });
    Ok(())
}

const THERE: &str = "all names are registered";

fn names(prefix: &str) -> Vec<String> {
    (0..NAMES).map(|n| format!("{prefix} {n}")).collect()
}

async fn start(names: &[String], named: bool) -> Vec<ActorCell> {
    let mut actors = Vec::with_capacity(names.len());
    for name in names {
        let name = named.then(|| name.clone());
        let (actor, _) = Actor::spawn(name, Named, ()).await.expect("starts");
        actors.push(actor.get_cell());
    }
    actors
}

fn turn<'n>(names: &'n [String], thread: usize) -> impl FnMut() -> &'n String {
    let mut next = thread * NAMES / 2;
    move || {
        next = (next + 1) % NAMES;
        &names[next]
    }
}
