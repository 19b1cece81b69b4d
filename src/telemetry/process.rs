//! What the operating system says about this process, from Linux' `/proc` (proc(5)). Elsewhere there are no figures.

use std::{fs, io, time::Duration};

use super::{
    Gauge, Kind, MetricError,
    gauge::GaugeCell,
    registry::{Found, Registry},
    total::Total,
};

/// Figures of the process at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Figures {
    pub(super) cpu: Duration,
    pub(super) resident_bytes: u64,
    pub(super) virtual_bytes: u64,
    pub(super) threads: u64,
    pub(super) open_fds: u64,
    pub(super) max_fds: Option<u64>,
    /// Since 1970.
    pub(super) started: Duration,
}

/// The texts that the figures are read from.
#[derive(Debug)]
struct Texts {
    own_stat: String,
    own_status: String,
    own_limits: String,
    system_stat: String,
    open_fds: u64,
}

/// Under the names that Prometheus' client libraries agree on.
#[derive(Debug)]
pub(super) struct ProcessMetrics {
    cpu: Total,
    resident: Gauge,
    virtual_memory: Gauge,
    threads: Gauge,
    open_fds: Gauge,
    max_fds: Gauge,
    started: Gauge,
}

/// The unit of times in `/proc`: Linux shows 100 to a second on every architecture of today, whatever the kernel's own
/// clock (`USER_HZ`).
const TICKS_PER_SECOND: u64 = 100;

impl Figures {
    pub(super) fn read() -> io::Result<Self> {
        let texts = Texts {
            own_stat: fs::read_to_string("/proc/self/stat")?,
            own_status: fs::read_to_string("/proc/self/status")?,
            own_limits: fs::read_to_string("/proc/self/limits")?,
            system_stat: fs::read_to_string("/proc/stat")?,
            // The listing itself has one of them open.
            open_fds: (fs::read_dir("/proc/self/fd")?.count() as u64).saturating_sub(1),
        };
        texts
            .figures()
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
    }
}

impl Texts {
    fn figures(&self) -> Option<Figures> {
        // The command in parentheses may hold anything; fields are counted from behind it, state being field 3.
        let (_, after_command) = self.own_stat.rsplit_once(')')?;
        let field = |number: usize| {
            after_command
                .split_whitespace()
                .nth(number - 3)?
                .parse::<u64>()
                .ok()
        };
        let booted = word_after(&self.system_stat, "btime")?;
        Some(Figures {
            cpu: ticks(field(14)? + field(15)?),
            resident_bytes: word_after(&self.own_status, "VmRSS:")? * 1024,
            virtual_bytes: field(23)?,
            threads: field(20)?,
            open_fds: self.open_fds,
            max_fds: word_after(&self.own_limits, "Max open files"),
            started: Duration::from_secs(booted) + ticks(field(22)?),
        })
    }
}

impl ProcessMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, MetricError> {
        describe(registry)?;
        let gauge = |name| {
            registry
                .series::<GaugeCell>(name, &[])
                .map(Found::into_inner)
        };
        let [
            (cpu, _),
            (resident, _),
            (virtual_memory, _),
            (threads, _),
            (open_fds, _),
            (max_fds, _),
            (started, _),
        ] = NAMES;
        Ok(Self {
            cpu: Total::new(registry, cpu)?,
            resident: gauge(resident)?,
            virtual_memory: gauge(virtual_memory)?,
            threads: gauge(threads)?,
            open_fds: gauge(open_fds)?,
            max_fds: gauge(max_fds)?,
            started: gauge(started)?,
        })
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "bytes and counts far below 2^53"
    )]
    pub(super) fn show(&self, figures: &Figures) {
        self.cpu.reached(figures.cpu);
        self.resident.set(figures.resident_bytes as f64);
        self.virtual_memory.set(figures.virtual_bytes as f64);
        self.threads.set(figures.threads as f64);
        self.open_fds.set(figures.open_fds as f64);
        self.max_fds
            .set(figures.max_fds.map_or(f64::INFINITY, |max| max as f64));
        self.started.set(figures.started.as_secs_f64());
    }
}

/// Says what the metrics mean, whether or not there are any figures here.
pub(super) fn describe(registry: &Registry) -> Result<(), MetricError> {
    for (name, help) in NAMES {
        let kind = if name.ends_with("_total") {
            Kind::Counter
        } else {
            Kind::Gauge
        };
        registry.describe(kind, name, &[], help)?;
    }
    Ok(())
}

const NAMES: [(&str, &str); 7] = [
    (
        "process_cpu_seconds_total",
        "User and system processor time of this process.",
    ),
    (
        "process_resident_memory_bytes",
        "Memory of this process that is in RAM.",
    ),
    (
        "process_virtual_memory_bytes",
        "Address space of this process.",
    ),
    ("process_threads", "Threads of this process."),
    ("process_open_fds", "Open file descriptors of this process."),
    (
        "process_max_fds",
        "Open file descriptors that this process may have.",
    ),
    (
        "process_start_time_seconds",
        "When this process started, since 1970.",
    ),
];

fn ticks(ticks: u64) -> Duration {
    Duration::from_millis(ticks * (1000 / TICKS_PER_SECOND))
}

/// The number that comes first in the line that begins with `key`; `None` too for `unlimited`.
fn word_after(text: &str, key: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts() -> Texts {
        Texts {
            own_stat: "9840 (a ) b (c) R 9836 9836 4403 0 -1 4194304 100 0 0 0 150 25 0 0 20 0 7 0 162455 3133440 380 184467 1 1"
                .into(),
            own_status: "Name:\tcat\nVmSize:\t    3900 kB\nVmRSS:\t    1880 kB\nThreads:\t7\n".into(),
            own_limits: "Limit   Soft Limit  Hard Limit  Units\nMax open files            1024  4096  files\n".into(),
            system_stat: "cpu  1 2 3\nbtime 1795433448\nprocesses 9\n".into(),
            open_fds: 5,
        }
    }

    #[test]
    fn the_figures_are_where_proc_5_says() {
        let figures = texts().figures();
        let expected = Figures {
            cpu: Duration::from_millis(1750),
            resident_bytes: 1880 * 1024,
            virtual_bytes: 3_133_440,
            threads: 7,
            open_fds: 5,
            max_fds: Some(1024),
            started: Duration::from_millis(1_795_433_448_000 + 1_624_550),
        };
        assert_eq!(figures, Some(expected));
    }

    #[test]
    fn an_unlimited_process_has_no_limit_and_a_cut_text_no_figures() {
        let unlimited = Texts {
            own_limits: "Max open files            unlimited  unlimited  files\n".into(),
            ..texts()
        };
        assert_eq!(
            unlimited.figures().and_then(|figures| figures.max_fds),
            None
        );
        let whole = texts().own_stat;
        for (end, _) in whole
            .match_indices(' ')
            .filter(|(end, _)| *end < whole.len() - 24)
        {
            let mut broken = texts();
            broken.own_stat.truncate(end);
            assert_eq!(broken.figures(), None, "{}", broken.own_stat);
        }
    }
}
