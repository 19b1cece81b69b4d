//! Disks that lie and lose: what is missing then is reported, and what is there is right.

use std::collections::BTreeSet;

use super::{super::options::Durability, Rig, for_each_seed, story::Story};
use crate::events::stats::Gap;

/// A story on a disk that says that it synced what it did not, flips bits of what it keeps, refuses to read and comes short.
struct Unsound {
    story: Story,
    /// What was reported when the folder was last opened.
    gaps: Vec<Gap>,
    /// The disk did what no disk should, which may show at any later time.
    betrayed: bool,
}

impl Unsound {
    fn new(seed: u64) -> Self {
        let story = Story::new(seed, Durability::Always);
        story.rig.disk.read_short();
        Self {
            story,
            gaps: Vec::new(),
            betrayed: false,
        }
    }

    fn play(&mut self) {
        for _ in 0..30 {
            self.step();
            if self.story.rig.writer.is_none() {
                self.crash();
            }
        }
        self.crash();
    }

    fn step(&mut self) {
        let disk = self.story.rig.disk.clone();
        match self.story.random.below(20) {
            0..=8 => self.story.store(),
            9 => self.story.rig.idle(),
            10..=11 => self.prune(),
            12..=13 => {
                // On such a disk it may say no.
                let _ = self.story.rig.seal();
            }
            14..=15 => {
                self.betrayed = true;
                let syncs = 1 + self.story.random.below(6);
                disk.lie_about_syncs(u32::try_from(syncs).expect("small"));
            }
            16 => {
                let suffix = [".seg", ".blocks", ".index"]
                    [usize::try_from(self.story.random.below(3)).expect("small")];
                self.betrayed |= disk.flip_a_bit(suffix).is_some();
            }
            17 => disk.fail_reads(u32::try_from(self.story.random.below(4)).expect("small")),
            18 => disk.fail_syncs(1),
            _ => self.crash(),
        }
    }

    /// Where an index is damaged, rows may be hidden only at the next opening, or others in their place: only what shows afterwards, and was
    /// not to be hidden, has to stay.
    fn prune(&mut self) {
        let number = self.story.random.below(40);
        let (log, model) = (&self.story.rig.log, &mut self.story.model);
        if self.story.random.below(2) == 0 {
            log.prune_to(number);
            while model.stored.len() as u64 > number {
                model.stored.pop_first();
            }
        } else {
            let time = i64::try_from(number * 10).expect("small");
            log.prune_before(time);
            model.stored.retain(|id| model.given[id].0 >= time);
        }
        self.story.rig.turn();
        let (shown, _) = self.story.rig.read_what_can_be_read();
        let shown: BTreeSet<u64> = shown.into_iter().map(|(id, _)| id).collect();
        self.story.model.stored.retain(|id| shown.contains(id));
    }

    /// The power goes, or only the process, and the folder is opened again.
    fn crash(&mut self) {
        let story = &mut self.story;
        let disk = story.rig.disk.clone();
        if story.random.below(2) == 0 {
            disk.restore_power();
        }
        story.heal();
        let mut refusals = 0;
        while let Err(refused) = story.rig.reopen(false) {
            // Reads fail a few times at the most.
            refusals += 1;
            assert!(
                refusals < 20,
                "seed {}: it never opens: {refused}",
                story.seed
            );
        }
        self.look();
    }

    fn look(&mut self) {
        let (seed, rig, model) = (self.story.seed, &self.story.rig, &mut self.story.model);
        let (found, unreadable) = rig.read_what_can_be_read();
        let mut shown = BTreeSet::new();
        for (id, data) in found {
            assert!(shown.insert(id), "seed {seed}: {id} is there twice");
            let given = model.given.get(&id).map(|(_, data)| data);
            assert_eq!(given, Some(&data), "seed {seed}: {id} has not its own data");
        }
        let lost: Vec<u64> = model.stored.difference(&shown).copied().collect();
        assert!(
            lost.is_empty() || self.betrayed,
            "seed {seed}: {lost:?} had been stored, and the disk did nothing wrong"
        );
        // Ids rise in the order of the log: what is lost before something that is there left a hole.
        let hole = lost
            .first()
            .zip(shown.last())
            .is_some_and(|(lost, shown)| lost < shown);
        let told = rig.opened.gaps != self.gaps || unreadable > 0;
        assert!(
            !hole || told,
            "seed {seed}: {lost:?} are lost and nobody says so"
        );
        self.gaps.clone_from(&rig.opened.gaps);
        model.unknown.clear();
        model.maybe_pruned.clear();
        model.stored = shown;
    }
}

#[test]
fn on_a_disk_that_lies_and_flips_bits_what_is_missing_is_reported_and_nothing_is_false() {
    let test =
        "on_a_disk_that_lies_and_flips_bits_what_is_missing_is_reported_and_nothing_is_false";
    for_each_seed(test, |seed| Unsound::new(seed).play());
}

#[test]
fn a_bit_that_flips_at_rest_never_makes_a_false_event_and_never_goes_unnoticed() {
    let test = "a_bit_that_flips_at_rest_never_makes_a_false_event_and_never_goes_unnoticed";
    for_each_seed(test, |seed| {
        let mut story = Story::new(seed, Durability::Always);
        for _ in 0..12 {
            story.store();
        }
        let Story { rig, model, .. } = story;
        let options = rig.options.clone();
        let disk = rig.stop();
        let flipped = disk.flip_a_bit(".seg").expect("something was stored");

        let rig = Rig::open(&disk, &options, None);

        assert!(rig.reported(), "seed {seed}: {flipped:?} was not noticed");
        let found = rig.read();
        for (id, data) in &found {
            assert_eq!(
                data, &model.given[id].1,
                "seed {seed}: {id} has its own data"
            );
        }
        // A frame holds at most four of the test's events.
        assert!(
            found.len() + 4 >= model.stored.len(),
            "seed {seed}: one bit cost more than its frame"
        );
    });
}
