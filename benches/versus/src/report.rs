//! What was measured, for people and for programs.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    figure::{Figure, Goal, LIMIT, UNDERPIN, Unit},
    rounds::Measured,
};

/// The lines of `FILE` and `FILE.spread`.
#[derive(Debug, Default)]
pub struct Tsv {
    values: String,
    spread: String,
}

impl Tsv {
    pub fn add(&mut self, figure: &Figure, measured: &[Measured]) {
        for side in measured {
            let line = [
                figure.name,
                side.who,
                &number(side.median),
                figure.unit.text(),
            ]
            .join("\t");
            let (min, max) = (number(side.min), number(side.max));
            let _ = writeln!(self.values, "{line}");
            let _ = writeln!(self.spread, "{line}\t{min}\t{max}");
        }
    }

    pub fn write(&self, file: &Path) -> io::Result<()> {
        let mut spread = file.as_os_str().to_owned();
        spread.push(".spread");
        fs::write(file, &self.values)?;
        fs::write(PathBuf::from(spread), &self.spread)
    }
}

/// A figure as a table: a line for each side, then a line for each goal.
pub fn table(figure: &Figure, measured: &[Measured]) -> String {
    let better = if figure.unit.is_rate() {
        "higher"
    } else {
        "lower"
    };
    let mut out = format!(
        "{}  ({}, {better} is better)\n",
        figure.name,
        figure.unit.text()
    );
    for side in measured {
        let _ = writeln!(
            out,
            "  {:<18}{:>14}   {} .. {}",
            side.who,
            number(side.median),
            number(side.min),
            number(side.max)
        );
    }
    for goal in figure.goals {
        let _ = writeln!(out, "  {}", verdict(*goal, figure.unit, measured));
    }
    out
}

fn verdict(goal: Goal, unit: Unit, measured: &[Measured]) -> String {
    let of = |who: &str| measured.iter().find(|side| side.who == who);
    let Some(own) = of(UNDERPIN) else {
        return format!("{UNDERPIN} was not measured");
    };
    let (wanted, reached, words) = match goal {
        Goal::Value(wanted) => (wanted, own.median, UNDERPIN.to_owned()),
        Goal::Ratio(wanted, who) => match of(who) {
            None => return format!("{who} was not measured"),
            Some(other) => (
                wanted,
                own.median / other.median,
                format!("{UNDERPIN} / {who}"),
            ),
        },
        Goal::More(wanted, who) => match of(who) {
            None => return format!("{who} was not measured"),
            Some(other) => (
                wanted,
                own.median - other.median,
                format!("{UNDERPIN} - {who}"),
            ),
        },
        Goal::BestPeer(wanted) => match best_peer(unit, measured) {
            None => return "no peer was measured".into(),
            Some(other) => {
                let words = format!("{UNDERPIN} / {} (best peer)", other.who);
                (wanted, own.median / other.median, words)
            }
        },
    };
    let (sign, met) = if unit.is_rate() {
        ("at least", reached >= wanted)
    } else {
        ("at most", reached <= wanted)
    };
    let met = if met { "reached" } else { "MISSED" };
    format!(
        "{words} = {}, to reach {sign} {}: {met}",
        number(reached),
        number(wanted)
    )
}

fn best_peer(unit: Unit, measured: &[Measured]) -> Option<&Measured> {
    let peers = measured
        .iter()
        .filter(|side| side.who != UNDERPIN && side.who != LIMIT);
    let by_median = |one: &&Measured, other: &&Measured| one.median.total_cmp(&other.median);
    if unit.is_rate() {
        peers.max_by(by_median)
    } else {
        peers.min_by(by_median)
    }
}

/// Three digits that count, and no exponent.
fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 100.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else if size >= 1.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn figure(unit: Unit, goals: &'static [Goal]) -> Figure {
        Figure {
            name: "otp.call",
            unit,
            goals,
            sides: |_| Ok(()),
        }
    }

    fn side(who: &'static str, median: f64) -> Measured {
        Measured {
            who,
            median,
            min: median / 2.0,
            max: median * 2.0,
        }
    }

    #[test]
    fn a_time_has_to_be_at_most_the_ratio_and_a_rate_at_least() {
        let measured = [side(UNDERPIN, 120.0), side(LIMIT, 100.0)];
        let goal = Goal::Ratio(1.15, LIMIT);
        assert!(verdict(goal, Unit::Nanoseconds, &measured).ends_with("at most 1.15: MISSED"));
        assert!(
            verdict(goal, Unit::EventsPerSecond, &measured).ends_with("at least 1.15: reached")
        );
    }

    #[test]
    fn the_best_peer_is_the_fastest_and_never_the_limit() {
        let measured = [
            side(UNDERPIN, 10.0),
            side(LIMIT, 90.0),
            side("redb", 5.0),
            side("fjall", 7.0),
        ];
        let said = verdict(Goal::BestPeer(1.8), Unit::EventsPerSecond, &measured);
        assert_eq!(
            said,
            "underpin / fjall (best peer) = 1.43, to reach at least 1.80: MISSED"
        );
    }

    #[test]
    fn a_line_holds_figure_side_value_and_unit() {
        let mut tsv = Tsv::default();
        tsv.add(
            &figure(Unit::MessagesPerSecond, &[]),
            &[side("kameo", 1_234_567.8)],
        );
        assert_eq!(tsv.values, "otp.call\tkameo\t1234568\tmessages/s\n");
        assert_eq!(
            tsv.spread,
            "otp.call\tkameo\t1234568\tmessages/s\t617284\t2469136\n"
        );
    }
}
