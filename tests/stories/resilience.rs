//! Waiting before the next attempt.

use std::time::Duration;

use underpin::resilience::Backoff;

#[test]
fn f100_delays_double_from_one_second_to_thirty_and_are_never_negative() {
    let backoff =
        Backoff::new(Duration::from_secs(1), Duration::from_secs(30)).expect("base is below cap");

    let delays: Vec<u128> = (0..=100)
        .map(|attempt| backoff.delay(attempt, 0.0).as_millis())
        .collect();

    assert_eq!(delays[..6], [1_000, 2_000, 4_000, 8_000, 16_000, 30_000]);
    assert!(delays[6..].iter().all(|delay| *delay == 30_000));
}

#[test]
fn chance_pulls_apart_what_failed_together() {
    let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30))
        .and_then(|backoff| backoff.with_jitter(1.0))
        .expect("valid settings");

    let delays: Vec<Duration> = [0.0, 0.25, 0.5, 0.75]
        .map(|random| backoff.delay(2, random))
        .to_vec();

    assert_eq!(delays, [4, 3, 2, 1].map(Duration::from_secs));
}
