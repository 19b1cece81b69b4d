//! Messages to an actor, its restart, and ten thousand children.
//!
//! All actors count: `Inc` adds one, `Get` answers the count. Mailboxes of the peers are unbounded; underpin admits 1024
//! requests at once and carries a permit and a correlation context in each, which is what it adds.

mod actix;
mod bare;
mod children;
mod count;
mod group;
mod kameo;
mod registry;
mod restart;
mod storm;
mod supervised;

use anyhow::Result;
use children::Wanted;

use crate::{
    figure::{Figure, Goal, LIMIT, Sides, UNDERPIN, Unit},
    measure::{Workers, drive},
};

/// What an actor says that panics because it was told to.
pub const BOOM: &str = "boom";

pub const FIGURES: &[Figure] = &[
    Figure {
        name: "otp.call",
        unit: Unit::Nanoseconds,
        goals: CALL,
        sides: |sides| call(sides, Workers::Two),
    },
    Figure {
        name: "otp.call.1w",
        unit: Unit::Nanoseconds,
        goals: CALL,
        sides: |sides| call(sides, Workers::One),
    },
    Figure {
        name: "otp.cast",
        unit: Unit::MessagesPerSecond,
        goals: &[Goal::Ratio(0.8, "ractor")],
        sides: |sides| cast(sides, Workers::Two),
    },
    Figure {
        name: "otp.cast.1w",
        unit: Unit::MessagesPerSecond,
        goals: &[Goal::Ratio(0.75, "ractor")],
        sides: |sides| cast(sides, Workers::One),
    },
    Figure {
        name: "otp.group.broadcast",
        unit: Unit::Microseconds,
        goals: &[Goal::Ratio(1.2, LIMIT)],
        sides: group::broadcast,
    },
    Figure {
        name: "otp.registry.lookup.1t",
        unit: Unit::Nanoseconds,
        goals: &[Goal::BestPeer(1.2)],
        sides: |sides| registry::lookup(sides, 1),
    },
    Figure {
        name: "otp.registry.lookup.2t",
        unit: Unit::Nanoseconds,
        goals: &[Goal::BestPeer(1.2)],
        sides: |sides| registry::lookup(sides, 2),
    },
    Figure {
        name: "otp.restart",
        unit: Unit::Microseconds,
        goals: &[Goal::Ratio(1.5, "ractor")],
        sides: restart::sides,
    },
    Figure {
        name: "otp.storm",
        unit: Unit::MessagesPerSecond,
        goals: &[Goal::Ratio(0.8, "calm")],
        sides: storm::sides,
    },
    Figure {
        name: "otp.start.10k",
        unit: Unit::Milliseconds,
        goals: &[Goal::Ratio(2.0, "ractor")],
        sides: |sides| children::sides(sides, Wanted::Start),
    },
    Figure {
        name: "otp.stop.10k",
        unit: Unit::Milliseconds,
        goals: &[Goal::Value(BEAM_STOP_MS)],
        sides: |sides| children::sides(sides, Wanted::Stop),
    },
    Figure {
        name: "otp.child.bytes",
        unit: Unit::Bytes,
        goals: &[Goal::More(1500.0, "ractor")],
        sides: |sides| children::sides(sides, Wanted::Bytes),
    },
];

/// What a `DynamicSupervisor` of Elixir took to stop 10,000 children on a machine of two cores; 470 at worst.
const BEAM_STOP_MS: f64 = 284.0;

const CALL: &[Goal] = &[Goal::Ratio(1.15, "ractor"), Goal::Ratio(1.5, LIMIT)];

/// One caller asks for the count, again and again.
///
/// Seen: 0.65 of `ractor` and 1.47 times `limit` on two workers; 1.1 times `ractor` on one, and 1.2 to 1.55 times `limit`,
/// where it misses at times by the noise of the run. What a call has beyond `limit` is its deadline (a look at the clock, and one more turn
/// through the scheduler before a timer is armed), a place at the address and back, and who it is that answers.
///
/// Not equal: `ractor` has a timeout as underpin has, `limit` is bare ractor without; kameo and actix have none either.
/// actix runs on one thread only and stands in `otp.call.1w` alone.
fn call(sides: &mut Sides, workers: Workers) -> Result<()> {
    let runtime = workers.runtime();
    sides.add(UNDERPIN, move |time| {
        Ok(drive(&runtime, supervised::call(time)))
    });
    let runtime = workers.runtime();
    sides.add(LIMIT, move |time| Ok(drive(&runtime, bare::call(time))));
    let runtime = workers.runtime();
    sides.add("ractor", move |time| {
        Ok(drive(&runtime, bare::call_with_timeout(time)))
    });
    let runtime = workers.runtime();
    sides.add("kameo", move |time| Ok(drive(&runtime, kameo::call(time))));
    if matches!(workers, Workers::One) {
        sides.add("actix", |time| Ok(actix::call(time)));
    }
    Ok(())
}

/// One producer casts, and yields every 256 messages; timed from the first cast until the last is handled.
///
/// Not equal: underpin's casts are admitted and counted, and wait when 1024 are in flight; all others pile up in the
/// mailbox. `limit` and `ractor` are the same code, so that their distance is the noise of the run. actix stands in
/// `otp.cast.1w` alone.
///
/// Seen on two cores: 0.73 to 0.93 of `ractor` on two workers, 0.65 to 0.73 on one (0.42 once, in a run that was not calm), where it
/// misses; an older build the same in turns. On one worker nothing
/// is done beside, so that all shows that a cast does beyond a bare one: two locked operations for its place, two to read who
/// lives at the address, one to take the state out for the message; a larger message, which ractor copies on its way; a note
/// of who runs. A profile shows it spread over all of these. Tried, and dearer: a semaphore, a counter of places beside the
/// references to the gate (one locked operation more), a lock around the state that can be waited for (three times the
/// exchange). The floor with a place for each message is these five operations; `Address::send` does without the place.
fn cast(sides: &mut Sides, workers: Workers) -> Result<()> {
    let runtime = workers.runtime();
    sides.add(UNDERPIN, move |time| {
        Ok(drive(&runtime, supervised::cast(time)))
    });
    for who in [LIMIT, "ractor"] {
        let runtime = workers.runtime();
        sides.add(who, move |time| Ok(drive(&runtime, bare::cast(time))));
    }
    let runtime = workers.runtime();
    sides.add("kameo", move |time| Ok(drive(&runtime, kameo::cast(time))));
    if matches!(workers, Workers::One) {
        sides.add("actix", |time| Ok(actix::cast(time)));
    }
    Ok(())
}
