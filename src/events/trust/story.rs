//! Disks that fail as honest ones do: after a crash the store holds exactly what was acknowledged.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    super::{
        commit::Commit, log::Appended, options::Durability, simulated::SimulatedDisk,
        storing::look_up,
    },
    Random, Rig, for_each_seed, options, prepare, settled,
};

/// What the test knows of the store.
#[derive(Default)]
pub(super) struct Model {
    /// Everything that was ever handed in: time and data.
    pub(super) given: BTreeMap<u64, (i64, Vec<u8>)>,
    /// Must show.
    pub(super) stored: BTreeSet<u64>,
    /// Handed in one frame each, outcome unknown.
    pub(super) unknown: Vec<(Vec<u64>, Option<u8>)>,
    /// May be hidden: a prune of which the outcome is unknown.
    pub(super) maybe_pruned: BTreeSet<u64>,
    pub(super) checkpoint: Option<u8>,
    pub(super) next_id: u64,
}

pub(super) struct Story {
    pub(super) seed: u64,
    pub(super) random: Random,
    pub(super) rig: Rig,
    pub(super) model: Model,
}

impl Story {
    pub(super) fn new(seed: u64, durability: Durability) -> Self {
        let disk = SimulatedDisk::new(seed);
        Self {
            seed,
            random: Random(seed),
            rig: Rig::open(&disk, &options(durability), None),
            model: Model::default(),
        }
    }

    fn play(&mut self) {
        for _ in 0..30 {
            self.step();
            if self.rig.writer.is_none() {
                self.crash();
            }
        }
        self.crash();
    }

    fn step(&mut self) {
        match self.random.below(23) {
            20..=22 => self.seal(),
            0..=10 => self.store(),
            11 => self.store_twice(),
            12 => self.rig.idle(),
            13 => self.prune_before(),
            14 => self.prune_to(),
            15 => self.rig.disk.fail_syncs(1),
            16 => {
                let room = usize::try_from(self.random.below(3000)).expect("small");
                self.rig.disk.leave_room(Some(room));
            }
            17 => {
                let calls = self.random.below(12);
                self.rig.disk.cut_power_after(calls);
            }
            18 => self.crash(),
            _ => self.heal(),
        }
    }

    pub(super) fn store(&mut self) {
        let frames = 1 + self.random.below(3);
        let mut waiting = Vec::new();
        for _ in 0..frames {
            let events = self.make_events();
            let checkpoint = (self.random.below(4) == 0)
                .then(|| u8::try_from(1 + self.random.below(250)).expect("small"));
            let prepared = prepare(&events, checkpoint.map(|value| ("file", value)));
            let ids: Vec<_> = events.iter().map(|(id, ..)| *id).collect();
            match self.rig.log.append(&prepared) {
                Appended::Waiting(commit) => waiting.push((commit, ids, checkpoint)),
                Appended::Refused(_) => {}
                other => panic!(
                    "seed {}: new events were answered with {other:?}",
                    self.seed
                ),
            }
        }
        self.rig.turn();
        for (commit, ids, checkpoint) in waiting {
            match settled(&commit) {
                Ok(()) => {
                    self.model.stored.extend(ids);
                    self.model.checkpoint = checkpoint.or(self.model.checkpoint);
                }
                Err(_) => self.model.unknown.push((ids, checkpoint)),
            }
        }
    }

    fn make_events(&mut self) -> Vec<(u64, i64, Vec<u8>)> {
        let count = 1 + self.random.below(4);
        (0..count)
            .map(|_| {
                self.model.next_id += 1 + self.random.below(2);
                let id = self.model.next_id;
                let time = i64::try_from(self.random.below(1000)).expect("small");
                let len = usize::try_from(self.random.below(700)).expect("small");
                let data = vec![u8::try_from(id % 251).expect("small"); len];
                self.model.given.insert(id, (time, data.clone()));
                (id, time, data)
            })
            .collect()
    }

    /// An id that is there is known; never a second event.
    fn store_twice(&mut self) {
        let Some(id) = self.model.stored.first().copied() else {
            return;
        };
        let (time, data) = self.model.given[&id].clone();
        let mut prepared = prepare(&[(id, time, data)], None);
        let mut answer = self.rig.log.append(&prepared);
        if let Appended::Unsure(unsure) = &answer {
            let Ok(looked_up) = look_up(unsure) else {
                assert!(self.rig.disk.has_no_power(), "seed {}: {id}", self.seed);
                return;
            };
            prepared.looked_up = looked_up;
            answer = self.rig.log.append(&prepared);
        }
        match answer {
            Appended::Known(known, _) => assert_eq!(known.len(), 1, "seed {}", self.seed),
            Appended::Refused(_) => {}
            other => panic!(
                "seed {}: a known event was answered with {other:?}",
                self.seed
            ),
        }
    }

    fn prune_before(&mut self) {
        let time = i64::try_from(self.random.below(400)).expect("small");
        let hidden: Vec<_> = self
            .model
            .stored
            .iter()
            .copied()
            .filter(|id| self.model.given[id].0 < time)
            .collect();
        if let Some((_, commit)) = self.rig.log.prune_before(time) {
            self.pruned(&hidden, &commit);
        }
    }

    fn prune_to(&mut self) {
        let count = self.random.below(40);
        let shown: Vec<_> = self.rig.rows().into_iter().map(|(.., id)| id).collect();
        let keep = usize::try_from(count).expect("small").min(shown.len());
        let hidden = shown[..shown.len() - keep].to_vec();
        let (_, commit) = self.rig.log.prune_to(count);
        self.pruned(&hidden, &commit);
    }

    fn pruned(&mut self, hidden: &[u64], commit: &Commit) {
        self.rig.turn();
        for id in hidden {
            let certain =
                settled(commit).is_ok() && self.rig.options.durability == Durability::Always;
            if self.model.stored.remove(id) && !certain {
                self.model.maybe_pruned.insert(*id);
            }
        }
    }

    /// Beside the writer, on whatever disk there is: nothing that shows may change.
    fn seal(&mut self) {
        let before = (!self.rig.disk.will_fail()).then(|| self.rig.read());
        let sealed = self.rig.seal();
        if let Some(before) = before.filter(|_| !self.rig.disk.will_fail()) {
            assert!(sealed.is_ok(), "seed {}: {sealed:?}", self.seed);
            assert!(
                self.rig.read() == before,
                "seed {}: sealing changed what shows",
                self.seed
            );
        }
    }

    pub(super) fn heal(&mut self) {
        self.rig.disk.leave_room(None);
        self.rig.disk.fail_syncs(0);
    }

    /// The process dies, sometimes the power too, and the folder is opened again.
    fn crash(&mut self) {
        let mut power = self.random.below(2) == 0 || self.rig.disk.has_no_power();
        if power {
            self.rig.disk.restore_power();
        }
        self.heal();
        let keep = !power && self.random.below(2) == 0;
        if self.random.below(3) == 0 {
            let calls = self.random.below(12);
            self.rig.disk.cut_power_after(calls);
        }
        while self.rig.reopen(keep).is_err() || self.rig.disk.has_no_power() {
            power = true;
            self.rig.disk.restore_power();
        }
        self.rig.disk.keep_power();
        self.look(power);
    }

    fn look(&mut self, power: bool) {
        let seed = self.seed;
        assert_eq!(
            self.rig.opened.gaps,
            [],
            "seed {seed}: nothing that was stored is missing"
        );
        assert_eq!(
            self.rig.opened.quarantined, 0,
            "seed {seed}: the disk damaged nothing"
        );
        let found = self.rig.read();
        let mut shown = BTreeSet::new();
        for (id, data) in found {
            assert!(shown.insert(id), "seed {seed}: {id} is there twice");
            assert_eq!(
                data, self.model.given[&id].1,
                "seed {seed}: {id} has its own data"
            );
        }
        if self.rig.options.durability == Durability::Always || !power {
            let lost: Vec<_> = self.model.stored.difference(&shown).collect();
            assert!(lost.is_empty(), "seed {seed}: {lost:?} had been stored");
        }
        let mut allowed = self.model.stored.clone();
        allowed.extend(&self.model.maybe_pruned);
        for (ids, checkpoint) in std::mem::take(&mut self.model.unknown) {
            let there = ids.iter().filter(|id| shown.contains(id)).count();
            assert!(
                there == 0 || there == ids.len(),
                "seed {seed}: {ids:?} is there in part"
            );
            allowed.extend(&ids);
            if there > 0 {
                self.model.checkpoint = checkpoint.or(self.model.checkpoint);
            }
        }
        let strange: Vec<_> = shown.difference(&allowed).collect();
        assert!(
            strange.is_empty(),
            "seed {seed}: {strange:?} should not be there"
        );
        if self.rig.options.durability == Durability::Always {
            let checkpoint = self.rig.log.checkpoint("file").map(|value| value[0]);
            assert_eq!(
                checkpoint, self.model.checkpoint,
                "seed {seed}: the checkpoint moves with its events"
            );
        } else {
            self.model.checkpoint = self.rig.log.checkpoint("file").map(|value| value[0]);
        }
        self.model.maybe_pruned.clear();
        self.model.stored = shown;
    }
}

#[test]
fn what_was_acknowledged_is_there_after_every_crash() {
    let test = "what_was_acknowledged_is_there_after_every_crash";
    for_each_seed(test, |seed| Story::new(seed, Durability::Always).play());
}

#[test]
fn what_was_written_is_there_after_a_kill_and_nothing_false_after_a_power_cut() {
    let test = "what_was_written_is_there_after_a_kill_and_nothing_false_after_a_power_cut";
    for_each_seed(test, |seed| {
        Story::new(seed, Durability::Interval(Duration::from_millis(1))).play();
    });
}
