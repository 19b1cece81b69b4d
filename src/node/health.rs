//! How a node is doing, from what its parts say of themselves. Pure.

use std::{
    borrow::Cow,
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

/// How a node is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// The whole in a word.
    pub health: HealthStatus,
    /// Everything that is wrong, the node itself first, then its parts in the order of the tree.
    pub reasons: Vec<Reason>,
}

/// The whole in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// Everything works.
    Healthy,
    /// It works, and something is wrong.
    Degraded,
    /// It does not run.
    Down,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// The part of the node that it is about, as a path in the tree.
    pub part: Arc<str>,
    /// What is wrong.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

/// Something that a part says is wrong with it. `kind` stays the same while words and numbers change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) part: Arc<str>,
    pub(super) kind: Cow<'static, str>,
    pub(super) reason: String,
    /// Where the part knows since when.
    pub(super) since: Option<Timestamp>,
}

/// Remembers since when each complaint stands.
#[derive(Debug, Default)]
pub(super) struct Record {
    standing: BTreeMap<(Arc<str>, Cow<'static, str>), Timestamp>,
}

impl Record {
    /// Takes all complaints of this moment; those that are gone are forgotten.
    pub(super) fn judge(&mut self, complaints: Vec<Complaint>, now: Timestamp) -> Health {
        let mut standing = BTreeMap::new();
        let mut reasons = Vec::new();
        for complaint in complaints {
            let key = (Arc::clone(&complaint.part), complaint.kind);
            let known = self.standing.get(&key).copied();
            // What was said first stays: what a part knows of its beginning may move while it goes on.
            let since = known.or(complaint.since).unwrap_or(now);
            standing.insert(key, since);
            reasons.push(Reason {
                part: complaint.part,
                reason: complaint.reason,
                since,
            });
        }
        self.standing = standing;
        let health = if reasons.is_empty() {
            HealthStatus::Healthy
        } else {
            HealthStatus::Degraded
        };
        Health { health, reasons }
    }
}

/// The crashes of each child in the last minute.
#[derive(Debug, Default)]
pub(super) struct Crashes {
    recent: BTreeMap<Arc<str>, VecDeque<Crash>>,
}

#[derive(Debug)]
struct Crash {
    at: Timestamp,
    reason: String,
}

impl Crashes {
    /// How long a crash is remembered.
    const WINDOW: SignedDuration = SignedDuration::from_mins(1);
    /// How many crashes of one child are remembered.
    const KEPT: usize = 1000;
    /// How many children with crashes are remembered.
    const PARTS: usize = 1000;

    pub(super) fn add(&mut self, part: Arc<str>, reason: String, at: Timestamp) {
        self.forget(at);
        if self.recent.len() >= Self::PARTS && !self.recent.contains_key(&part) {
            return;
        }
        let crashes = self.recent.entry(part).or_default();
        if crashes.len() == Self::KEPT {
            crashes.pop_front();
        }
        crashes.push_back(Crash { at, reason });
    }

    /// Those children that crashed at least `limit` times.
    pub(super) fn loops(&mut self, limit: u32, now: Timestamp) -> Vec<Complaint> {
        self.forget(now);
        let looping = self
            .recent
            .iter()
            .filter(|(_, crashes)| crashes.len() >= limit as usize);
        looping
            .filter_map(|(part, crashes)| {
                let (first, last) = (crashes.front()?, crashes.back()?);
                Some(Complaint {
                    part: Arc::clone(part),
                    kind: "crash_loop".into(),
                    reason: format!(
                        "crashed {} times in the last minute, last with {}",
                        crashes.len(),
                        last.reason
                    ),
                    since: Some(first.at),
                })
            })
            .collect()
    }

    fn forget(&mut self, now: Timestamp) {
        let recent = |crash: &Crash| now.duration_since(crash.at) <= Self::WINDOW;
        self.recent.retain(|_, crashes| {
            while crashes.front().is_some_and(|crash| !recent(crash)) {
                crashes.pop_front();
            }
            !crashes.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("test time is valid")
    }

    fn complaint(reason: &str) -> Complaint {
        Complaint {
            part: "events".into(),
            kind: "down".into(),
            reason: reason.into(),
            since: None,
        }
    }

    #[test]
    fn without_complaints_a_node_is_healthy() {
        let health = Record::default().judge(Vec::new(), at(1));
        assert_eq!(
            (health.health, health.reasons.len()),
            (HealthStatus::Healthy, 0)
        );
    }

    #[test]
    fn a_complaint_keeps_its_beginning_while_its_words_change() {
        let mut record = Record::default();
        record.judge(vec![complaint("1 byte left")], at(1));
        let health = record.judge(vec![complaint("0 bytes left")], at(5));

        assert_eq!(health.health, HealthStatus::Degraded);
        assert_eq!(health.reasons[0].since, at(1));
        record.judge(Vec::new(), at(6));
        let again = record.judge(vec![complaint("again")], at(9));
        assert_eq!(again.reasons[0].since, at(9));
    }

    #[test]
    fn a_complaint_that_moves_its_own_beginning_keeps_the_first() {
        let since = |second| Complaint {
            since: Some(at(second)),
            ..complaint("crashed again")
        };
        let mut record = Record::default();
        record.judge(vec![since(3)], at(9));

        let health = record.judge(vec![since(50)], at(60));

        assert_eq!(health.reasons[0].since, at(3));
    }

    #[test]
    fn crashes_count_for_a_minute() {
        let mut crashes = Crashes::default();
        for second in [0, 30, 59] {
            crashes.add("app/a".into(), "panic: boom".into(), at(second));
        }

        assert_eq!(crashes.loops(3, at(60)).len(), 1);
        assert!(crashes.loops(3, at(60))[0].reason.contains("3 times"));
        assert_eq!(crashes.loops(3, at(61)), []);
        assert_eq!(crashes.loops(1, at(61)).len(), 1);
    }
}
