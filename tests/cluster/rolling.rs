//! Three nodes under load that are started anew, one after the other.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    player::{Part, Player},
    scene::{free_address, until},
};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// What all runs of all nodes have said.
#[derive(Default)]
struct Ledger {
    /// By node, the events that were acknowledged.
    stored: BTreeMap<&'static str, BTreeSet<String>>,
    /// How often each request ran.
    noted: BTreeMap<String, u32>,
    /// What their callers were told.
    called: BTreeMap<String, String>,
}

impl Ledger {
    fn add(&mut self, name: &'static str, player: &Player) {
        for line in player.all() {
            if let Some(id) = line.strip_prefix("stored ") {
                let is_new = self.stored.entry(name).or_default().insert(id.to_owned());
                assert!(is_new, "the id {id} was given twice");
            } else if let Some(text) = line.strip_prefix("noted ") {
                *self.noted.entry(text.to_owned()).or_default() += 1;
            } else if let Some((text, outcome)) = line
                .strip_prefix("called ")
                .and_then(|rest| rest.split_once(' '))
            {
                let before = self.called.insert(text.to_owned(), outcome.to_owned());
                assert_eq!(before, None, "{text} was answered twice");
            }
        }
    }

    fn check_calls(&self) {
        for (text, times) in &self.noted {
            assert_eq!(*times, 1, "{text} ran {times} times");
        }
        for (text, outcome) in &self.called {
            let ran = self.noted.contains_key(text);
            match outcome.split(' ').next() {
                Some("ok") => assert!(ran, "{text} was answered and never ran"),
                Some("no") => assert!(!ran, "{text} ran, and its caller was told: {outcome}"),
                _ => {}
            }
        }
        let ok = self.called.values().filter(|outcome| *outcome == "ok");
        assert!(ok.count() > 300, "there was load");
    }
}

#[test]
fn three_nodes_started_anew_one_by_one_under_load_lose_no_event_and_answer_no_call_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let addresses = NAMES.map(|_| free_address());
    let part = |at: usize| {
        let mut part = Part::new(NAMES[at], &addresses[at]);
        part.join = addresses.to_vec();
        let data = folder.path().join(NAMES[at]);
        part.data = Some(data.to_str().expect("UTF-8").to_owned());
        part
    };
    let begin = |at: usize| {
        let mut player = Player::start(&part(at));
        let others: Vec<_> = NAMES
            .into_iter()
            .filter(|name| *name != NAMES[at])
            .collect();
        until("it sees the others", || {
            others.iter().all(|other| player.state(other) == "alive")
        });
        player.told(&format!("load {}", others.join(" ")));
        player
    };
    let mut players = [0, 1, 2].map(|at| Player::start(&part(at)));
    for (at, player) in players.iter_mut().enumerate() {
        let others: Vec<_> = NAMES
            .into_iter()
            .filter(|name| *name != NAMES[at])
            .collect();
        until("it sees the others", || {
            others.iter().all(|other| player.state(other) == "alive")
        });
        player.told(&format!("load {}", others.join(" ")));
    }
    let mut ledger = Ledger::default();

    // Each in the way of a service manager, and then each by force.
    for round in 0..2 {
        for at in 0..3 {
            works(&players[at]);
            if round == 0 {
                players[at].end();
            } else {
                players[at].kill();
            }
            ledger.add(NAMES[at], &players[at]);
            players[at] = begin(at);
        }
    }

    for player in &players {
        works(player);
    }
    for (name, mut player) in NAMES.into_iter().zip(players) {
        player.asked("rest");
        let there = player.asked("events");
        let there: BTreeSet<&str> = there.split(' ').collect();
        player.end();
        ledger.add(name, &player);
        let acknowledged = &ledger.stored[name];
        let lost: Vec<_> = acknowledged
            .iter()
            .filter(|id| !there.contains(id.as_str()))
            .collect();
        assert!(lost.is_empty(), "{name} lost {lost:?}");
        assert!(acknowledged.len() > 100, "there was load");
    }
    ledger.check_calls();
}

/// It has stored and called again and again since it was started.
fn works(player: &Player) {
    until("it works", || {
        let all = player.all();
        let count = |word| all.iter().filter(|line| line.starts_with(word)).count();
        count("stored") > 50 && count("called") > 50
    });
}
