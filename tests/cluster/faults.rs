//! What is dangerous in ractor_cluster, where one remote reference stands for the link, and one name for an actor of any node.

use crate::{
    player::{Part, Player},
    scene::{free_address, until},
};

fn two_players() -> (Player, Player) {
    let address = free_address();
    let mut a = Player::start(&Part::new("a", &address));
    let mut b = Player::start(&Part::new("b", &free_address()).join(&address));
    until("they see each other", || {
        a.state("b") == "alive" && b.state("a") == "alive"
    });
    (a, b)
}

#[test]
fn the_end_of_one_service_ends_no_connection() {
    let (mut a, mut b) = two_players();

    for _ in 0..3 {
        let answer = a.asked("fall b");
        assert!(answer.starts_with("unknown"), "{answer}");
        until("its successor answers", || a.asked("call b again") == "ok");
    }

    let news = [a.all(), b.all()].concat();
    assert!(!news.iter().any(|line| line.contains("Down")), "{news:?}");
    assert_eq!(b.asked("call a too"), "ok");
}

/// Both have an actor of the same name, with what it has counted.
#[test]
fn the_death_of_an_actor_elsewhere_ends_none_of_its_name_here() {
    let (mut a, mut b) = two_players();
    assert_eq!(b.asked("row a 1 11"), "10");
    until("all has come", || b.asked("counted a") == "10 10");

    a.asked("fall b");
    b.kill();
    until("b is down", || a.state("b") == "down");

    let part = Part::new("b", &free_address()).join(&a.address());
    let mut b = Player::start(&part);
    until("it is back", || b.state("a") == "alive");
    assert_eq!(
        b.asked("counted a"),
        "10 10",
        "it is the actor that counted"
    );
}
