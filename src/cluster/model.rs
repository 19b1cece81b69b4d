//! The membership of several nodes against a network that loses, delays and cuts, and nodes that crash, freeze and start anew: when the
//! faults are over, every two nodes have one connection, and both the same. Meanwhile each sends numbers to each other, which arrive
//! in order or not at all; and all of them where nothing goes wrong.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;

use super::{
    error::Refusal,
    handshake::{About, tests::about},
    state::{Effect, Input, LinkNumber, Linked, LostWhy, News, Rules, Standing, State},
};
use crate::resilience::Backoff;

const STEP: Duration = Duration::from_millis(50);
const TIMEOUT: Duration = Duration::from_millis(400);
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

fn rules() -> Rules {
    let backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(800));
    Rules {
        timeout: TIMEOUT,
        backoff: backoff.expect("valid"),
    }
}

/// What is on its way.
#[derive(Debug, Clone)]
enum Event {
    /// A claim arrives at the listener.
    Claim {
        link: LinkNumber,
    },
    /// The listener's word arrives at the dialler.
    Word {
        link: LinkNumber,
        refusal: Option<Refusal>,
    },
    /// An end of a connection arrives.
    End {
        link: LinkNumber,
        at: usize,
    },
    /// Addresses arrive.
    Peers {
        at: usize,
        peers: Vec<super::frame::Peer>,
    },
    Leaves {
        link: LinkNumber,
        at: usize,
    },
    /// The dialler's first frame arrives at the listener.
    First {
        link: LinkNumber,
    },
    /// A cast arrives.
    Cast {
        link: LinkNumber,
        at: usize,
        number: u64,
    },
}

struct Pipe {
    dialler: usize,
    listener: usize,
    address: String,
    serial: u64,
    /// Which of the two has closed its end: the dialler, the listener.
    closed: [bool; 2],
    /// Whose incarnations it connects.
    lives: [u64; 2],
}

struct World {
    nodes: Vec<State>,
    lives: Vec<u64>,
    up: Vec<bool>,
    /// Nothing goes from the first to the second.
    cut: Vec<(usize, usize)>,
    pipes: BTreeMap<LinkNumber, Pipe>,
    wire: Vec<Event>,
    now: Duration,
    serial: u64,
    seen: Vec<(usize, String, News)>,
    /// How many casts each has sent to each other.
    sent: BTreeMap<(usize, usize), u64>,
    /// Those that arrived, by who sent them in which life, and where.
    arrived: BTreeMap<(usize, u64, usize, u64), Vec<u64>>,
}

impl Pipe {
    fn side(&self, node: usize) -> usize {
        usize::from(self.listener == node)
    }

    fn is_open(&self) -> bool {
        self.closed == [false; 2]
    }
}

impl World {
    fn new(count: usize) -> Self {
        let mut world = Self {
            nodes: Vec::new(),
            lives: vec![1; count],
            up: vec![true; count],
            cut: Vec::new(),
            pipes: BTreeMap::new(),
            wire: Vec::new(),
            now: Duration::ZERO,
            serial: 0,
            seen: Vec::new(),
            sent: BTreeMap::new(),
            arrived: BTreeMap::new(),
        };
        for node in 0..count {
            world.nodes.push(State::new(world.about(node), rules()));
        }
        (0..count).for_each(|node| world.join(node));
        world
    }

    fn about(&self, node: usize) -> About {
        about(
            NAMES[node],
            u16::try_from(node).expect("few"),
            self.lives[node],
        )
    }

    fn address(node: usize) -> String {
        format!("{}.example:4620", NAMES[node])
    }

    fn at(address: &str) -> usize {
        NAMES
            .iter()
            .position(|name| address.starts_with(name))
            .expect("one of them")
    }

    /// All know the first; the first knows nobody.
    fn join(&mut self, node: usize) {
        if node != 0 {
            self.step(
                node,
                &Input::Join {
                    address: &Self::address(0),
                    is_seed: true,
                },
            );
        }
    }

    fn restart(&mut self, node: usize) {
        self.kill(node);
        self.up[node] = true;
        self.lives[node] += 1;
        self.nodes[node] = State::new(self.about(node), rules());
        self.join(node);
    }

    fn kill(&mut self, node: usize) {
        self.up[node] = false;
        let its: Vec<LinkNumber> = self
            .pipes
            .iter()
            .filter(|(_, pipe)| pipe.dialler == node || pipe.listener == node)
            .map(|(link, _)| *link)
            .collect();
        for link in its {
            self.close(link, node);
        }
    }

    fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cut.contains(&(from, to))
    }

    fn step(&mut self, node: usize, input: &Input<'_>) -> Option<Refusal> {
        let effects = self.nodes[node].step(input, self.now, 0.5);
        let mut refused = None;
        for effect in effects {
            match effect {
                Effect::Dial { address } => self.dial(node, address),
                Effect::Admit { link } => {
                    if self.pipes[&link].dialler == node {
                        self.wire.push(Event::First { link });
                    }
                }
                Effect::Refuse { refusal, .. } => refused = Some(refusal),
                Effect::Close { link } => self.close(link, node),
                Effect::Tell { link, peers } => {
                    let at = self.other(link, node);
                    self.wire.push(Event::Peers { at, peers });
                }
                Effect::SayLeave { link } => {
                    let at = self.other(link, node);
                    self.wire.push(Event::Leaves { link, at });
                }
                Effect::Announce { name, news } => self.seen.push((node, name.to_string(), news)),
            }
        }
        refused
    }

    fn other(&self, link: LinkNumber, node: usize) -> usize {
        let pipe = &self.pipes[&link];
        if pipe.dialler == node {
            pipe.listener
        } else {
            pipe.dialler
        }
    }

    /// One end is closed; the other hears of it, unless the way there is cut.
    fn close(&mut self, link: LinkNumber, node: usize) {
        let at = self.other(link, node);
        let pipe = self.pipes.get_mut(&link).expect("it is there");
        let side = pipe.side(node);
        if !pipe.closed[side] {
            pipe.closed[side] = true;
            self.wire.push(Event::End { link, at });
        }
    }

    fn dial(&mut self, node: usize, address: String) {
        let listener = Self::at(&address);
        let reached =
            self.up[listener] && !self.is_cut(node, listener) && !self.is_cut(listener, node);
        if !reached {
            self.step(
                node,
                &Input::DialFailed {
                    address: &address,
                    refusal: None,
                },
            );
            return;
        }
        self.serial += 1;
        let lives = [self.lives[node], self.lives[listener]];
        let pipe = Pipe {
            dialler: node,
            listener,
            address,
            serial: self.serial,
            closed: [false; 2],
            lives,
        };
        self.pipes.insert(self.serial, pipe);
        self.wire.push(Event::Claim { link: self.serial });
    }

    fn deliver(&mut self, event: Event) {
        match event {
            Event::Claim { link } => {
                let (dialler, listener, serial) = self.ends(link);
                if !self.lives_on(link) {
                    return self.broke_off(link);
                }
                let about = self.about(dialler);
                let linked = Linked {
                    number: link,
                    ours: false,
                    serial,
                };
                let input = Input::Greeted {
                    link: linked,
                    about: &about,
                    address: None,
                };
                let refusal = self.step(listener, &input);
                self.wire.push(Event::Word { link, refusal });
            }
            Event::Word { link, refusal } => {
                let (dialler, listener, serial) = self.ends(link);
                if !self.lives_on(link) {
                    return self.broke_off(link);
                }
                let address = self.pipes[&link].address.clone();
                let mut refusal = refusal;
                if refusal.is_none() && self.pipes[&link].is_open() {
                    let about = self.about(listener);
                    let linked = Linked {
                        number: link,
                        ours: true,
                        serial,
                    };
                    let input = Input::Greeted {
                        link: linked,
                        about: &about,
                        address: Some(&address),
                    };
                    refusal = self.step(dialler, &input);
                    if refusal.is_none() {
                        return;
                    }
                }
                self.close(link, dialler);
                let input = Input::DialFailed {
                    address: &address,
                    refusal: refusal.as_ref(),
                };
                self.step(dialler, &input);
            }
            Event::End { link, at } => {
                if self.up[at]
                    && self.pipes[&link].lives[usize::from(self.pipes[&link].listener == at)]
                        == self.lives[at]
                {
                    self.step(
                        at,
                        &Input::Lost {
                            link,
                            why: LostWhy::Closed,
                        },
                    );
                }
            }
            Event::Peers { at, peers } => {
                if self.up[at] {
                    self.step(at, &Input::Told { peers: &peers });
                }
            }
            Event::Leaves { link, at } => {
                if self.up[at] {
                    self.step(at, &Input::Leaves { link });
                }
            }
            Event::First { link } => {
                if self.reads(link, self.pipes[&link].listener) {
                    self.step(self.pipes[&link].listener, &Input::Confirmed { link });
                }
            }
            Event::Cast { link, at, number } => {
                if self.reads(link, at) {
                    let (from, pipe) = (self.other(link, at), &self.pipes[&link]);
                    let lives = [pipe.lives[pipe.side(from)], pipe.lives[pipe.side(at)]];
                    let arrived = self
                        .arrived
                        .entry((from, lives[0], at, lives[1]))
                        .or_default();
                    let last = arrived.last().copied().unwrap_or(0);
                    assert!(number > last, "{from} to {at}: {number} came behind {last}");
                    arrived.push(number);
                }
            }
        }
    }

    /// Whether a node is there to read what comes over a connection.
    fn reads(&self, link: LinkNumber, node: usize) -> bool {
        let pipe = &self.pipes[&link];
        let side = pipe.side(node);
        self.up[node] && self.lives[node] == pipe.lives[side] && !pipe.closed[side]
    }

    /// Each node sends the next number to each other that it is connected with.
    fn cast(&mut self) {
        for ((from, to), link) in self.links() {
            if self.up[from] && !self.is_cut(from, to) && self.reads(link, from) {
                let sent = self.sent.entry((from, to)).or_default();
                *sent += 1;
                let number = *sent;
                self.wire.push(Event::Cast {
                    link,
                    at: to,
                    number,
                });
            }
        }
    }

    /// Which way of which connection; what goes there stays in order.
    fn way(&self, event: &Event) -> Option<(LinkNumber, usize)> {
        match *event {
            Event::Claim { link } | Event::First { link } => {
                Some((link, self.pipes[&link].listener))
            }
            Event::Word { link, .. } => Some((link, self.pipes[&link].dialler)),
            Event::End { link, at } | Event::Leaves { link, at } | Event::Cast { link, at, .. } => {
                Some((link, at))
            }
            Event::Peers { .. } => None,
        }
    }

    /// One of the two went away before they knew each other.
    fn broke_off(&mut self, link: LinkNumber) {
        let pipe = &self.pipes[&link];
        let (dialler, life) = (pipe.dialler, pipe.lives[0]);
        let address = pipe.address.clone();
        if self.up[dialler] && self.lives[dialler] == life {
            self.step(
                dialler,
                &Input::DialFailed {
                    address: &address,
                    refusal: None,
                },
            );
        }
    }

    fn ends(&self, link: LinkNumber) -> (usize, usize, u64) {
        let pipe = &self.pipes[&link];
        (pipe.dialler, pipe.listener, pipe.serial)
    }

    fn lives_on(&self, link: LinkNumber) -> bool {
        let pipe = &self.pipes[&link];
        let ends = [pipe.dialler, pipe.listener];
        ends.iter()
            .zip(pipe.lives)
            .all(|(node, life)| self.up[*node] && self.lives[*node] == life)
    }

    /// Some time goes by: what is on its way arrives, in an order that `chance` chooses, and each node looks at the clock.
    fn pass(&mut self, mut chance: u64) {
        self.now += STEP;
        self.cast();
        for _ in 0..60 {
            if self.wire.is_empty() {
                break;
            }
            let next = usize::try_from(chance % self.wire.len() as u64).expect("small");
            chance = chance.rotate_left(7).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
            let way = self.way(&self.wire[next]);
            let first = self.wire.iter().position(|event| self.way(event) == way);
            let next = if way.is_some() {
                first.unwrap_or(next)
            } else {
                next
            };
            let event = self.wire.remove(next);
            self.deliver(event);
        }
        for node in (0..self.nodes.len())
            .filter(|node| self.up[*node])
            .collect::<Vec<_>>()
        {
            let heard: Vec<_> = self
                .pipes
                .iter()
                .filter(|(_, pipe)| pipe.dialler == node || pipe.listener == node)
                .map(|(link, pipe)| {
                    let other = if pipe.dialler == node {
                        pipe.listener
                    } else {
                        pipe.dialler
                    };
                    let hears = pipe.is_open() && !self.is_cut(other, node);
                    (*link, if hears { self.now } else { Duration::ZERO })
                })
                .filter(|(_, heard)| !heard.is_zero())
                .collect();
            // Whoever is not heard of keeps its last time: the pure state knows it.
            let heard = self.with_old(node, heard);
            self.step(node, &Input::Tick { heard: &heard });
        }
    }

    fn with_old(
        &self,
        node: usize,
        mut heard: Vec<(LinkNumber, Duration)>,
    ) -> Vec<(LinkNumber, Duration)> {
        for (_, member) in self.nodes[node].members() {
            if let (
                Some(link),
                Standing::Alive { heard: last, .. } | Standing::Suspect { heard: last, .. },
            ) = (member.link(), &member.standing)
                && !heard.iter().any(|(number, _)| *number == link.number)
            {
                heard.push((link.number, *last));
            }
        }
        heard
    }

    /// The connection that each node has to each other.
    fn links(&self) -> BTreeMap<(usize, usize), LinkNumber> {
        let mut links = BTreeMap::new();
        for (node, state) in self.nodes.iter().enumerate() {
            for (name, member) in state.members() {
                if let Some(link) = member.link() {
                    let other = NAMES
                        .iter()
                        .position(|known| *known == name.as_str())
                        .expect("one of them");
                    links.insert((node, other), link.number);
                }
            }
        }
        links
    }

    fn assert_whole(&self) {
        let links = self.links();
        for a in 0..self.nodes.len() {
            for b in 0..a {
                let (one, other) = (links.get(&(a, b)), links.get(&(b, a)));
                assert!(
                    one.is_some() && one == other,
                    "{a} and {b}: {one:?}, {other:?}"
                );
                assert!(self.pipes[one.expect("seen")].is_open());
            }
        }
    }
}

#[test]
fn nodes_that_know_one_find_all() {
    let mut world = World::new(4);
    (0..60).for_each(|n| world.pass(n));
    world.assert_whole();
}

#[test]
fn a_node_that_is_killed_is_down_at_once_and_up_when_it_is_back() {
    let mut world = World::new(3);
    (0..60).for_each(|n| world.pass(n));
    world.seen.clear();

    world.kill(2);
    world.pass(1);
    let down = News::Down(LostWhy::Closed);
    assert!(world.seen.contains(&(0, "c".to_owned(), down)));
    assert!(world.seen.contains(&(1, "c".to_owned(), down)));

    world.restart(2);
    (0..60).for_each(|n| world.pass(n));
    world.assert_whole();
}

#[test]
fn a_node_that_is_cut_off_is_down_within_the_timeout_and_the_look_that_sees_it() {
    for cut in [vec![(0, 1)], vec![(1, 0)], vec![(0, 1), (1, 0)]] {
        let mut world = World::new(2);
        (0..30).for_each(|n| world.pass(n));
        world.assert_whole();
        world.seen.clear();
        let since = world.now;

        world.cut = cut.clone();
        while !world
            .seen
            .iter()
            .any(|(_, _, news)| matches!(news, News::Down(_)))
        {
            world.pass(3);
            assert!(world.now <= since + TIMEOUT + 2 * STEP, "{cut:?}");
        }
        assert!(
            world.seen.iter().any(|(_, _, news)| *news == News::Suspect),
            "suspect before it is down"
        );

        world.cut.clear();
        (0..80).for_each(|n| world.pass(n));
        world.assert_whole();
    }
}

#[test]
fn a_node_that_leaves_has_left_and_is_not_dialled() {
    let mut world = World::new(3);
    (0..60).for_each(|n| world.pass(n));
    world.seen.clear();

    world.step(2, &Input::Leave);
    (0..60).for_each(|n| world.pass(n));

    for node in [0, 1] {
        assert!(world.seen.contains(&(node, "c".to_owned(), News::Left)));
        assert!(
            !world
                .seen
                .iter()
                .any(|(at, name, news)| *at == node && name == "c" && *news == News::Up)
        );
    }
    assert!(world.nodes[2].is_leaving());
}

#[test]
fn a_name_or_an_id_that_is_taken_is_refused_while_its_holder_is_up() {
    let link = |number| Linked {
        number,
        ours: false,
        serial: number,
    };
    let mut state = State::new(about("a", 1, 1), rules());
    let greet = |state: &mut State, number, about: &About, seconds| {
        let input = Input::Greeted {
            link: link(number),
            about,
            address: None,
        };
        let effects = state.step(&input, Duration::from_secs(seconds), 0.0);
        effects.into_iter().find_map(|effect| match effect {
            Effect::Refuse { refusal, .. } => Some(refusal),
            _ => None,
        })
    };
    let id = |id| crate::ids::NodeId::new(id).expect("an id");
    let b = about("b", 2, 1);

    assert_eq!(
        greet(&mut state, 1, &about("a", 1, 1), 0),
        Some(Refusal::Itself)
    );
    let duplicate = greet(&mut state, 2, &about("a", 9, 2), 0);
    assert!(matches!(duplicate, Some(Refusal::DuplicateName { .. })));
    assert_eq!(
        greet(&mut state, 3, &about("c", 1, 1), 0),
        Some(Refusal::DuplicateId {
            id: id(1),
            name: about("a", 1, 1).name
        })
    );
    assert_eq!(greet(&mut state, 4, &b, 0), None);
    state.step(&Input::Confirmed { link: 4 }, Duration::ZERO, 0.0);
    assert_eq!(
        greet(&mut state, 5, &about("c", 2, 1), 0),
        Some(Refusal::DuplicateId {
            id: id(2),
            name: b.name.clone()
        })
    );
    let again = greet(&mut state, 6, &about("b", 2, 2), 0);
    assert!(matches!(again, Some(Refusal::DuplicateName { .. })));

    state.step(
        &Input::Lost {
            link: 4,
            why: LostWhy::Closed,
        },
        Duration::from_secs(1),
        0.0,
    );
    assert!(
        matches!(
            state.objection_to(&about("c", 2, 1)),
            Some(Refusal::DuplicateId { .. })
        ),
        "it may only be cut off, and who asks can draw another"
    );
    assert_eq!(
        greet(&mut state, 7, &about("c", 2, 1), 1),
        None,
        "its holder is down"
    );
    assert_eq!(
        greet(&mut state, 8, &about("b", 3, 2), 1),
        None,
        "started anew with another id"
    );
}

#[test]
fn an_address_that_leads_to_nobody_is_tried_ever_more_slowly_and_for_ever() {
    let mut state = State::new(about("a", 1, 1), rules());
    let mut now = Duration::ZERO;
    let (mut dials, mut last) = (Vec::new(), Duration::ZERO);
    let mut effects = state.step(
        &Input::Join {
            address: "b.example:1",
            is_seed: true,
        },
        now,
        0.0,
    );
    while dials.len() < 8 {
        if effects.contains(&Effect::Dial {
            address: "b.example:1".to_owned(),
        }) {
            dials.push(now.saturating_sub(last));
            last = now;
            state.step(
                &Input::DialFailed {
                    address: "b.example:1",
                    refusal: None,
                },
                now,
                0.0,
            );
        }
        now += Duration::from_millis(10);
        effects = state.step(&Input::Tick { heard: &[] }, now, 0.0);
    }
    let millis: Vec<_> = dials.iter().map(Duration::as_millis).collect();
    assert_eq!(millis, [0, 100, 200, 400, 800, 800, 800, 800]);
}

/// What goes wrong.
#[derive(Debug, Clone)]
enum Fault {
    Kill(usize),
    Restart(usize),
    Cut(usize, usize),
    Heal,
    Wait,
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        (0..4_usize).prop_map(Fault::Kill),
        (0..4_usize).prop_map(Fault::Restart),
        (0..4_usize, 0..4_usize).prop_map(|(from, to)| Fault::Cut(from, to)),
        Just(Fault::Heal),
        Just(Fault::Wait),
        Just(Fault::Wait),
    ]
}

/// A listener that has let somebody in.
fn with_newcomers(names: impl Iterator<Item = String>) -> State {
    let mut state = State::new(about("me", 1023, 1), rules());
    for (number, name) in names.enumerate() {
        let number = number as u64 + 1;
        let link = Linked {
            number,
            ours: false,
            serial: number,
        };
        let id = u16::try_from((number - 1) % 1023).expect("small");
        let about = about(&name, id, 1);
        let input = Input::Greeted {
            link,
            about: &about,
            address: None,
        };
        let now = Duration::from_secs(number);
        let effects = state.step(&input, now, 0.0);
        assert!(
            !effects
                .iter()
                .any(|effect| matches!(effect, Effect::Refuse { .. })),
            "{name}: {effects:?}"
        );
        state.step(&Input::Confirmed { link: number }, now, 0.0);
        state.step(&Input::Leaves { link: number }, now, 0.0);
    }
    state
}

#[test]
fn nodes_that_have_gone_make_room_for_new_ones_the_oldest_first() {
    let state = with_newcomers((0..3000).map(|n| format!("n{n}")));

    let names: Vec<_> = state.members().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names.len(), super::state::NODES_MAX - 1);
    assert!(names.contains(&"n2999".to_owned()) && !names.contains(&"n0".to_owned()));
}

#[test]
fn a_name_that_is_said_to_be_anywhere_is_sought_in_two_places_at_most() {
    let mut state = with_newcomers(["b".to_owned()].into_iter());
    let mut sought = 0;
    for n in 0..100 {
        let peer = super::frame::Peer {
            name: about("b", 1, 1).name,
            address: format!("elsewhere{n}.example:1"),
            id: about("b", 1, 1).id,
            incarnation: 1,
        };
        state.step(&Input::Told { peers: &[peer] }, Duration::from_secs(9), 0.0);
        sought = (0..=n)
            .filter(|n| state.is_sought(&format!("elsewhere{n}.example:1")))
            .count();
    }
    assert_eq!(sought, 1);
}

#[test]
fn whoever_was_let_in_and_says_nothing_is_no_member_and_is_let_go() {
    let mut state = State::new(about("a", 1, 1), rules());
    let link = Linked {
        number: 1,
        ours: false,
        serial: 1,
    };
    let b = about("b", 2, 1);
    let input = Input::Greeted {
        link,
        about: &b,
        address: None,
    };

    assert_eq!(state.step(&input, Duration::ZERO, 0.0), []);
    assert_eq!(state.members().count(), 0);

    let late = TIMEOUT + STEP;
    let effects = state.step(&Input::Tick { heard: &[] }, late, 0.0);
    assert_eq!(effects, [Effect::Close { link: 1 }]);
    assert_eq!(state.step(&Input::Confirmed { link: 1 }, late, 0.0), []);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Also where all dial each other at the same moment.
    #[test]
    fn where_nothing_goes_wrong_nothing_is_lost_and_nobody_is_down(
        chances in prop::collection::vec(any::<u64>(), 30),
    ) {
        let mut world = World::new(4);
        for node in 0..4 {
            for other in (0..4).filter(|other| *other != node) {
                let address = World::address(other);
                world.step(node, &Input::Join { address: &address, is_seed: true });
            }
        }
        for chance in chances {
            world.pass(chance);
        }
        (0..60).for_each(|n| world.pass(n));
        world.assert_whole();
        let wire = std::mem::take(&mut world.wire);
        for event in wire {
            world.deliver(event);
        }

        prop_assert!(!world.seen.iter().any(|(_, _, news)| matches!(news, News::Down(_))));
        for ((from, to), sent) in &world.sent {
            let arrived = world.arrived.get(&(*from, 1, *to, 1)).map_or(0, Vec::len);
            prop_assert_eq!(arrived as u64, *sent, "{} to {}", from, to);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn whatever_went_wrong_the_cluster_is_whole_again(
        faults in prop::collection::vec((fault(), any::<u64>()), 0..40),
    ) {
        let mut world = World::new(4);
        for (fault, chance) in faults {
            match fault {
                Fault::Kill(node) => world.kill(node),
                Fault::Restart(node) => world.restart(node),
                Fault::Cut(from, to) if from != to => world.cut.push((from, to)),
                Fault::Heal => world.cut.clear(),
                Fault::Cut(..) | Fault::Wait => {}
            }
            world.pass(chance);
        }
        world.cut.clear();
        for node in 0..4 {
            if !world.up[node] {
                world.restart(node);
            }
        }
        (0..200).for_each(|n| world.pass(n * 31 + 7));
        world.assert_whole();
    }
}
