use std::{net::SocketAddr, time::Duration};

use super::{cookie::Cookie, error::ClusterError, handshake::ADDRESS_BYTES_MAX, tls::Tls};
use crate::resilience::Backoff;

/// How a node is in a cluster.
///
/// ```
/// use underpin::cluster::{ClusterOptions, Cookie};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cookie = Cookie::new("read it from a file that only you can read")?;
/// let options = ClusterOptions::new(cookie)
///     .listen("127.0.0.1:4620".parse()?)
///     .join("127.0.0.1:4621");
/// # let _ = options;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct ClusterOptions {
    pub(super) cookie: Cookie,
    pub(super) listen: Option<SocketAddr>,
    pub(super) advertise: Option<String>,
    pub(super) seeds: Vec<String>,
    pub(super) heartbeat: Duration,
    pub(super) timeout: Duration,
    pub(super) reconnect: Reconnect,
    pub(super) greeting_time: Duration,
    pub(super) greeting_max: usize,
    pub(super) frame_bytes_max: u32,
    pub(super) window: u32,
    pub(super) allow_changes: bool,
    pub(super) insecure: bool,
    pub(super) tls: Option<Tls>,
    pub(super) plain: Option<(SocketAddr, Cookie)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Reconnect {
    pub(super) first: Duration,
    pub(super) longest: Duration,
}

impl ClusterOptions {
    /// A node that knows the cookie, listens nowhere and joins nobody: it opens no socket.
    ///
    /// Defaults: a heartbeat each 500 ms and a node down after 2 s of silence; reconnection from 100 ms to 10 s; 5 s and 128 places
    /// for those who have not proven who they are; frames up to 8 MiB, and 4 MiB on their way to a node.
    pub fn new(cookie: Cookie) -> Self {
        Self {
            cookie,
            listen: None,
            advertise: None,
            seeds: Vec::new(),
            heartbeat: Duration::from_millis(500),
            timeout: Duration::from_secs(2),
            reconnect: Reconnect {
                first: Duration::from_millis(100),
                longest: Duration::from_secs(10),
            },
            greeting_time: Duration::from_secs(5),
            greeting_max: 128,
            frame_bytes_max: 8 << 20,
            window: 4 << 20,
            allow_changes: false,
            insecure: false,
            tls: None,
            plain: None,
        }
    }

    /// Listens for other nodes at this address; port 0 takes any that is free. An address that is not loopback needs TLS, or
    /// [`insecure`](Self::insecure).
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = Some(address);
        self
    }

    /// Where others reach this node, as `host:port`, when that is not the address it listens at: behind a NAT, or by its DNS name.
    pub fn advertise(mut self, address: impl Into<String>) -> Self {
        self.advertise = Some(address.into());
        self
    }

    /// One more node to join, as `host:port`. It may be down: it is tried again for ever. One that is reached tells of all others.
    pub fn join(mut self, address: impl Into<String>) -> Self {
        self.seeds.push(address.into());
        self
    }

    /// How often each node lets the others hear of it, and after how much silence one is down: three heartbeats at least. A node that is cut off or frozen is
    /// down at the latest one heartbeat after `timeout`; one whose process ends, at once.
    pub fn heartbeat(mut self, every: Duration, timeout: Duration) -> Self {
        self.heartbeat = every;
        self.timeout = timeout;
        self
    }

    /// How long to wait before a node that cannot be reached is tried again: at first, and at most. It doubles in between, spread
    /// by chance.
    pub fn reconnect(mut self, first: Duration, longest: Duration) -> Self {
        self.reconnect = Reconnect { first, longest };
        self
    }

    /// How long a connection may take to prove who it is, and how many may be at it at once. When there are more, the oldest makes
    /// room: a node that knows the cookie needs milliseconds.
    pub fn greeting(mut self, time: Duration, at_once: usize) -> Self {
        self.greeting_time = time;
        self.greeting_max = at_once;
        self
    }

    /// The longest message that this node reads, in bytes. Others are told, and do not send longer ones.
    pub fn frame_bytes_max(mut self, bytes: u32) -> Self {
        self.frame_bytes_max = bytes;
        self
    }

    /// How many bytes of messages each other node may have on their way to this one and not dealt with. Beyond it senders wait or
    /// are told that it is full. Each message counts 256 bytes beside its own.
    pub fn window_bytes(mut self, bytes: u32) -> Self {
        self.window = bytes;
        self
    }

    /// Lets other nodes change things here, such as settings; without it they can look.
    pub fn allow_changes(mut self) -> Self {
        self.allow_changes = true;
        self
    }

    /// Speaks TLS on every connection, and with nobody who shows no certificate of the same authority.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Listens for plain `ractor_cluster` programs at this address, with a cookie of their own. Such a program is a
    /// [`MemberKind::Plain`](super::MemberKind::Plain) by the name `name.host`, with its groups, until its connection ends: it is not
    /// judged by its silence. It is told of no actor here, and its own become none here.
    ///
    /// Its protocol is clear text and its proof is weak: 32 bits of chance, and whoever listens in can try cookies at leisure. So its
    /// cookie has to be another than that of the nodes, and an address that is not loopback needs [`insecure`](Self::insecure), also
    /// beside TLS.
    pub fn plain(mut self, address: SocketAddr, cookie: Cookie) -> Self {
        self.plain = Some((address, cookie));
        self
    }

    /// Listens and dials in clear text also beyond this machine. Everybody in between can read and change what is said.
    pub fn insecure(mut self) -> Self {
        self.insecure = true;
        self
    }

    /// Whether other machines may be talked to.
    pub(super) fn may_leave_the_machine(&self) -> bool {
        self.insecure || self.tls.is_some()
    }

    /// Whether a socket is to be opened at all.
    pub(super) fn is_idle(&self) -> bool {
        self.listen.is_none() && self.seeds.is_empty() && self.plain.is_none()
    }

    /// # Errors
    ///
    /// [`ClusterError::Option`] or [`ClusterError::Insecure`].
    pub(super) fn check(&self) -> Result<(), ClusterError> {
        let wrong = |option, problem: &str| {
            Err(ClusterError::Option {
                option,
                problem: problem.to_owned(),
            })
        };
        if self.heartbeat < Duration::from_millis(5) {
            return wrong(
                "heartbeat",
                "is below 5 ms; a machine that is busy would take others for dead",
            );
        }
        if self.timeout < self.heartbeat * 3 {
            return wrong(
                "timeout",
                "is below three heartbeats; a node is suspect at half of it, and one heartbeat that is late would make it so",
            );
        }
        if self.greeting_max == 0 || self.greeting_time.is_zero() {
            return wrong(
                "greeting",
                "leaves no time or place to join; allow at least one",
            );
        }
        if self.frame_bytes_max < FRAME_BYTES_LEAST || self.frame_bytes_max > FRAME_BYTES_MOST {
            return wrong("frame_bytes_max", "has to be 64 KiB to 1 GiB");
        }
        if !(4096..=WINDOW_BYTES_MAX).contains(&self.window) {
            return wrong("window_bytes", "has to be 4 KiB to 64 MiB");
        }
        self.backoff()?;
        for address in self.seeds.iter().chain(&self.advertise) {
            check_address(address)?;
        }
        if let Some((address, cookie)) = &self.plain {
            if cookie.bytes() == self.cookie.bytes() {
                return wrong(
                    "plain",
                    "has the cookie of the nodes, which its protocol gives away; give it one of its own",
                );
            }
            if !self.insecure && !address.ip().is_loopback() {
                let problem = format!(
                    "is at {address}, which other machines reach, and speaks clear text; listen at a loopback address, or say that this is meant (`--insecure`, in a program `ClusterOptions::insecure`)"
                );
                return wrong("plain", &problem);
            }
        }
        if self.may_leave_the_machine() {
            return Ok(());
        }
        match self.listen {
            Some(address) if !address.ip().is_loopback() => Err(ClusterError::Insecure {
                address: address.to_string(),
            }),
            _ => Ok(()),
        }
    }

    pub(super) fn backoff(&self) -> Result<Backoff, ClusterError> {
        let Reconnect { first, longest } = self.reconnect;
        Backoff::new(first, longest).map_err(|error| ClusterError::Option {
            option: "reconnect",
            problem: error.to_string(),
        })
    }
}

/// The largest window. Others count on getting credit back in quarters of it, and hold so much at most.
pub(super) const WINDOW_BYTES_MAX: u32 = 64 << 20;

/// Below it what a node tells of others would not fit.
const FRAME_BYTES_LEAST: u32 = 64 << 10;
const FRAME_BYTES_MOST: u32 = 1 << 30;

/// A host and a port, which need not be there yet.
pub(super) fn check_address(address: &str) -> Result<(), ClusterError> {
    let parts = address.rsplit_once(':');
    let is_good = parts.is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if is_good && address.len() <= ADDRESS_BYTES_MAX {
        return Ok(());
    }
    Err(ClusterError::Option {
        option: "address",
        problem: format!(
            "`{address}` is no host and port; say it as in `10.0.0.7:4620` or `a.example:4620`"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> ClusterOptions {
        ClusterOptions::new(Cookie::new("a cookie of some length").expect("long enough"))
    }

    #[test]
    fn an_address_beyond_this_machine_needs_words() {
        let open = options().listen("0.0.0.0:0".parse().expect("an address"));
        let refused = open.check().expect_err("clear text");
        assert!(refused.to_string().contains("TLS"), "{refused}");
        assert!(open.insecure().check().is_ok());
        assert!(
            options()
                .listen("[::1]:0".parse().expect("an address"))
                .check()
                .is_ok()
        );
    }

    #[test]
    fn plain_programs_have_a_cookie_of_their_own_and_are_on_this_machine() {
        let own = || Cookie::new("another cookie of some length").expect("long enough");
        let here = "127.0.0.1:0".parse().expect("an address");
        let everywhere = "0.0.0.0:0".parse().expect("an address");
        assert!(options().plain(here, own()).check().is_ok());
        let same = options().plain(here, options().cookie).check();
        assert!(matches!(same, Err(ClusterError::Option { .. })), "{same:?}");
        let open = options().plain(everywhere, own());
        let refused = open.check().expect_err("clear text");
        assert!(refused.to_string().contains("insecure"), "{refused}");
        assert!(open.insecure().check().is_ok());
    }

    #[test]
    fn what_cannot_work_is_said_before_anything_starts() {
        assert!(options().check().is_ok());
        let ms = Duration::from_millis;
        assert!(options().heartbeat(ms(50), ms(150)).check().is_ok());
        assert!(options().heartbeat(ms(4), ms(100)).check().is_err());
        assert!(options().heartbeat(ms(50), ms(149)).check().is_err());
        assert!(options().reconnect(ms(50), ms(49)).check().is_err());
        assert!(options().greeting(ms(50), 0).check().is_err());
        assert!(options().frame_bytes_max(1000).check().is_err());
        assert!(options().window_bytes(1000).check().is_err());
        for bad in [
            "",
            "host",
            "host:",
            ":80",
            "host:70000",
            "host:0",
            &format!("{}:80", "x".repeat(260)),
        ] {
            assert!(options().join(bad).check().is_err(), "{bad}");
        }
        for good in ["[::1]:80", "a.example:80", "10.0.0.1:4620"] {
            assert!(options().join(good).check().is_ok(), "{good}");
        }
    }
}
