//! What goes from one part of the node to another: changes of settings into the books, ends of children into the figures.
//! None of it is waited for by the part that it comes from.

use std::{sync::Arc, time::Duration};

use tokio::time;

use super::{keeper::Keeper, watch::Watch};
use crate::{
    config::{Kind, Record, Revision},
    events::{Event, Order, Query, StoreError},
    otp::{BoxError, ChildContext, ChildSpec, Intensity, Lifecycle, SupervisorSpec},
    value::{Map, Value},
};

/// The node's inner wires, under a supervisor of their own.
pub(super) fn spec(watch: &Arc<Watch>, keeper: Keeper) -> ChildSpec {
    let intensity = Intensity::new(10, Duration::from_secs(1));
    let (for_audit, for_reports, for_figures) =
        (Arc::clone(watch), Arc::clone(watch), Arc::clone(watch));
    ChildSpec::supervisor(
        SupervisorSpec::new("wiring", intensity)
            .child(keeper.child_spec())
            .child(ChildSpec::task("audit", move |ctx| {
                audit(ctx, Arc::clone(&for_audit))
            }))
            .child(ChildSpec::task("reports", move |ctx| {
                reports(ctx, Arc::clone(&for_reports))
            }))
            .child(ChildSpec::task("figures", move |ctx| {
                figures(ctx, Arc::clone(&for_figures))
            })),
    )
}

/// The source of the events that settings leave.
const CONFIG: &str = "underpin.config";

/// Stores an event for each change of the settings, each once, also over a restart: it goes on behind the last one stored.
async fn audit(ctx: ChildContext, watch: Arc<Watch>) -> Result<(), BoxError> {
    let last = last_audited(&watch).await?;
    let mut feed = watch.config.audit(last);
    loop {
        let audit = tokio::select! {
            () = ctx.cancelled() => return Ok(()),
            audit = feed.recv() => audit,
        };
        let Some(audit) = audit else { return Ok(()) };
        if audit.missed > 0 {
            tracing::warn!(
                missed = audit.missed,
                "changes of settings went by unaudited"
            );
        }
        let event = event_of(&watch, &audit.record)?;
        tokio::select! {
            () = ctx.cancelled() => return Ok(()),
            () = keep_storing(&watch, event) => {}
        }
    }
}

/// The revision of the newest audit event in the store. Where there is none, everything that is known was never audited;
/// unless the store forgets, then what was there before this start is left alone.
async fn last_audited(watch: &Watch) -> Result<Revision, BoxError> {
    let query = Query::new()
        .source(CONFIG)
        .order(Order::IdDescending)
        .limit(1);
    let page = watch.events.query(query).await?;
    let revision = page.events.first().and_then(|event| match event.data() {
        Value::Map(data) => data.get("revision").and_then(Value::as_u64),
        _ => None,
    });
    let forgets = watch.in_memory || watch.events.stats().pruned > 0;
    let otherwise = match forgets {
        true => watch.loaded_revision,
        false => Revision::default(),
    };
    Ok(revision.map_or(otherwise, Revision))
}

fn event_of(watch: &Watch, record: &Record) -> Result<Event, BoxError> {
    let kind = match record.kind {
        Kind::Update => "config_updated",
        Kind::Reset => "config_reset",
        Kind::Rollback => "config_rolled_back",
        Kind::Load => "config_loaded",
    };
    let changes: Vec<Value> = record
        .changes
        .iter()
        .map(|change| {
            Value::Map(Map::from_iter([
                ("path", Value::from(change.path.to_string())),
                (
                    "previous_value",
                    change.before.clone().unwrap_or(Value::Null),
                ),
                ("new_value", change.after.clone().unwrap_or(Value::Null)),
            ]))
        })
        .collect();
    let data = Value::Map(Map::from_iter([
        ("revision", Value::from(record.revision.0)),
        ("by", Value::from(record.author.by.clone())),
        ("why", Value::from(record.author.why.clone())),
        ("changes", Value::from(changes)),
    ]));
    let event = watch.events.event(kind).source(CONFIG).data(data);
    Ok(event.build()?)
}

/// Stores an event under its own id until it is stored. The store may be down for a while; the feed keeps what comes after.
async fn keep_storing(watch: &Watch, event: Event) {
    const PAUSE: Duration = Duration::from_millis(200);
    while let Err(error) = watch.events.store(event.clone()).await {
        if let StoreError::Event(_) | StoreError::Conflict { .. } = error {
            tracing::error!(%error, "a change of settings could not be audited");
            return;
        }
        time::sleep(PAUSE).await;
    }
}

/// Counts what happens in the tree, and remembers crashes for the node's health.
async fn reports(ctx: ChildContext, watch: Arc<Watch>) -> Result<(), BoxError> {
    let stream = watch.root().and_then(crate::otp::Supervisor::reports);
    let Some(mut stream) = stream else {
        return Err("the tree has no reports".into());
    };
    loop {
        let report = tokio::select! {
            () = ctx.cancelled() => return Ok(()),
            report = stream.next() => report,
        };
        let Some(report) = report else { return Ok(()) };
        let counter = match &report.what {
            Lifecycle::Started { incarnation: 1 } => "underpin_child_starts",
            Lifecycle::Started { .. } => "underpin_child_restarts",
            Lifecycle::StartFailed { reason } => {
                watch.crashed(Arc::clone(&report.path), reason.to_string());
                "underpin_child_failed_starts"
            }
            Lifecycle::Exited { reason, .. } if !reason.is_clean() => {
                watch.crashed(Arc::clone(&report.path), reason.to_string());
                "underpin_child_crashes"
            }
            Lifecycle::GaveUp { .. } => "underpin_supervisor_give_ups",
            _ => continue,
        };
        watch.telemetry.counter(counter, &[]).inc();
    }
}

/// Puts the figures of the parts that only know them when looked at into gauges.
async fn figures(ctx: ChildContext, watch: Arc<Watch>) -> Result<(), BoxError> {
    let mut ticks = time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            () = ctx.cancelled() => return Ok(()),
            _ = ticks.tick() => take_figures(&watch),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "gauges are f64, exact to 2^53")]
fn take_figures(watch: &Watch) {
    let gauge = |name, value| watch.telemetry.gauge(name, &[]).set(value);
    let stats = watch.events.stats();
    gauge("underpin_events", stats.events as f64);
    gauge("underpin_events_log_bytes", stats.log_bytes as f64);
    gauge("underpin_events_hot_bytes", stats.hot_bytes as f64);
    gauge("underpin_events_index_bytes", stats.index_bytes as f64);
    gauge("underpin_config_revision", watch.config.revision().0 as f64);
    let healthy = watch.health().health == super::HealthStatus::Healthy;
    gauge("underpin_healthy", f64::from(u8::from(healthy)));
}
