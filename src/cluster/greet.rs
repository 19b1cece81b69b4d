//! Carries out the handshake over a connection, on both sides.

use std::{io, sync::Arc};

use ring::rand::{SecureRandom, SystemRandom};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    cookie::Cookie,
    error::Refusal,
    frame::{VERSION, VERSION_MIN},
    handshake::{About, Exchange, GREETING_BYTES_MAX, Greeting, Nonce, Role, agree},
    serve::{ReadHalf, WriteHalf},
    shared::Shared,
    wire::PREFIX,
};

/// A connection on which nothing is agreed yet.
pub(super) struct Wires {
    pub(super) read: ReadHalf,
    pub(super) write: WriteHalf,
}

/// Why a handshake came to nothing.
#[derive(Debug)]
pub(super) enum Failed {
    Io(io::Error),
    /// What came is no greeting, or not the one whose turn it is.
    Foreign,
    Refused(Refusal),
    /// It wanted to know something, and knows it now.
    Asked,
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Wires {
    async fn send(&mut self, greeting: &Greeting) -> Result<(), Failed> {
        let mut bytes = Vec::new();
        greeting.put(&mut bytes);
        self.write.write_all(&bytes).await?;
        self.write.flush().await?;
        Ok(())
    }

    /// Reads the length first and makes no room for more than a greeting may have.
    async fn receive(&mut self) -> Result<Greeting, Failed> {
        let mut length = [0; PREFIX];
        self.read.read_exact(&mut length).await?;
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        if length > GREETING_BYTES_MAX {
            return Err(Failed::Foreign);
        }
        let mut body = vec![0; length];
        self.read.read_exact(&mut body).await?;
        Greeting::read(&body).map_err(|_| Failed::Foreign)
    }

    /// Tells the other side why it is not let in.
    pub(super) async fn refuse(&mut self, refusal: Refusal) -> Failed {
        let told = self
            .send(&Greeting::Refused {
                refusal: refusal.clone(),
            })
            .await;
        if told.is_ok() {
            let _ = self.write.shutdown().await;
        }
        Failed::Refused(refusal)
    }
}

fn nonce() -> Result<Nonce, Failed> {
    let mut nonce = Nonce::default();
    let drawn = SystemRandom::new().fill(&mut nonce);
    drawn.map_err(|_| Failed::Io(io::Error::other("the system gives no random bytes")))?;
    Ok(nonce)
}

/// The serial of whoever wants to know whether it would be let in, and nothing else.
pub(super) const ASKING: u64 = 0;

/// The side that dialled. Gives what the listener says about itself, proven.
pub(super) async fn dial(
    wires: &mut Wires,
    cookie: &Cookie,
    me: &About,
    serial: u64,
) -> Result<About, Failed> {
    let own = nonce()?;
    wires.send(&Greeting::dial(own)).await?;
    let (version, theirs) = match wires.receive().await? {
        Greeting::Challenge { version, nonce } => (version, nonce),
        Greeting::Refused { refusal } => return Err(Failed::Refused(refusal)),
        _ => return Err(Failed::Foreign),
    };
    if !(VERSION_MIN..=VERSION).contains(&version) {
        return Err(Failed::Foreign);
    }
    let exchange = Exchange {
        version,
        dialler: own,
        listener: theirs,
    };
    let proof = exchange.prove(cookie, Role::Dialler, me, serial);
    let about = me.clone();
    wires
        .send(&Greeting::Claim {
            about,
            serial,
            proof,
        })
        .await?;
    match wires.receive().await? {
        Greeting::Welcome { about, proof } => {
            if exchange.holds(cookie, Role::Listener, &about, serial, &proof) {
                Ok(about)
            } else {
                Err(Failed::Refused(Refusal::Cookie))
            }
        }
        Greeting::Refused { refusal } => Err(Failed::Refused(refusal)),
        _ => Err(Failed::Foreign),
    }
}

/// What a dialler has proven.
pub(super) struct Claimed {
    pub(super) about: About,
    pub(super) serial: u64,
    exchange: Exchange,
}

/// The side that listens, up to the proof. Whoever does not know the cookie is told so and nothing else.
pub(super) async fn hear(wires: &mut Wires, shared: &Arc<Shared>) -> Result<Claimed, Failed> {
    let Greeting::Dial {
        oldest,
        newest,
        nonce: theirs,
    } = wires.receive().await?
    else {
        return Err(Failed::Foreign);
    };
    let Some(version) = agree(oldest, newest) else {
        let refusal = Refusal::Version {
            oldest: VERSION_MIN,
            newest: VERSION,
        };
        return Err(wires.refuse(refusal).await);
    };
    let own = nonce()?;
    wires
        .send(&Greeting::Challenge {
            version,
            nonce: own,
        })
        .await?;
    let exchange = Exchange {
        version,
        dialler: theirs,
        listener: own,
    };
    let Greeting::Claim {
        about,
        serial,
        proof,
    } = wires.receive().await?
    else {
        return Err(Failed::Foreign);
    };
    if !exchange.holds(
        &shared.options.cookie,
        Role::Dialler,
        &about,
        serial,
        &proof,
    ) {
        return Err(wires.refuse(Refusal::Cookie).await);
    }
    Ok(Claimed {
        about,
        serial,
        exchange,
    })
}

/// The last word of the side that listens.
pub(super) async fn welcome(
    wires: &mut Wires,
    shared: &Arc<Shared>,
    claimed: &Claimed,
) -> Result<(), Failed> {
    let cookie = &shared.options.cookie;
    let Claimed {
        serial, exchange, ..
    } = claimed;
    let proof = exchange.prove(cookie, Role::Listener, &shared.me, *serial);
    wires
        .send(&Greeting::Welcome {
            about: shared.me.clone(),
            proof,
        })
        .await
}
