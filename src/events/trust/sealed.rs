//! Small sealed stores with every bit flipped and cut at every byte.

use std::{collections::BTreeMap, io};

use super::{
    super::{
        disk::Disk as _,
        log::Appended,
        naming::sealed_names,
        options::Durability,
        simulated::SimulatedDisk,
        view::{Access, View as _},
    },
    Rig, on_all_processors, options, prepare,
};

type Files = BTreeMap<String, Vec<u8>>;
type Held = Vec<(u64, Vec<u8>)>;

/// A store of two segments, the first of them sealed: its files, and what it holds.
fn sealed_store() -> (Files, Held) {
    let disk = SimulatedDisk::new(5);
    let mut rig = Rig::open(&disk, &options(Durability::Always), None);
    for id in 1..=20_u64 {
        // Compresses well: each bit of the files is an opening.
        let data = vec![u8::try_from(id).expect("small"); 130];
        let prepared = prepare(&[(id * 10, 0, data)], None);
        assert!(matches!(rig.log.append(&prepared), Appended::Waiting(_)));
        rig.turn();
    }
    rig.seal().expect("a healthy disk");
    let events = rig.read();
    assert_eq!(events.len(), 20);
    let disk = rig.stop();
    let files: BTreeMap<_, _> = disk
        .names()
        .into_iter()
        .map(|name| (name.clone(), disk.bytes(&name).expect("it is there")))
        .collect();
    let of = |suffix: &str| files.keys().filter(|name| name.ends_with(suffix)).count();
    assert_eq!((of(".blocks"), of(".index"), of(".seg")), (1, 1, 1));
    (files, events)
}

/// Opens the store with other bytes in one of its files: nothing in it is false, and what is missing is reported or refused by a read.
fn right_or_reported(
    files: &Files,
    events: &[(u64, Vec<u8>)],
    damaged: (&str, Option<&[u8]>),
    what: &str,
) {
    let disk = SimulatedDisk::new(0);
    for (name, bytes) in files.iter().filter(|(name, _)| *name != damaged.0) {
        disk.put(name, bytes);
    }
    if let Some(bytes) = damaged.1 {
        disk.put(damaged.0, bytes);
    }

    let rig = Rig::open(&disk, &options(Durability::Always), None);

    let (found, unreadable) = rig.read_what_can_be_read();
    for event in &found {
        assert!(events.contains(event), "{what} brought forth {}", event.0);
    }
    let missing = events.len() - found.len();
    assert!(
        missing == 0 || unreadable > 0 || rig.reported(),
        "{what}: {missing} events are missing, and nobody says so"
    );
}

#[test]
fn a_sealed_store_with_any_bit_flipped_is_right_or_says_what_is_missing() {
    let (files, events) = sealed_store();
    for (name, bytes) in files
        .iter()
        .filter(|(name, _)| name.strip_suffix(".seg").is_none())
    {
        on_all_processors(0..bytes.len() as u64 * 8, |bit| {
            let at = usize::try_from(bit / 8).expect("small");
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (bit % 8);
            right_or_reported(
                &files,
                &events,
                (name, Some(&damaged)),
                &format!("bit {bit} of {name}"),
            );
        });
    }
}

#[test]
fn a_sealed_store_cut_at_any_byte_is_right_or_says_what_is_missing() {
    let (files, events) = sealed_store();
    for (name, bytes) in files
        .iter()
        .filter(|(name, _)| name.strip_suffix(".seg").is_none())
    {
        on_all_processors(0..bytes.len() as u64, |len| {
            let cut = &bytes[..usize::try_from(len).expect("small")];
            right_or_reported(
                &files,
                &events,
                (name, Some(cut)),
                &format!("{name} cut at {len}"),
            );
        });
        right_or_reported(&files, &events, (name, None), &format!("{name} gone"));
    }
}

#[test]
fn a_damaged_or_missing_index_is_made_anew_and_costs_nothing() {
    let (files, events) = sealed_store();
    let (index, bytes) = files
        .iter()
        .find(|(name, _)| name.strip_suffix(".index").is_some())
        .expect("an index");
    for damaged in [None, Some(&bytes[..7])] {
        let disk = SimulatedDisk::new(0);
        for (name, bytes) in files.iter().filter(|(name, _)| *name != index) {
            disk.put(name, bytes);
        }
        if let Some(bytes) = damaged {
            disk.put(index, bytes);
        }

        let rig = Rig::open(&disk, &options(Durability::Always), None);
        assert_eq!((rig.opened.rebuilt, rig.opened.gaps.len()), (1, 0));
        assert_eq!(rig.read(), events);
        let disk = rig.stop();

        assert_eq!(disk.bytes(index).as_ref(), Some(bytes), "it is what it was");
        let rig = Rig::open(&disk, &options(Durability::Always), None);
        assert_eq!((rig.opened.rebuilt, rig.read()), (0, events.clone()));
        disk.list().expect("readable");
    }
}

/// It was called damaged, and an index that was whole was made anew without it.
#[test]
fn a_part_that_a_later_version_wrote_is_said_to_be_one_and_is_no_damage() {
    let (files, _) = sealed_store();
    for suffix in [".blocks", ".index"] {
        let disk = SimulatedDisk::new(0);
        for (name, bytes) in &files {
            let mut bytes = bytes.clone();
            if name.ends_with(suffix) {
                let magics = bytes
                    .windows(4)
                    .enumerate()
                    .filter(|(_, at)| *at == b"UPLG");
                let frames: Vec<_> = magics.map(|(at, _)| at).collect();
                // The first frame of an index is its directory: a folder with a later one is not opened.
                for at in frames.into_iter().skip(usize::from(suffix == ".index")) {
                    bytes[at + 4] = 3;
                    let sum = crc32c::crc32c(&bytes[at..at + 48]);
                    bytes[at + 48..at + 52].copy_from_slice(&sum.to_le_bytes());
                }
            }
            disk.put(name, &bytes);
        }

        let rig = Rig::open(&disk, &options(Durability::Always), None);
        let segment = rig.log.segments()[0].clone();
        let read = segment.read(0, Access::Disk, &mut |_| ());

        let error = read.expect_err("nobody can know what it holds");
        assert_eq!(error.kind(), io::ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().starts_with("it has format 3, codec 1"));
        assert!(!segment.has_damaged_index());
    }
}

#[test]
fn a_first_file_that_was_damaged_beside_what_was_made_of_it_costs_nothing() {
    let disk = SimulatedDisk::new(5);
    let mut rig = Rig::open(&disk, &options(Durability::Always), None);
    for id in 1..=20 {
        rig.log.append(&prepare(&[(id, 0, vec![7; 300])], None));
        rig.turn();
    }
    let (events, first) = (rig.read(), disk.names()[0].clone());
    let whole = disk.bytes(&first).expect("it is there");
    rig.seal().expect("a healthy disk");
    let disk = rig.stop();
    assert_eq!(disk.bytes(&first), None, "it was sealed");
    let flipped = [&whole[..2000], &[!whole[2000]], &whole[2001..]].concat();
    let damaged = [&b""[..], &whole[..2000], &flipped];

    for bytes in damaged {
        disk.put(&first, bytes);
        let rig = Rig::open(&disk, &options(Durability::Always), None);
        assert_eq!((rig.opened.gaps.len(), rig.opened.quarantined), (0, 1));
        assert_eq!(rig.read(), events);
        rig.stop();
        assert_eq!(disk.bytes(&first), None, "what was made of it stays");
        let kept = format!("{first}.0.damaged");
        assert_eq!(disk.bytes(&kept).as_deref(), Some(bytes));
        disk.remove(&kept).expect("it is there");
    }

    disk.put(&first, &whole);
    let rig = Rig::open(&disk, &options(Durability::Always), None);
    assert_eq!((rig.reported(), rig.read()), (false, events));
    let made = |name: &String| name.starts_with(&first[..33]) && *name != first;
    assert!(!disk.names().iter().any(made), "it is made again");
}

#[test]
fn a_whole_first_file_is_the_truth_whatever_stands_beside_it_and_a_damaged_one_lets_nothing_go() {
    let disk = SimulatedDisk::new(6);
    let mut rig = Rig::open(&disk, &options(Durability::Always), None);
    for id in 1..=20 {
        rig.log.append(&prepare(&[(id, 0, vec![7; 300])], None));
        rig.turn();
    }
    let (events, first) = (rig.read(), disk.names()[0].clone());
    let whole = disk.bytes(&first).expect("it is there");
    rig.seal().expect("a healthy disk");
    let disk = rig.stop();
    let (blocks, index) = sealed_names(&first);
    let made = [&blocks, &index].map(|name| (name, disk.bytes(name).expect("it was sealed")));
    let put = |of_index: &dyn Fn(&mut Vec<u8>), of_blocks: &dyn Fn(&mut Vec<u8>)| {
        for (name, bytes) in &made {
            let mut bytes = bytes.clone();
            let change = if *name == &index { of_index } else { of_blocks };
            change(&mut bytes);
            disk.put(name, &bytes);
        }
    };
    let none = |_: &mut Vec<u8>| {};
    let last = |bytes: &mut Vec<u8>| *bytes.last_mut().expect("some") ^= 1;
    let later_version = |bytes: &mut Vec<u8>| {
        bytes[4] = 9;
        let sum = crc32c::crc32c(&bytes[..48]);
        bytes[48..52].copy_from_slice(&sum.to_le_bytes());
    };

    put(&none, &later_version);
    disk.put(&first, &whole);
    let rig = Rig::open(&disk, &options(Durability::Always), None);
    assert_eq!((rig.reported(), rig.read()), (false, events));
    rig.stop();
    assert_eq!((disk.bytes(&blocks), disk.bytes(&index)), (None, None));

    put(&last, &none);
    let flipped = [&whole[..2000], &[!whole[2000]], &whole[2001..]].concat();
    disk.put(&first, &flipped);
    let rig = Rig::open(&disk, &options(Durability::Always), None);
    // The index, the blocks, and the place.
    assert_eq!((rig.opened.gaps.len(), rig.opened.quarantined), (1, 3));
    assert_eq!((disk.bytes(&blocks), disk.bytes(&index)), (None, None));
    let kept = disk.bytes(&format!("{blocks}.0.damaged"));
    assert_eq!(kept.as_ref(), Some(&made[0].1));
}

#[test]
fn blocks_of_another_length_than_their_index_says_are_told_at_the_opening() {
    let (files, events) = sealed_store();
    let (name, bytes) = files
        .iter()
        .find(|(name, _)| name.strip_suffix(".blocks").is_some())
        .expect("blocks");
    let longer = [&bytes[..], b"more"].concat();
    for (changed, gaps) in [(&bytes[..bytes.len() - 1], 1), (&longer, 0)] {
        let disk = SimulatedDisk::new(0);
        for (name, bytes) in &files {
            disk.put(name, bytes);
        }
        disk.put(name, changed);

        let rig = Rig::open(&disk, &options(Durability::Always), None);

        assert_eq!((rig.opened.rebuilt, rig.opened.gaps.len()), (1, gaps));
        let (found, unreadable) = rig.read_what_can_be_read();
        assert_eq!((found.len() < events.len(), unreadable), (gaps > 0, 0));
    }
}

#[test]
fn a_file_with_a_number_that_no_segment_has_is_left_alone() {
    let (files, events) = sealed_store();
    let disk = SimulatedDisk::new(0);
    for (name, bytes) in &files {
        disk.put(name, bytes);
    }
    for base in ["0000000000000000", "ffffffffffffffff"] {
        disk.put(&format!("{base}-{:016x}.seg", 77), b"anything");
    }

    let rig = Rig::open(&disk, &options(Durability::Always), None);

    assert_eq!((rig.reported(), rig.read()), (false, events));
}
