//! Clocks and loops that all sides are measured with.

use std::{
    hint,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use tokio::runtime::{Builder, Runtime};

/// Operations between two looks at the clock: a look costs some 25 ns, so it is lost among them.
const OPERATIONS: u32 = 1024;

/// Nanoseconds of an operation as the slowest of `threads` threads sees it. `make` gives each thread its operation; all
/// begin at once and go on for at least `time`.
pub fn nanoseconds<W: FnMut()>(
    threads: usize,
    time: Duration,
    make: impl Fn(usize) -> W + Sync,
) -> f64 {
    let ready = AtomicUsize::new(0);
    let run = |thread| {
        let mut operation = make(thread);
        // Spinning, so that all threads begin within nanoseconds.
        ready.fetch_add(1, Ordering::AcqRel);
        while ready.load(Ordering::Acquire) < threads {
            hint::spin_loop();
        }
        one_thread(time, &mut operation)
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads)
            .map(|thread| scope.spawn(move || run(thread)))
            .collect();
        let own = run(0);
        let others = others
            .into_iter()
            .map(|other| other.join().expect("a measured operation panicked"));
        others.fold(own, f64::max)
    })
}

fn one_thread(time: Duration, operation: &mut impl FnMut()) -> f64 {
    let (begin, mut done) = (Instant::now(), 0_u64);
    loop {
        for _ in 0..OPERATIONS {
            operation();
        }
        done += u64::from(OPERATIONS);
        let took = begin.elapsed();
        if took >= time {
            return nanos(took) / done as f64;
        }
    }
}

/// Counts of work per second, from pieces that are timed one by one: what lies between two of them is not measured.
#[derive(Debug, Default)]
pub struct Tally {
    took: Duration,
    done: u64,
}

impl Tally {
    pub fn add(&mut self, done: u64, took: Duration) {
        self.done += done;
        self.took += took;
    }

    pub fn is_below(&self, time: Duration) -> bool {
        self.took < time
    }

    pub fn per_second(&self) -> f64 {
        self.done as f64 / self.took.as_secs_f64()
    }
}

/// The middle value; of an even number the upper of the two.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

pub fn nanos(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}

/// How many threads a runtime has.
#[derive(Debug, Clone, Copy)]
pub enum Workers {
    /// All on the thread that drives it.
    One,
    Two,
}

impl Workers {
    pub fn runtime(self) -> Runtime {
        let mut builder = match self {
            Self::One => Builder::new_current_thread(),
            Self::Two => Builder::new_multi_thread(),
        };
        builder
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime starts")
    }
}

/// Runs `work` as a task of the runtime, not on the thread outside of it.
pub fn drive<T: Send + 'static>(
    runtime: &Runtime,
    work: impl Future<Output = T> + Send + 'static,
) -> T {
    let task = runtime.spawn(work);
    runtime
        .block_on(task)
        .expect("a measured task came to its end")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_of_the_sorted_values() {
        assert!((median(&mut [3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!(median(&mut []).is_nan());
    }

    #[test]
    fn all_threads_run_at_the_same_time() {
        let together = std::sync::Barrier::new(2);
        let once = |thread| {
            let (together, mut first) = (&together, true);
            move || {
                if first {
                    together.wait();
                    first = false;
                }
                hint::black_box(thread);
            }
        };
        assert!(nanoseconds(2, Duration::ZERO, once) > 0.0);
    }

    #[test]
    fn a_tally_counts_only_the_time_it_is_told() {
        let mut tally = Tally::default();
        tally.add(10, Duration::from_secs(1));
        tally.add(20, Duration::from_secs(2));
        assert!((tally.per_second() - 10.0).abs() < 1e-9);
        assert!(tally.is_below(Duration::from_secs(4)) && !tally.is_below(Duration::from_secs(3)));
    }
}
