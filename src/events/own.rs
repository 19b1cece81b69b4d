//! Memory of a thread's own, into which it reads parts of files again and again: it need not be asked for, made zero and given back, and
//! most of it is in the processor's cache. What a thread read last is still in it.

use std::{
    cell::Cell,
    io, mem,
    ops::{Deref, Range},
};

use super::cache::Key;

thread_local! {
    /// What nobody uses: the first is used next, and the last was used last.
    static IDLE: Cell<Vec<Buffer>> = const { Cell::new(Vec::new()) };
}

/// A page, a block and what it is expanded from, and what was read before them.
const BUFFERS: usize = 4;
/// Longer ones are given back: nearly all parts are shorter.
const BUFFER_BYTES: usize = 24 << 10;

/// A part in memory of this thread, which is used again once it is dropped.
#[derive(Debug)]
pub(super) struct Own(Buffer);

#[derive(Debug, Default)]
struct Buffer {
    /// What is in it; `None` if nobody is to find that.
    key: Option<Key>,
    /// As long as it ever was.
    bytes: Vec<u8>,
    part: Range<usize>,
}

impl Own {
    /// What this thread read last, if this is among it.
    pub(super) fn last(key: Key) -> Option<Self> {
        with_idle(|idle| {
            let at = idle.iter().position(|buffer| buffer.key == Some(key))?;
            Some(Self(idle.remove(at)))
        })
    }

    /// Has a part filled in, in memory with whatever is left in it; `fill` answers where it is. It is found again if it has a key.
    pub(super) fn filled(
        key: Option<Key>,
        fill: impl FnOnce(&mut Vec<u8>) -> io::Result<Range<usize>>,
    ) -> io::Result<Self> {
        let buffer = with_idle(|idle| (idle.len() > 1).then(|| idle.remove(0)));
        let mut own = Self(buffer.unwrap_or_default());
        own.0.key = None;
        own.0.part = 0..0;
        own.0.part = fill(&mut own.0.bytes)?;
        own.0.key = key;
        Ok(own)
    }
}

impl Deref for Own {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.bytes.get(self.0.part.clone()).unwrap_or_default()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let buffer = mem::take(&mut self.0);
        if buffer.bytes.capacity() <= BUFFER_BYTES {
            with_idle(|idle| {
                if idle.len() == BUFFERS {
                    idle.remove(0);
                }
                let at = buffer.key.map_or(0, |_| idle.len());
                idle.insert(at, buffer);
            });
        }
    }
}

/// A thread that ends has none any more.
fn with_idle<T: Default>(work: impl FnOnce(&mut Vec<Buffer>) -> T) -> T {
    IDLE.try_with(|cell| {
        let mut idle = cell.take();
        let done = work(&mut idle);
        cell.set(idle);
        done
    })
    .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{super::cache::Part, *};

    fn read(number: u32, byte: u8, len: usize) -> Own {
        let fill = |bytes: &mut Vec<u8>| {
            bytes.resize(bytes.len().max(len), 0);
            bytes[..len].fill(byte);
            Ok(0..len)
        };
        Own::filled(Some((1, Part::Block(number))), fill).expect("it is filled")
    }

    fn last(number: u32) -> Option<Vec<u8>> {
        Own::last((1, Part::Block(number))).map(|own| own.to_vec())
    }

    #[test]
    fn what_was_read_last_is_found_again_and_nothing_else() {
        for number in 0..10 {
            drop(read(number, 7, 10 + number as usize));
        }
        let held = read(10, 8, 3);

        assert_eq!(
            (last(10), last(7)),
            (None, None),
            "it is in use; it is gone"
        );
        assert_eq!(last(9), Some(vec![7; 19]));
        drop(held);
        assert_eq!(last(10), Some(vec![8; 3]), "and nothing of what was there");
        drop(read(11, 9, BUFFER_BYTES + 1));
        assert_eq!(last(11), None, "it is too long to be kept");
    }

    #[test]
    fn what_could_not_be_read_is_not_found() {
        let key = (1, Part::Page(1));
        let fails = Own::filled(Some(key), |bytes| {
            bytes.resize(10, 1);
            Err(io::ErrorKind::InvalidData.into())
        });

        assert!(fails.is_err() && Own::last(key).is_none());
        let part = Own::filled(None, |_| Ok(0..usize::MAX));
        assert_eq!(
            part.expect("it is filled").len(),
            0,
            "never beyond what there is"
        );
    }
}
