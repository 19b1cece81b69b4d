//! Rounds: every side once in each, the order rotated, so that what a shared machine does falls on all alike.

use std::time::Duration;

use anyhow::Result;

use crate::{figure::Side, measure::median};

/// How often and how long is measured.
#[derive(Debug, Clone, Copy)]
pub struct Rounds {
    pub count: usize,
    pub time: Duration,
}

/// What one side reached.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    pub who: &'static str,
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Rounds {
    pub const FULL: Self = Self {
        count: 5,
        time: Duration::from_millis(200),
    };
    pub const QUICK: Self = Self {
        count: 3,
        time: Duration::from_millis(50),
    };

    /// One round to warm up, then those that count.
    pub fn run(self, sides: &mut [Side]) -> Result<Vec<Measured>> {
        let mut values = vec![Vec::with_capacity(self.count); sides.len()];
        for side in &mut *sides {
            (side.sample)(self.time)?;
        }
        for round in 0..self.count {
            for at in order(round, sides.len()) {
                values[at].push((sides[at].sample)(self.time)?);
            }
        }
        let measured = sides.iter().zip(values);
        Ok(measured
            .map(|(side, values)| Measured::of(side.who, values))
            .collect())
    }
}

/// The sides in the order of a round: each begins one further than the round before.
fn order(round: usize, sides: usize) -> impl Iterator<Item = usize> {
    (0..sides).map(move |at| (round + at) % sides)
}

impl Measured {
    fn of(who: &'static str, mut values: Vec<f64>) -> Self {
        let median = median(&mut values);
        Self {
            who,
            median,
            min: values.first().copied().unwrap_or(f64::NAN),
            max: values.last().copied().unwrap_or(f64::NAN),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use super::*;

    #[test]
    fn each_round_begins_with_another_side() {
        let orders: Vec<Vec<_>> = (0..3).map(|round| order(round, 3).collect()).collect();
        assert_eq!(orders, [[0, 1, 2], [1, 2, 0], [2, 0, 1]]);
    }

    #[test]
    fn the_first_round_only_warms_up() {
        let calls = Rc::new(RefCell::new(0.0));
        let counting = calls.clone();
        let side = Side {
            who: "limit",
            sample: Box::new(move |_| {
                *counting.borrow_mut() += 1.0;
                Ok(*counting.borrow())
            }),
        };

        let measured = Rounds::QUICK.run(&mut [side]).expect("it is measured");

        let expected = Measured {
            who: "limit",
            median: 3.0,
            min: 2.0,
            max: 4.0,
        };
        assert_eq!(measured, [expected]);
    }
}
