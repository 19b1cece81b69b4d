//! The shell of the membership: asks [`State`], carries out, and publishes what it sees.

use std::{collections::HashMap, sync::Arc, time::Duration};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time;

use super::{
    connect,
    error::{ConnectError, Refusal},
    figures::Counted,
    frame::Frame,
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
        let mut room = Room {
            state: State::new(shared.me.clone(), rules),
            links: HashMap::new(),
            ticked: shared.clock.now(),
            shared,
        };
        for seed in room.shared.options.seeds.clone() {
            room.step(&Input::Join {
                address: &seed,
                is_seed: true,
            });
        }
        // Those that the life before knew: they need not wait until somebody names them.
        for member in before.iter().filter(|member| !member.address.is_empty()) {
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
            Message::Asked { about, reply } => {
                let _ = reply.send(room.state.objection_to(&about));
            }
            Message::DialFailed { address, error } => room.dial_failed(&address, &error),
            Message::Lost { link, why } => {
                room.step(&Input::Lost { link, why });
                room.links.remove(&link);
                room.publish();
            }
            Message::Told { peers, permit } => {
                room.step(&Input::Told { peers: &peers });
                drop(permit);
            }
            Message::Leaves { link } => room.step(&Input::Leaves { link }),
            Message::Join { address } => room.step(&Input::Join {
                address: &address,
                is_seed: true,
            }),
            Message::Leave { reply } => {
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
            self.shared.groups.forget(link.node());
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
        self.publish();
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
        if let Some(address) = address {
            self.shared.failures.lock().remove(address);
        }
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
                if let Some((link, _)) = self.links.get(&link) {
                    self.shared.groups.introduce(link);
                }
            }
            // Only in answer to a greeting, which sees to it itself.
            Effect::Refuse { .. } => {}
            Effect::Close { link } => {
                if let Some((link, _)) = self.links.get(&link) {
                    link.close(LostWhy::Silent);
                }
            }
            Effect::Retire { link } => {
                if let Some((link, _)) = self.links.get(&link) {
                    tokio::spawn(retire(Arc::clone(link)));
                }
            }
            Effect::Tell { link, peers } => {
                if let Some((link, _)) = self.links.get(&link) {
                    // In pieces that any frame has room for.
                    for part in peers.chunks(64) {
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
        match news {
            News::Down(_) | News::Left => {
                self.shared.groups.forget(name);
                tracing::warn!(node = %name, ?news, "a node is gone");
            }
            _ => tracing::info!(node = %name, ?news, "a node"),
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
        let now = self.shared.clock.now();
        for (name, member) in self.state.members() {
            let link = member.link().and_then(|link| self.links.get(&link.number));
            if let Some((link, _)) = link {
                links.insert(name.clone(), Arc::clone(link));
            }
            members.push(seen(name, member, link.map(|(link, _)| &**link), now));
        }
        self.shared.links.store(Arc::new(links));
        self.shared.members.store(Arc::new(members));
    }
}

/// Lets what is under way on a connection come to its end, then closes it.
async fn retire(link: Arc<Link>) {
    const LEAST: Duration = Duration::from_secs(1);
    const LOOKS: usize = 10;
    for _ in 0..LOOKS {
        time::sleep(LEAST).await;
        if link.is_idle() {
            break;
        }
    }
    link.close(LostWhy::Closed);
}

pub(super) fn seen(
    name: &NodeName,
    member: &state::Member,
    link: Option<&Link>,
    now: Duration,
) -> Member {
    Member {
        name: name.clone(),
        id: Some(member.id),
        incarnation: member.incarnation,
        kind: MemberKind::Underpin,
        state: state_of(&member.standing),
        since: now.saturating_sub(member.since),
        why: match member.standing {
            Standing::Down { why } => Some(reason(why)),
            _ => None,
        },
        address: member.address.clone(),
        underpin: member.underpin.clone(),
        connection: link.map(connection),
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
