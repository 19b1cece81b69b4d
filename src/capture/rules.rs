//! What is captured of what happens. Pure.

use tracing::{Metadata, level_filters::LevelFilter};
use tracing_subscriber::filter::Targets;

use super::{CaptureError, Options};

/// The settings in the form that the hot path asks.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    targets: Targets,
    /// A trace is captured when its lower 64 bits are at most this.
    highest: u64,
    none: bool,
    redact: Vec<String>,
    pub(super) text_bytes_max: usize,
    pub(super) fields_max: usize,
}

/// A field in 1 MiB would be half of what an event may hold, in one text.
const TEXT_BYTES_MAX: usize = 256 << 10;

impl Rules {
    pub(super) fn new(options: &Options) -> Result<Self, CaptureError> {
        Self::within(options)
            .with_filter(&options.filter)?
            .with_share(options.share)
    }

    /// What cannot be wrong.
    fn within(options: &Options) -> Self {
        let rules = Self {
            targets: Targets::new().with_default(LevelFilter::INFO),
            highest: u64::MAX,
            none: false,
            redact: Vec::new(),
            text_bytes_max: options.text_bytes_max.min(TEXT_BYTES_MAX),
            fields_max: options.fields_max,
        };
        rules.with_redacted(options.redact.iter().map(String::as_str))
    }

    pub(super) fn with_redacted<'a>(mut self, names: impl Iterator<Item = &'a str>) -> Self {
        self.redact = names.map(str::to_ascii_lowercase).collect();
        self
    }

    pub(super) fn with_filter(mut self, filter: &str) -> Result<Self, CaptureError> {
        self.targets =
            filter
                .parse()
                .map_err(
                    |error: tracing_subscriber::filter::ParseError| CaptureError::Filter {
                        given: filter.to_owned(),
                        reason: error.to_string(),
                    },
                )?;
        Ok(self)
    }

    pub(super) fn with_share(mut self, share: f64) -> Result<Self, CaptureError> {
        if !(0.0..=1.0).contains(&share) {
            return Err(CaptureError::Share { given: share });
        }
        self.none = share == 0.0;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a share of 2^64, which saturates at its ends"
        )]
        let highest = (share * u64::MAX as f64) as u64;
        self.highest = highest;
        Ok(self)
    }

    /// Whether what happens there is captured. underpin's own parts store their own events.
    pub(super) fn wants(&self, metadata: &Metadata<'_>) -> bool {
        let target = metadata.target();
        !is_own(target) && self.targets.would_enable(target, metadata.level())
    }

    /// No target has a more verbose level.
    pub(super) fn most_verbose(&self) -> LevelFilter {
        let levels = self.targets.iter().map(|(_, level)| level);
        levels
            .chain(self.targets.default_level())
            .max()
            .unwrap_or(LevelFilter::OFF)
    }

    /// Whether a trace is captured; 0 is none, and always is. The lower bits of a trace id are the random ones (W3C Trace Context 2,
    /// section 3.2.2.3), so that every node decides alike.
    #[expect(clippy::cast_possible_truncation, reason = "the lower bits are wanted")]
    pub(super) fn samples(&self, trace: u128) -> bool {
        trace == 0 || (!self.none && trace as u64 <= self.highest)
    }

    /// Whether a field's value is to be hidden.
    pub(super) fn hides(&self, field: &str) -> bool {
        let field = field.to_ascii_lowercase();
        self.redact.iter().any(|name| field.contains(name.as_str()))
    }
}

impl Default for Rules {
    /// Those of the default options.
    fn default() -> Self {
        Self::within(&Options::default())
    }
}

fn is_own(target: &str) -> bool {
    target
        .strip_prefix("underpin")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(options: &Options) -> Rules {
        Rules::new(options).expect("valid options")
    }

    #[test]
    fn only_underpins_own_targets_are_its_own() {
        assert!(is_own("underpin") && is_own("underpin::events::log"));
        assert!(!is_own("underpinned") && !is_own("shop::underpin"));
    }

    #[test]
    fn a_share_of_the_traces_is_captured_whole_and_what_belongs_to_none_always() {
        let half = rules(&Options {
            share: 0.5,
            ..Options::default()
        });
        let none = rules(&Options {
            share: 0.0,
            ..Options::default()
        });
        let all = rules(&Options::default());
        let low = 7 << 64 | 1;
        let high = 7 << 64 | u128::from(u64::MAX);

        assert!(half.samples(low) && !half.samples(high));
        assert!(!none.samples(low) && none.samples(0) && half.samples(0));
        assert!(!none.samples(7 << 64));
        assert!(all.samples(low) && all.samples(high));
    }

    #[test]
    fn a_field_is_hidden_by_a_part_of_its_name_in_either_case() {
        let rules = rules(&Options::default());

        assert!(rules.hides("db.Password") && rules.hides("x-API_KEY"));
        assert!(!rules.hides("path"));
    }

    #[test]
    fn the_default_rules_are_those_of_the_default_options() {
        let (default, made) = (Rules::default(), rules(&Options::default()));

        assert_eq!(format!("{default:?}"), format!("{made:?}"));
    }

    #[test]
    fn settings_that_make_no_sense_are_refused_with_what_to_write() {
        let filter = Options {
            filter: "a=loud".into(),
            ..Options::default()
        };
        let share = Options {
            share: 1.5,
            ..Options::default()
        };

        let error = Rules::new(&filter).expect_err("no level");
        assert!(
            error.to_string().ends_with("as in `info,hyper=warn`"),
            "{error}"
        );
        assert_eq!(
            Rules::new(&share).expect_err("too much"),
            CaptureError::Share { given: 1.5 }
        );
        assert!(
            Rules::new(&Options {
                share: f64::NAN,
                ..Options::default()
            })
            .is_err()
        );
    }

    #[test]
    fn the_most_verbose_level_of_any_target_is_the_bound() {
        let of = |filter: &str| {
            rules(&Options {
                filter: filter.into(),
                ..Options::default()
            })
            .most_verbose()
        };

        assert_eq!(of("info"), LevelFilter::INFO);
        assert_eq!(of("warn,shop=trace"), LevelFilter::TRACE);
        assert_eq!(of("off"), LevelFilter::OFF);
    }
}
