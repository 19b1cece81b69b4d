//! Small stores with every bit flipped and cut at every byte.

use std::time::Duration;

use super::{
    super::{
        disk::Disk as _,
        log::Appended,
        options::{Durability, Options},
        simulated::SimulatedDisk,
    },
    Rig, options, prepare,
};

/// A small store with every kind of frame, cleanly stopped: its disk, and what it holds.
fn small_store() -> (SimulatedDisk, Vec<(u64, Vec<u8>)>) {
    let disk = SimulatedDisk::new(5);
    let mut rig = Rig::open(&disk, &options(Durability::Always), None);
    for id in 1..=6 {
        let data = vec![u8::try_from(id).expect("small"); 20];
        let checkpoint = (id % 2 == 0).then_some(("file", 7));
        let prepared = prepare(
            &[(id * 10, 0, data.clone()), (id * 10 + 1, 0, data)],
            checkpoint,
        );
        assert!(matches!(rig.log.append(&prepared), Appended::Waiting(_)));
        rig.turn();
    }
    let (pruned, _) = rig.log.prune_to(10);
    assert_eq!(pruned, 2);
    rig.turn();
    let events = rig.read();
    assert_eq!(events.len(), 10);
    (rig.stop(), events)
}

fn segment_of(disk: &SimulatedDisk) -> (String, Vec<u8>) {
    let name = disk.names().pop().expect("one segment");
    let bytes = disk.bytes(&name).expect("segment is there");
    (name, bytes)
}

/// Opens a folder that holds this one segment; answers what it finds, and whether anything was reported.
fn open_with(name: &str, bytes: &[u8]) -> (Vec<(u64, Vec<u8>)>, bool) {
    let disk = SimulatedDisk::new(0);
    disk.put(name, bytes);
    let rig = Rig::open(&disk, &options(Durability::Always), None);
    (rig.read(), rig.reported())
}

#[test]
fn a_store_with_any_bit_flipped_is_right_or_says_what_is_missing() {
    let (disk, events) = small_store();
    let (name, bytes) = segment_of(&disk);
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);

        let (found, reported) = open_with(&name, &damaged);

        assert!(reported, "bit {bit} was not noticed");
        // A damaged low water may show what was pruned; nothing else may appear.
        let pruned = |id: u64| id == 10 || id == 11;
        let false_ones = found
            .iter()
            .filter(|event| !events.contains(event) && !pruned(event.0));
        assert_eq!(
            false_ones.count(),
            0,
            "bit {bit} brought forth a false event"
        );
        assert!(
            found.len() >= events.len() - 2,
            "bit {bit} took more than its frame: {}",
            found.len()
        );
    }
}

#[test]
fn a_store_cut_at_any_byte_keeps_every_frame_before_the_cut() {
    let (disk, _) = small_store();
    let (name, bytes) = segment_of(&disk);
    let mut whole_before = 0;
    for cut in 0..bytes.len() {
        let (found, reported) = open_with(&name, &bytes[..cut]);

        assert!(
            found.len() >= whole_before || found.len() == 10,
            "cut at {cut} took an earlier frame"
        );
        let at_an_end = !reported;
        if at_an_end {
            whole_before = whole_before.max(found.len().min(10));
        }
    }
}

#[test]
fn damage_in_a_sealed_segment_costs_one_frame_and_is_reported_at_every_opening() {
    let disk = SimulatedDisk::new(9);
    let mut rig = Rig::open(&disk, &options(Durability::Always), None);
    for id in 1..=40 {
        let prepared = prepare(&[(id, 0, vec![7; 300])], None);
        assert!(matches!(rig.log.append(&prepared), Appended::Waiting(_)));
        rig.turn();
    }
    let disk = rig.stop();
    let first = disk.names().remove(0);
    let mut bytes = disk.bytes(&first).expect("segment is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    disk.put(&first, &bytes);

    for _ in 0..2 {
        let rig = Rig::open(&disk, &options(Durability::Always), None);

        assert_eq!(rig.read().len(), 39);
        assert_eq!(rig.opened.gaps.len(), 1);
        assert_eq!(rig.opened.torn, None);
        let side_files = disk
            .names()
            .iter()
            .filter(|name| name.ends_with(".damaged"))
            .count();
        assert_eq!(side_files, 1);
        rig.stop();
    }
}

#[test]
fn a_missing_segment_is_a_gap_and_a_pruned_one_is_not() {
    let disk = SimulatedDisk::new(9);
    let mut rig = Rig::open(&disk, &options(Durability::Always), None);
    for id in 1..=80 {
        let prepared = prepare(&[(id, 0, vec![7; 300])], None);
        assert!(matches!(rig.log.append(&prepared), Appended::Waiting(_)));
        rig.turn();
    }
    let files = disk.names().len();
    rig.log.prune_to(30);
    rig.turn();
    assert!(
        disk.names().len() < files,
        "pruned segments give their space back"
    );
    let disk = rig.stop();

    let rig = Rig::open(&disk, &options(Durability::Always), None);
    assert_eq!((rig.read().len(), rig.opened.gaps.len()), (30, 0));
    rig.stop();

    let names = disk.names();
    disk.remove(&names[1]).expect("file is there");
    let rig = Rig::open(&disk, &options(Durability::Always), None);
    assert_eq!(rig.opened.gaps.len(), 1);
}

#[test]
fn what_a_quiet_log_says_of_its_syncs_is_counted_as_hot_like_all_of_its_bytes() {
    let disk = SimulatedDisk::new(9);
    let mut rig = Rig::open(&disk, &options(Durability::Always), None);
    for id in 1..=10 {
        let prepared = prepare(&[(id, 0, vec![7; 100])], None);
        assert!(matches!(rig.log.append(&prepared), Appended::Waiting(_)));
        rig.turn();
        rig.idle();
    }

    let segment = rig.log.segments()[0].clone();
    assert_eq!(segment.hot_bytes(), segment.written() as usize);
    let hot = rig.log.facts.hot.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(hot, segment.hot_bytes());
    assert_eq!(segment.hot_chunks(), 1, "they stand side by side");
}

#[test]
fn a_segment_that_grows_has_room_until_it_is_full_or_its_log_is_stopped() {
    let disk = SimulatedDisk::new(9);
    let mut rig = Rig::open(&disk, &options(Durability::Always), None);
    for id in 1..=14 {
        let prepared = prepare(&[(id, 0, vec![7; 300])], None);
        assert!(matches!(rig.log.append(&prepared), Appended::Waiting(_)));
        rig.turn();
    }
    let lens = || -> Vec<usize> {
        let bytes = |name: &String| disk.bytes(name).map_or(0, |bytes| bytes.len());
        disk.names().iter().map(bytes).collect()
    };
    let written = |rig: &Rig| -> Vec<usize> {
        let segments = rig.log.segments();
        let bytes = segments.iter().map(|segment| segment.written() as usize);
        bytes.collect()
    };
    let (rolled, grows) = (written(&rig)[0], written(&rig)[1]);

    assert_eq!(lens(), [rolled, 4096]);

    // A crash leaves the room; it is no damage, and nothing torn.
    rig.reopen(false).expect("readable");
    assert!(!rig.reported());
    assert_eq!((rig.read().len(), lens()), (14, vec![rolled, grows]));

    let prepared = prepare(&[(15, 0, vec![7; 300])], None);
    assert!(matches!(rig.log.append(&prepared), Appended::Waiting(_)));
    rig.turn();
    assert_eq!(lens(), [rolled, 4096]);
    rig.stop();
    assert!(lens()[1] < 4096, "stopped, it ends with its last frame");
}

/// What was written again was read a second time for it, and no longer what it had been.
#[test]
fn what_an_opening_shows_is_on_the_disk_whenever_the_system_forgets_what_a_failed_sync_left() {
    let mut all_were_shown = [false; 2];
    for call in 1..150 {
        let disk = SimulatedDisk::new(call);
        let seldom = Options {
            segment_bytes: 1 << 20,
            ..options(Durability::Interval(Duration::from_hours(1)))
        };
        let mut rig = Rig::open(&disk, &seldom, None);
        for id in 1..=40 {
            let prepared = prepare(&[(id, 0, vec![7; 300])], None);
            assert!(matches!(rig.log.append(&prepared), Appended::Waiting(_)));
            rig.turn();
        }
        disk.fail_syncs(1);
        rig.idle();
        assert!(rig.log.has_failed());

        disk.forget_after(call);
        rig.reopen(true).expect("readable");

        let shown = rig.read();
        drop(rig);
        disk.restore_power();
        let after = Rig::open(&disk, &seldom, None).read();
        assert_eq!(after, shown, "forgotten before call {call}");
        all_were_shown[usize::from(shown.len() == 40)] = true;
    }
    assert_eq!(all_were_shown, [true; 2], "before and after all was read");
}
