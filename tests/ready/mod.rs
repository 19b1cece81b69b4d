//! The line with which a node that is a process of its own says that it is ready.

use std::{
    io::{BufRead, BufReader},
    process::Child,
};

/// Waits for it; answers the address of the node's HTTP interface.
pub(crate) fn url(process: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(process.stdout.take().expect("piped"))
        .read_line(&mut line)
        .expect("text");
    let url = line.trim().strip_prefix("ready ");
    url.unwrap_or_else(|| panic!("not ready: {line}"))
        .to_owned()
}
