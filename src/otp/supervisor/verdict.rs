use crate::otp::{ExitReason, Restart};

/// What becomes of a child that ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is started again.
    Restart,
    /// Its spec is kept; it stays down.
    Keep,
    /// Its spec goes too.
    Forget,
}

/// OTP's table of restart types and exit reasons.
pub(crate) fn verdict(restart: Restart, reason: &ExitReason) -> Verdict {
    match (restart, reason.is_clean()) {
        (Restart::Permanent, _) | (Restart::Transient, false) => Verdict::Restart,
        (Restart::Transient, true) => Verdict::Keep,
        (Restart::Temporary, _) => Verdict::Forget,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Verdict::{Forget, Keep},
        *,
    };

    #[test]
    fn each_restart_type_meets_each_reason_as_in_otp() {
        let clean = [ExitReason::Normal, ExitReason::Shutdown(None)];
        let abnormal = [
            ExitReason::Killed,
            ExitReason::Error("e".into()),
            ExitReason::Panic("p".into()),
        ];
        for reason in &clean {
            assert_eq!(verdict(Restart::Permanent, reason), Verdict::Restart);
            assert_eq!(verdict(Restart::Transient, reason), Keep);
            assert_eq!(verdict(Restart::Temporary, reason), Forget);
        }
        for reason in &abnormal {
            assert_eq!(verdict(Restart::Permanent, reason), Verdict::Restart);
            assert_eq!(verdict(Restart::Transient, reason), Verdict::Restart);
            assert_eq!(verdict(Restart::Temporary, reason), Forget);
        }
    }
}
