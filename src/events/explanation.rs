use std::{fmt, time::Duration};

use serde::{Serialize, Serializer};

use super::{Page, Plan, search::Work};

/// How a query was answered.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// The query as text.
    pub query: String,
    /// Each segment that was searched, in that order.
    pub segments: Vec<SegmentPlan>,
    /// Segments that were left out: outside of the ranges of time and id, or with nothing better than what had been found.
    pub left_out: usize,
    /// Rows of indexes that were looked at.
    pub rows: usize,
    /// Events that were read, to compare them or for the answer.
    pub events_read: usize,
    /// Events in the answer.
    pub found: usize,
    /// Whether there are more.
    pub more: bool,
    /// How long it took. Serialized as `took_ns`, in whole nanoseconds.
    #[serde(rename = "took_ns", serialize_with = "nanoseconds")]
    pub took: Duration,
}

fn nanoseconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

/// How one segment was searched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SegmentPlan {
    /// The segment: the sequence number of its first write.
    pub segment: u64,
    /// The way through it; none where its indexes told that nothing matches.
    pub plan: Option<Plan>,
}

impl Explanation {
    pub(super) fn of(query: String, page: &Page, work: Work, took: Duration) -> Self {
        let plan = |(segment, plan)| SegmentPlan { segment, plan };
        Self {
            query,
            segments: work.plans.into_iter().map(plan).collect(),
            left_out: work.left_out,
            rows: work.rows,
            events_read: work.events_read,
            found: page.events.len(),
            more: page.next.is_some(),
            took,
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "query     {}", self.query)?;
        for SegmentPlan { segment, plan } in &self.segments {
            let way = plan
                .as_ref()
                .map_or("nothing matches".into(), Plan::to_string);
            writeln!(f, "segment   {segment}: {way}")?;
        }
        writeln!(f, "left out  {} segments", self.left_out)?;
        writeln!(
            f,
            "looked at {} rows, {} events, in {:?}",
            self.rows, self.events_read, self.took
        )?;
        let more = if self.more {
            ", and there are more"
        } else {
            ""
        };
        write!(f, "found     {}{more}", self.found)
    }
}
