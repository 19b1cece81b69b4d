//! Nodes on two machines, as far as the network is concerned: each in a network namespace of its own, with a cable between them.
//! Where no namespace may be made, or `ip` is not there, these stories say so and look at nothing; `cut` tells the same ones with a
//! cable of its own.

use std::{
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Instant,
};

use crate::{
    certificates::one_authority_and_another,
    cut::{SLOW, lose_each_other, run_of, waits_for_a_slow_cable, whole_again},
    player::{Part, Player},
    scene::until,
};

const AT_A: &str = "10.99.0.1";
const AT_B: &str = "10.99.0.2";
/// Free in both: nothing else is there.
const PORT: u16 = 4620;

/// Two namespaces and the cable, gone when it is dropped.
struct Namespaces {
    a: String,
    b: String,
}

fn ip(arguments: &str) -> Result<(), String> {
    run("ip", arguments)
}

fn run(program: &str, arguments: &str) -> Result<(), String> {
    let output = Command::new(program).args(arguments.split(' ')).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!("{program} {arguments}: {}", words.trim()))
}

impl Namespaces {
    /// `None`, and the reason on standard error, where it is not permitted.
    fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = |side| format!("up-{}-{number}-{side}", std::process::id());
        let namespaces = Self {
            a: name("a"),
            b: name("b"),
        };
        match namespaces.make() {
            Ok(()) => Some(namespaces),
            Err(why) => {
                eprintln!("NOT LOOKED AT, since no network namespaces can be made here: {why}");
                None
            }
        }
    }

    fn make(&self) -> Result<(), String> {
        let Self { a, b } = self;
        ip(&format!("netns add {a}"))?;
        ip(&format!("netns add {b}"))?;
        ip(&format!(
            "-n {a} link add cable type veth peer name cable netns {b}"
        ))?;
        for (namespace, address) in [(a, AT_A), (b, AT_B)] {
            ip(&format!(
                "-n {namespace} address add {address}/24 dev cable"
            ))?;
            ip(&format!("-n {namespace} link set lo up"))?;
            ip(&format!("-n {namespace} link set cable up"))?;
        }
        Ok(())
    }

    fn inside(namespace: &str) -> Vec<String> {
        ["ip", "netns", "exec", namespace]
            .map(str::to_owned)
            .to_vec()
    }

    fn cut(&self) {
        ip(&format!("-n {} link set cable down", self.a)).expect("it is there");
    }

    fn heal(&self) {
        ip(&format!("-n {} link set cable up", self.a)).expect("it is there");
    }

    /// What a sends to b ends in nothing.
    fn cut_from_a(&self) {
        ip(&format!("-n {} route add blackhole {AT_B}/32", self.a)).expect("it is there");
    }

    fn heal_from_a(&self) {
        ip(&format!("-n {} route del blackhole {AT_B}/32", self.a)).expect("it is there");
    }

    /// What a sends to b goes through a token bucket (tc-tbf(8)): netem, which can also delay and lose, is not in every kernel.
    fn slow_from_a(&self, bytes_a_second: u32) -> Result<(), String> {
        let bits = 8 * bytes_a_second;
        let bucket = format!("tbf rate {bits}bit burst 32kbit latency 400ms");
        run(
            "tc",
            &format!("-n {} qdisc add dev cable root {bucket}", self.a),
        )
    }

    fn quick_from_a(&self) {
        let gone = run("tc", &format!("-n {} qdisc del dev cable root", self.a));
        gone.expect("it is there");
    }

    fn players(&self) -> (Player, Player) {
        let part = |name, address| {
            let mut part = Part::new(name, &format!("{address}:{PORT}"));
            part.insecure = true;
            part
        };
        let mut a = Player::start_in(&Self::inside(&self.a), &part("a", AT_A));
        let b = part("b", AT_B).join(&format!("{AT_A}:{PORT}"));
        let mut b = Player::start_in(&Self::inside(&self.b), &b);
        until("both are up", || {
            a.state("b") == "alive" && b.state("a") == "alive"
        });
        (a, b)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for namespace in [&self.a, &self.b] {
            let _ = ip(&format!("netns del {namespace}"));
        }
    }
}

#[test]
fn two_machines_whose_cable_is_pulled_are_whole_again_when_it_is_back() {
    let Some(namespaces) = Namespaces::new() else {
        return;
    };
    let (mut a, mut b) = namespaces.players();
    let runs = [run_of(&mut a, "b"), run_of(&mut b, "a")];

    let cut = Instant::now();
    namespaces.cut();
    a.asked("row b 1 100");
    lose_each_other(&mut a, &mut b, cut);

    namespaces.heal();
    whole_again(&mut a, &mut b, &runs);
}

#[test]
fn two_machines_of_which_one_is_not_heard_lose_each_other_and_are_whole_again() {
    let Some(namespaces) = Namespaces::new() else {
        return;
    };
    let (mut a, mut b) = namespaces.players();
    let runs = [run_of(&mut a, "b"), run_of(&mut b, "a")];

    let cut = Instant::now();
    namespaces.cut_from_a();
    a.asked("row b 1 100");
    lose_each_other(&mut a, &mut b, cut);

    namespaces.heal_from_a();
    whole_again(&mut a, &mut b, &runs);
}

#[test]
fn two_machines_whose_cable_is_slow_wait_for_it_and_are_not_taken_for_dead() {
    let Some(namespaces) = Namespaces::new() else {
        return;
    };
    if let Err(why) = namespaces.slow_from_a(SLOW) {
        return eprintln!("NOT LOOKED AT, since no cable can be made slow here: {why}");
    }
    namespaces.quick_from_a();
    let (mut a, mut b) = namespaces.players();

    waits_for_a_slow_cable(
        (&mut a, &mut b),
        || namespaces.slow_from_a(SLOW).expect("as before"),
        || namespaces.quick_from_a(),
    );
}

#[test]
fn two_machines_talk_under_tls_and_one_of_another_authority_is_not_let_in() {
    let Some(namespaces) = Namespaces::new() else {
        return;
    };
    let [at_a, at_b] = [AT_A, AT_B].map(|address| format!("{address}:{PORT}"));
    let [in_a, in_b] = [&namespaces.a, &namespaces.b].map(|name| Namespaces::inside(name));
    one_authority_and_another([(&in_a, &at_a), (&in_b, &at_b)]);
}
