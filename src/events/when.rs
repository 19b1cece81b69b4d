//! Points in time as people say them. Pure: now and the zone are arguments.

use jiff::{SignedDuration, civil, tz::TimeZone};

use super::Timestamp;

/// What the words are relative to.
///
/// ```
/// use underpin::events::{Edge, When};
///
/// let when = When { now: "2026-11-23T12:00:00Z".parse().unwrap(), zone: jiff::tz::TimeZone::UTC };
/// assert_eq!(when.read("10m", Edge::Start).unwrap().to_string(), "2026-11-23T11:50:00Z");
/// ```
#[derive(Debug, Clone)]
pub struct When {
    /// What ages are counted back from.
    pub now: Timestamp,
    /// Where dates and times without a zone belong.
    pub zone: TimeZone,
}

/// Which end of a day a bare date means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// The last nanosecond before it: what was so then is what all that happens within the day changes.
    Before,
    /// Its first nanosecond.
    Start,
    /// Its last one.
    End,
}

impl When {
    /// Now, in UTC.
    #[must_use]
    pub fn utc(now: Timestamp) -> Self {
        Self {
            now,
            zone: TimeZone::UTC,
        }
    }

    /// `now`, `today`, `yesterday`, an age (`10m`, `1h30m`: before now), a date, a time without a zone, RFC 3339, or nanoseconds since 1970
    /// where these lie before 1967 or after 1973.
    ///
    /// # Errors
    ///
    /// What to write instead.
    pub fn read(&self, text: &str, edge: Edge) -> Result<Timestamp, String> {
        let text = text.trim();
        match text {
            "now" => return Ok(self.now),
            "today" => return self.day(self.today()?, edge),
            "yesterday" => {
                let day = self.today()?.yesterday();
                return self.day(day.map_err(|error| error.to_string())?, edge);
            }
            _ => {}
        }
        if let Some(age) = age(text) {
            let then = nanos(i128::from(self.now.as_nanos()) - age.as_nanos());
            return then.ok_or_else(|| "that is before all time".into());
        }
        if let Ok(number) = text.parse::<i64>() {
            return nanoseconds(number);
        }
        if let Ok(time) = text.parse() {
            return Ok(time);
        }
        if let Some(date) = bare_date(text) {
            return self.day(date, edge);
        }
        if let Ok(time) = text.parse::<civil::DateTime>() {
            return self.local(time);
        }
        Err(
            "give an age (10m, 1h30m, 3d), a date (2026-11-23), a time (2026-11-23T10:00:00Z), now, today or yesterday"
                .into(),
        )
    }

    fn today(&self) -> Result<civil::Date, String> {
        let now = jiff::Timestamp::from_nanosecond(self.now.as_nanos().into());
        let now = now.map_err(|error| error.to_string())?;
        Ok(now.to_zoned(self.zone.clone()).date())
    }

    fn day(&self, date: civil::Date, edge: Edge) -> Result<Timestamp, String> {
        let start = |date: civil::Date| self.local(date.to_datetime(civil::Time::midnight()));
        let before = |time: Timestamp| Timestamp::from_nanos(time.as_nanos().saturating_sub(1));
        match edge {
            Edge::Before => start(date).map(before),
            Edge::Start => start(date),
            Edge::End => {
                let next = date.tomorrow().map_err(|error| error.to_string())?;
                start(next).map(before)
            }
        }
    }

    fn local(&self, time: civil::DateTime) -> Result<Timestamp, String> {
        let time = self
            .zone
            .to_timestamp(time)
            .map_err(|error| error.to_string())?;
        nanos(time.as_nanosecond())
            .ok_or_else(|| "that is beyond the years 1677 to 2262; give a time between them".into())
    }
}

/// A bare number. Of nanoseconds, so few that they lie within three years of 1970 are seconds, milliseconds or a date without its dashes.
fn nanoseconds(number: i64) -> Result<Timestamp, String> {
    const FEWEST: u64 = 100_000_000_000_000_000;
    if number.unsigned_abs() < FEWEST {
        return Err(format!(
            "a bare number is nanoseconds since 1970, and {number} of them are {}; give a date (2026-11-23) or a time (2026-11-23T10:00:00Z)",
            Timestamp::from_nanos(number)
        ));
    }
    Ok(Timestamp::from_nanos(number))
}

fn nanos(nanos: i128) -> Option<Timestamp> {
    i64::try_from(nanos).ok().map(Timestamp::from_nanos)
}

/// `500ms`, `30s`, `10m`, `2h`, `3d`, `1w`, and several of them in a row: `1h30m`.
fn age(text: &str) -> Option<SignedDuration> {
    let mut rest = text;
    let mut sum = SignedDuration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let count: i64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit());
        let unit = &rest[..unit.unwrap_or(rest.len())];
        rest = &rest[unit.len()..];
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60 * 1_000,
            "h" => 60 * 60 * 1_000,
            "d" => 24 * 60 * 60 * 1_000,
            "w" => 7 * 24 * 60 * 60 * 1_000,
            _ => return None,
        };
        sum = sum.checked_add(SignedDuration::from_millis(count.checked_mul(millis)?))?;
    }
    (!text.is_empty()).then_some(sum)
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
            ("500ms", "2026-11-23T11:59:59.5Z"),
            ("1h30m", "2026-11-23T10:30:00Z"),
            ("now", "2026-11-23T12:00:00Z"),
        ] {
            assert_eq!(read(text, Edge::Start), time, "{text}");
        }
    }

    #[test]
    fn a_date_is_the_whole_local_day() {
        assert_eq!(
            read("2026-11-23", Edge::Before),
            "2026-11-22T22:59:59.999999999Z"
        );
        assert_eq!(read("2026-11-23", Edge::Start), "2026-11-22T23:00:00Z");
        assert_eq!(
            read("2026-11-23", Edge::End),
            "2026-11-23T22:59:59.999999999Z"
        );
        assert_eq!(read("today", Edge::Start), "2026-11-22T23:00:00Z");
        assert_eq!(
            read("yesterday", Edge::End),
            "2026-11-22T22:59:59.999999999Z"
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

    /// Seconds since 1970 and dates without dashes found every event there was: they were nanoseconds.
    #[test]
    fn a_number_too_small_for_nanoseconds_is_refused() {
        for text in [
            "0",
            "20261123",
            "1795420800",
            "1795420800000",
            "1795420800000000",
            "-5",
        ] {
            let answer = read(text, Edge::Start);
            assert!(
                answer.contains("nanoseconds since 1970"),
                "{text}: {answer}"
            );
        }
        assert_eq!(
            read("100000000000000000", Edge::Start),
            "1973-03-03T09:46:40Z"
        );
    }

    #[test]
    fn what_is_no_time_is_told_what_one_looks_like() {
        for text in [
            "",
            "m",
            "-5m",
            "soon",
            "10x",
            "1h30",
            "1h -5m",
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
