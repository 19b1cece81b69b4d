//! Everything at once, on several threads: children that panic in every callback and in their drop, that ignore their stop, block
//! a thread, hang in their start; kills, crashes of several, requests of all kinds, under each strategy and under a dynamic
//! supervisor. Afterwards all is well, and so it is when everything is done again.
//!
//! Two rounds of four seconds by default. For more: `UNDERPIN_TORTURE_ROUNDS=100 UNDERPIN_TORTURE_SECONDS=60 cargo test --test
//! stories torture -- --nocapture`; `UNDERPIN_TORTURE_SEED` repeats the dice of a round, which each round prints.

use std::{
    env, panic,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::time::Instant;
use underpin::{
    otp::{
        Address, ChildInfo, ChildRef, ChildSpec, ChildState, DynamicSupervisor,
        DynamicSupervisorSpec, HealthProbe, Intensity, Reply, Restart, Shutdown, StopKind,
        Strategy, Supervisor, SupervisorSpec,
    },
    ractor,
    resilience::Backoff,
    testing::eventually,
};

use super::probe::LONG;

const MS: Duration = Duration::from_millis(1);

/// Dice that all share.
struct Dice(AtomicU64);

impl Dice {
    /// A number below `sides`; splitmix64, after Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
    fn roll(&self, sides: u64) -> u64 {
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, SeqCst);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

/// What all have in common.
struct World {
    dice: Dice,
    /// From now on everybody behaves.
    calm: AtomicBool,
    lives: AtomicUsize,
    overlaps: AtomicUsize,
    thrown: AtomicUsize,
}

impl World {
    fn mischief(&self, one_in: u64) -> bool {
        !self.calm.load(SeqCst) && self.dice.roll(one_in) == 0
    }

    fn panic_one_in(&self, sides: u64, place: &str) {
        if self.mischief(sides) {
            self.thrown.fetch_add(1, SeqCst);
            // Past the hook: thousands of backtraces would be all that is done.
            panic::resume_unwind(Box::new(format!("torture: in {place}")));
        }
    }
}

/// Something only one incarnation may hold.
struct Held {
    world: Arc<World>,
    held: Arc<AtomicUsize>,
}

impl Held {
    fn take(world: &Arc<World>, held: &Arc<AtomicUsize>) -> Self {
        world.lives.fetch_add(1, SeqCst);
        if held.fetch_add(1, SeqCst) > 0 {
            world.overlaps.fetch_add(1, SeqCst);
        }
        Self {
            world: Arc::clone(world),
            held: Arc::clone(held),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.world.mischief(8) {
            thread::sleep(MS);
        }
        self.held.fetch_sub(1, SeqCst);
        if !thread::panicking() {
            self.world.panic_one_in(10, "drop");
        }
    }
}

struct Imp {
    world: Arc<World>,
    held: Arc<AtomicUsize>,
}

enum Ask {
    Ping(Reply<()>),
    Misbehave,
}
underpin::otp::message!(Ask);

type Outcome = Result<(), ActorProcessingErr>;

impl Actor for Imp {
    type Msg = Ask;
    type State = Held;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Ask>, (): ()) -> Result<Held, ActorProcessingErr> {
        let held = Held::take(&self.world, &self.held);
        if self.world.mischief(12) {
            tokio::time::sleep(MS).await;
        }
        if self.world.mischief(25) {
            std::future::pending::<()>().await;
        }
        self.world.panic_one_in(12, "pre_start");
        if self.world.mischief(12) {
            return Err("torture: no start".into());
        }
        Ok(held)
    }

    async fn post_start(&self, _: ActorRef<Ask>, _: &mut Held) -> Outcome {
        self.world.panic_one_in(15, "post_start");
        Ok(())
    }

    async fn handle(&self, me: ActorRef<Ask>, message: Ask, _: &mut Held) -> Outcome {
        let world = &self.world;
        match message {
            Ask::Ping(reply) => reply.send(()),
            Ask::Misbehave => match world.dice.roll(8) {
                _ if world.calm.load(SeqCst) => {}
                0 => world.panic_one_in(1, "handle"),
                1 => return Err("torture: bad message".into()),
                2 => me.stop(None),
                3 => me.kill(),
                // Deaf to its stop.
                4 => std::future::pending().await,
                // Blocks its thread, and with it any kill.
                5 => tokio::task::block_in_place(|| thread::sleep(30 * MS)),
                6 => drop(Actor::spawn_linked(None, Nobody, (), me.get_cell()).await),
                _ => tokio::time::sleep(MS).await,
            },
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Ask>,
        _: SupervisionEvent,
        _: &mut Held,
    ) -> Outcome {
        self.world.panic_one_in(2, "handle_supervisor_evt");
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Ask>, _: &mut Held) -> Outcome {
        if self.world.mischief(6) {
            tokio::time::sleep(3 * MS).await;
        }
        self.world.panic_one_in(10, "post_stop");
        Ok(())
    }
}

/// Starts beneath an imp, and is gone.
struct Nobody;

impl Actor for Nobody {
    type Msg = Ask;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, me: ActorRef<Ask>, (): ()) -> Result<(), ActorProcessingErr> {
        me.stop(None);
        Ok(())
    }
}

/// A child that is an imp, and what it alone may hold.
struct Cradle {
    name: String,
    spec: ChildSpec,
    address: Address<Ask>,
    held: Arc<AtomicUsize>,
}

fn cradle(n: usize, world: &Arc<World>) -> Cradle {
    let (address, held) = (Address::new(), Arc::default());
    let name = format!("imp{n}");
    let (inside, own) = (Arc::clone(world), Arc::clone(&held));
    let mut spec = ChildSpec::actor(name.clone(), &address, move |_| {
        inside.panic_one_in(30, "its closure");
        let imp = Imp {
            world: Arc::clone(&inside),
            held: Arc::clone(&own),
        };
        (imp, ())
    })
    .start_timeout(15 * MS)
    .health(HealthProbe::busy(20 * MS))
    .shutdown(match n % 3 {
        0 => Shutdown::Brutal,
        _ => Shutdown::Timeout(10 * MS),
    })
    .restart(match n % 4 {
        3 => Restart::Transient,
        _ => Restart::Permanent,
    });
    if n == 1 {
        spec = spec.backoff(Backoff::new(MS, 4 * MS).expect("valid"));
    }
    Cradle {
        name,
        spec,
        address,
        held,
    }
}

const ENDLESS: Intensity = Intensity::new(u32::MAX, MS);

/// A dynamic supervisor with imps that come and go.
struct Nest {
    many: DynamicSupervisor,
    imps: Mutex<Vec<(ChildRef, Address<Ask>)>>,
    /// What all imps that ever were may hold.
    held: Mutex<Vec<Arc<AtomicUsize>>>,
}

impl Nest {
    const MOST: usize = 12;

    fn new(many: DynamicSupervisor) -> Self {
        Self {
            many,
            imps: Mutex::default(),
            held: Mutex::default(),
        }
    }

    fn any(&self, world: &World) -> Option<(ChildRef, Address<Ask>)> {
        let imps = self.imps.lock().expect("nobody panics here");
        let n = world.dice.roll(imps.len().max(1) as u64);
        imps.get(usize::try_from(n).expect("small")).cloned()
    }

    async fn one_more(&self, world: &Arc<World>) {
        let n = usize::try_from(world.dice.roll(12)).expect("small");
        let Cradle {
            spec,
            address,
            held,
            ..
        } = cradle(n, world);
        self.held.lock().expect("nobody panics here").push(held);
        if let Ok(child) = self.many.start_child(spec).await {
            let mut imps = self.imps.lock().expect("nobody panics here");
            imps.push((child, address));
        }
    }

    async fn trouble(&self, world: &Arc<World>) {
        let Some((child, address)) = self.any(world) else {
            return self.one_more(world).await;
        };
        match world.dice.roll(14) {
            0..=4 => drop(address.send(Ask::Misbehave)),
            5 => {
                if let Some(actor) = address.actor() {
                    actor.kill();
                }
            }
            6..=8 => {
                let full = self.imps.lock().expect("nobody panics here").len() >= Self::MOST;
                if !full {
                    return self.one_more(world).await;
                }
                // An end that races a request to end.
                let _ = address.send(Ask::Misbehave);
                let _ = self.many.terminate_child(&child).await;
                let mut imps = self.imps.lock().expect("nobody panics here");
                imps.retain(|(other, _)| *other != child);
            }
            9 => drop(self.many.which_children()),
            10 => drop(address.call(Ask::Ping, 5 * MS).await),
            11 if world.dice.roll(20) == 0 => {
                if let Some(supervisor) = self.many.actor() {
                    supervisor.kill();
                }
            }
            _ => tokio::task::yield_now().await,
        }
    }

    /// Everybody behaves now: all that are there run and answer, and so does a new one.
    async fn recovers(&self, world: &Arc<World>) {
        let before = self.imps.lock().expect("nobody panics here").len();
        eventually("another one starts", async || {
            self.one_more(world).await;
            self.imps.lock().expect("nobody panics here").len() > before
        })
        .await;
        let imps = self.imps.lock().expect("nobody panics here").clone();
        eventually("all that are listed run and answer", async || {
            let Ok(listed) = self.many.which_children() else {
                return false;
            };
            for child in &listed {
                let imp = imps.iter().find(|(imp, _)| *imp == child.child);
                let Some((_, address)) = imp else {
                    return false;
                };
                let runs = child.state == ChildState::Running;
                if !runs || address.call(Ask::Ping, 100 * MS).await.is_err() {
                    return false;
                }
            }
            !listed.is_empty()
        })
        .await;
    }
}

/// A supervisor with imps below it.
struct Pit {
    supervisor: Supervisor,
    imps: Vec<Cradle>,
}

const IMPS: usize = 5;

impl Pit {
    fn new(id: &str, strategy: Strategy, world: &Arc<World>) -> (Self, SupervisorSpec) {
        let imps: Vec<_> = (0..IMPS).map(|n| cradle(n, world)).collect();
        let spec = SupervisorSpec::new(id, ENDLESS)
            .strategy(strategy)
            .children(imps.iter().map(|imp| imp.spec.clone()));
        let supervisor = spec.handle();
        (Self { supervisor, imps }, spec)
    }

    /// One thing, whatever comes to mind.
    async fn trouble(&self, world: &World) {
        let n = usize::try_from(world.dice.roll(IMPS as u64)).expect("small");
        let Cradle {
            name,
            spec,
            address,
            ..
        } = &self.imps[n];
        match world.dice.roll(16) {
            0..=6 => drop(address.send(Ask::Misbehave)),
            7 => {
                if let Some(actor) = address.actor() {
                    actor.kill();
                }
            }
            // Several at the same moment.
            8 => {
                for imp in &self.imps {
                    let _ = imp.address.send(Ask::Misbehave);
                }
            }
            // An end that races a request to end.
            9 => {
                let _ = address.send(Ask::Misbehave);
                let _ = self.supervisor.terminate_child(name).await;
                let _ = self.supervisor.restart_child(name).await;
            }
            10 => {
                let _ = self.supervisor.terminate_child(name).await;
                let _ = self.supervisor.delete_child(name).await;
                let _ = self.supervisor.start_child(spec.clone()).await;
            }
            11 => drop(self.supervisor.restart_child(name).await),
            12 => drop(self.supervisor.which_children().await),
            13 => drop(address.call(Ask::Ping, 5 * MS).await),
            14 if world.dice.roll(10) == 0 => {
                if let Some(supervisor) = self.supervisor.actor() {
                    supervisor.kill();
                }
            }
            _ => tokio::task::yield_now().await,
        }
    }

    /// Everybody behaves now: each imp that is not there is started, and all answer.
    async fn recovers(&self) {
        for imp in &self.imps {
            let Cradle {
                name,
                spec,
                address,
                ..
            } = imp;
            eventually("it lives and answers", async || {
                let _ = self.supervisor.restart_child(name).await;
                let _ = self.supervisor.start_child(spec.clone()).await;
                address.call(Ask::Ping, 100 * MS).await.is_ok()
            })
            .await;
        }
        // The last kill may have come after the last answer.
        eventually("all are listed and run", async || {
            let running = |child: &ChildInfo| child.state == ChildState::Running;
            let children = self.supervisor.which_children().await;
            children.is_ok_and(|all| all.len() == IMPS && all.iter().all(running))
        })
        .await;
    }
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_any_torture_all_children_live_once_and_nothing_is_left_behind() {
    let rounds = number("UNDERPIN_TORTURE_ROUNDS").unwrap_or(2);
    let seconds = number("UNDERPIN_TORTURE_SECONDS").unwrap_or(4);
    let seed = number("UNDERPIN_TORTURE_SEED").unwrap_or_else(rand_seed);
    for round in 0..rounds {
        torture(seed.wrapping_add(round), Duration::from_secs(seconds)).await;
    }
}

async fn torture(seed: u64, long: Duration) {
    let seconds = long.as_secs();
    println!("UNDERPIN_TORTURE_SEED={seed} UNDERPIN_TORTURE_SECONDS={seconds}");
    let world = Arc::new(World {
        dice: Dice(AtomicU64::new(seed)),
        calm: AtomicBool::new(true),
        lives: AtomicUsize::new(0),
        overlaps: AtomicUsize::new(0),
        thrown: AtomicUsize::new(0),
    });
    let strategies = [
        ("one", Strategy::OneForOne),
        ("all", Strategy::OneForAll),
        ("rest", Strategy::RestForOne),
    ];
    let mut root = SupervisorSpec::new("root", ENDLESS);
    let mut pits = Vec::new();
    for (id, strategy) in strategies {
        let (pit, spec) = Pit::new(id, strategy, &world);
        root = root.child(ChildSpec::supervisor(spec));
        pits.push(Arc::new(pit));
    }
    let many = DynamicSupervisorSpec::new("many", ENDLESS);
    let nest = Arc::new(Nest::new(many.handle()));
    let root = Supervisor::start(root.child(many.child_spec()))
        .await
        .expect("starts calmly");
    world.calm.store(false, SeqCst);

    let end = Instant::now() + long;
    let mut tormentors = Vec::new();
    for pit in pits.iter().flat_map(|pit| [pit, pit, pit]) {
        let (pit, world) = (Arc::clone(pit), Arc::clone(&world));
        tormentors.push(tokio::spawn(async move {
            while Instant::now() < end {
                pit.trouble(&world).await;
            }
        }));
    }
    for nest in [&nest, &nest, &nest] {
        let (nest, world) = (Arc::clone(nest), Arc::clone(&world));
        tormentors.push(tokio::spawn(async move {
            while Instant::now() < end {
                nest.trouble(&world).await;
                tokio::task::yield_now().await;
            }
        }));
    }
    for tormentor in tormentors {
        let ended = tokio::time::timeout(LONG, tormentor).await;
        ended.expect("no request hangs").expect("no request panics");
    }
    world.calm.store(true, SeqCst);

    for pit in &pits {
        pit.recovers().await;
    }
    nest.recovers(&world).await;
    let stopped = tokio::time::timeout(LONG, root.stop())
        .await
        .expect("stops");
    // Ten milliseconds to stop in are little on a busy machine, and one that was killed after them is gone, too.
    let mut leaked = stopped.walk().filter(|child| child.how == StopKind::Leaked);
    assert!(leaked.next().is_none(), "{stopped:?}");
    let fixed = pits.iter().flat_map(|pit| &pit.imps).map(|imp| &imp.held);
    let passing = nest.held.lock().expect("nobody panics here");
    let held = fixed.chain(&*passing).map(|held| held.load(SeqCst));
    assert_eq!(held.sum::<usize>(), 0, "something was never dropped");
    assert_eq!(world.overlaps.load(SeqCst), 0, "two lives held one thing");
    let lives = world.lives.load(SeqCst);
    let dynamic = passing.len();
    println!(
        "{lives} lives, {dynamic} dynamic children, {} panics",
        world.thrown.load(SeqCst)
    );
    assert!(lives > 100, "hardly anything happened: {lives} lives");
    assert!(dynamic > 20, "hardly anything happened: {dynamic} children");
}

fn rand_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| u64::from(now.subsec_nanos()))
}

/// A child whose end and whose termination come at the same moment is down afterwards, and nothing of it is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_termination_that_races_the_childs_own_end_leaves_it_down() {
    use super::probe::{Do, Notes, lenient, probe};
    let a = Address::new();
    let spec = lenient("race").child(probe("a", &a, &Notes::default()));
    let supervisor = Supervisor::start(spec).await.expect("starts");

    for round in 0..500 {
        let end = match round % 4 {
            0 => Do::PanicWith("boom"),
            1 => Do::Stop(None),
            2 => Do::KillYourself,
            _ => Do::Fail("bad"),
        };
        a.send(end).expect("runs");
        for _ in 0..round % 7 {
            tokio::task::yield_now().await;
        }

        supervisor.terminate_child("a").await.expect("known");

        assert!(a.actor().is_none(), "round {round}");
        let children = supervisor.which_children().await.expect("answers");
        assert_eq!(children[0].state, ChildState::Stopped, "round {round}");
        supervisor.restart_child("a").await.expect("stopped");
    }
    supervisor.stop().await;
}
