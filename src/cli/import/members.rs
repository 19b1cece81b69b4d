//! JSON objects, written straight into a batch.

use std::fmt::Display;
use std::io::Write;

/// The members of one JSON object, being written.
#[derive(Debug)]
pub(super) struct Members<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Members<'a> {
    /// Members that follow others: each begins with a comma.
    pub(super) fn following(out: &'a mut Vec<u8>) -> Self {
        Self { out, first: false }
    }

    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        quote(self.out, value);
    }

    /// A number, or anything else whose display is JSON.
    pub(super) fn plain(&mut self, name: &str, value: impl Display) {
        self.name(name);
        // Writing to memory does not fail.
        let _ = write!(self.out, "{value}");
    }

    /// JSON as it is.
    pub(super) fn raw(&mut self, name: &str, json: &str) {
        self.name(name);
        self.out.extend_from_slice(json.as_bytes());
    }

    /// An object; returns where in the batch it begins.
    pub(super) fn object(&mut self, name: &str, fill: impl FnOnce(&mut Members<'_>)) -> usize {
        self.name(name);
        let start = self.out.len();
        self.out.push(b'{');
        fill(&mut Members {
            out: self.out,
            first: true,
        });
        self.out.push(b'}');
        start
    }

    fn name(&mut self, name: &str) {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
        quote(self.out, name);
        self.out.push(b':');
    }
}

fn quote(out: &mut Vec<u8>, text: &str) {
    // Writing text to memory does not fail.
    let _ = serde_json::to_writer(out, text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_json_whatever_they_hold() {
        let mut out = b"{\"id\":\"1\"".to_vec();

        let mut members = Members::following(&mut out);
        members.text("a\"b", "line\n\u{1}");
        members.plain("n", 5);
        members.object("empty", |_| {});
        members.object("o", |inner| {
            inner.raw("r", "[1]");
            inner.text("t", "é");
        });
        out.push(b'}');

        assert_eq!(
            String::from_utf8(out).expect("UTF-8"),
            r#"{"id":"1","a\"b":"line\n\u0001","n":5,"empty":{},"o":{"r":[1],"t":"é"}}"#
        );
    }
}
