//! Listens for plain programs, and hears what each has to say until its connection ends.

use std::{
    io,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use ring::rand::{SecureRandom, SystemRandom};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time,
};
use tokio_util::sync::CancellationToken;

use super::{
    protocol::{self, Heard, Status},
    room::{Entered, Session},
};
use crate::{
    cluster::{
        cookie::Cookie,
        listener::{Listening, Place},
        member::{DownReason, MemberEvent},
        shared::Shared,
    },
    ids::NodeName,
    otp::{BoxError, ChildContext},
};

/// What one has to say who has proven nothing is shorter.
const GREETING_BYTES_MAX: u64 = 4096;
/// All actors and groups that are remembered of one program come in one message, if need be.
const FRAME_BYTES_MAX: u64 = 8 << 20;
/// How often it is asked for a sign. None is waited for; but a connection that is no more ends, since nobody acknowledges its bytes, and
/// so does one from which so long nothing is read.
const PING: Duration = Duration::from_secs(5);

/// Accepts until it is told to end; connections end with it.
pub(crate) async fn listen(
    ctx: ChildContext,
    shared: Arc<Shared>,
    (listening, cookie): (Arc<Listening>, Cookie),
) -> Result<(), BoxError> {
    let life = CancellationToken::new();
    let _ends = life.clone().drop_guard();
    listening
        .accept(&ctx, &shared, |stream, from, place| {
            let (shared, cookie, life) = (Arc::clone(&shared), cookie.clone(), life.clone());
            async move {
                tokio::select! {
                    () = life.cancelled() => {}
                    ended = converse(&shared, &cookie, stream, &place) => {
                        if let Err(error) = ended {
                            tracing::debug!(%from, %error, "a plain program was not let in");
                        }
                    }
                }
            }
        })
        .await
}

async fn converse(
    shared: &Arc<Shared>,
    cookie: &Cookie,
    stream: TcpStream,
    place: &Place,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (read, write) = stream.into_split();
    let mut wire = Wire {
        read,
        write,
        session: Arc::default(),
    };
    let within = shared.options.greeting_time;
    let (name, listens) = time::timeout(within, wire.greet(shared, cookie))
        .await
        .map_err(|_| refused("it did not prove itself in time"))??;
    place.give_back();
    let session = Arc::clone(&wire.session);
    match shared
        .plain
        .enter(&name, &listens, &session, shared.clock.now())
    {
        Entered::New => announce(shared, "up", MemberEvent::Up(name.clone())),
        Entered::Again => {}
        Entered::Full => return Err(refused("there is no place for one more")),
    }
    let guard = Left {
        shared,
        name,
        session,
        why: DownReason::Closed,
    };
    guard.until_the_end(&mut wire).await;
    Ok(())
}

fn announce(shared: &Shared, word: &str, event: MemberEvent) {
    tracing::info!(?event, "a plain program");
    shared.figures.event(word);
    let _ = shared.news.send(event);
}

fn refused(why: &str) -> io::Error {
    io::Error::other(why.to_owned())
}

/// A program that has been let in. It is down when this is dropped.
struct Left<'a> {
    shared: &'a Arc<Shared>,
    name: NodeName,
    session: Arc<Session>,
    why: DownReason,
}

impl Left<'_> {
    async fn until_the_end(mut self, wire: &mut Wire) {
        let closing = self.session.closing.clone();
        tokio::select! {
            () = closing.cancelled() => {}
            ended = wire.hear_all(self.shared) => {
                if let Err(error) = ended
                    && error.kind() == io::ErrorKind::InvalidData
                {
                    tracing::warn!(node = %self.name, %error, "a plain program does not keep to the protocol");
                    self.why = DownReason::Violated;
                }
            }
        }
    }
}

impl Drop for Left<'_> {
    fn drop(&mut self) {
        let (shared, now) = (self.shared, self.shared.clock.now());
        if shared.plain.leave(&self.name, &self.session, self.why, now) {
            let event = MemberEvent::Down(self.name.clone(), self.why);
            announce(shared, "down", event);
        }
    }
}

struct Wire {
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
    session: Arc<Session>,
}

impl Wire {
    /// The handshake as ractor_cluster's server has it. Gives who is there and where it listens.
    async fn greet(&mut self, shared: &Shared, cookie: &Cookie) -> io::Result<(NodeName, String)> {
        let mut frame = Vec::new();
        self.next(&mut frame, GREETING_BYTES_MAX).await?;
        let Heard::Name { name, listens } = understood(&frame)? else {
            return Err(refused("it did not say its name"));
        };
        // Its name and its host, as one name.
        let node = NodeName::new(name.replace('@', ".")).ok();
        let node = node.filter(|node| !is_a_nodes(shared, node));
        let Some(node) = node else {
            self.say(&protocol::status(Status::NotAllowed)).await?;
            return Err(refused("its name is taken, or none that a node may have"));
        };
        let listens = listens.to_owned();
        if shared.plain.is_connected(&node) {
            self.say(&protocol::status(Status::Alive)).await?;
            self.next(&mut frame, GREETING_BYTES_MAX).await?;
            if understood(&frame)? != Heard::Status(true) {
                return Err(refused("one of this name is connected"));
            }
        } else {
            self.say(&protocol::status(Status::Ok)).await?;
        }
        let mut random = [0; 4];
        let drawn = SystemRandom::new().fill(&mut random);
        drawn.map_err(|_| refused("the system gives no random bytes"))?;
        let challenge = u32::from_ne_bytes(random);
        let me = format!("{}@{}", shared.me.name, shared.me.name);
        self.say(&protocol::challenge(&me, challenge, &shared.me.address))
            .await?;
        self.next(&mut frame, GREETING_BYTES_MAX).await?;
        let Heard::Proof {
            challenge: theirs,
            digest,
        } = understood(&frame)?
        else {
            return Err(refused("it gave no proof"));
        };
        if !is_same(digest, &protocol::digest(cookie.bytes(), challenge)) {
            return Err(refused("the cookies differ"));
        }
        let proof = protocol::digest(cookie.bytes(), theirs);
        self.say(&protocol::acknowledged(&proof)).await?;
        self.say(&protocol::ready()).await?;
        Ok((node, listens))
    }

    /// Until the connection ends.
    async fn hear_all(&mut self, shared: &Shared) -> io::Result<()> {
        let (mut frame, mut pings) = (Vec::new(), time::interval(PING));
        // It holds what was read of a frame while a ping goes out.
        let mut state = Reading::default();
        loop {
            tokio::select! {
                _ = pings.tick() => {
                    let ping = protocol::ping(shared.clock.now().as_secs());
                    state.pinged = Some(shared.clock.now());
                    self.say(&ping).await?;
                }
                whole = state.read(&mut self.read, &mut frame) => {
                    self.session.received.fetch_add(whole?, Relaxed);
                    self.session.messages.fetch_add(1, Relaxed);
                    self.heard(&frame, &mut state, shared).await?;
                    frame.clear();
                }
            }
        }
    }

    async fn heard(
        &mut self,
        frame: &[u8],
        state: &mut Reading,
        shared: &Shared,
    ) -> io::Result<()> {
        let too_many = |_| io::Error::new(io::ErrorKind::InvalidData, "it has too many actors");
        let session = Arc::clone(&self.session);
        match understood(frame)? {
            Heard::Ping(time) => self.say(&protocol::pong(time)).await?,
            Heard::Enumerate => self.say(&protocol::no_sessions()).await?,
            Heard::Pong => {
                if let Some(pinged) = state.pinged.take() {
                    let took = shared.clock.now().saturating_sub(pinged).as_micros();
                    let took = u64::try_from(took).unwrap_or(u64::MAX).max(1);
                    session.round_trip.store(took, Relaxed);
                }
            }
            Heard::Spawn(actors) => session.roster.lock().spawned(&actors).map_err(too_many)?,
            Heard::Terminate(actors) => session.roster.lock().terminated(&actors),
            Heard::Join(members) => session.roster.lock().joined(&members).map_err(too_many)?,
            Heard::Leave(members) => session.roster.lock().left(&members),
            Heard::Name { .. } | Heard::Status(_) | Heard::Proof { .. } | Heard::Other => {}
        }
        Ok(())
    }

    async fn next(&mut self, frame: &mut Vec<u8>, longest: u64) -> io::Result<()> {
        frame.clear();
        let mut state = Reading {
            longest: Some(longest),
            ..Reading::default()
        };
        let bytes = state.read(&mut self.read, frame).await?;
        self.session.received.fetch_add(bytes, Relaxed);
        Ok(())
    }

    async fn say(&mut self, frame: &[u8]) -> io::Result<()> {
        time::timeout(PING, self.write.write_all(frame)).await??;
        self.session.sent.fetch_add(frame.len() as u64, Relaxed);
        Ok(())
    }
}

/// How far a frame has been read.
#[derive(Default)]
struct Reading {
    head: Vec<u8>,
    longest: Option<u64>,
    /// When a sign was asked for that has not come yet.
    pinged: Option<Duration>,
}

impl Reading {
    /// Reads a whole frame and gives how many bytes it took. Cancel safe: what has been read is kept, here and in `frame`. Memory grows
    /// with what has come, not with what was announced.
    async fn read(&mut self, read: &mut OwnedReadHalf, frame: &mut Vec<u8>) -> io::Result<u64> {
        const HEAD: usize = 8;
        while self.head.len() < HEAD {
            let left = HEAD - self.head.len();
            some(&mut (&mut *read).take(left as u64), &mut self.head).await?;
        }
        let head = self.head[..].try_into().expect("as many as were read");
        let length = u64::from_be_bytes(head);
        if length > self.longest.unwrap_or(FRAME_BYTES_MAX) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("it announces {length} bytes"),
            ));
        }
        while (frame.len() as u64) < length {
            let left = length - frame.len() as u64;
            some(&mut (&mut *read).take(left), frame).await?;
        }
        self.head.clear();
        Ok(HEAD as u64 + length)
    }
}

async fn some(
    read: &mut (impl tokio::io::AsyncRead + Unpin),
    into: &mut Vec<u8>,
) -> io::Result<()> {
    match read.read_buf(into).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

fn understood(frame: &[u8]) -> io::Result<Heard<'_>> {
    let damaged = |_| io::Error::new(io::ErrorKind::InvalidData, "it sent something damaged");
    Heard::read(frame).map_err(damaged)
}

/// Whether a node of underpin has this name.
fn is_a_nodes(shared: &Shared, name: &NodeName) -> bool {
    *name == shared.me.name
        || shared
            .members
            .load()
            .iter()
            .any(|(_, member)| member.name == *name)
}

/// In a time that does not tell how much of it is right.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    let difference = a.iter().zip(b).fold(0, |so_far, (a, b)| so_far | (a ^ b));
    a.len() == b.len() && difference == 0
}
