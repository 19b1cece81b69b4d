//! The membership of several nodes against a network that loses, delays and cuts, and nodes that crash, freeze and start anew: when the
//! faults are over, every two nodes have one connection, and both the same. Meanwhile each sends numbers to each other, which arrive
//! in order or not at all; and all of them where nothing goes wrong. Here is the world; its stories are below.

mod stories;

use std::{collections::BTreeMap, time::Duration};

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
