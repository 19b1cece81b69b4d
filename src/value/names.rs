//! Names of maps that are read one after the other. Pure.

use std::{
    str::{self, Utf8Error},
    sync::Arc,
};

/// Names that were read before: values of one kind have the same ones, in the same order.
#[derive(Debug, Default)]
pub(crate) struct Names {
    known: Vec<Arc<str>>,
    /// Behind the one that was read last.
    expected: usize,
    /// The one that goes next for a new one.
    oldest: usize,
}

impl Names {
    /// So few that looking through them costs less than making one anew.
    const MAX: usize = 32;
    /// Longer ones are none that a program uses again and again, and would only be kept.
    const BYTES_MAX: usize = 64;

    pub(super) fn get(&mut self, bytes: &[u8]) -> Result<Arc<str>, Utf8Error> {
        if bytes.len() > Self::BYTES_MAX {
            return str::from_utf8(bytes).map(Arc::from);
        }
        let is_it = |name: &Arc<str>| name.as_bytes() == bytes;
        let at = match self.known.get(self.expected) {
            Some(name) if is_it(name) => Some(self.expected),
            _ => self.known.iter().position(is_it),
        };
        let at = match at {
            Some(at) => at,
            None => self.add(str::from_utf8(bytes)?),
        };
        self.expected = at + 1;
        Ok(self.known[at].clone())
    }

    fn add(&mut self, name: &str) -> usize {
        if self.known.len() < Self::MAX {
            self.known.push(name.into());
            return self.known.len() - 1;
        }
        let at = self.oldest;
        self.oldest = (at + 1) % Self::MAX;
        self.known[at] = name.into();
        at
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_name_is_what_was_read_however_many_came_before(read in prop::collection::vec(0_u8..60, 0..300)) {
            let mut names = Names::default();
            for number in read {
                let name = format!("name {number}");
                let got = names.get(name.as_bytes()).expect("text");
                prop_assert_eq!(&*got, name);
                prop_assert!(names.known.len() <= Names::MAX);
            }
        }
    }

    #[test]
    fn a_name_is_made_once_and_one_that_is_no_text_is_refused() {
        let mut names = Names::default();

        let (one, _, same) = (names.get(b"amount"), names.get(b"ok"), names.get(b"amount"));

        assert!(Arc::ptr_eq(&one.expect("text"), &same.expect("text")));
        assert!(names.get(&[0xff]).is_err());
        assert!(names.get("long".repeat(100).as_bytes()).is_ok());
        assert_eq!(names.known.len(), 2);
    }
}
