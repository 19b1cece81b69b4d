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
    // Whatever goes wrong until somebody runs it has to be told, also when nobody waits for this any more.
    let unattended = Unattended::new(shared, &link);
    greet::welcome(wires, shared, &claimed).await?;
    unattended.attended();
    Ok(link)
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
    let unattended = Unattended::new(shared, &link);
    shared.tell(Message::Greeted {
        link: Arc::clone(&link),
        address: address.map(str::to_owned),
        admitted,
    });
    let Ok(Ok(answer)) = time::timeout(ANSWER, answer).await else {
        return Err(ConnectError::Stopped);
    };
    unattended.attended();
    Ok(answer.map(|()| link))
}

/// The membership never waits for anybody.
const ANSWER: Duration = Duration::from_secs(5);

/// A connection that the membership was told of and that nobody runs yet: when it is dropped, it ends, and the membership hears of it.
struct Unattended<'a> {
    shared: &'a Shared,
    link: Option<Arc<Link>>,
}

impl<'a> Unattended<'a> {
    fn new(shared: &'a Shared, link: &Arc<Link>) -> Self {
        Self {
            shared,
            link: Some(Arc::clone(link)),
        }
    }

    /// Somebody runs it from here on, or it was refused.
    fn attended(mut self) {
        self.link = None;
    }
}

impl Drop for Unattended<'_> {
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

#[cfg(test)]
mod tests {
    use ractor::{Actor, ActorProcessingErr, ActorRef};
    use tokio::{io, sync::mpsc};

    use super::*;
    use crate::{
        cluster::{handshake::tests::about, reader::tests},
        otp::{ChildSpec, Intensity, Supervisor, SupervisorSpec},
    };

    /// Lets everybody in, and says who came and who was lost.
    struct Membership(mpsc::UnboundedSender<(&'static str, u64)>);

    impl Actor for Membership {
        type Msg = Message;
        type State = ();
        type Arguments = ();

        async fn pre_start(&self, _: ActorRef<Message>, (): ()) -> Result<(), ActorProcessingErr> {
            Ok(())
        }

        async fn handle(
            &self,
            _: ActorRef<Message>,
            message: Message,
            (): &mut (),
        ) -> Result<(), ActorProcessingErr> {
            match message {
                Message::Greeted { link, admitted, .. } => {
                    self.0.send(("came", link.number()))?;
                    let _ = admitted.send(Ok(()));
                }
                Message::Lost { link, .. } => self.0.send(("lost", link))?,
                _ => {}
            }
            Ok(())
        }
    }

    fn wires(stream: io::DuplexStream) -> Wires {
        let (read, write) = io::split(stream);
        Wires {
            read: Box::new(read),
            write: Box::new(write),
        }
    }

    /// The membership went on counting it as a connection to that node, which no other could take the place of.
    #[tokio::test(start_paused = true)]
    async fn a_node_that_is_let_in_and_takes_no_welcome_in_time_is_told_to_be_lost() {
        let shared = tests::shared();
        let (news, mut told) = mpsc::unbounded_channel();
        let membership = ChildSpec::actor("membership", &shared.membership, move |_| {
            (Membership(news.clone()), ())
        });
        let root = SupervisorSpec::new("root", Intensity::new(0, Duration::from_secs(1)));
        let root = Supervisor::start(root.child(membership)).await;
        let root = root.expect("the membership starts");

        let (here, there) = io::duplex(8);
        let (mut here, mut there) = (wires(here), wires(there));
        let entering =
            async { time::timeout(Duration::from_secs(1), enter(&shared, &mut here)).await };
        let me = about("b", 2, 1);
        let dialling = async {
            tokio::select! {
                _ = greet::dial(&mut there, &shared.options.cookie, &me, 7) => panic!("it was welcomed"),
                came = told.recv() => came.expect("it lives"),
            }
        };
        let (entered, (what, number)) = tokio::join!(entering, dialling);
        assert!(entered.is_err(), "nobody read the welcome");
        assert_eq!(what, "came");
        let lost = time::timeout(Duration::from_secs(1), told.recv()).await;
        assert_eq!(lost.ok().flatten(), Some(("lost", number)));
        root.stop().await;
    }
}
