//! What a plain program says, and what it is told: the messages of ractor_cluster 0.16 (`auth.proto`, `control.proto`, `meta.proto`),
//! as far as a member needs them. A frame is its length, 8 bytes big endian, and one message.

use super::protobuf::{Damaged, Field, Fields, number, put_bytes, put_number};

/// Which protocol the names speak of.
const VERSION: u64 = 1;

/// Something that a plain program says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard<'a> {
    Name {
        /// As `name@host`.
        name: &'a str,
        /// Where it listens.
        listens: &'a str,
    },
    /// Whether its new connection is meant to take the place of its old one.
    Status(bool),
    /// Its proof, and what it wants proven.
    Proof {
        challenge: u32,
        digest: &'a [u8],
    },
    Spawn(Vec<u64>),
    Terminate(Vec<u64>),
    Ping(&'a [u8]),
    Pong,
    Join(Members<'a>),
    Leave(Members<'a>),
    /// It asks for others.
    Enumerate,
    /// What needs no answer here: messages to actors, of which it was told none, and what newer versions have to say.
    Other,
}

/// Actors of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Members<'a> {
    pub(super) scope: &'a str,
    pub(super) group: &'a str,
    pub(super) actors: Vec<u64>,
}

/// How the server takes a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Ok = 0,
    NotAllowed = 3,
    /// One of this name is connected.
    Alive = 4,
}

impl<'a> Heard<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Damaged> {
        match last(bytes)? {
            Some((1, Field::Bytes(auth))) => Self::auth(auth),
            Some((3, Field::Bytes(control))) => Self::control(control),
            _ => Ok(Self::Other),
        }
    }

    fn auth(bytes: &'a [u8]) -> Result<Self, Damaged> {
        Ok(match last(bytes)? {
            Some((1, Field::Bytes(name))) => {
                let mut heard = ("", "");
                for field in Fields(name) {
                    match field? {
                        (1, Field::Bytes(name)) => heard.0 = text(name)?,
                        (3, Field::Bytes(listens)) => heard.1 = text(listens)?,
                        _ => {}
                    }
                }
                let (name, listens) = heard;
                Self::Name { name, listens }
            }
            Some((3, Field::Bytes(status))) => {
                Self::Status(matches!(last(status)?, Some((1, Field::Number(1)))))
            }
            Some((5, Field::Bytes(proof))) => {
                let (mut challenge, mut digest) = (0, &[][..]);
                for field in Fields(proof) {
                    match field? {
                        (1, Field::Number(number)) => {
                            challenge = u32::try_from(number).map_err(|_| Damaged)?;
                        }
                        (2, Field::Bytes(bytes)) => digest = bytes,
                        _ => {}
                    }
                }
                Self::Proof { challenge, digest }
            }
            _ => Self::Other,
        })
    }

    fn control(bytes: &'a [u8]) -> Result<Self, Damaged> {
        Ok(match last(bytes)? {
            Some((1, Field::Bytes(spawn))) => Self::Spawn(Members::read(spawn, 1)?.actors),
            Some((2, Field::Bytes(terminate))) => Self::Terminate(ids(terminate)?),
            Some((3, Field::Bytes(ping))) => Self::Ping(ping),
            Some((4, Field::Bytes(_))) => Self::Pong,
            Some((5, Field::Bytes(join))) => Self::Join(Members::read(join, 2)?),
            Some((6, Field::Bytes(leave))) => Self::Leave(Members::read(leave, 2)?),
            Some((7, Field::Bytes(_))) => Self::Enumerate,
            _ => Self::Other,
        })
    }
}

impl<'a> Members<'a> {
    /// `actors` is the number of the field that has them.
    fn read(bytes: &'a [u8], actors: u64) -> Result<Self, Damaged> {
        let mut members = Self {
            scope: "",
            group: "",
            actors: Vec::new(),
        };
        for field in Fields(bytes) {
            match field? {
                (at, Field::Bytes(actor)) if at == actors => {
                    let mut pid = 0;
                    for field in Fields(actor) {
                        if let (1, Field::Number(number)) = field? {
                            pid = number;
                        }
                    }
                    members.actors.push(pid);
                }
                (1, Field::Bytes(group)) => members.group = text(group)?,
                (3, Field::Bytes(scope)) => members.scope = text(scope)?,
                _ => {}
            }
        }
        Ok(members)
    }
}

/// Numbers that are repeated, one by one or packed.
fn ids(bytes: &[u8]) -> Result<Vec<u64>, Damaged> {
    let mut ids = Vec::new();
    for field in Fields(bytes) {
        match field? {
            (1, Field::Number(id)) => ids.push(id),
            (1, Field::Bytes(mut packed)) => {
                while !packed.is_empty() {
                    ids.push(number(&mut packed)?);
                }
            }
            _ => {}
        }
    }
    Ok(ids)
}

/// Of alternatives the last counts.
fn last(bytes: &[u8]) -> Result<Option<(u64, Field<'_>)>, Damaged> {
    Fields(bytes).try_fold(None, |_, field| field.map(Some))
}

fn text(bytes: &[u8]) -> Result<&str, Damaged> {
    std::str::from_utf8(bytes).map_err(|_| Damaged)
}

pub(super) fn framed(kind: u64, alternative: u64, body: &[u8]) -> Vec<u8> {
    let (mut inner, mut message) = (Vec::new(), Vec::new());
    put_bytes(&mut inner, alternative, body);
    put_bytes(&mut message, kind, &inner);
    let mut frame = (message.len() as u64).to_be_bytes().to_vec();
    frame.append(&mut message);
    frame
}

pub(super) fn status(status: Status) -> Vec<u8> {
    let mut body = Vec::new();
    put_number(&mut body, 1, status as u64);
    framed(1, 2, &body)
}

pub(super) fn challenge(name: &str, challenge: u32, listens: &str) -> Vec<u8> {
    let (mut flags, mut body) = (Vec::new(), Vec::new());
    put_number(&mut flags, 1, VERSION);
    put_bytes(&mut body, 1, name.as_bytes());
    put_bytes(&mut body, 2, &flags);
    put_number(&mut body, 3, challenge.into());
    put_bytes(&mut body, 4, listens.as_bytes());
    framed(1, 4, &body)
}

pub(super) fn acknowledged(digest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    put_bytes(&mut body, 1, digest);
    framed(1, 6, &body)
}

/// `seconds` comes back in the answer.
pub(super) fn ping(seconds: u64) -> Vec<u8> {
    let (mut time, mut body) = (Vec::new(), Vec::new());
    put_number(&mut time, 1, seconds);
    put_bytes(&mut body, 1, &time);
    framed(3, 3, &body)
}

/// Gives back what the ping holds.
pub(super) fn pong(ping: &[u8]) -> Vec<u8> {
    framed(3, 4, ping)
}

/// There is nobody else to connect with, for a plain program.
pub(super) fn no_sessions() -> Vec<u8> {
    framed(3, 8, &[])
}

/// All is said: no actor and no group.
pub(super) fn ready() -> Vec<u8> {
    framed(3, 9, &[])
}

/// The proof that somebody knows the cookie: SHA-256 over the challenge, big endian, and the cookie.
pub(super) fn digest(cookie: &[u8], challenge: u32) -> [u8; 32] {
    let mut bytes = challenge.to_be_bytes().to_vec();
    bytes.extend_from_slice(cookie);
    let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_ref());
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As ractor_cluster's own test has it.
    #[test]
    fn the_proof_is_that_of_ractor_cluster() {
        let proof = digest(b"cookie", 42);
        assert_eq!(proof[..8], [20, 62, 0, 217, 211, 179, 29, 157]);
    }

    #[test]
    fn what_joins_is_read_with_its_scope_and_its_actors() {
        let (mut actor, mut join) = (Vec::new(), Vec::new());
        put_number(&mut actor, 1, 300);
        put_bytes(&mut actor, 2, b"a name");
        put_bytes(&mut join, 1, b"workers");
        put_bytes(&mut join, 2, &actor);
        put_bytes(&mut join, 3, b"a scope");

        let frame = framed(3, 5, &join);

        let expected = Members {
            scope: "a scope",
            group: "workers",
            actors: vec![300],
        };
        assert_eq!(Heard::read(&frame[8..]), Ok(Heard::Join(expected)));
    }

    #[test]
    fn ids_are_read_packed_and_one_by_one() {
        let mut terminate = Vec::new();
        put_bytes(&mut terminate, 1, &[1, 0xAC, 2]);
        put_number(&mut terminate, 1, 7);
        let frame = framed(3, 2, &terminate);
        assert_eq!(
            Heard::read(&frame[8..]),
            Ok(Heard::Terminate(vec![1, 300, 7]))
        );
    }

    proptest! {
        #[test]
        fn reading_what_others_wrote_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Heard::read(&bytes);
            let _ = Heard::read(&framed(1, 1, &bytes)[8..]);
            let _ = Heard::read(&framed(3, 5, &bytes)[8..]);
        }
    }
}
