//! How two nodes get to know each other, before anything else is listened to. Pure; nonces are arguments.
//!
//! ```text
//! dialler                                     listener
//!   Dial { versions, nonce }             ──▶
//!                                        ◀──  Challenge { version, nonce }       or Refused
//!   Claim { about me, proof }            ──▶
//!                                        ◀──  Welcome { about me, proof }        or Refused
//! ```
//! A proof is HMAC-SHA-256 (RFC 2104) with the cookie as key over the role, the version, both nonces and what is claimed. Whoever does
//! not know the cookie learns the protocol's version and nothing else, and no proof can be used twice or turned around.

use ring::hmac;

use super::{
    cookie::Cookie,
    error::Refusal,
    frame::{VERSION, VERSION_MIN},
    wire::{Fault, Reader, Write, framed},
};
use crate::ids::{NodeId, NodeName};

/// The first bytes on every connection.
pub(super) const MAGIC: [u8; 8] = *b"UNDERPIN";

/// The longest message of a handshake: what is said about a node is a few hundred bytes.
pub(super) const GREETING_BYTES_MAX: usize = 2048;

/// The longest address that a node may advertise: a DNS name (RFC 1035, section 2.3.4) and a port.
pub(super) const ADDRESS_BYTES_MAX: usize = 253 + 6;

pub(super) type Nonce = [u8; 32];

/// What a node says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct About {
    pub(super) name: NodeName,
    pub(super) id: NodeId,
    pub(super) incarnation: u64,
    /// Where it listens, for others; empty where it does not.
    pub(super) address: String,
    /// The version of underpin that it runs, for people.
    pub(super) underpin: String,
    /// The longest frame that it reads.
    pub(super) frame_bytes_max: u32,
    /// How much it lets be on its way to it.
    pub(super) window: u32,
}

/// One message of the handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Greeting {
    Dial {
        oldest: u8,
        newest: u8,
        nonce: Nonce,
    },
    Challenge {
        version: u8,
        nonce: Nonce,
    },
    /// `serial` rises with each connection that this node opens.
    Claim {
        about: About,
        serial: u64,
        proof: [u8; 32],
    },
    Welcome {
        about: About,
        proof: [u8; 32],
    },
    Refused {
        refusal: Refusal,
    },
}

impl Greeting {
    pub(super) fn dial(nonce: Nonce) -> Self {
        Self::Dial {
            oldest: VERSION_MIN,
            newest: VERSION,
            nonce,
        }
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        framed(out, |out| match self {
            Self::Dial {
                oldest,
                newest,
                nonce,
            } => {
                out.put(&MAGIC);
                out.put_u8(1);
                out.put_u8(*oldest);
                out.put_u8(*newest);
                out.put(nonce);
            }
            Self::Challenge { version, nonce } => {
                out.put(&MAGIC);
                out.put_u8(2);
                out.put_u8(*version);
                out.put(nonce);
            }
            Self::Claim {
                about,
                serial,
                proof,
            } => {
                out.put_u8(3);
                out.put(proof);
                out.put_u64(*serial);
                about.put(out);
            }
            Self::Welcome { about, proof } => {
                out.put_u8(4);
                out.put(proof);
                about.put(out);
            }
            Self::Refused { refusal } => {
                out.put_u8(5);
                refusal.put(out);
            }
        });
    }

    pub(super) fn read(body: &[u8]) -> Result<Self, Fault> {
        let mut r = Reader(body);
        if body.starts_with(&MAGIC) {
            r.bytes(MAGIC.len())?;
        }
        let greeting = match r.u8()? {
            1 => Self::Dial {
                oldest: r.u8()?,
                newest: r.u8()?,
                nonce: r.key()?,
            },
            2 => Self::Challenge {
                version: r.u8()?,
                nonce: r.key()?,
            },
            3 => {
                let proof = r.key()?;
                let serial = r.u64()?;
                Self::Claim {
                    about: About::read(&mut r)?,
                    serial,
                    proof,
                }
            }
            4 => {
                let proof = r.key()?;
                Self::Welcome {
                    about: About::read(&mut r)?,
                    proof,
                }
            }
            5 => Self::Refused {
                refusal: Refusal::read(&mut r)?,
            },
            _ => return Err(Fault::Damaged("a greeting that nobody knows")),
        };
        r.end()?;
        let has_magic = matches!(greeting, Self::Dial { .. } | Self::Challenge { .. });
        if has_magic != body.starts_with(&MAGIC) {
            return Err(Fault::Damaged("no greeting of a node"));
        }
        Ok(greeting)
    }
}

/// The newest version that both understand.
pub(super) fn agree(oldest: u8, newest: u8) -> Option<u8> {
    let common = newest.min(VERSION);
    (common >= oldest.max(VERSION_MIN)).then_some(common)
}

/// Who proves something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Dialler,
    Listener,
}

/// What both sides have said before anything is claimed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exchange {
    pub(super) version: u8,
    pub(super) dialler: Nonce,
    pub(super) listener: Nonce,
}

impl Exchange {
    fn transcript(&self, role: Role, about: &About, serial: u64) -> Vec<u8> {
        let mut text = Vec::with_capacity(256);
        text.put(&MAGIC);
        text.put_u8(match role {
            Role::Dialler => 1,
            Role::Listener => 2,
        });
        text.put_u8(self.version);
        text.put(&self.dialler);
        text.put(&self.listener);
        text.put_u64(serial);
        about.put(&mut text);
        text
    }

    pub(super) fn prove(
        &self,
        cookie: &Cookie,
        role: Role,
        about: &About,
        serial: u64,
    ) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, cookie.bytes());
        let tag = hmac::sign(&key, &self.transcript(role, about, serial));
        let mut proof = [0; 32];
        proof.copy_from_slice(tag.as_ref());
        proof
    }

    /// In constant time.
    pub(super) fn holds(
        &self,
        cookie: &Cookie,
        role: Role,
        about: &About,
        serial: u64,
        proof: &[u8; 32],
    ) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, cookie.bytes());
        hmac::verify(&key, &self.transcript(role, about, serial), proof).is_ok()
    }
}

impl About {
    fn put(&self, out: &mut Vec<u8>) {
        out.put_text(self.name.as_str());
        out.put_u16(self.id.get());
        out.put_u64(self.incarnation);
        out.put_text(&self.address);
        out.put_text(&self.underpin);
        out.put_u32(self.frame_bytes_max);
        out.put_u32(self.window);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, Fault> {
        let name = NodeName::new(r.text()?).map_err(|_| Fault::Damaged("a node's name"))?;
        let id = NodeId::new(r.u16()?).map_err(|_| Fault::Damaged("a node's id"))?;
        let incarnation = r.u64()?;
        let address = r.text()?;
        if address.len() > ADDRESS_BYTES_MAX {
            return Err(Fault::Damaged("a node's address"));
        }
        Ok(Self {
            name,
            id,
            incarnation,
            address: address.to_owned(),
            underpin: r.text()?.to_owned(),
            frame_bytes_max: r.u32()?,
            window: r.u32()?,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cluster::wire::next_frame;

    pub(in crate::cluster) fn about(name: &str, id: u16, incarnation: u64) -> About {
        About {
            name: NodeName::new(name).expect("a name"),
            id: NodeId::new(id).expect("an id"),
            incarnation,
            address: format!("{name}.example:4620"),
            underpin: "0.1.0".to_owned(),
            frame_bytes_max: 8 << 20,
            window: 4 << 20,
        }
    }

    fn cookie(text: &str) -> Cookie {
        Cookie::new(text).expect("long enough")
    }

    #[test]
    fn greetings_are_read_as_they_were_written_and_every_cut_is_noticed() {
        let about = about("a", 1, 7);
        let proof = [3; 32];
        for greeting in [
            Greeting::dial([1; 32]),
            Greeting::Challenge {
                version: 1,
                nonce: [2; 32],
            },
            Greeting::Claim {
                about: about.clone(),
                serial: 9,
                proof,
            },
            Greeting::Welcome { about, proof },
            Greeting::Refused {
                refusal: Refusal::Cookie,
            },
        ] {
            let mut bytes = Vec::new();
            greeting.put(&mut bytes);
            let (body, _) = next_frame(&bytes, GREETING_BYTES_MAX)
                .expect("short")
                .expect("whole");
            assert_eq!(Greeting::read(body), Ok(greeting));
            for cut in 0..body.len() {
                assert!(Greeting::read(&body[..cut]).is_err(), "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_proof_holds_for_its_cookie_role_nonces_version_and_claim_alone() {
        let (good, about) = (cookie("a cookie of some length"), about("a", 1, 7));
        let exchange = Exchange {
            version: 1,
            dialler: [1; 32],
            listener: [2; 32],
        };
        let proof = exchange.prove(&good, Role::Dialler, &about, 5);

        assert!(exchange.holds(&good, Role::Dialler, &about, 5, &proof));
        let other = cookie("another cookie of a length");
        assert!(!exchange.holds(&other, Role::Dialler, &about, 5, &proof));
        assert!(!exchange.holds(&good, Role::Listener, &about, 5, &proof));
        assert!(!exchange.holds(&good, Role::Dialler, &about, 6, &proof));
        let renamed = self::about("b", 1, 7);
        assert!(!exchange.holds(&good, Role::Dialler, &renamed, 5, &proof));
        for other in [
            Exchange {
                version: 2,
                ..exchange
            },
            Exchange {
                dialler: [9; 32],
                ..exchange
            },
            Exchange {
                listener: [9; 32],
                ..exchange
            },
        ] {
            assert!(!other.holds(&good, Role::Dialler, &about, 5, &proof));
        }
    }

    #[test]
    fn the_newest_common_version_is_spoken() {
        assert_eq!(agree(VERSION_MIN, VERSION), Some(VERSION));
        assert_eq!(
            agree(VERSION, VERSION + 1),
            Some(VERSION),
            "a newer node speaks ours"
        );
        assert_eq!(agree(VERSION + 1, VERSION + 2), None);
        assert_eq!(agree(0, VERSION_MIN - 1), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_greeting_or_an_error(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Greeting::read(&body);
        }
    }
}
