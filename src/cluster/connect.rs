//! From an address, or an accepted socket, to a connection that the membership knows.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpStream, sync::oneshot, time};

use super::{
    error::{ConnectError, Refusal},
    greet::{self, Claimed, Failed, Wires},
    handshake::About,
    link::Link,
    listener::Place,
    message::Message,
    options::ClusterOptions,
    serve,
    shared::Shared,
    state::{Linked, LostWhy},
    tls::{self, Disagreement},
};

/// Dials an address and runs the connection until it ends. Tells the membership when it comes to nothing.
pub(super) async fn dial(shared: Arc<Shared>, address: String) {
    let within = shared.options.greeting_time;
    let connected = time::timeout(within, connect(&shared, &address)).await;
    let connected = connected.unwrap_or_else(|_| {
        Err(ConnectError::Timeout {
            address: address.clone(),
            waited: within,
        })
    });
    match connected {
        Ok((link, wires)) => serve::run(shared, link, wires.read, wires.write).await,
        Err(error) => shared.tell(Message::DialFailed { address, error }),
    }
}

async fn connect(shared: &Arc<Shared>, address: &str) -> Result<(Arc<Link>, Wires), ConnectError> {
    let failed = |error| failure(address, error);
    let stream = reach(shared, address).await?;
    let wires = outgoing(&shared.options, stream, address).await;
    let mut wires = wires.map_err(|error| failed(Failed::Io(error)))?;
    let serial = shared.serial();
    let about = greet::dial(&mut wires, &shared.options.cookie, &shared.me, serial)
        .await
        .map_err(failed)?;
    let link = admit(shared, about, true, serial, Some(address)).await?;
    link.map(|link| (link, wires))
        .map_err(|refusal| failed(Failed::Refused(refusal)))
}

/// The first of the addresses behind a name that answers.
async fn reach(shared: &Shared, address: &str) -> Result<TcpStream, ConnectError> {
    let io = |source| ConnectError::Io {
        address: address.to_owned(),
        source: Arc::new(source),
    };
    let mut last = io::Error::other("the name leads to no address");
    for target in tokio::net::lookup_host(address).await.map_err(io)? {
        if !may_dial(&shared.options, target) {
            return Err(ConnectError::Insecure {
                address: address.to_owned(),
            });
        }
        match TcpStream::connect(target).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(io(last))
}

pub(super) fn may_dial(options: &ClusterOptions, target: SocketAddr) -> bool {
    target.ip().is_loopback() || options.may_leave_the_machine()
}

fn plain(stream: TcpStream) -> Wires {
    let (read, write) = stream.into_split();
    Wires {
        read: Box::new(read),
        write: Box::new(write),
    }
}

/// The halves of a connection that this node opened.
pub(super) async fn outgoing(
    options: &ClusterOptions,
    stream: TcpStream,
    address: &str,
) -> io::Result<Wires> {
    // Small messages go at once: they are gathered before.
    stream.set_nodelay(true)?;
    match &options.tls {
        Some(tls) => tls.connect(stream, address).await,
        None => Ok(plain(stream)),
    }
}

async fn incoming(options: &ClusterOptions, stream: TcpStream) -> io::Result<Wires> {
    stream.set_nodelay(true)?;
    match &options.tls {
        Some(tls) => tls.accept(stream).await,
        None => Ok(plain(stream)),
    }
}

/// An accepted connection, up to its end. What it has not proven in time is dropped.
pub(super) async fn accepted(
    shared: Arc<Shared>,
    stream: TcpStream,
    place: &Place,
) -> Result<(), Failed> {
    let within = shared.options.greeting_time;
    let greeting = time::timeout(within, async {
        let mut wires = incoming(&shared.options, stream).await?;
        let link = enter(&shared, &mut wires).await?;
        Ok::<_, Failed>((link, wires))
    });
    let (link, Wires { read, write }) = greeting.await.unwrap_or(Err(Failed::Foreign))?;
    place.give_back();
    serve::run(shared, link, read, write).await;
    Ok(())
}

async fn enter(shared: &Arc<Shared>, wires: &mut Wires) -> Result<Arc<Link>, Failed> {
    let claimed = greet::hear(wires, shared).await?;
    if claimed.serial == greet::ASKING {
        return Err(answer_question(shared, wires, &claimed).await);
    }
    let admitted = admit(shared, claimed.about.clone(), false, claimed.serial, None).await;
    let link = match admitted {
        Ok(Ok(link)) => link,
        Ok(Err(refusal)) => return Err(wires.refuse(refusal).await),
        Err(_) => return Err(wires.refuse(Refusal::Leaving).await),
    };
    // Admitted, and nobody runs it yet: whatever goes wrong from here on has to be told.
    match greet::welcome(wires, shared, &claimed).await {
        Ok(()) => Ok(link),
        Err(error) => {
            link.close(LostWhy::Closed);
            shared.tell(Message::Lost {
                link: link.number(),
                why: LostWhy::Closed,
            });
            Err(error)
        }
    }
}

/// Tells somebody who is not to be let in yet whether it would be.
async fn answer_question(shared: &Arc<Shared>, wires: &mut Wires, claimed: &Claimed) -> Failed {
    let (reply, answer) = oneshot::channel();
    let about = claimed.about.clone();
    shared.tell(Message::Asked { about, reply });
    match time::timeout(ANSWER, answer).await {
        Ok(Ok(Some(refusal))) => wires.refuse(refusal).await,
        Ok(Ok(None)) => match greet::welcome(wires, shared, claimed).await {
            Ok(()) => Failed::Asked,
            Err(failed) => failed,
        },
        Ok(Err(_)) | Err(_) => wires.refuse(Refusal::Leaving).await,
    }
}

/// Asks the membership whether the connection may be used.
async fn admit(
    shared: &Arc<Shared>,
    about: About,
    ours: bool,
    serial: u64,
    address: Option<&str>,
) -> Result<Result<Arc<Link>, Refusal>, ConnectError> {
    let linked = Linked {
        number: shared.number(),
        ours,
        serial,
    };
    let link = Link::new(about, linked, shared.clock, shared.options.frame_bytes_max);
    let (admitted, answer) = oneshot::channel();
    let guard = Abandoned {
        shared,
        link: Some(Arc::clone(&link)),
    };
    shared.tell(Message::Greeted {
        link: Arc::clone(&link),
        address: address.map(str::to_owned),
        admitted,
    });
    let answer = time::timeout(ANSWER, answer).await;
    guard.done();
    match answer {
        Ok(Ok(Ok(()))) => Ok(Ok(link)),
        Ok(Ok(Err(refusal))) => Ok(Err(refusal)),
        Ok(Err(_)) | Err(_) => {
            link.close(LostWhy::Closed);
            shared.tell(Message::Lost {
                link: link.number(),
                why: LostWhy::Closed,
            });
            Err(ConnectError::Stopped)
        }
    }
}

/// The membership never waits for anybody.
const ANSWER: Duration = Duration::from_secs(5);

/// A connection whose admission was asked for by somebody who then went away.
struct Abandoned<'a> {
    shared: &'a Arc<Shared>,
    link: Option<Arc<Link>>,
}

impl Abandoned<'_> {
    fn done(mut self) {
        self.link = None;
    }
}

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        if let Some(link) = self.link.take() {
            link.close(LostWhy::Closed);
            self.shared.tell(Message::Lost {
                link: link.number(),
                why: LostWhy::Closed,
            });
        }
    }
}

fn failure(address: &str, failed: Failed) -> ConnectError {
    let address = address.to_owned();
    match failed {
        Failed::Io(source) => match tls::disagreement(&source) {
            Some(Disagreement::NotTls) => ConnectError::Foreign { address },
            Some(Disagreement::Certificate(why)) => ConnectError::Certificate { address, why },
            None => ConnectError::Io {
                address,
                source: Arc::new(source),
            },
        },
        Failed::Foreign | Failed::Asked => ConnectError::Foreign { address },
        Failed::Refused(refusal) => ConnectError::Refused { address, refusal },
    }
}
