//! The time that a log line begins with.

use jiff::{
    SignedDuration, Timestamp,
    civil::{Date, DateTime, Time},
    tz::{Offset, TimeZone},
};

/// What times without a zone and without a year are relative to.
#[derive(Debug)]
pub(super) struct Calendar {
    /// The zone of this machine, where the log is taken to be from.
    pub(super) zone: TimeZone,
    /// No line is much younger than this: the last change of the file, or now for a pipe.
    pub(super) latest: Timestamp,
}

/// How a time was written; it tells formats apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `2026-11-23T10:00:00.123+01:00`, also without zone.
    T,
    /// `2026-11-23 10:00:00`, `2026/11/23 10:00:00,123`.
    Spaced,
    /// `Nov 23 11:31:23` (RFC 3164, section 4.1.2).
    Month,
    /// `[23/Nov/2026:10:00:00 +0100]`, as web servers write it, somewhere in the line.
    Bracketed,
}

/// A time found in a line, and what follows it.
#[derive(Debug, PartialEq)]
pub(super) struct Stamp<'a> {
    pub(super) ns: i64,
    pub(super) form: Form,
    pub(super) rest: &'a str,
}

/// A syslog line may be a little ahead of the last change of its file: clocks and zones differ.
const AHEAD_MAX: SignedDuration = SignedDuration::from_hours(24);
/// How far a web server's time may be from the start of its line: address, names, perhaps a host.
const BRACKET_WITHIN: usize = 256;
const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

impl Calendar {
    /// The time that `line` begins with, also in square brackets; or a web server's time near its start.
    pub(super) fn stamp<'a>(&self, line: &'a str) -> Option<Stamp<'a>> {
        self.iso(line)
            .or_else(|| self.month(line))
            .or_else(|| bracketed(line))
    }

    /// A whole text that is a time.
    pub(super) fn exact(&self, text: &str) -> Option<i64> {
        self.iso(text)
            .filter(|stamp| stamp.rest.is_empty())
            .map(|stamp| stamp.ns)
    }

    fn iso<'a>(&self, line: &'a str) -> Option<Stamp<'a>> {
        let opened = line.strip_prefix('[');
        let text = opened.unwrap_or(line);
        let mut scan = Scan(text.as_bytes());
        let year = scan.digits(4)?;
        let separator = scan.one_of(b"-/")?;
        let month = scan.digits(2)?;
        scan.one_of(&[separator])?;
        let day = scan.digits(2)?;
        let form = match scan.one_of(b"T ")? {
            b'T' => Form::T,
            _ => Form::Spaced,
        };
        let time = scan.clock()?;
        let ns = scan.fraction();
        let offset = scan.offset();
        let date = Date::new(i16::try_from(year).ok()?, i8(month)?, i8(day)?).ok()?;
        let ns = self.resolve(date, time, ns, offset)?;
        if opened.is_some() {
            scan.one_of(b"]")?;
        }
        let rest = &text[text.len() - scan.0.len()..];
        // `2026-11-23 10:00:00abc` is something else.
        let ended = rest.is_empty() || rest.starts_with([' ', '\t', ':', ',', ';', ']', '|']);
        ended.then_some(Stamp { ns, form, rest })
    }

    fn month<'a>(&self, line: &'a str) -> Option<Stamp<'a>> {
        let mut scan = Scan(line.as_bytes());
        let month = scan.month()?;
        scan.one_of(b" ")?;
        let day = match scan.one_of(b" ") {
            Some(_) => scan.digits(1)?,
            None => scan.digits(2)?,
        };
        scan.one_of(b" ")?;
        let time = scan.clock()?;
        let ns = scan.fraction();
        let rest = &line[line.len() - scan.0.len()..];
        let ns = self.in_fitting_year(month, i8(day)?, time, ns)?;
        rest.starts_with(' ').then_some(Stamp {
            ns,
            form: Form::Month,
            rest,
        })
    }

    /// The latest year in which this date exists and is not in the future.
    fn in_fitting_year(&self, month: i8, day: i8, time: Time, ns: i32) -> Option<i64> {
        let latest = self.latest.saturating_add(AHEAD_MAX).ok()?;
        let year = latest.to_zoned(self.zone.clone()).year();
        let limit = nanoseconds(latest)?;
        // 29 February is at most eight years away.
        (0..=8)
            .filter_map(|back| Date::new(year - back, month, day).ok())
            .filter_map(|date| self.resolve(date, time, ns, None))
            .find(|ns| *ns <= limit)
    }

    fn resolve(&self, date: Date, time: Time, ns: i32, offset: Option<Offset>) -> Option<i64> {
        let time = DateTime::from_parts(date, time.with().subsec_nanosecond(ns).build().ok()?);
        let timestamp = match offset {
            Some(offset) => offset.to_timestamp(time).ok()?,
            None => self.zone.to_timestamp(time).ok()?,
        };
        nanoseconds(timestamp)
    }
}

/// Nanoseconds since 1970, where they fit 64 bits (1677 to 2262).
pub(super) fn nanoseconds(time: Timestamp) -> Option<i64> {
    i64::try_from(time.as_nanosecond()).ok()
}

fn bracketed(line: &str) -> Option<Stamp<'_>> {
    let within = &line.as_bytes()[..line.len().min(BRACKET_WITHIN)];
    let start = within.iter().position(|byte| *byte == b'[')? + 1;
    let mut scan = Scan(&line.as_bytes()[start..]);
    let day = scan.digits(2)?;
    scan.one_of(b"/")?;
    let month = scan.month()?;
    scan.one_of(b"/")?;
    let year = scan.digits(4)?;
    scan.one_of(b":")?;
    let time = scan.clock()?;
    scan.one_of(b" ")?;
    let offset = scan.offset()?;
    scan.one_of(b"]")?;
    let date = Date::new(i16::try_from(year).ok()?, month, i8(day)?).ok()?;
    let timestamp = offset.to_timestamp(DateTime::from_parts(date, time)).ok()?;
    Some(Stamp {
        ns: nanoseconds(timestamp)?,
        form: Form::Bracketed,
        rest: line,
    })
}

fn i8(number: u32) -> Option<i8> {
    i8::try_from(number).ok()
}

/// What is left to read. A step that does not fit takes nothing.
struct Scan<'a>(&'a [u8]);

impl Scan<'_> {
    fn one_of(&mut self, wanted: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        wanted.contains(first).then(|| {
            self.0 = rest;
            *first
        })
    }

    fn digits(&mut self, count: usize) -> Option<u32> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        let number = digits.iter().try_fold(0, |number, digit| {
            digit
                .is_ascii_digit()
                .then(|| number * 10 + u32::from(digit - b'0'))
        })?;
        self.0 = rest;
        Some(number)
    }

    /// `10:00:00`. A leap second is the second before it.
    fn clock(&mut self) -> Option<Time> {
        let hour = self.digits(2)?;
        self.one_of(b":")?;
        let minute = self.digits(2)?;
        self.one_of(b":")?;
        let second = match self.digits(2)? {
            60 => 59,
            second => second,
        };
        Time::new(i8(hour)?, i8(minute)?, i8(second)?, 0).ok()
    }

    /// Nanoseconds of `.123` or `,123`; digits beyond nine are dropped.
    fn fraction(&mut self) -> i32 {
        let follows = self.0.first().is_some_and(|c| b".,".contains(c))
            && self.0.get(1).is_some_and(u8::is_ascii_digit);
        if !follows {
            return 0;
        }
        self.0 = &self.0[1..];
        let (mut ns, mut unit) = (0, 100_000_000);
        while let Some(digit) = self.digits(1) {
            ns += i32::try_from(digit).unwrap_or_default() * unit;
            unit /= 10;
        }
        ns
    }

    /// `Z`, `+01:00`, `+0100`, ` UTC`.
    fn offset(&mut self) -> Option<Offset> {
        if self.one_of(b"Zz").is_some() {
            return Some(Offset::UTC);
        }
        if let Some(rest) = self.0.strip_prefix(b" UTC") {
            self.0 = rest;
            return Some(Offset::UTC);
        }
        let before = self.0;
        let offset = self.signed_offset();
        if offset.is_none() {
            self.0 = before;
        }
        offset
    }

    fn signed_offset(&mut self) -> Option<Offset> {
        let sign = match self.one_of(b"+-")? {
            b'-' => -1,
            _ => 1,
        };
        let hours = self.digits(2)?;
        self.one_of(b":");
        let minutes = self.digits(2).unwrap_or_default();
        let seconds = i32::try_from(hours * 3600 + minutes * 60).ok()?;
        Offset::from_seconds(sign * seconds).ok()
    }

    fn month(&mut self) -> Option<i8> {
        let (name, rest) = self.0.split_first_chunk::<3>()?;
        let at = MONTHS.iter().position(|month| *month == name)?;
        self.0 = rest;
        i8::try_from(at + 1).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calendar(latest: &str) -> Calendar {
        Calendar {
            zone: TimeZone::fixed(jiff::tz::offset(1)),
            latest: latest.parse().expect("a time"),
        }
    }

    fn read(line: &str) -> Option<(String, Form, &str)> {
        let stamp = calendar("2026-11-23T12:00:00Z").stamp(line)?;
        let time = Timestamp::from_nanosecond(stamp.ns.into()).expect("in range");
        Some((time.to_string(), stamp.form, stamp.rest))
    }

    #[test]
    fn a_time_in_front_is_read_in_every_common_form() {
        for (line, time, form, rest) in [
            (
                "2026-11-23T10:00:00.123456Z m",
                "2026-11-23T10:00:00.123456Z",
                Form::T,
                " m",
            ),
            (
                "2026-11-23T10:00:00+02:00 m",
                "2026-11-23T08:00:00Z",
                Form::T,
                " m",
            ),
            (
                "2026-11-23T10:00:00-0130",
                "2026-11-23T11:30:00Z",
                Form::T,
                "",
            ),
            ("2026-11-23T10:00:00", "2026-11-23T09:00:00Z", Form::T, ""),
            (
                "2026-11-23 10:00:00 install",
                "2026-11-23T09:00:00Z",
                Form::Spaced,
                " install",
            ),
            (
                "2026-11-23 10:00:00,250 INFO",
                "2026-11-23T09:00:00.25Z",
                Form::Spaced,
                " INFO",
            ),
            (
                "2026/11/23 10:00:00 [error]",
                "2026-11-23T09:00:00Z",
                Form::Spaced,
                " [error]",
            ),
            (
                "2026-11-23 10:00:00 UTC [12] LOG",
                "2026-11-23T10:00:00Z",
                Form::Spaced,
                " [12] LOG",
            ),
            (
                "[2026-11-23T10:00:00Z] m",
                "2026-11-23T10:00:00Z",
                Form::T,
                " m",
            ),
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59Z", Form::T, ""),
            (
                "Nov 23 11:31:23 host p: m",
                "2026-11-23T10:31:23Z",
                Form::Month,
                " host p: m",
            ),
            (
                "Nov  3 11:31:23 host",
                "2026-11-03T10:31:23Z",
                Form::Month,
                " host",
            ),
        ] {
            assert_eq!(read(line), Some((time.to_owned(), form, rest)), "{line}");
        }
    }

    #[test]
    fn a_web_servers_time_is_found_within_the_line() {
        let line = r#"127.0.0.1 - - [10/Oct/2025:13:55:36 -0700] "GET / HTTP/1.1" 200 5"#;

        assert_eq!(
            read(line),
            Some(("2025-10-10T20:55:36Z".into(), Form::Bracketed, line))
        );
    }

    #[test]
    fn a_month_without_year_is_in_the_latest_year_that_fits() {
        let year = |line: &str, latest: &str| {
            let stamp = calendar(latest).stamp(line).expect("a time");
            Timestamp::from_nanosecond(stamp.ns.into())
                .expect("in range")
                .to_zoned(TimeZone::UTC)
                .year()
        };
        assert_eq!(year("Dec 31 10:00:00 h", "2026-01-01T00:00:00Z"), 2025);
        assert_eq!(
            year("Jan  1 00:30:00 h", "2025-12-31T23:00:00Z"),
            2025,
            "half past midnight in the zone is the evening before in UTC"
        );
        assert_eq!(year("Jan  1 10:00:00 h", "2025-12-31T23:00:00Z"), 2026);
        assert_eq!(year("Nov 24 10:00:00 h", "2026-11-23T12:00:00Z"), 2026);
        assert_eq!(year("Nov 25 10:00:00 h", "2026-11-23T12:00:00Z"), 2025);
        assert_eq!(year("Feb 29 10:00:00 h", "2026-11-23T12:00:00Z"), 2024);
    }

    #[test]
    fn what_is_no_time_is_left_alone() {
        for line in [
            "",
            "hello",
            "2026",
            "2026-11-23",
            "2026-11-23 10:00",
            "2026-13-23 10:00:00",
            "2026-11-23 25:00:00",
            "2026-11-23 10:00:00abc",
            "2026-11/23 10:00:00",
            "Nov 31 10:00:00 h",
            "Nov 23",
            "Foo 23 10:00:00 h",
            "[10/Oct/2025:13:55:36]",
            "é026-11-23 10:00:00",
            "9999-12-31T00:00:00Z",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
    }

    #[test]
    fn every_cut_is_a_time_or_none() {
        for line in [
            "[2026-11-23T10:00:00.123456+01:00] é",
            "Nov 23 11:31:23 host é",
            "a [10/Oct/2025:13:55:36 -0700] é",
        ] {
            for cut in (0..line.len()).filter(|cut| line.is_char_boundary(*cut)) {
                let _ = read(&line[..cut]);
            }
        }
    }
}
