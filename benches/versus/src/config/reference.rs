//! The settings that the figures of the reference were taken with: its tables, and the rules that it checks at each change.

use serde::{Deserialize, Serialize};
use underpin::config::{Invalid, Rules, Schema};

macro_rules! table {
    ($name:ident { $($field:ident: $type:ty = $default:expr),+ $(,)? }) => {
        #[derive(Debug, Serialize, Deserialize)]
        #[serde(default)]
        pub struct $name { $(pub $field: $type),+ }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default),+ }
            }
        }
    };
}

table!(Reference {
    ai: Ai = Ai::default(),
    capture: Capture = Capture::default(),
    storage: Storage = Storage::default(),
    interface: Interface = Interface::default(),
    dev: Dev = Dev::default(),
});
table!(Ai {
    provider: String = "mock".into(),
    model: String = "m".into(),
    analysis: Analysis = Analysis::default(),
    planning: Planning = Planning::default(),
});
table!(Analysis {
    max_file_size: i64 = 1_000_000,
    timeout: i64 = 30_000,
    cache_ttl: i64 = 3600,
});
table!(Planning {
    default_strategy: String = "balanced".into(),
    performance_target: f64 = 0.01,
    sampling_rate: f64 = 1.0,
});
table!(Capture {
    ring_buffer: RingBuffer = RingBuffer::default(),
    processing: Processing = Processing::default(),
});
table!(RingBuffer {
    size: i64 = 1024,
    max_events: i64 = 1000,
    overflow: String = "drop_oldest".into(),
});
table!(Processing {
    batch_size: i64 = 100,
    flush_interval: i64 = 50,
    max_queue_size: i64 = 1000,
});
table!(Storage {
    hot: Hot = Hot::default(),
    warm: Switch = Switch::default(),
    cold: Switch = Switch::default(),
});
table!(Hot {
    max_events: i64 = 100_000,
    max_age_seconds: i64 = 3600,
    prune_interval: i64 = 60_000,
});
table!(Switch {
    enable: bool = false,
});
table!(Interface {
    query_timeout: i64 = 10_000,
    max_results: i64 = 1000,
    streaming: bool = true,
});
table!(Dev {
    debug_mode: bool = false,
    verbose: bool = false,
});

impl Schema for Reference {
    fn validate(&self) -> Result<(), Invalid> {
        let Planning {
            sampling_rate,
            performance_target,
            ..
        } = self.ai.planning;
        if !(0.0..=1.0).contains(&sampling_rate) {
            return Err(Invalid::range(
                "ai.planning.sampling_rate",
                "it is beyond 0 to 1",
            ));
        }
        if performance_target.is_nan() || performance_target < 0.0 {
            return Err(Invalid::constraint(
                "ai.planning.performance_target",
                "it is below 0",
            ));
        }
        let processing = &self.capture.processing;
        above_zero("capture.processing.batch_size", processing.batch_size)?;
        above_zero(
            "capture.processing.flush_interval",
            processing.flush_interval,
        )?;
        above_zero("interface.query_timeout", self.interface.query_timeout)?;
        above_zero("interface.max_results", self.interface.max_results)
    }

    fn rules() -> Rules {
        let rules = Rules::fixed()
            .allow("ai.planning.sampling_rate")
            .allow("ai.planning.performance_target")
            .allow("capture.processing.batch_size")
            .allow("capture.processing.flush_interval");
        rules
            .allow("interface.query_timeout")
            .allow("interface.max_results")
            .allow("dev.debug_mode")
    }
}

fn above_zero(path: &str, value: i64) -> Result<(), Invalid> {
    if value > 0 {
        return Ok(());
    }
    Err(Invalid::failed(path, "it is not above 0"))
}
