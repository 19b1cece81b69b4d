//! Units of measurements, and how they become the base units that OpenMetrics wants.

/// What a measurement is counted in. A metric that is defined over it is shown in the base unit: seconds, bytes, or a ratio
/// (OpenMetrics 1.0, "Units and Base Units").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unit {
    /// Shown in seconds.
    Nanoseconds,
    /// Shown in seconds.
    Microseconds,
    /// Shown in seconds.
    Milliseconds,
    /// Shown as they are.
    Seconds,
    /// Shown as they are.
    Bytes,
    /// 1024 bytes; shown in bytes.
    Kibibytes,
    /// 1024² bytes; shown in bytes.
    Mebibytes,
    /// 1000 bytes; shown in bytes.
    Kilobytes,
    /// 1000² bytes; shown in bytes.
    Megabytes,
    /// Hundredths; shown as a ratio.
    Percent,
    /// Shown as it is.
    Ratio,
}

impl Unit {
    /// The base unit, as metric names end in it.
    #[must_use]
    pub const fn base(self) -> &'static str {
        match self {
            Self::Nanoseconds | Self::Microseconds | Self::Milliseconds | Self::Seconds => {
                "seconds"
            }
            Self::Bytes | Self::Kibibytes | Self::Mebibytes | Self::Kilobytes | Self::Megabytes => {
                "bytes"
            }
            Self::Percent | Self::Ratio => "ratio",
        }
    }

    /// A value of this unit in the base unit. Divided where the base is larger, which is exact to the last bit where a
    /// multiplication with a fraction is not.
    #[must_use]
    pub fn to_base(self, value: f64) -> f64 {
        match self {
            Self::Nanoseconds => value / 1e9,
            Self::Microseconds => value / 1e6,
            Self::Milliseconds => value / 1e3,
            Self::Percent => value / 1e2,
            Self::Seconds | Self::Bytes | Self::Ratio => value,
            Self::Kilobytes => value * 1e3,
            Self::Megabytes => value * 1e6,
            Self::Kibibytes => value * 1024.0,
            Self::Mebibytes => value * 1_048_576.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_converted_to_its_base() {
        for (unit, base, shown) in [
            (Unit::Nanoseconds, "seconds", 3e-9),
            (Unit::Microseconds, "seconds", 3e-6),
            (Unit::Milliseconds, "seconds", 3e-3),
            (Unit::Seconds, "seconds", 3.0),
            (Unit::Bytes, "bytes", 3.0),
            (Unit::Kibibytes, "bytes", 3072.0),
            (Unit::Mebibytes, "bytes", 3_145_728.0),
            (Unit::Kilobytes, "bytes", 3000.0),
            (Unit::Megabytes, "bytes", 3e6),
            (Unit::Percent, "ratio", 0.03),
            (Unit::Ratio, "ratio", 3.0),
        ] {
            assert_eq!(unit.base(), base);
            assert_eq!(unit.to_base(3.0).to_bits(), f64::to_bits(shown), "{unit:?}");
        }
    }
}
