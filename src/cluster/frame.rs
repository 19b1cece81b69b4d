//! What two nodes say to each other once they know each other. Plain data; each frame is a kind byte and its fields.
//!
//! | kind | frame | fields |
//! |---|---|---|
//! | 1, 2 | ping, pong | time of the ping, u64 |
//! | 3 | peers | count u16, then name, address, id u16, incarnation u64 of each |
//! | 4 | leave | |
//! | 5 | credit | lane u64, bytes u32 |
//! | 10 | call | tag u64, timeout in ms u32, context, service, payload |
//! | 11 | answer | tag u64, payload |
//! | 12 | failed | tag u64, code u8, text |
//! | 13 | cancel | tag u64 |
//! | 14 | cast | context, service, payload |
//! | 15 | casts | context, service, then payloads, each with its length u32 |
//! | 20 | publish | context, group, payload |
//! | 21 | members | whole u8, count u32, then group and count of members u32 of each |
//! | 30, 31 | watch, unwatch | reference u64, service / reference u64 |
//! | 32 | gone | reference u64, code u8, text |
//!
//! A context is trace u128, cause u64, hops u8. A payload is what is left of the frame.

use super::{
    credit::Lane,
    handshake::ADDRESS_BYTES_MAX,
    wire::{Fault, Reader, Write, framed},
};
use crate::ids::{NodeId, NodeName};

/// The version of this protocol.
pub(super) const VERSION: u8 = 1;
/// The oldest version that is understood: a rolling upgrade has two versions at a time.
pub(super) const VERSION_MIN: u8 = 1;

/// How many other nodes one frame tells of at most: any frame has room for so many.
pub(super) const PEERS_MAX: usize = 64;

/// The correlation that a message carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Carried {
    pub(super) trace: u128,
    pub(super) cause: u64,
    pub(super) hops: u8,
}

/// Where another node can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) name: NodeName,
    pub(super) address: String,
    pub(super) id: NodeId,
    pub(super) incarnation: u64,
}

/// One frame; what is long is borrowed from the bytes it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    Ping {
        sent: u64,
    },
    Pong {
        sent: u64,
    },
    Peers(Vec<Peer>),
    Leave,
    Credit {
        lane: Lane,
        bytes: u32,
    },
    Call {
        tag: u64,
        timeout_ms: u32,
        context: Carried,
        service: &'a str,
        payload: &'a [u8],
    },
    Answer {
        tag: u64,
        payload: &'a [u8],
    },
    Failed {
        tag: u64,
        code: u8,
        text: &'a str,
    },
    Cancel {
        tag: u64,
    },
    Cast {
        context: Carried,
        service: &'a str,
        payload: &'a [u8],
    },
    Casts {
        context: Carried,
        service: &'a str,
        payloads: Payloads<'a>,
    },
    Publish {
        context: Carried,
        group: &'a str,
        payload: &'a [u8],
    },
    Members {
        whole: bool,
        groups: Vec<(&'a str, u32)>,
    },
    Watch {
        reference: u64,
        service: &'a str,
    },
    Unwatch {
        reference: u64,
    },
    Gone {
        reference: u64,
        code: u8,
        text: &'a str,
    },
}

/// Several payloads behind one another, each with its length; checked when the frame was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Payloads<'a>(&'a [u8]);

impl<'a> Payloads<'a> {
    /// Those that this side has written, each with its length.
    pub(super) fn written(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// How many bytes they take, lengths included.
    pub(super) fn bytes(&self) -> usize {
        self.0.len()
    }

    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Fault> {
        let mut reader = Reader(bytes);
        while !reader.0.is_empty() {
            reader.long()?;
        }
        Ok(Self(bytes))
    }
}

impl<'a> Iterator for Payloads<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let mut reader = Reader(self.0);
        let payload = reader.long().ok();
        self.0 = reader.0;
        payload
    }
}

impl Carried {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        Ok(Self {
            trace: reader.u128()?,
            cause: reader.u64()?,
            hops: reader.u8()?,
        })
    }

    fn put(self, out: &mut Vec<u8>) {
        out.put_u128(self.trace);
        out.put_u64(self.cause);
        out.put_u8(self.hops);
    }
}

impl Peer {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        let name = NodeName::new(reader.text()?).map_err(|_| Fault::Damaged("a node's name"))?;
        let address = reader.text()?;
        if address.len() > ADDRESS_BYTES_MAX {
            return Err(Fault::Damaged("a node's address"));
        }
        let address = address.to_owned();
        let id = NodeId::new(reader.u16()?).map_err(|_| Fault::Damaged("a node's id"))?;
        Ok(Self {
            name,
            address,
            id,
            incarnation: reader.u64()?,
        })
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.put_text(self.name.as_str());
        out.put_text(&self.address);
        out.put_u16(self.id.get());
        out.put_u64(self.incarnation);
    }
}

impl<'a> Frame<'a> {
    /// Reads the body of a frame.
    pub(super) fn read(body: &'a [u8]) -> Result<Self, Fault> {
        let mut r = Reader(body);
        let frame = match r.u8()? {
            1 => Self::Ping { sent: r.u64()? },
            2 => Self::Pong { sent: r.u64()? },
            3 => {
                let count = r.u16()?;
                if usize::from(count) > PEERS_MAX {
                    return Err(Fault::Damaged("more nodes than one frame tells of"));
                }
                Self::Peers(
                    (0..count)
                        .map(|_| Peer::read(&mut r))
                        .collect::<Result<_, _>>()?,
                )
            }
            4 => Self::Leave,
            5 => Self::Credit {
                lane: Lane(r.u64()?),
                bytes: r.u32()?,
            },
            10 => Self::Call {
                tag: r.u64()?,
                timeout_ms: r.u32()?,
                context: Carried::read(&mut r)?,
                service: r.text()?,
                payload: r.rest(),
            },
            11 => Self::Answer {
                tag: r.u64()?,
                payload: r.rest(),
            },
            12 => Self::Failed {
                tag: r.u64()?,
                code: r.u8()?,
                text: r.text()?,
            },
            13 => Self::Cancel { tag: r.u64()? },
            14 => Self::Cast {
                context: Carried::read(&mut r)?,
                service: r.text()?,
                payload: r.rest(),
            },
            15 => Self::Casts {
                context: Carried::read(&mut r)?,
                service: r.text()?,
                payloads: Payloads::read(r.rest())?,
            },
            20 => Self::Publish {
                context: Carried::read(&mut r)?,
                group: r.text()?,
                payload: r.rest(),
            },
            21 => {
                let whole = r.u8()? != 0;
                let count = r.u32()?;
                // Grows as groups are there: a count is no reason to make room.
                let mut groups = Vec::new();
                for _ in 0..count {
                    groups.push((r.text()?, r.u32()?));
                }
                Self::Members { whole, groups }
            }
            30 => Self::Watch {
                reference: r.u64()?,
                service: r.text()?,
            },
            31 => Self::Unwatch {
                reference: r.u64()?,
            },
            32 => Self::Gone {
                reference: r.u64()?,
                code: r.u8()?,
                text: r.text()?,
            },
            _ => return Err(Fault::Damaged("a kind of frame that nobody knows")),
        };
        r.end()?;
        Ok(frame)
    }

    /// Appends the frame, its length first.
    #[expect(
        clippy::too_many_lines,
        reason = "an arm for each frame, beside the table above"
    )]
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        framed(out, |out| match self {
            Self::Ping { sent } => {
                out.put_u8(1);
                out.put_u64(*sent);
            }
            Self::Pong { sent } => {
                out.put_u8(2);
                out.put_u64(*sent);
            }
            Self::Peers(peers) => {
                out.put_u8(3);
                let peers = &peers[..peers.len().min(PEERS_MAX)];
                out.put_u16(u16::try_from(peers.len()).unwrap_or(u16::MAX));
                for peer in peers {
                    peer.put(out);
                }
            }
            Self::Leave => out.put_u8(4),
            Self::Credit { lane, bytes } => {
                out.put_u8(5);
                out.put_u64(lane.0);
                out.put_u32(*bytes);
            }
            Self::Call {
                tag,
                timeout_ms,
                context,
                service,
                payload,
            } => {
                out.put_u8(10);
                out.put_u64(*tag);
                out.put_u32(*timeout_ms);
                put_message(out, *context, service, payload);
            }
            Self::Answer { tag, payload } => {
                out.put_u8(11);
                out.put_u64(*tag);
                out.put(payload);
            }
            Self::Failed { tag, code, text } => {
                out.put_u8(12);
                out.put_u64(*tag);
                out.put_u8(*code);
                out.put_text(text);
            }
            Self::Cancel { tag } => {
                out.put_u8(13);
                out.put_u64(*tag);
            }
            Self::Cast {
                context,
                service,
                payload,
            } => {
                out.put_u8(14);
                put_message(out, *context, service, payload);
            }
            Self::Casts {
                context,
                service,
                payloads,
            } => {
                out.put_u8(15);
                put_message(out, *context, service, payloads.0);
            }
            Self::Publish {
                context,
                group,
                payload,
            } => {
                out.put_u8(20);
                put_message(out, *context, group, payload);
            }
            Self::Members { whole, groups } => {
                out.put_u8(21);
                out.put_u8(u8::from(*whole));
                out.put_u32(u32::try_from(groups.len()).unwrap_or(u32::MAX));
                for (group, count) in groups {
                    out.put_text(group);
                    out.put_u32(*count);
                }
            }
            Self::Watch { reference, service } => {
                out.put_u8(30);
                out.put_u64(*reference);
                out.put_text(service);
            }
            Self::Unwatch { reference } => {
                out.put_u8(31);
                out.put_u64(*reference);
            }
            Self::Gone {
                reference,
                code,
                text,
            } => {
                out.put_u8(32);
                out.put_u64(*reference);
                out.put_u8(*code);
                out.put_text(text);
            }
        });
    }
}

fn put_message(out: &mut Vec<u8>, context: Carried, name: &str, payload: &[u8]) {
    context.put(out);
    out.put_text(name);
    out.put(payload);
}

/// How much of a frame with a payload is not payload, at most: its length, kind, tag, timeout, context, and the name's length.
pub(super) const OVERHEAD: usize = 4 + 1 + 8 + 4 + 25 + 2;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cluster::wire::next_frame;

    const CONTEXT: Carried = Carried {
        trace: 7 << 100,
        cause: 9,
        hops: 3,
    };

    fn each(mut look: impl FnMut(Frame<'_>)) {
        let peer = Peer {
            name: NodeName::new("b").expect("a name"),
            address: "[::1]:4620".to_owned(),
            id: NodeId::new(7).expect("an id"),
            incarnation: u64::MAX,
        };
        let mut two = Vec::new();
        two.put_long(b"first");
        two.put_long(b"");
        let payloads = Payloads::read(&two).expect("whole");
        let (service, payload) = ("orders", &b"payload"[..]);
        for frame in [
            Frame::Ping { sent: 1 },
            Frame::Pong { sent: 2 },
            Frame::Peers(vec![peer.clone(), peer]),
            Frame::Leave,
            Frame::Credit {
                lane: Lane::service("orders"),
                bytes: 65_536,
            },
            Frame::Call {
                tag: 3,
                timeout_ms: 5000,
                context: CONTEXT,
                service,
                payload,
            },
            Frame::Answer { tag: 3, payload },
            Frame::Failed {
                tag: 3,
                code: 2,
                text: "no",
            },
            Frame::Cancel { tag: 3 },
            Frame::Cast {
                context: CONTEXT,
                service,
                payload: &[],
            },
            Frame::Casts {
                context: CONTEXT,
                service,
                payloads,
            },
            Frame::Publish {
                context: CONTEXT,
                group: "readers",
                payload,
            },
            Frame::Members {
                whole: true,
                groups: vec![("readers", 2), ("writers", 0)],
            },
            Frame::Watch {
                reference: 4,
                service,
            },
            Frame::Unwatch { reference: 4 },
            Frame::Gone {
                reference: 4,
                code: 1,
                text: "killed",
            },
        ] {
            look(frame);
        }
    }

    #[test]
    fn what_is_written_is_read_and_every_cut_is_noticed() {
        each(|frame| {
            let mut bytes = Vec::new();
            frame.put(&mut bytes);
            let (body, _) = next_frame(&bytes, 1 << 20).expect("short").expect("whole");
            assert_eq!(Frame::read(body).as_ref(), Ok(&frame));

            for cut in 0..body.len() {
                // What ends in a payload may be a frame with a shorter one, but never the same.
                assert_ne!(
                    Frame::read(&body[..cut]).as_ref(),
                    Ok(&frame),
                    "cut at {cut}"
                );
            }
        });
    }

    #[test]
    fn several_payloads_come_out_one_by_one() {
        let mut two = Vec::new();
        two.put_long(b"first");
        two.put_long(b"second");
        let payloads: Vec<_> = Payloads::read(&two).expect("whole").collect();
        assert_eq!(payloads, [&b"first"[..], b"second"]);
        assert_eq!(Payloads::read(&two[..10]), Err(Fault::Cut));
    }

    #[test]
    fn a_frame_that_tells_of_too_many_nodes_is_none() {
        let mut bytes = vec![3];
        bytes.put_u16(65);
        bytes.put(&[0; 4096]);
        assert_eq!(
            Frame::read(&bytes),
            Err(Fault::Damaged("more nodes than one frame tells of"))
        );
    }

    #[test]
    fn the_overhead_is_the_most_that_stands_beside_a_payload() {
        let mut bytes = Vec::new();
        let frame = Frame::Call {
            tag: 1,
            timeout_ms: 1,
            context: CONTEXT,
            service: "",
            payload: &[],
        };
        frame.put(&mut bytes);
        assert_eq!(bytes.len(), OVERHEAD);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_frame_that_is_written_the_same_or_an_error(
            body in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            if let Ok(frame) = Frame::read(&body) {
                let mut bytes = Vec::new();
                frame.put(&mut bytes);
                let (again, _) = next_frame(&bytes, 1 << 20).expect("short").expect("whole");
                prop_assert_eq!(Frame::read(again), Ok(frame));
            }
        }

        #[test]
        fn a_flipped_bit_is_another_frame_or_an_error(which in 0..1000_usize) {
            each(|frame| {
                let mut bytes = Vec::new();
                frame.put(&mut bytes);
                let bits = (bytes.len() - 4) * 8;
                let bit = which % bits;
                bytes[4 + bit / 8] ^= 1 << (bit % 8);
                let is_bool = matches!(frame, Frame::Members { .. }) && (8..16).contains(&bit);
                assert!(is_bool || Frame::read(&bytes[4..]).as_ref() != Ok(&frame), "bit {bit}");
            });
        }
    }
}
