//! Follows the settings files: looks at them now and then, and takes them over when they have come to rest.

use tokio::time::sleep;

use super::{Configuration, ReloadError, load::Reader};

/// What to do after a look at the files.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// They are as they were taken over.
    Idle,
    /// They are others, perhaps still being written.
    Settle,
    /// They are others, and have been left alone since the last look.
    Reload,
}

/// Runs until it is dropped.
///
/// It looks rather than listens: that also sees files on network folders and mounted config maps, of which no event comes.
pub(super) async fn watch(config: Configuration) {
    let options = config.shared().options.clone();
    let mut candidate = None;
    loop {
        let known = &config.shared().sources;
        let pause = match config.look(Reader::fingerprint).await {
            Err(ReloadError::RuntimeGone) => return,
            // The alarm is raised.
            Err(_) => options.watch_every,
            Ok(seen) => match next(&known.known(), &mut candidate, Some(seen)) {
                Next::Idle => options.watch_every,
                Next::Settle => options.watch_settle,
                Next::Reload => {
                    // What is wrong is in the status and in the log.
                    drop(config.reload("files").await);
                    options.watch_every
                }
            },
        };
        sleep(pause).await;
    }
}

fn next<F: PartialEq>(known: &F, candidate: &mut Option<F>, seen: F) -> Next {
    if seen == *known {
        *candidate = None;
        return Next::Idle;
    }
    if candidate.as_ref() == Some(&seen) {
        *candidate = None;
        return Next::Reload;
    }
    *candidate = Some(seen);
    Next::Settle
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_taken_over_when_they_have_come_to_rest() {
        let mut candidate = None;

        let steps = [1, 1, 2, 3, 3].map(|seen| next(&1, &mut candidate, seen));

        assert_eq!(
            steps,
            [
                Next::Idle,
                Next::Idle,
                Next::Settle,
                Next::Settle,
                Next::Reload
            ]
        );
    }

    #[test]
    fn files_that_come_back_to_what_they_were_are_left_alone() {
        let mut candidate = None;

        assert_eq!(next(&1, &mut candidate, 2), Next::Settle);
        assert_eq!(next(&1, &mut candidate, 1), Next::Idle);
        assert_eq!(next(&1, &mut candidate, 2), Next::Settle);
    }
}
