//! A call to a service that comes and goes, guarded: tried again, spared while it is down, and answered from memory meanwhile.
//!
//! ```sh
//! cargo run --example guarded_call
//! ```

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use underpin::{
    node::Node,
    resilience::{
        Again, Backoff, BreakerOptions, CircuitBreaker, LastGood, Protection, ProtectionError,
        RateLimit, Retry, Trip,
    },
};

#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("the market is busy")]
    Busy,
    #[error("the market is closed")]
    Closed,
}

/// Tells a price, but for its third call and those from the fifth to the seventh.
#[derive(Default)]
struct Market {
    calls: AtomicU32,
}

impl Market {
    async fn price(&self) -> Result<u32, Trouble> {
        tokio::task::yield_now().await;
        match self.calls.fetch_add(1, Ordering::Relaxed) + 1 {
            3 => Err(Trouble::Busy),
            5..=7 => Err(Trouble::Closed),
            call => Ok(100 + call),
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let node = Node::builder()
        .name("guarded")
        .memory()
        .without_environment()
        .start()
        .await?;
    let two = NonZeroU32::MIN.saturating_add(1);

    // Each guard tells the node what it does; the node counts it.
    let breaker = BreakerOptions {
        trip: Trip::Consecutive(two),
        open_for: Duration::from_millis(250),
        ..BreakerOptions::default()
    };
    let breaker = CircuitBreaker::observed_by("market", breaker, node.observer())?;
    let limit = RateLimit::observed_by("market", 100, Duration::from_secs(1), node.observer());
    let guard = Protection::new("market")
        .rate_limit(limit)
        .circuit_breaker(breaker)
        .timeout(Duration::from_secs(1));
    let pause = Backoff::constant(Duration::from_millis(1));
    let retry = Retry::new("market", pause)
        .attempts(two)
        .observed_by(node.observer());
    let last = LastGood::new("market", Duration::from_mins(1)).observed_by(node.observer());

    let market = Market::default();
    let again = |error: &ProtectionError<Trouble>| match error {
        ProtectionError::Failed(_) => Again::Backoff,
        // While the circuit is open, the last price is good enough.
        _ => Again::Never,
    };
    for _ in 0..5 {
        let asked = retry.run_when(|_| guard.run(market.price()), again);
        let price = last.run(asked).await?;
        let kept = if price.age.is_some() { " (kept)" } else { "" };
        println!("The price is {}{kept}.", price.value);
    }
    println!(
        "The market was asked {} times.",
        market.calls.load(Ordering::Relaxed)
    );

    println!("Once it is open again, so is the circuit.");
    loop {
        let asked = retry.run_when(|_| guard.run(market.price()), again);
        let price = last.run(asked).await?;
        if price.age.is_none() {
            println!("The price is {}.", price.value);
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    let counted = node.telemetry().snapshot();
    let count = |what| counted.counter("underpin_guards", &[("guard", "market"), ("what", what)]);
    println!("The circuit closed {} time.", count("closed"));
    println!("It was opened at least once: {}.", count("opened") > 0);
    let report = node.shutdown().await;
    println!("All stopped, gracefully: {}.", report.is_graceful());
    Ok(())
}
