//! The settings of the original foundation layer, with its sections, defaults and rules, and a node that has them.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use underpin::{
    config::{Config, Configuration, FreeTable, Invalid, Options, Rules, Schema, Sources, load},
    otp::{Intensity, Supervisor, SupervisorSpec},
    telemetry::{self, Telemetry},
};

/// The paths that may change at run time, as the original has them.
pub(crate) const UPDATABLE: [&str; 13] = [
    "ai.planning.sampling_rate",
    "ai.planning.performance_target",
    "capture.processing.batch_size",
    "capture.processing.flush_interval",
    "interface.query_timeout",
    "interface.max_results",
    "dev.debug_mode",
    "dev.verbose_logging",
    "dev.performance_monitoring",
    "infrastructure.rate_limiting.enabled",
    "infrastructure.circuit_breaker.enabled",
    "infrastructure.connection_pool.enabled",
    "infrastructure.rate_limiting.cleanup_interval",
];

macro_rules! section {
    ($name:ident { $($field:ident: $type:ty = $default:expr),+ $(,)? }) => {
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub(crate) struct $name { $(pub(crate) $field: $type),+ }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default),+ }
            }
        }
    };
}

section!(Foundation {
    ai: Ai = Ai::default(),
    capture: Capture = Capture::default(),
    storage: Storage = Storage::default(),
    interface: Interface = Interface::default(),
    dev: Dev = Dev::default(),
    infrastructure: Infrastructure = Infrastructure::default(),
});
section!(Ai {
    provider: String = "mock".into(),
    api_key: Option<String> = None,
    model: String = "gpt-4".into(),
    analysis: Analysis = Analysis::default(),
    planning: Planning = Planning::default(),
});
section!(Analysis {
    max_file_size: i64 = 1_000_000,
    timeout: i64 = 30_000,
    cache_ttl: i64 = 3600
});
section!(Planning {
    default_strategy: String = "balanced".into(),
    performance_target: f64 = 0.01,
    sampling_rate: f64 = 1.0,
});
section!(Capture {
    ring_buffer: RingBuffer = RingBuffer::default(),
    processing: Processing = Processing::default(),
    vm_tracing: VmTracing = VmTracing::default(),
});
section!(RingBuffer {
    size: i64 = 1024,
    max_events: i64 = 1000,
    overflow_strategy: String = "drop_oldest".into()
});
section!(Processing {
    batch_size: i64 = 100,
    flush_interval: i64 = 50,
    max_queue_size: i64 = 1000
});
section!(VmTracing {
    spawn: bool = true,
    exit: bool = true,
    message: bool = false,
    trace_children: bool = true
});
section!(Storage {
    hot: Hot = Hot::default(),
    warm: Warm = Warm::default(),
    cold: Cold = Cold::default()
});
section!(Hot {
    max_events: i64 = 100_000,
    max_age_seconds: i64 = 3600,
    prune_interval: i64 = 60_000
});
section!(Warm {
    enable: bool = false,
    path: String = "./foundation_data".into(),
    max_size_mb: i64 = 100,
    compression: String = "zstd".into(),
});
section!(Cold {
    enable: bool = false
});
section!(Interface {
    query_timeout: i64 = 10_000,
    max_results: i64 = 1000,
    enable_streaming: bool = true
});
section!(Dev {
    debug_mode: bool = false,
    verbose_logging: bool = false,
    performance_monitoring: bool = true
});
section!(Infrastructure {
    rate_limiting: RateLimiting = RateLimiting::default(),
    circuit_breaker: CircuitBreaker = CircuitBreaker::default(),
    connection_pool: ConnectionPool = ConnectionPool::default(),
});
section!(RateLimiting {
    default_rules: BTreeMap<String, Rule> = BTreeMap::from([
        ("api_calls".into(), Rule { limit: 100, scale: 60_000 }),
        ("db_queries".into(), Rule { limit: 500, scale: 60_000 }),
        ("file_operations".into(), Rule { limit: 10, scale: 1000 }),
    ]),
    enabled: bool = true,
    cleanup_interval: i64 = 300_000,
});
section!(Rule {
    limit: i64 = 1,
    scale: i64 = 1
});
section!(CircuitBreaker {
    default_config: BreakerConfig = BreakerConfig::default(),
    enabled: bool = true
});
section!(BreakerConfig {
    failure_threshold: i64 = 5,
    recovery_time: i64 = 30_000,
    call_timeout: i64 = 5000
});
section!(ConnectionPool {
    size: i64 = 10,
    max_overflow: i64 = 5,
    strategy: String = "lifo".into(),
    enabled: bool = true
});

impl Schema for Foundation {
    fn validate(&self) -> Result<(), Invalid> {
        self.validate_ai()?;
        self.validate_capture()?;
        self.validate_storage()?;
        above_zero("interface.query_timeout", self.interface.query_timeout)?;
        above_zero("interface.max_results", self.interface.max_results)?;
        self.validate_infrastructure()
    }

    fn rules() -> Rules {
        let rules = Rules::fixed().secret("ai.api_key").restart("ai.model");
        UPDATABLE
            .iter()
            .fold(rules, |rules, path| rules.allow(path))
    }
}

impl Foundation {
    fn validate_ai(&self) -> Result<(), Invalid> {
        let Ai {
            provider,
            analysis,
            planning,
            ..
        } = &self.ai;
        one_of(
            "ai.provider",
            provider,
            &["mock", "openai", "anthropic", "gemini"],
        )?;
        above_zero("ai.analysis.max_file_size", analysis.max_file_size)?;
        above_zero("ai.analysis.timeout", analysis.timeout)?;
        above_zero("ai.analysis.cache_ttl", analysis.cache_ttl)?;
        if planning.performance_target < 0.0 || planning.performance_target.is_nan() {
            return Err(Invalid::constraint(
                "ai.planning.performance_target",
                "it must be 0 or more",
            ));
        }
        if !(0.0..=1.0).contains(&planning.sampling_rate) {
            return Err(Invalid::range(
                "ai.planning.sampling_rate",
                "it must be from 0 to 1",
            ));
        }
        one_of(
            "ai.planning.default_strategy",
            &planning.default_strategy,
            &["fast", "balanced", "thorough"],
        )
    }

    fn validate_capture(&self) -> Result<(), Invalid> {
        let Capture {
            ring_buffer,
            processing,
            ..
        } = &self.capture;
        above_zero("capture.ring_buffer.size", ring_buffer.size)?;
        above_zero("capture.ring_buffer.max_events", ring_buffer.max_events)?;
        one_of(
            "capture.ring_buffer.overflow_strategy",
            &ring_buffer.overflow_strategy,
            &["drop_oldest", "drop_newest", "block"],
        )?;
        above_zero("capture.processing.batch_size", processing.batch_size)?;
        above_zero(
            "capture.processing.flush_interval",
            processing.flush_interval,
        )?;
        above_zero(
            "capture.processing.max_queue_size",
            processing.max_queue_size,
        )
    }

    fn validate_storage(&self) -> Result<(), Invalid> {
        let Storage { hot, warm, cold } = &self.storage;
        above_zero("storage.hot.max_events", hot.max_events)?;
        above_zero("storage.hot.max_age_seconds", hot.max_age_seconds)?;
        above_zero("storage.hot.prune_interval", hot.prune_interval)?;
        if warm.enable {
            above_zero("storage.warm.max_size_mb", warm.max_size_mb)?;
            one_of(
                "storage.warm.compression",
                &warm.compression,
                &["none", "gzip", "zstd"],
            )?;
        }
        if cold.enable {
            return Err(Invalid::failed(
                "storage.cold.enable",
                "there is no cold storage; leave it off",
            ));
        }
        Ok(())
    }

    fn validate_infrastructure(&self) -> Result<(), Invalid> {
        let Infrastructure {
            rate_limiting,
            circuit_breaker,
            connection_pool,
        } = &self.infrastructure;
        for (name, rule) in &rate_limiting.default_rules {
            above_zero(
                &format!("infrastructure.rate_limiting.default_rules.{name}.limit"),
                rule.limit,
            )?;
            above_zero(
                &format!("infrastructure.rate_limiting.default_rules.{name}.scale"),
                rule.scale,
            )?;
        }
        above_zero(
            "infrastructure.rate_limiting.cleanup_interval",
            rate_limiting.cleanup_interval,
        )?;
        let breaker = &circuit_breaker.default_config;
        above_zero(
            "infrastructure.circuit_breaker.default_config.failure_threshold",
            breaker.failure_threshold,
        )?;
        above_zero(
            "infrastructure.circuit_breaker.default_config.recovery_time",
            breaker.recovery_time,
        )?;
        above_zero(
            "infrastructure.circuit_breaker.default_config.call_timeout",
            breaker.call_timeout,
        )?;
        above_zero("infrastructure.connection_pool.size", connection_pool.size)?;
        if connection_pool.max_overflow < 0 {
            return Err(Invalid::failed(
                "infrastructure.connection_pool.max_overflow",
                "it must be 0 or more",
            ));
        }
        one_of(
            "infrastructure.connection_pool.strategy",
            &connection_pool.strategy,
            &["lifo", "fifo"],
        )
    }
}

fn above_zero(path: &str, value: i64) -> Result<(), Invalid> {
    if value > 0 {
        return Ok(());
    }
    Err(Invalid::failed(
        path,
        format!("it is {value}; it must be above 0"),
    ))
}

fn one_of(path: &str, value: &str, known: &[&str]) -> Result<(), Invalid> {
    if known.contains(&value) {
        return Ok(());
    }
    Err(Invalid::value(
        path,
        format!("it must be one of {}", known.join(", ")),
    ))
}

/// The node's own table in these stories: no settings of interest.
pub(crate) fn sources() -> Sources {
    Sources::new::<FreeTable, Foundation>()
}

/// A running config service with the foundation's settings.
pub(crate) struct Node {
    pub(crate) telemetry: Telemetry,
    pub(crate) document: Configuration,
    pub(crate) config: Config<Foundation>,
    pub(crate) tree: Supervisor,
}

impl Node {
    pub(crate) async fn start() -> Self {
        Self::start_with(sources(), Options::default()).await
    }

    /// One whose server may crash only so often.
    pub(crate) async fn start_until(crashes: u32) -> Self {
        Self::start_under(sources(), Options::default(), crashes).await
    }

    pub(crate) async fn start_with(sources: Sources, options: Options) -> Self {
        Self::start_under(sources, options, 1000).await
    }

    async fn start_under(sources: Sources, options: Options, crashes: u32) -> Self {
        let telemetry = Telemetry::new(telemetry::Options::default());
        let document = Configuration::new(
            load(sources).expect("the sources are valid"),
            options,
            &telemetry,
        );
        let spec = SupervisorSpec::new("tree", Intensity::new(crashes, Duration::from_mins(1)))
            .child(document.child_spec());
        Self {
            config: document.app().expect("the table has this type"),
            document,
            telemetry,
            tree: Supervisor::start(spec).await.expect("the tree starts"),
        }
    }

    /// Kills the server, as a crash does. Its supervisor starts it again.
    pub(crate) fn kill_server(&self) {
        let supervisor = self.tree.actor().expect("the tree runs");
        supervisor
            .get_children()
            .iter()
            .for_each(underpin::ractor::ActorCell::kill);
    }

    /// Stops the server for good.
    pub(crate) async fn stop_server(&self) {
        self.tree
            .terminate_child("config")
            .await
            .expect("the server can be stopped");
    }

    /// What a counter of the room stands at.
    pub(crate) fn counted(&self, name: &str) -> u64 {
        self.telemetry
            .snapshot()
            .counter(&format!("underpin_config_{name}"), &[])
    }

    pub(crate) async fn start_server(&self) {
        self.tree
            .restart_child("config")
            .await
            .expect("the server can be started");
    }
}
