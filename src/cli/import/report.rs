//! What is told while an import runs, and at its end.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::{batch::RefusedLine, format::Format, sender::Stored};

/// How many refused lines are told one by one to a person.
const REFUSALS_SHOWN: u64 = 20;

/// Counts of one import.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) stored: u64,
    pub(super) refused: u64,
    pub(super) skipped: u64,
}

/// Tells on stderr; progress on a terminal only.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) tally: Tally,
    /// What the lines were read as, once that is known.
    pub(super) format: Option<Format>,
    json: bool,
    bar: ProgressBar,
}

impl Tally {
    /// Whether all that was new was refused.
    pub(super) fn all_refused(self) -> bool {
        self.refused > 0 && self.stored == 0
    }

    /// Lines that are accounted for.
    pub(super) fn lines(self) -> u64 {
        self.stored + self.refused + self.skipped
    }

    pub(super) fn json(self) -> String {
        let Self {
            stored,
            refused,
            skipped,
        } = self;
        format!("{{\"version\":1,\"stored\":{stored},\"refused\":{refused},\"skipped\":{skipped}}}")
    }
}

impl Report {
    /// With the length of the input in bytes, where it is known.
    pub(super) fn new(json: bool, length: Option<u64>) -> Self {
        let bar = match length {
            Some(length) => ProgressBar::new(length).with_style(style(
                "{wide_bar} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left  {msg}",
            )),
            None => ProgressBar::no_length()
                .with_style(style("{spinner} {bytes}  {bytes_per_sec}  {msg}")),
        };
        if json || !io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self {
            tally: Tally::default(),
            format: None,
            json,
            bar,
        }
    }

    /// The result in a line.
    pub(super) fn line(&self) -> String {
        let Tally {
            stored,
            refused,
            skipped,
        } = self.tally;
        let read_as = self
            .format
            .map_or_else(String::new, |format| format!("; read as {}", format.name()));
        format!(
            "stored {stored}, refused {refused}, skipped {skipped} that were stored earlier{read_as}"
        )
    }

    pub(super) fn skipped(&mut self, lines: u64) {
        self.tally.skipped += lines;
    }

    /// Counts a batch and tells its refused lines.
    pub(super) fn batch(&mut self, stored: Stored, refused: &[RefusedLine], position: u64) {
        self.tally.stored += stored.stored;
        self.tally.skipped += stored.known;
        for refusal in refused {
            self.tally.refused += 1;
            if self.json {
                complain(
                    &json!({"version": 1, "line": refusal.line, "why": refusal.why}).to_string(),
                );
            } else if self.tally.refused <= REFUSALS_SHOWN {
                self.bar
                    .suspend(|| complain(&format!("line {}: {}", refusal.line, refusal.why)));
            }
        }
        self.bar.set_position(position);
        self.bar
            .set_message(format!("{} stored", self.tally.stored));
    }

    /// Clears the progress, and tells how many refused lines were not told.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
        if !self.json && self.tally.refused > REFUSALS_SHOWN {
            complain(&format!(
                "{} more lines were refused",
                self.tally.refused - REFUSALS_SHOWN
            ));
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// A closed stderr is no reason to fail.
fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusals(count: u64) -> Vec<RefusedLine> {
        (1..=count)
            .map(|line| RefusedLine {
                line,
                why: "no".into(),
            })
            .collect()
    }

    #[test]
    fn what_the_store_knew_already_counts_as_skipped() {
        let mut report = Report::new(true, None);

        report.skipped(3);
        report.batch(
            Stored {
                stored: 5,
                known: 2,
            },
            &refusals(1),
            10,
        );

        assert_eq!(
            report.tally.json(),
            r#"{"version":1,"stored":5,"refused":1,"skipped":5}"#
        );
        assert!(!report.tally.all_refused());
    }

    #[test]
    fn an_import_fails_when_all_that_was_new_was_refused() {
        let tally = |stored, refused, skipped| Tally {
            stored,
            refused,
            skipped,
        };
        assert!(tally(0, 1, 0).all_refused());
        assert!(tally(0, 1, 9).all_refused());
        assert!(!tally(1, 9, 0).all_refused());
        assert!(!tally(0, 0, 9).all_refused());
        assert!(!tally(0, 0, 0).all_refused());
    }
}
