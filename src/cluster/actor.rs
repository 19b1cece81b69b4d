//! The shell of the membership: asks [`State`], carries out, and publishes what it sees.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time;

use super::{
    connect,
    error::{ConnectError, Refusal},
    figures::Counted,
    frame::{Frame, PEERS_MAX},
    link::Link,
    member::{Connection, DownReason, Member, MemberEvent, MemberKind, MemberState},
    message::Message,
    shared::{Links, Shared},
    state::{self, Effect, Input, LinkNumber, LostWhy, News, Rules, Standing, State},
};
use crate::ids::NodeName;

pub(super) struct Membership;

pub(super) struct Room {
    shared: Arc<Shared>,
    state: State,
    links: HashMap<LinkNumber, (Arc<Link>, Counted)>,
    ticked: Duration,
}

impl Actor for Membership {
    type Msg = Message;
    type State = Room;
    type Arguments = Arc<Shared>;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        shared: Arc<Shared>,
    ) -> Result<Room, ActorProcessingErr> {
        shared.begin_life();
        let rules = Rules {
            timeout: shared.options.timeout,
            backoff: shared.options.backoff()?,
        };
        let before = shared.members.load_full();
        let has_left = shared.has_left.load(Ordering::Relaxed);
        let mut room = Room {
            state: State::new(shared.me.clone(), rules),
            links: HashMap::new(),
            ticked: shared.clock.now(),
            shared,
        };
        if has_left {
            // It was told to leave in a life before.
            room.step(&Input::Leave);
            myself.cast(Message::Tick)?;
            return Ok(room);
        }
        for seed in room.shared.options.seeds.clone() {
            room.step(&Input::Join {
                address: &seed,
                is_seed: true,
            });
        }
        // Those that the life before knew: they need not wait until somebody names them.
        for (_, member) in before.iter().filter(|(_, it)| !it.address.is_empty()) {
            if member.state != MemberState::Left {
                room.step(&Input::Join {
                    address: &member.address,
                    is_seed: false,
                });
            }
        }
        myself.cast(Message::Tick)?;
        Ok(room)
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        room: &mut Room,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Tick => {
                room.tick();
                let _timer = myself.send_after(room.shared.options.heartbeat, || Message::Tick);
            }
            Message::Greeted {
                link,
                address,
                admitted,
            } => {
                let answer = room.greeted(link, address.as_deref());
                // Whoever asked may have gone, and says so itself.
                let _ = admitted.send(answer);
            }
            Message::Confirmed { link } => room.step(&Input::Confirmed { link }),
            Message::Asked { about, reply } => {
                let _ = reply.send(room.state.objection_to(&about));
            }
            Message::DialFailed { address, error } => room.dial_failed(&address, &error),
            Message::Lost { link, why } => {
                room.step(&Input::Lost { link, why });
                room.lost(link);
                room.publish();
            }
            Message::Told { link } => {
                let told = room.links.get(&link).map(|(link, _)| link.take_told());
                room.step(&Input::Told {
                    peers: &told.unwrap_or_default(),
                });
            }
            Message::Leaves { link } => room.step(&Input::Leaves { link }),
            Message::Join { address } => room.step(&Input::Join {
                address: &address,
                is_seed: true,
            }),
            Message::Leave { reply } => {
                room.shared.has_left.store(true, Ordering::Relaxed);
                room.step(&Input::Leave);
                reply.send(());
            }
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<Message>,
        room: &mut Room,
    ) -> Result<(), ActorProcessingErr> {
        if !room.state.is_leaving() {
            room.step(&Input::Leave);
        }
        // What is left to say goes out, unless somebody does not read it.
        let closing = async {
            for (link, _) in room.links.values() {
                link.closing.cancelled().await;
            }
        };
        let _ = time::timeout(FAREWELL, closing).await;
        Ok(())
    }
}

/// How long a peer may take to read that this node leaves.
const FAREWELL: Duration = Duration::from_millis(500);

impl Drop for Room {
    /// Also when the actor is killed: its connections end with it.
    fn drop(&mut self) {
        self.shared.begin_life();
        self.shared.links.store(Arc::default());
        for (link, _) in self.links.values() {
            link.close(LostWhy::Closed);
        }
    }
}

impl Room {
    fn step(&mut self, input: &Input<'_>) {
        let now = self.shared.clock.now();
        let effects = self.state.step(input, now, fastrand::f64());
        for effect in effects {
            self.carry_out(effect);
        }
        self.settled();
        self.publish();
    }

    /// What was wrong with an address that is not tried any more is not wrong now, whoever opened the connection.
    fn settled(&self) {
        let mut failures = self.shared.failures.lock();
        failures.retain(|address, _| self.state.is_sought(address));
    }

    fn tick(&mut self) {
        let now = self.shared.clock.now();
        // When this node itself stood still, what others said in that time has not been read yet.
        let stood_still = now.saturating_sub(self.ticked) > self.shared.options.heartbeat * 2;
        self.ticked = now;
        for (link, counted) in self.links.values_mut() {
            link.ping();
            self.shared.figures.traffic(link, counted);
        }
        let heard = |link: &Link| if stood_still { now } else { link.heard() };
        let heard: Vec<_> = self
            .links
            .values()
            .map(|(link, _)| (link.number(), heard(link)))
            .collect();
        self.step(&Input::Tick { heard: &heard });
        let states = self
            .state
            .members()
            .map(|(_, member)| state_of(&member.standing));
        self.shared.figures.nodes(states);
    }

    /// What went over a connection that is over counts up to its end.
    fn lost(&mut self, link: LinkNumber) {
        if let Some((link, counted)) = self.links.remove(&link) {
            self.shared.figures.lost(&link, counted);
        }
    }

    fn greeted(&mut self, link: Arc<Link>, address: Option<&str>) -> Result<(), Refusal> {
        let (number, linked) = (link.number(), link.linked);
        let about = link.about.clone();
        self.links.insert(number, (link, Counted::default()));
        let now = self.shared.clock.now();
        let input = Input::Greeted {
            link: linked,
            about: &about,
            address,
        };
        let effects = self.state.step(&input, now, fastrand::f64());
        let mut answer = Ok(());
        for effect in effects {
            match effect {
                Effect::Refuse { refusal, .. } => {
                    self.links.remove(&number);
                    answer = Err(refusal);
                }
                effect => self.carry_out(effect),
            }
        }
        self.settled();
        self.publish();
        answer
    }

    fn dial_failed(&mut self, address: &str, error: &ConnectError) {
        let refusal = match error {
            ConnectError::Refused { refusal, .. } => Some(refusal.clone()),
            _ => None,
        };
        let harmless = matches!(refusal, Some(Refusal::Itself | Refusal::Connected { .. }));
        if harmless {
            self.shared.failures.lock().remove(address);
        } else {
            self.shared.figures.failed.add(1);
            let mut failures = self.shared.failures.lock();
            let is_new = failures.insert(address.to_owned(), error.clone()).is_none();
            drop(failures);
            if is_new {
                tracing::warn!(%error, "a node cannot be joined; it is tried again");
            } else {
                tracing::debug!(%error, "a node cannot be joined; it is tried again");
            }
        }
        self.step(&Input::DialFailed {
            address,
            refusal: refusal.as_ref(),
        });
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Dial { address } => {
                let (shared, life) = (Arc::clone(&self.shared), self.shared.life());
                tokio::spawn(async move {
                    tokio::select! {
                        () = life.cancelled() => {}
                        () = connect::dial(shared, address) => {}
                    }
                });
            }
            Effect::Admit { link } => {
                // First everybody finds it, so that who joins a group from now on is told over it.
                self.publish();
                if let Some((link, _)) = self.links.get(&link) {
                    self.shared.groups.introduce(&self.shared, link.node());
                }
            }
            // Only in answer to a greeting, which sees to it itself.
            Effect::Refuse { .. } => {}
            Effect::Close { link } => {
                if let Some((link, _)) = self.links.get(&link) {
                    link.close(LostWhy::Silent);
                }
            }
            Effect::Tell { link, peers } => {
                if let Some((link, _)) = self.links.get(&link) {
                    // In pieces that any frame has room for.
                    for part in peers.chunks(PEERS_MAX) {
                        link.outbox.control(&Frame::Peers(part.to_vec()));
                    }
                }
            }
            Effect::SayLeave { link } => {
                if let Some((link, _)) = self.links.get(&link) {
                    link.outbox.control(&Frame::Leave);
                    link.finish();
                }
            }
            Effect::Announce { name, news } => self.announce(&name, news),
        }
    }

    fn announce(&self, name: &NodeName, news: News) {
        let (word, event) = match news {
            News::Joining => ("joining", MemberEvent::Joining(name.clone())),
            News::Up => ("up", MemberEvent::Up(name.clone())),
            News::Suspect => ("suspect", MemberEvent::Suspect(name.clone())),
            News::Recovered => ("recovered", MemberEvent::Recovered(name.clone())),
            News::Down(why) => ("down", MemberEvent::Down(name.clone(), reason(why))),
            News::Left => ("left", MemberEvent::Left(name.clone())),
        };
        if let News::Down(_) = news {
            tracing::warn!(node = %name, ?news, "a node is gone");
        } else {
            tracing::info!(node = %name, ?news, "a node");
        }
        self.shared.figures.event(word);
        // The lists first: whoever hears of it looks at them.
        self.publish();
        let _ = self.shared.news.send(event);
    }

    /// Shows everybody what is.
    fn publish(&self) {
        let mut links = Links::new();
        let mut members = Vec::new();
        for (name, member) in self.state.members() {
            let link = member.link().and_then(|link| self.links.get(&link.number));
            if let Some((link, _)) = link {
                links.insert(name.clone(), Arc::clone(link));
            }
            members.push((member.since, seen(name, member)));
        }
        self.shared.links.store(Arc::new(links));
        self.shared.members.store(Arc::new(members));
    }
}

/// What is told of a node; how long it has been so, and how its connection is, shows whoever looks.
fn seen(name: &NodeName, member: &state::Member) -> Member {
    Member {
        name: name.clone(),
        id: Some(member.id),
        incarnation: member.incarnation,
        kind: MemberKind::Underpin,
        state: state_of(&member.standing),
        since: Duration::ZERO,
        why: match member.standing {
            Standing::Down { why } => Some(reason(why)),
            _ => None,
        },
        address: member.address.clone(),
        underpin: member.underpin.clone(),
        connection: None,
        plain: None,
    }
}

pub(super) fn connection(link: &Link) -> Connection {
    use std::sync::atomic::Ordering::Relaxed;
    Connection {
        round_trip: link.round_trip(),
        bytes_sent: link.traffic.bytes_sent.load(Relaxed),
        bytes_received: link.traffic.bytes_received.load(Relaxed),
        messages_sent: link.traffic.messages_sent.load(Relaxed),
        messages_received: link.traffic.messages_received.load(Relaxed),
        backlog_bytes: link.outbox.backlog(),
        in_flight_bytes: link.outbox.in_flight(),
        serving: link.serving.load(Relaxed),
    }
}

fn state_of(standing: &Standing) -> MemberState {
    match standing {
        Standing::Joining => MemberState::Joining,
        Standing::Alive { .. } => MemberState::Alive,
        Standing::Suspect { .. } => MemberState::Suspect,
        Standing::Down { .. } => MemberState::Down,
        Standing::Left => MemberState::Left,
    }
}

fn reason(why: LostWhy) -> DownReason {
    match why {
        LostWhy::Closed => DownReason::Closed,
        LostWhy::Silent => DownReason::Silent,
        LostWhy::Violated => DownReason::Violated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{
        Delivery,
        groups::ClusterGroup,
        reader::tests::{link, shared},
    };

    fn room(shared: &Arc<Shared>) -> Room {
        let rules = Rules {
            timeout: shared.options.timeout,
            backoff: shared.options.backoff().expect("valid"),
        };
        Room {
            shared: Arc::clone(shared),
            state: State::new(shared.me.clone(), rules),
            links: HashMap::new(),
            ticked: Duration::ZERO,
        }
    }

    fn group(shared: &Arc<Shared>, name: &str) -> ClusterGroup<u64> {
        ClusterGroup::open(Arc::clone(shared), name)
    }

    struct Member;

    impl Actor for Member {
        type Msg = Delivery<u64>;
        type State = ();
        type Arguments = ();

        async fn pre_start(
            &self,
            _: ActorRef<Delivery<u64>>,
            (): (),
        ) -> Result<(), ActorProcessingErr> {
            Ok(())
        }
    }

    /// How many members of which groups a node was told of, frame by frame.
    async fn told(link: &Link) -> Vec<(String, u32)> {
        let mut bytes = Vec::new();
        assert!(link.outbox.next(&mut bytes).await);
        let (mut rest, mut told) = (&bytes[..], Vec::new());
        while !rest.is_empty() {
            let frame = crate::cluster::wire::next_frame(rest, 64 << 10).expect("short");
            let (body, taken) = frame.expect("whole");
            let Ok(Frame::Members { groups, .. }) = Frame::read(body) else {
                panic!("another frame");
            };
            told.extend(
                groups
                    .iter()
                    .map(|(name, count)| ((*name).to_owned(), *count)),
            );
            rest = &rest[taken..];
        }
        told
    }

    /// Members were counted before the connection could be found: who joined in between was never told of there. So now they are told
    /// over the connection that can be found.
    #[tokio::test(start_paused = true)]
    async fn a_new_node_is_told_of_members_when_whoever_joins_can_find_it() {
        let shared = shared();
        let (link, mut room) = (link(&shared, 1), room(&shared));
        let (member, _) = Actor::spawn(None, Member, ()).await.expect("starts");
        group(&shared, "readers").join(&member).expect("lives");
        shared.groups.introduce(&shared, link.node());
        assert_eq!(link.outbox.backlog(), 0, "it cannot be found yet");

        room.greeted(Arc::clone(&link), None).expect("let in");

        assert_eq!(told(&link).await, [("readers".to_owned(), 1)]);
    }

    /// What came late over a connection that had just been replaced took the place of what had come over the new one, until the next
    /// change.
    #[tokio::test(start_paused = true)]
    async fn members_are_those_that_were_told_over_the_connection_in_use() {
        let shared = shared();
        let [old, new] = [1, 2].map(|number| link(&shared, number));
        let readers = group(&shared, "readers");
        let mut room = room(&shared);
        room.greeted(Arc::clone(&old), None).expect("let in");
        old.counts.learn(true, &[("readers", 3)]);
        assert_eq!(readers.count(), 3);
        let silent = shared.options.timeout * 3 / 4;
        let heard = [(old.number(), Duration::ZERO)];
        room.state.step(&Input::Tick { heard: &heard }, silent, 0.5);

        room.greeted(Arc::clone(&new), None).expect("let in");
        assert_eq!(readers.count(), 0, "it has said nothing yet");
        new.counts.learn(true, &[("readers", 2)]);
        old.counts.learn(false, &[("readers", 5)]);
        room.lost(old.number());

        assert_eq!(readers.count(), 2);
        room.step(&Input::Lost {
            link: new.number(),
            why: LostWhy::Closed,
        });
        assert_eq!(readers.count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn names_of_groups_fit_into_the_shortest_frame() {
        let shared = shared();
        let (member, _) = Actor::spawn(None, Member, ()).await.expect("starts");
        let names = (0..600).map(|n| format!("{n:>256}"));
        for name in names.chain(["x".repeat(257)]) {
            group(&shared, &name).join(&member).expect("lives");
        }
        let link = link(&shared, 1);

        room(&shared)
            .greeted(Arc::clone(&link), None)
            .expect("let in");

        let told = told(&link).await;
        assert!(told.iter().all(|(name, _)| name.len() == 256));
        assert_eq!(told.len(), 600);
    }
}
