//! Points in time as people say them.

use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};

/// What the words are relative to.
#[derive(Debug)]
pub(super) struct When {
    pub(super) now: Timestamp,
    pub(super) zone: TimeZone,
}

/// Which end of a day a bare date means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edge {
    Start,
    End,
}

impl When {
    /// An age, a date, a local time, RFC 3339, or nanoseconds since 1970.
    pub(super) fn read(&self, text: &str, edge: Edge) -> Result<Timestamp, String> {
        let text = text.trim();
        if let Some(age) = age(text) {
            return self
                .now
                .checked_sub(age)
                .map_err(|_| "that is before all time".into());
        }
        if let Ok(ns) = text.parse::<i64>() {
            return Timestamp::from_nanosecond(i128::from(ns)).map_err(|error| error.to_string());
        }
        if let Ok(time) = text.parse::<Timestamp>() {
            return Ok(time);
        }
        if let Some(date) = bare_date(text) {
            return self.day(date, edge);
        }
        if let Ok(time) = text.parse::<civil::DateTime>() {
            return self
                .zone
                .to_timestamp(time)
                .map_err(|error| error.to_string());
        }
        Err(
            "give an age (10m, 2h, 3d), a date (2026-11-23), or a time (2026-11-23T10:00:00Z)"
                .into(),
        )
    }

    fn day(&self, date: civil::Date, edge: Edge) -> Result<Timestamp, String> {
        let start = |date: civil::Date| {
            self.zone
                .to_timestamp(date.to_datetime(civil::Time::midnight()))
                .map_err(|error| error.to_string())
        };
        match edge {
            Edge::Start => start(date),
            Edge::End => {
                let next = date.tomorrow().map_err(|error| error.to_string())?;
                Ok(start(next)? - SignedDuration::from_nanos(1))
            }
        }
    }
}

/// `30s`, `10m`, `2h`, `3d`, `1w`.
fn age(text: &str) -> Option<SignedDuration> {
    let unit = text.chars().next_back()?;
    let count: i64 = text[..text.len() - unit.len_utf8()].parse().ok()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        'w' => 7 * 24 * 60 * 60,
        _ => return None,
    };
    (count >= 0).then_some(())?;
    Some(SignedDuration::from_secs(count.checked_mul(seconds)?))
}

fn bare_date(text: &str) -> Option<civil::Date> {
    (text.len() == "2026-11-23".len())
        .then(|| text.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, edge: Edge) -> String {
        let when = When {
            now: "2026-11-23T12:00:00Z".parse().expect("a time"),
            zone: TimeZone::fixed(jiff::tz::offset(1)),
        };
        match when.read(text, edge) {
            Ok(time) => time.to_string(),
            Err(why) => why,
        }
    }

    #[test]
    fn an_age_counts_back_from_now() {
        for (text, time) in [
            ("30s", "2026-11-23T11:59:30Z"),
            ("10m", "2026-11-23T11:50:00Z"),
            ("2h", "2026-11-23T10:00:00Z"),
            ("3d", "2026-11-20T12:00:00Z"),
            ("1w", "2026-11-16T12:00:00Z"),
        ] {
            assert_eq!(read(text, Edge::Start), time, "{text}");
        }
    }

    #[test]
    fn a_date_is_the_whole_local_day() {
        assert_eq!(read("2026-11-23", Edge::Start), "2026-11-22T23:00:00Z");
        assert_eq!(
            read("2026-11-23", Edge::End),
            "2026-11-23T22:59:59.999999999Z"
        );
    }

    #[test]
    fn times_are_taken_with_and_without_a_zone_and_as_nanoseconds() {
        for (text, time) in [
            ("2026-11-23T10:00:00Z", "2026-11-23T10:00:00Z"),
            ("2026-11-23T10:00:00.5+02:00", "2026-11-23T08:00:00.5Z"),
            ("2026-11-23T10:00", "2026-11-23T09:00:00Z"),
            ("2026-11-23 10:00:00", "2026-11-23T09:00:00Z"),
            ("1795420800000000000", "2026-11-23T08:00:00Z"),
        ] {
            assert_eq!(read(text, Edge::Start), time, "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_told_what_one_looks_like() {
        for text in [
            "",
            "m",
            "-5m",
            "soon",
            "10x",
            "2026-13-01",
            "99999999999999999d",
            "é",
        ] {
            let answer = read(text, Edge::Start);
            assert!(
                answer.contains("give an age") || answer.contains("before all time"),
                "{text}: {answer}"
            );
        }
    }
}
