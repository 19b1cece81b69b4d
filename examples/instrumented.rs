//! A program that logs with `tracing`, as many do: JSON lines on standard output, to be imported into a node.
//!
//! ```sh
//! cargo run --release --example instrumented > orders.log
//! underpin events import orders.log
//! underpin events query --correlation req-7
//! ```

use tracing::{info, info_span, warn};

fn main() {
    tracing_subscriber::fmt().json().init();
    for order in 1..=20_u32 {
        let request = format!("req-{order}");
        let span = info_span!("request", request_id = request, route = "POST /orders");
        span.in_scope(|| take(order));
    }
}

/// Takes one order; every fifth is refused.
fn take(order: u32) {
    let amount = order * 17 % 90 + 10;
    info!(order, amount, "order received");
    let span = info_span!("payment", gateway = "gw-17");
    span.in_scope(|| {
        if order.is_multiple_of(5) {
            warn!(order, reason = "card expired", "payment refused");
        } else {
            info!(order, "payment accepted");
        }
    });
    info!(order, "order answered");
}
