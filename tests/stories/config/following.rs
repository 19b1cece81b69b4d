//! Those who are told without asking: actors in a group, and callbacks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::mpsc, time::timeout};
use underpin::{
    config::Notice,
    otp::{ChildSpec, Groups, Intensity, Supervisor, SupervisorSpec},
    ractor::{Actor, ActorProcessingErr, ActorRef},
    value::Value,
};

use super::foundation::Node;

/// Tells the story what it was told.
struct Listener;

struct Told(Notice);
underpin::otp::message!(Told);

impl From<Notice> for Told {
    fn from(notice: Notice) -> Self {
        Self(notice)
    }
}

type Heard = mpsc::UnboundedReceiver<Option<Value>>;

impl Actor for Listener {
    type Msg = Told;
    type State = mpsc::UnboundedSender<Option<Value>>;
    type Arguments = mpsc::UnboundedSender<Option<Value>>;

    async fn pre_start(
        &self,
        _: ActorRef<Told>,
        heard: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(heard)
    }

    async fn handle(
        &self,
        _: ActorRef<Told>,
        Told(notice): Told,
        heard: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        drop(heard.send(notice.value));
        Ok(())
    }
}

async fn listener() -> (ActorRef<Told>, Heard) {
    let (heard, hear) = mpsc::unbounded_channel();
    let (actor, _) = Actor::spawn(None, Listener, heard)
        .await
        .expect("it starts");
    (actor, hear)
}

async fn running(child: ChildSpec) -> Supervisor {
    let spec = SupervisorSpec::new("following", Intensity::new(3, Duration::from_secs(5)));
    Supervisor::start(spec.child(child))
        .await
        .expect("it starts")
}

async fn next(heard: &mut Heard) -> Option<Value> {
    let next = timeout(Duration::from_secs(5), heard.recv()).await;
    next.expect("told in time").expect("the actor lives")
}

async fn write(node: &Node, value: i64) {
    node.config
        .update("interface.max_results", value)
        .await
        .expect("it is valid");
}

#[tokio::test]
async fn actors_of_a_group_are_told_what_is_and_then_every_change_in_order() {
    let node = Node::start().await;
    let group = Groups::new("here").group::<Told>("results");
    let (early, mut early_heard) = listener().await;
    group.join(&early).expect("it lives");
    let teller = node
        .document
        .telling("teller", "app.interface.max_results", &group)
        .expect("a path");
    let _following = running(teller).await;
    assert_eq!(next(&mut early_heard).await, Some(Value::from(1000)));

    write(&node, 1).await;
    assert_eq!(next(&mut early_heard).await, Some(Value::from(1)));
    let (late, mut late_heard) = listener().await;
    group.join(&late).expect("it lives");
    assert_eq!(next(&mut late_heard).await, Some(Value::from(1)));
    node.stop_server().await;
    node.start_server().await;
    for value in 2..=20 {
        write(&node, value).await;
    }

    for value in 2..=20 {
        assert_eq!(next(&mut early_heard).await, Some(Value::from(value)));
        assert_eq!(next(&mut late_heard).await, Some(Value::from(value)));
    }
}

/// As whoever subscribed twice, it was told of each change twice; and one that had left was now and then told of the next one.
#[tokio::test]
async fn f27_an_actor_that_joined_twice_is_told_once_until_it_has_left_twice() {
    let node = Node::start().await;
    let group = Groups::new("here").group::<Told>("results");
    let (twice, mut heard) = listener().await;
    let (other, mut other_heard) = listener().await;
    group
        .join_all(&[twice.clone(), twice.clone()])
        .expect("it lives");
    let teller = node
        .document
        .telling("teller", "app.interface.max_results", &group)
        .expect("a path");
    let _following = running(teller).await;
    assert_eq!(next(&mut heard).await, Some(Value::from(1000)));

    write(&node, 1).await;
    group.leave(&twice).expect("it is in it twice");
    write(&node, 2).await;
    assert_eq!(next(&mut heard).await, Some(Value::from(1)));
    assert_eq!(next(&mut heard).await, Some(Value::from(2)));
    group.leave(&twice).expect("it is in it once");
    group.join(&other).expect("it lives");
    for value in 3..=20 {
        write(&node, value).await;
    }

    while next(&mut other_heard).await != Some(Value::from(20)) {}
    assert!(heard.try_recv().is_err(), "it has left");
}

#[tokio::test]
async fn f28_an_actor_that_ends_is_told_no_more_and_harms_nobody() {
    let node = Node::start().await;
    let group = Groups::new("here").group::<Told>("results");
    let ((gone, _), (stays, mut heard)) = (listener().await, listener().await);
    group
        .join_all(&[gone.clone(), stays.clone()])
        .expect("they live");
    let teller = node
        .document
        .telling("teller", "app.interface.max_results", &group)
        .expect("a path");
    let _following = running(teller).await;
    next(&mut heard).await;

    gone.stop_and_wait(None, None).await.expect("it stops");
    write(&node, 1).await;

    assert_eq!(next(&mut heard).await, Some(Value::from(1)));
    assert_eq!(group.members().len(), 1);
}

#[tokio::test]
async fn a_callback_that_panics_is_called_again_with_what_is() {
    let node = Node::start().await;
    let (told, mut heard) = mpsc::unbounded_channel();
    let panics = Arc::new(AtomicBool::new(false));
    let callback = {
        let panics = Arc::clone(&panics);
        move |notice: Notice| {
            assert!(
                !panics.swap(false, Ordering::SeqCst),
                "a defect of the callback"
            );
            drop(told.send(notice.value));
        }
    };
    let child = node
        .document
        .calling("callback", "app.interface.max_results", callback);
    let _following = running(child.expect("a path")).await;
    assert_eq!(next(&mut heard).await, Some(Value::from(1000)));

    panics.store(true, Ordering::SeqCst);
    write(&node, 1).await;
    assert_eq!(next(&mut heard).await, Some(Value::from(1)));
    write(&node, 2).await;

    assert_eq!(next(&mut heard).await, Some(Value::from(2)));
}
