//! What a sibling still serves while a child crashes as fast as it is started.

use std::{panic::panic_any, time::Duration};

use anyhow::Result;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use underpin::otp::{Address, ChildSpec, Intensity, Supervisor, SupervisorSpec};

use super::{
    BOOM, bare,
    count::calls,
    supervised::{self, Counter},
};
use crate::{
    figure::{Sides, UNDERPIN},
    measure::{Workers, drive},
};

/// One caller asks a counter again and again, while its sibling panics in each of its starts' first steps. Two workers, one of
/// which the storm keeps busy for good.
///
/// Not equal: `calm` is underpin without the storm. `ractor` respawns from its supervision event, counts nothing and waits for
/// nothing of the one before.
pub(super) fn sides(sides: &mut Sides) -> Result<()> {
    for (who, stormy) in [(UNDERPIN, true), ("calm", false)] {
        let runtime = Workers::Two.runtime();
        sides.add(who, move |time| Ok(drive(&runtime, underpin(time, stormy))));
    }
    let runtime = Workers::Two.runtime();
    sides.add("ractor", move |time| Ok(drive(&runtime, ractor(time))));
    Ok(())
}

fn per_second(nanoseconds: f64) -> f64 {
    1e9 / nanoseconds
}

/// Panics as soon as it runs.
struct Bomb;

impl Actor for Bomb {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn post_start(&self, _: ActorRef<()>, (): &mut ()) -> Result<(), ActorProcessingErr> {
        panic_any(BOOM)
    }
}

async fn underpin(time: Duration, stormy: bool) -> f64 {
    const TIMEOUT: Duration = Duration::from_secs(1);
    // More restarts than a machine can make.
    let endless = Intensity::new(u32::MAX, Duration::from_millis(1));
    let counter = Address::new();
    let mut spec =
        SupervisorSpec::new("versus", endless)
            .child(ChildSpec::actor("counter", &counter, |_| (Counter, ())));
    if stormy {
        let bomb = ChildSpec::actor("bomb", &Address::new(), |_| (Bomb, ()));
        spec = spec.child(bomb);
    }
    let supervisor = Supervisor::start(spec).await.expect("the tree starts");
    let took = calls!(
        time,
        counter
            .call(supervised::Message::Get, TIMEOUT)
            .await
            .expect("the sibling lives")
    );
    supervisor.stop().await;
    per_second(took)
}

/// Respawns the bomb as often as it goes off.
struct Respawner;

impl Actor for Respawner {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, me: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Actor::spawn_linked(None, Bomb, (), me.get_cell()).await?;
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<()>,
        event: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(..) = event {
            Actor::spawn_linked(None, Bomb, (), me.get_cell()).await?;
        }
        Ok(())
    }
}

async fn ractor(time: Duration) -> f64 {
    let (respawner, task) = Actor::spawn(None, Respawner, ())
        .await
        .expect("the supervisor starts");
    let took = bare::call_with_timeout(time).await;
    respawner.stop(None);
    task.await.expect("the supervisor ends");
    per_second(took)
}
