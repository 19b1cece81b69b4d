//! Lengths of time for people.

/// `850 ms`, `12.3 s`, `4m 5s`, `3h 20m`, `2d 4h`.
pub(super) fn readable(ms: u64) -> String {
    const SECOND: u64 = 1000;
    const MINUTE: u64 = 60 * SECOND;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    match ms {
        0..SECOND => format!("{ms} ms"),
        SECOND..MINUTE => format!("{}.{} s", ms / SECOND, ms % SECOND / 100),
        MINUTE..HOUR => format!("{}m {}s", ms / MINUTE, ms % MINUTE / SECOND),
        HOUR..DAY => format!("{}h {}m", ms / HOUR, ms % HOUR / MINUTE),
        DAY.. => format!("{}d {}h", ms / DAY, ms % DAY / HOUR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_shows_its_two_largest_units() {
        for (ms, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1000, "1.0 s"),
            (59_999, "59.9 s"),
            (60_000, "1m 0s"),
            (3_599_999, "59m 59s"),
            (3_600_000, "1h 0m"),
            (86_399_999, "23h 59m"),
            (187_200_000, "2d 4h"),
        ] {
            assert_eq!(readable(ms), text);
        }
    }
}
