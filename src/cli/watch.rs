//! Showing something again and again.

use std::{
    io::{self, IsTerminal as _},
    thread,
    time::Duration,
};

use super::{failure::Failure, output::Output};

/// From the top of the screen, the rest of it cleared: the codes of ECMA-48 that all terminals know.
const AFRESH: &str = "\x1b[H\x1b[J";

/// How often something is shown, and how many times; until it is interrupted where that is not said.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) every: Duration,
    pub(super) samples: Option<u64>,
}

/// Shows something once, or every so many seconds until it fails or is interrupted.
pub(super) fn watch(
    seconds: Option<u64>,
    json: bool,
    out: &mut Output,
    show: impl FnMut(&mut Output) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let pace = Pace {
        every: Duration::from_secs(seconds.unwrap_or_default()),
        samples: seconds.is_none().then_some(1),
    };
    paced(pace, json, out, show)
}

/// Shows something again and again: afresh on a screen, one after the other with an empty line between them elsewhere, one a line as
/// JSON. What is shown once only stands below what is on the screen.
pub(super) fn paced(
    pace: Pace,
    json: bool,
    out: &mut Output,
    mut show: impl FnMut(&mut Output) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let afresh = !json && pace.samples != Some(1) && io::stdout().is_terminal();
    for sample in 1.. {
        if afresh {
            out.text(AFRESH)?;
        }
        show(out)?;
        if pace.samples.is_some_and(|samples| samples <= sample) {
            break;
        }
        if !afresh && !json {
            out.line("")?;
        }
        out.flush()?;
        thread::sleep(pace.every);
    }
    Ok(())
}
