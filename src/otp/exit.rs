use std::{fmt, sync::Arc, time::Duration};

/// Why a child ended.
///
/// `Normal` and `Shutdown` are clean ends; everything else is abnormal and restarts a
/// [`Restart::Transient`](super::Restart::Transient) child.
/// The words are OTP's (`supervisor`, exit reasons); panic, error and kill are told apart, which ractor does not do.
///
/// ```
/// use underpin::otp::{ExitReason, ShutdownCause};
///
/// let moved = ExitReason::Shutdown(Some(ShutdownCause::Said("moved away".into())));
/// assert!(moved.is_clean() && ExitReason::Normal.is_clean());
/// let broken = ExitReason::Error("disk full".into());
/// assert!(!broken.is_clean());
/// assert_eq!(broken.to_string(), "error: disk full");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExitReason {
    /// It finished by itself, with nothing wrong.
    Normal,
    /// It was asked to end, or ended itself with a stated cause.
    Shutdown(Option<ShutdownCause>),
    /// It was killed: nothing of its own ran at the end.
    Killed,
    /// One of its callbacks returned this error.
    Error(Arc<str>),
    /// One of its callbacks panicked with this message.
    Panic(Arc<str>),
    /// It was alive and hung: its [`HealthProbe`](super::HealthProbe) gave up on it, for this reason.
    Unhealthy(Arc<str>),
    /// It was not alive when it was looked at.
    NoProc,
    /// Its node cannot be reached, so nobody knows whether it lives.
    NoConnection,
}

/// What stood behind a [`ExitReason::Shutdown`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShutdownCause {
    /// The words given with the stop, as in `myself.stop(Some("moved away".into()))`.
    Said(Arc<str>),
    /// A supervisor gave up on a child.
    IntensityExceeded(Arc<IntensityExceeded>),
    /// A supervisor with [`AutoShutdown`](super::AutoShutdown) ended because this significant child did.
    Significant(Arc<str>),
}

/// A supervisor gave up: more restarts than it was allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntensityExceeded {
    /// The child whose restart was one too many.
    pub child: Arc<str>,
    /// How many restarts were allowed in `period`.
    pub intensity: u32,
    /// The window.
    pub period: Duration,
    /// The exits that led here, oldest first; the last few where there were many.
    pub history: Vec<ExitReason>,
}

impl ExitReason {
    /// Whether nothing was wrong: `Normal` or `Shutdown`.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        matches!(self, Self::Normal | Self::Shutdown(_))
    }

    /// Reads the words that came with ractor's `stop`.
    ///
    /// No words, `normal` and ractor's `Drained` are [`Normal`](Self::Normal); `shutdown` is a plain
    /// [`Shutdown`](Self::Shutdown); anything else is a shutdown that says why.
    #[must_use]
    pub fn from_stop(words: Option<&str>) -> Self {
        match words {
            None | Some("normal" | "Drained") => Self::Normal,
            Some("shutdown") => Self::Shutdown(None),
            Some("killed") => Self::Killed,
            Some(other) => Self::Shutdown(Some(ShutdownCause::Said(other.into()))),
        }
    }

    pub(crate) fn from_panic(payload: &(dyn std::any::Any + Send)) -> Self {
        let words = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        Self::Panic(words.unwrap_or("a panic without a message").into())
    }

    pub(crate) fn from_error(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Self {
        Self::Error(error.to_string().into())
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => f.write_str("normal"),
            Self::Shutdown(None) => f.write_str("shutdown"),
            Self::Shutdown(Some(cause)) => write!(f, "shutdown: {cause}"),
            Self::Killed => f.write_str("killed"),
            Self::Error(words) => write!(f, "error: {words}"),
            Self::Panic(words) => write!(f, "panic: {words}"),
            Self::Unhealthy(words) => write!(f, "unhealthy: {words}"),
            Self::NoProc => f.write_str("no such process"),
            Self::NoConnection => f.write_str("no connection to its node"),
        }
    }
}

impl std::error::Error for ExitReason {}

impl fmt::Display for ShutdownCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Said(words) => f.write_str(words),
            Self::Significant(child) => write!(f, "its significant child {child} ended"),
            Self::IntensityExceeded(facts) => write!(
                f,
                "{} needed more than {} restarts in {:?}",
                facts.child, facts.intensity, facts.period
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_stop_become_a_typed_reason() {
        assert_eq!(ExitReason::from_stop(None), ExitReason::Normal);
        assert_eq!(ExitReason::from_stop(Some("normal")), ExitReason::Normal);
        assert_eq!(
            ExitReason::from_stop(Some("shutdown")),
            ExitReason::Shutdown(None)
        );
        assert_eq!(ExitReason::from_stop(Some("killed")), ExitReason::Killed);
        let said = ExitReason::from_stop(Some("moved away"));
        assert_eq!(said.to_string(), "shutdown: moved away");
        assert!(said.is_clean());
    }

    #[test]
    fn a_panic_keeps_its_message_whatever_its_type() {
        let text: Box<dyn std::any::Any + Send> = Box::new("plain");
        let owned: Box<dyn std::any::Any + Send> = Box::new(String::from("owned"));
        let other: Box<dyn std::any::Any + Send> = Box::new(7);
        assert_eq!(ExitReason::from_panic(&*text).to_string(), "panic: plain");
        assert_eq!(ExitReason::from_panic(&*owned).to_string(), "panic: owned");
        assert!(!ExitReason::from_panic(&*other).is_clean());
    }
}
