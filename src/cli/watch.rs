//! Showing something again and again.

use std::{
    io::{self, IsTerminal as _},
    thread,
    time::Duration,
};

use super::{failure::Failure, output::Output};

/// From the top of the screen, the rest of it cleared: the codes of ECMA-48 that all terminals know.
const AFRESH: &str = "\x1b[H\x1b[J";

/// Shows something once, or every so many seconds until it fails or is interrupted: afresh on a screen, one after the other with an
/// empty line between them elsewhere, one a line as JSON.
pub(super) fn watch(
    seconds: Option<u64>,
    json: bool,
    out: &mut Output,
    mut show: impl FnMut(&mut Output) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let Some(seconds) = seconds else {
        return show(out);
    };
    let on_screen = !json && io::stdout().is_terminal();
    loop {
        if on_screen {
            out.text(AFRESH)?;
        }
        show(out)?;
        if !on_screen && !json {
            out.line("")?;
        }
        out.flush()?;
        thread::sleep(Duration::from_secs(seconds));
    }
}
