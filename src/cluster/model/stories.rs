use proptest::prelude::*;

use super::*;

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

/// It was said to be suspect, and then nothing more.
#[test]
fn a_suspect_node_is_back_also_when_its_connection_is_another_one() {
    let (mut state, b) = (State::new(about("a", 1, 1), rules()), about("b", 2, 1));
    let mut greeted = |number, now| {
        let link = Linked {
            number,
            ours: true,
            serial: number,
        };
        let input = Input::Greeted {
            link,
            about: &b,
            address: None,
        };
        let heard = [(number, now)];
        let effects = state.step(&input, now, 0.5);
        let silent = now + TIMEOUT * 3 / 4;
        let later = state.step(&Input::Tick { heard: &heard }, silent, 0.5);
        let of = |effects: Vec<Effect>| {
            let news = effects.into_iter().filter_map(|effect| match effect {
                Effect::Announce { news, .. } => Some(news),
                _ => None,
            });
            news.collect::<Vec<_>>()
        };
        (of(effects), of(later))
    };

    let first = greeted(1, Duration::ZERO);
    let second = greeted(2, TIMEOUT * 3 / 4);

    assert_eq!(first, (vec![News::Up], vec![News::Suspect]));
    assert_eq!(second, (vec![News::Recovered], vec![News::Suspect]));
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
    assert_eq!(names.len(), crate::cluster::state::NODES_MAX - 1);
    assert!(names.contains(&"n2999".to_owned()) && !names.contains(&"n0".to_owned()));
}

#[test]
fn a_name_that_is_said_to_be_anywhere_is_sought_in_two_places_at_most() {
    let mut state = with_newcomers(["b".to_owned()].into_iter());
    let mut sought = 0;
    for n in 0..100 {
        let peer = crate::cluster::frame::Peer {
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
