//! Which side does what for which figure.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::runtime::Runtime;

use crate::{CALLERS, limit::Limit, own::Own, peer::Peer, ractor_cluster::Bare};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Underpin,
    RactorCluster,
    Limit,
}

pub(crate) fn side(who: &str) -> Result<Side> {
    Ok(match who {
        "underpin" => Side::Underpin,
        "ractor_cluster" => Side::RactorCluster,
        "limit" => Side::Limit,
        _ => bail!("there is no side {who}"),
    })
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Underpin => "underpin",
            Self::RactorCluster => "ractor_cluster",
            Self::Limit => "limit",
        }
    }
}

/// Measures for at least a time.
pub(crate) type Sampler = Box<dyn FnMut(&Runtime, Duration) -> Result<f64>>;

/// Who is connected with its peer.
enum Connected {
    Underpin(Own),
    RactorCluster(Bare),
    Limit(Limit),
}

impl Connected {
    async fn to(side: Side, address: &str, timeout: Option<Duration>) -> Result<Self> {
        Ok(match side {
            Side::Underpin => Self::Underpin(Own::connect(address, timeout).await?),
            Side::RactorCluster => Self::RactorCluster(Bare::connect(address).await?),
            Side::Limit => Self::Limit(Limit::connect(address).await?),
        })
    }

    async fn calls(&self, count: u64) -> Result<Duration> {
        match self {
            Self::Underpin(own) => own.calls(count).await,
            Self::RactorCluster(bare) => bare.calls(count).await,
            Self::Limit(limit) => limit.calls(count).await,
        }
    }

    async fn many_calls(&self, each: u64) -> Result<Duration> {
        match self {
            Self::Underpin(own) => own.many_calls(each).await,
            Self::RactorCluster(bare) => bare.many_calls(each).await,
            Self::Limit(limit) => limit.many_calls(each).await,
        }
    }

    async fn casts(&self, count: u64, in_batches: bool) -> Result<Duration> {
        match self {
            Self::Underpin(own) => own.casts(count, in_batches).await,
            Self::RactorCluster(bare) => bare.casts(count).await,
            Self::Limit(limit) => limit.casts(count).await,
        }
    }

    async fn broadcasts(&self, sent: &mut u64, count: u64) -> Result<Duration> {
        match self {
            Self::Underpin(own) => own.broadcasts(sent, count).await,
            Self::RactorCluster(bare) => bare.broadcasts(sent, count).await,
            Self::Limit(limit) => limit.broadcasts(count).await,
        }
    }

    async fn down(self, peer: Peer, is_killed: bool) -> Result<Duration> {
        match self {
            Self::Underpin(own) => own.down(peer, is_killed).await,
            Self::RactorCluster(bare) => bare.down(peer).await,
            Self::Limit(limit) => limit.down(peer).await,
        }
    }
}

/// What is done over and over for a figure, and how often before the clock is looked at.
#[derive(Clone, Copy)]
enum Work {
    Calls,
    ManyCalls,
    Casts { in_batches: bool },
    Broadcasts,
}

impl Work {
    fn count(self) -> u64 {
        match self {
            Self::Calls => 200,
            Self::ManyCalls => 50,
            Self::Casts { .. } => 20_000,
            Self::Broadcasts => 10,
        }
    }
}

/// Sets a figure up for a side.
pub(crate) fn sampler(runtime: &Runtime, side: Side, figure: &str) -> Result<Sampler> {
    let work = match figure {
        "call" => Work::Calls,
        "cast64" => Work::ManyCalls,
        "cast" => Work::Casts { in_batches: false },
        "cast.batched" => Work::Casts { in_batches: true },
        "broadcast.1000" => Work::Broadcasts,
        "down.killed" => return Ok(downs(side, None)),
        _ => match figure.strip_prefix("down.frozen.") {
            Some(timeout) => {
                let timeout = Duration::from_millis(timeout.parse()?);
                return Ok(downs(side, Some(timeout)));
            }
            None => bail!("there is no figure {figure}"),
        },
    };
    let peer = Peer::start(side.name())?;
    let mut connected = Some(drive(runtime, {
        let address = peer.address.clone();
        async move { Connected::to(side, &address, None).await }
    })?);
    let mut sent = 0;
    Ok(Box::new(move |runtime, time| {
        let _lives = &peer;
        let (mut took, mut done) = (Duration::ZERO, 0);
        while took < time {
            let (count, so_far) = (work.count(), sent);
            let Some(connection) = connected.take() else {
                bail!("an earlier measurement failed");
            };
            let (connection, piece, sent_now) = drive(runtime, async move {
                let mut sent = so_far;
                let piece = match work {
                    Work::Calls => connection.calls(count).await,
                    Work::ManyCalls => connection.many_calls(count).await,
                    Work::Casts { in_batches } => connection.casts(count, in_batches).await,
                    Work::Broadcasts => connection.broadcasts(&mut sent, count).await,
                }?;
                anyhow::Ok((connection, piece, sent))
            })?;
            (connected, sent) = (Some(connection), sent_now);
            took += piece;
            done += count;
        }
        let each = took.as_secs_f64() / done as f64;
        Ok(match work {
            Work::Calls | Work::Broadcasts => each * 1e6,
            Work::Casts { .. } => 1.0 / each,
            Work::ManyCalls => CALLERS as f64 / each,
        })
    }))
}

/// The middle of how long it took to see that a process is gone, or frozen, in milliseconds.
fn downs(side: Side, timeout: Option<Duration>) -> Sampler {
    Box::new(move |runtime, time| {
        let (mut all, begin) = (Vec::new(), Instant::now());
        while begin.elapsed() < time || all.len() < 3 {
            let peer = Peer::start(side.name())?;
            let took = drive(runtime, async move {
                let connected = Connected::to(side, &peer.address, timeout).await?;
                connected.down(peer, timeout.is_none()).await
            })?;
            all.push(took.as_secs_f64() * 1e3);
        }
        all.sort_by(f64::total_cmp);
        Ok(all[all.len() / 2])
    })
}

/// As a task of the runtime, not on the thread outside of it.
fn drive<T: Send + 'static>(
    runtime: &Runtime,
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let task = runtime.spawn(work);
    runtime.block_on(task)?
}
