//! Lines of any log: the package log, syslog, whatever else.

use super::{
    correlation, data,
    format::{Context, Refused},
    members::Members,
    ndjson,
    stamp::Form,
};

/// What a line says, as far as its format is known.
#[derive(Debug, Default, PartialEq)]
struct Read<'a> {
    kind: Kind<'a>,
    source: Option<&'a str>,
    message: &'a str,
    host: Option<&'a str>,
    pid: Option<u32>,
    level: Option<&'a str>,
    package: Option<Package<'a>>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Kind<'a> {
    #[default]
    Line,
    Syslog,
    /// With its action.
    Dpkg(&'a str),
}

/// What the package log did to which package.
#[derive(Debug, PartialEq)]
enum Package<'a> {
    Changed {
        package: &'a str,
        from: &'a str,
        to: &'a str,
    },
    State {
        package: &'a str,
        state: &'a str,
        version: &'a str,
    },
}

const LEVELS: [&str; 12] = [
    "TRACE", "DEBUG", "INFO", "NOTICE", "WARN", "WARNING", "ERROR", "ERR", "CRITICAL", "CRIT",
    "FATAL", "PANIC",
];

/// Writes the members of the line's event, all but its id.
pub(super) fn read(
    line: &str,
    lossy: bool,
    context: &Context,
    out: &mut Vec<u8>,
) -> Result<(), Refused> {
    let (priority, line) = priority(line);
    let stamp = context.calendar.stamp(line);
    let read = match &stamp {
        None => Read::plain(line),
        Some(stamp) => match stamp.form {
            Form::T => Read::syslog(stamp.rest).unwrap_or_else(|| Read::leveled(stamp.rest)),
            Form::Month => Read::syslog(stamp.rest).unwrap_or_else(|| Read::plain(stamp.rest)),
            Form::Spaced => Read::dpkg(stamp.rest).unwrap_or_else(|| Read::leveled(stamp.rest)),
            Form::Bracketed => Read::plain(stamp.rest),
        },
    };

    let mut members = Members::following(out);
    match (&context.kind, read.kind) {
        (Some(kind), _) => members.text("kind", kind),
        (None, Kind::Line) => members.text("kind", "log.line"),
        (None, Kind::Syslog) => members.text("kind", "log.syslog"),
        (None, Kind::Dpkg(action)) => members.text("kind", &format!("dpkg.{action}")),
    }
    members.plain("time", stamp.map_or(context.now_ns, |stamp| stamp.ns));
    members.text("source", read.source.unwrap_or(&context.source));
    if let Some(id) = correlation::in_text(line) {
        members.text("correlation", &id);
    }
    let start = members.object("data", |data| {
        read.describe(data);
        if let Some(priority) = priority {
            data.plain("priority", priority);
        }
        if lossy {
            data.plain("lossy", true);
        }
    });
    data::check_size(&out[start..])
}

impl<'a> Read<'a> {
    fn plain(line: &'a str) -> Self {
        Self {
            message: line.trim(),
            ..Self::default()
        }
    }

    /// ` INFO  message`, as loggers write it after the time.
    fn leveled(rest: &'a str) -> Self {
        let rest = rest.trim();
        let word = rest
            .split([' ', ':', '\t'])
            .next()
            .unwrap_or_default()
            .trim_matches(['[', ']']);
        Self {
            level: LEVELS.contains(&word).then_some(word),
            ..Self::plain(rest)
        }
    }

    /// ` host program[pid]: message`, also without host.
    fn syslog(rest: &'a str) -> Option<Self> {
        let rest = rest.strip_prefix(' ')?;
        let (first, after) = rest.split_once(' ')?;
        let (host, tag, message) = if first.ends_with(':') {
            (None, first, after)
        } else {
            let (tag, message) = after.split_once(' ').unwrap_or((after, ""));
            (Some(first), tag, message)
        };
        let tag = tag.strip_suffix(':')?;
        if host.is_some_and(|host| host.is_empty() || LEVELS.contains(&host)) {
            return None;
        }
        let (program, pid) = match tag.strip_suffix(']').and_then(|tag| tag.rsplit_once('[')) {
            Some((program, pid)) => (program, Some(pid.parse().ok()?)),
            None => (tag, None),
        };
        ndjson::check_name("program", program).ok()?;
        Some(Self {
            kind: Kind::Syslog,
            source: Some(program),
            message: message.trim(),
            host,
            pid,
            ..Self::default()
        })
    }

    /// ` install foo:amd64 <none> 1.0`, and the other lines that dpkg(1) documents under --log.
    fn dpkg(rest: &'a str) -> Option<Self> {
        let message = rest.strip_prefix(' ')?;
        let mut words = message.split(' ');
        let (action, second) = (words.next()?, words.next()?);
        let (third, fourth) = (words.next(), words.next());
        if words.next().is_some() {
            return None;
        }
        let package = match (action, third, fourth) {
            ("startup", Some(_), None) | ("conffile", Some("keep" | "install"), None) => None,
            ("status", Some(package), Some(version)) if is_state(second) => Some(Package::State {
                package,
                state: second,
                version,
            }),
            (
                "install" | "upgrade" | "configure" | "trigproc" | "disappear" | "remove" | "purge",
                Some(from),
                Some(to),
            ) if is_version(from) && is_version(to) => Some(Package::Changed {
                package: second,
                from,
                to,
            }),
            _ => return None,
        };
        Some(Self {
            kind: Kind::Dpkg(action),
            source: Some("dpkg"),
            message,
            package,
            ..Self::default()
        })
    }

    fn describe(&self, data: &mut Members<'_>) {
        data.text("message", self.message);
        if let Some(level) = self.level {
            data.text("level", level);
        }
        if let Some(host) = self.host {
            data.text("host", host);
        }
        if let Some(pid) = self.pid {
            data.plain("pid", pid);
        }
        match self.package {
            Some(Package::Changed { package, from, to }) => {
                data.text("package", package);
                data.text("from", from);
                data.text("to", to);
            }
            Some(Package::State {
                package,
                state,
                version,
            }) => {
                data.text("package", package);
                data.text("state", state);
                data.text("version", version);
            }
            None => {}
        }
    }
}

/// The states of dpkg(1).
fn is_state(word: &str) -> bool {
    const STATES: [&str; 8] = [
        "not-installed",
        "config-files",
        "half-installed",
        "unpacked",
        "half-configured",
        "triggers-awaited",
        "triggers-pending",
        "installed",
    ];
    STATES.contains(&word)
}

fn is_version(word: &str) -> bool {
    word == "<none>" || word.contains(|c: char| c.is_ascii_digit())
}

/// `<34>` in front of a line that came over the network: facility and severity.
fn priority(line: &str) -> (Option<u8>, &str) {
    let read = || {
        let (number, rest) = line.strip_prefix('<')?.split_once('>')?;
        Some((number.parse().ok().filter(|number| *number <= 191)?, rest))
    };
    match read() {
        Some((number, rest)) => (Some(number), rest),
        None => (None, line),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::format::tests::context, *};

    fn event(line: &str) -> String {
        let mut out = Vec::new();
        read(line, false, &context(None), &mut out).expect("an event");
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn the_package_log_gives_its_actions_as_kinds() {
        for (line, kind, data) in [
            (
                "2026-11-23 10:00:00 install foo:amd64 <none> 1.0",
                "dpkg.install",
                r#"{"message":"install foo:amd64 <none> 1.0","package":"foo:amd64","from":"<none>","to":"1.0"}"#,
            ),
            (
                "2026-11-23 10:00:00 status half-configured foo:amd64 1.0",
                "dpkg.status",
                r#"{"message":"status half-configured foo:amd64 1.0","package":"foo:amd64","state":"half-configured","version":"1.0"}"#,
            ),
            (
                "2026-11-23 10:00:00 startup archives unpack",
                "dpkg.startup",
                r#"{"message":"startup archives unpack"}"#,
            ),
            (
                "2026-11-23 10:00:00 conffile /etc/foo keep",
                "dpkg.conffile",
                r#"{"message":"conffile /etc/foo keep"}"#,
            ),
        ] {
            assert_eq!(
                event(line),
                format!(
                    r#","kind":"{kind}","time":1795428000000000000,"source":"dpkg","data":{data}"#
                )
            );
        }
    }

    #[test]
    fn syslog_gives_program_host_and_pid_in_both_forms_of_time() {
        let expected = concat!(
            r#","kind":"log.syslog","time":1795428000000000000,"source":"sshd","correlation":"r1","#,
            r#""data":{"message":"Accepted request_id=r1","host":"box","pid":17}"#
        );
        assert_eq!(
            event("Nov 23 10:00:00 box sshd[17]: Accepted request_id=r1"),
            expected
        );
        assert_eq!(
            event("2026-11-23T10:00:00+00:00 box sshd[17]: Accepted request_id=r1"),
            expected
        );
        assert!(
            event("Nov 23 10:00:00 box kernel: up")
                .contains(r#""source":"kernel","data":{"message":"up","host":"box"}"#)
        );
        assert!(
            event("<34>Nov 23 10:00:00 su: no")
                .contains(r#""source":"su","data":{"message":"no","priority":34}"#)
        );
    }

    #[test]
    fn other_lines_keep_their_text_and_time() {
        for (line, event_of) in [
            (
                "2026-11-23T10:00:00Z ERROR shop::orders: no stock",
                r#""time":1795428000000000000,"source":"app.log","data":{"message":"ERROR shop::orders: no stock","level":"ERROR"}"#,
            ),
            (
                "2026-11-23 10:00:00,5 [WARN] slow",
                r#""time":1795428000500000000,"source":"app.log","data":{"message":"[WARN] slow","level":"WARN"}"#,
            ),
            (
                "2026-11-23 10:00:00 install of the year",
                r#""time":1795428000000000000,"source":"app.log","data":{"message":"install of the year"}"#,
            ),
            (
                "hello \"you\"",
                r#""time":1000,"source":"app.log","data":{"message":"hello \"you\""}"#,
            ),
            (
                "Nov 23 10:00:00 something else",
                r#""time":1795428000000000000,"source":"app.log","data":{"message":"something else"}"#,
            ),
        ] {
            assert_eq!(
                event(line),
                format!(r#","kind":"log.line",{event_of}"#),
                "{line}"
            );
        }
    }

    #[test]
    fn a_kind_that_was_said_is_taken_and_lost_bytes_are_marked() {
        let mut out = Vec::new();

        read("caf\u{fffd}", true, &context(Some("cafe.log")), &mut out).expect("an event");

        assert_eq!(
            String::from_utf8(out).expect("UTF-8"),
            ",\"kind\":\"cafe.log\",\"time\":1000,\"source\":\"app.log\",\"data\":{\"message\":\"caf\u{fffd}\",\"lossy\":true}"
        );
    }

    #[test]
    fn every_cut_of_a_line_is_an_event() {
        for line in [
            "<34>Nov 23 10:00:00 box sshd[17]: Accepted request_id=r1",
            "2026-11-23 10:00:00 install foo:amd64 <none> 1.0",
            "[2026-11-23T10:00:00Z] ERROR a: b",
        ] {
            for cut in 0..line.len() {
                event(&line[..cut]);
            }
        }
    }
}
