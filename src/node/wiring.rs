//! What goes from one part of the node to another: changes of settings into the books, ends of children into the figures.
//! None of it is waited for by the part that it comes from.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time;

use super::{
    EventSettings,
    keeper::Keeper,
    watch::{Phase, Watch},
};
use crate::{
    config::{Audit, Change, Kind, Record, Revision},
    events::{Checkpoint, Event, StoreError},
    otp::{BoxError, ChildContext, ChildSpec, Intensity, Lifecycle, SupervisorSpec},
    value::{Map, Value},
};

/// The node's inner wires, under a supervisor of their own.
pub(super) fn spec(watch: &Arc<Watch>, keeper: &Keeper) -> ChildSpec {
    let intensity = Intensity::new(10, Duration::from_secs(1));
    let books = Arc::new(Books {
        watch: Arc::clone(watch),
        under_way: Mutex::default(),
    });
    let (for_reports, for_figures) = (Arc::clone(watch), Arc::clone(watch));
    let (for_journal, for_limits) = (Arc::clone(watch), Arc::clone(watch));
    let wiring = SupervisorSpec::new("wiring", intensity)
        // First, so that it stops last: it stores what the others note until their end.
        .child(ChildSpec::task("journal", move |ctx| {
            journal(ctx, Arc::clone(&for_journal))
        }))
        // Following before it runs: what starts after it is counted by its reports.
        .child(ChildSpec::task("reports", move |ctx| {
            for_reports.follow();
            reports(ctx, Arc::clone(&for_reports))
        }))
        .child(keeper.child_spec())
        .child(watch.config.watch_spec())
        .child(ChildSpec::task("limits", move |ctx| {
            limits(ctx, Arc::clone(&for_limits))
        }))
        .child(ChildSpec::task("audit", move |ctx| {
            audit(ctx, Arc::clone(&books))
        }))
        .child(ChildSpec::task("figures", move |ctx| {
            figures(ctx, Arc::clone(&for_figures))
        }));
    #[cfg(feature = "cluster")]
    let wiring = match &watch.cluster {
        Some(cluster) => wiring.child(super::joining::news(watch, cluster)),
        None => wiring,
    };
    #[cfg(feature = "capture")]
    let wiring = wiring.child(capture(watch));
    ChildSpec::supervisor(wiring)
}

/// Stops after the program's own children and before the events, and has what they did stored.
#[cfg(feature = "capture")]
fn capture(watch: &Arc<Watch>) -> ChildSpec {
    let watch = Arc::clone(watch);
    ChildSpec::task("capture", move |ctx| {
        let watch = Arc::clone(&watch);
        async move {
            ctx.cancelled().await;
            watch.end_capture().await;
            Ok(())
        }
    })
}

/// Stores what happens in the tree. What led to a give-up is stored before it, where it was captured.
async fn journal(ctx: ChildContext, watch: Arc<Watch>) -> Result<(), BoxError> {
    let led_up = || async {
        #[cfg(feature = "capture")]
        watch.flush_capture().await;
    };
    let stops = || watch.phase() == Phase::Stopping;
    watch.journal.keep(ctx, led_up, stops).await;
    Ok(())
}

/// Hands what may change while the node runs to the events, now and after each change.
async fn limits(ctx: ChildContext, watch: Arc<Watch>) -> Result<(), BoxError> {
    let mut changes = watch.config.subscribe("underpin.events")?;
    loop {
        let notice = tokio::select! {
            () = ctx.cancelled() => return Ok(()),
            notice = changes.recv() => notice,
        };
        if notice.is_none() {
            return Ok(());
        }
        // What stands there was checked.
        if let Ok(settings) = watch.config.get::<EventSettings>("underpin.events") {
            let options = settings.options();
            watch.events.set_hot_bytes(options.hot_bytes);
            watch.events.set_segment_bytes(options.segment_bytes);
            watch.events.set_retention(options.retention);
        }
    }
}

/// The source of the events that settings leave.
const CONFIG: &str = "underpin.config";

/// The checkpoint of how far the changes of the settings are in the books. It moves with the event itself, so that each change is
/// there once, whatever ends in the middle.
const AUDITED: &str = "underpin:config";

/// How long to wait for a store that is down.
pub(super) const PAUSE: Duration = Duration::from_millis(200);

/// An event for each change of the settings.
#[derive(Debug)]
struct Books {
    watch: Arc<Watch>,
    /// What is being stored, so that a task that is started anew does not make other events of the same change: the store may
    /// have taken the first ones, and not be done.
    under_way: Mutex<Option<(Revision, Vec<Event>)>>,
}

/// Stores an event for each change of the settings, each once, also over a restart: it goes on behind the last one stored.
async fn audit(ctx: ChildContext, books: Arc<Books>) -> Result<(), BoxError> {
    tokio::select! {
        () = ctx.cancelled() => Ok(()),
        () = books.keep() => Ok(()),
    }
}

impl Books {
    async fn keep(&self) {
        let mut feed = self.watch.config.audit(last_audited(&self.watch).await);
        while let Some(audit) = feed.recv().await {
            let entries = self.entries(&audit);
            keep_storing(&self.watch, entries, audit.record.revision).await;
        }
    }

    /// The entries of a change: those that were made for it before, if there are.
    fn entries(&self, audit: &Audit) -> Vec<Event> {
        let revision = audit.record.revision;
        let mut under_way = self.under_way.lock();
        match &*under_way {
            Some((known, entries)) if *known == revision => entries.clone(),
            _ => {
                let entries = entries_of(&self.watch, audit);
                *under_way = Some((revision, entries.clone()));
                entries
            }
        }
    }
}

fn entries_of(watch: &Watch, audit: &Audit) -> Vec<Event> {
    let record = &audit.record;
    let gap = (audit.missed > 0).then(|| gap_before(watch, audit));
    gap.flatten()
        .into_iter()
        .chain(event_of(watch, record))
        .collect()
}

/// How far the books go. Where they do not say, everything that is known was never audited; unless the store forgets, then what
/// was there before this start is left alone. Settings whose numbers began anew are audited from this start on.
async fn last_audited(watch: &Watch) -> Revision {
    let noted = loop {
        match watch.events.checkpoint(AUDITED).await {
            Ok(noted) => break noted,
            Err(_) => time::sleep(PAUSE).await,
        }
    };
    let noted = noted.as_ref().and_then(Value::as_u64).map(Revision);
    match noted {
        Some(revision) if revision <= watch.config.revision() => revision,
        None if !watch.in_memory => Revision::default(),
        Some(_) | None => watch.loaded_revision,
    }
}

/// The event of a change. What would be too large for one event is left out: first the values, then the paths.
fn event_of(watch: &Watch, record: &Record) -> Option<Event> {
    let kind = match record.kind {
        Kind::Update => "config_updated",
        Kind::Reset => "config_reset",
        Kind::Rollback => "config_rolled_back",
        Kind::Load => "config_loaded",
    };
    let tellers: [fn(&Change) -> Value; 2] = [told, |change| change.path.to_string().into()];
    let told = tellers.iter().map(|tell| {
        let changes: Vec<Value> = record.changes.iter().map(tell).collect();
        ("changes", Value::from(changes))
    });
    let count = ("changes_count", Value::from(record.changes.len() as u64));
    told.chain([count])
        .find_map(|changes| entry(watch, kind, record, &[changes]))
}

fn told(change: &Change) -> Value {
    Value::Map(Map::from_iter([
        ("path", Value::from(change.path.to_string())),
        ("previous_value", change.before.clone().unwrap_or_default()),
        ("new_value", change.after.clone().unwrap_or_default()),
    ]))
}

/// An event for the changes that the log forgot before they were stored: how many, and what they came to all in all.
fn gap_before(watch: &Watch, audit: &Audit) -> Option<Event> {
    let missed = audit.missed;
    tracing::warn!(missed, "changes of settings went by unaudited");
    let changes: Vec<Value> = audit.missed_changes.iter().map(told).collect();
    let whole = [
        ("missed", Value::from(missed)),
        ("changes", Value::from(changes)),
    ];
    entry(watch, "config_changes_missed", &audit.record, &whole)
        .or_else(|| entry(watch, "config_changes_missed", &audit.record, &whole[..1]))
}

/// `None` when it is too large for an event.
fn entry(watch: &Watch, kind: &str, record: &Record, parts: &[(&str, Value)]) -> Option<Event> {
    let common = [
        ("revision", Value::from(record.revision.0)),
        ("by", Value::from(record.author.by.clone())),
        ("why", Value::from(record.author.why.clone())),
    ];
    let data = Value::Map(common.into_iter().chain(parts.iter().cloned()).collect());
    let event = watch.events.event(kind).source(CONFIG).data(data);
    let event = event.within(record.context);
    event.build().ok().filter(|event| event.check().is_ok())
}

/// Stores entries under their own ids until they are stored. The store may be down for a while; the feed keeps what comes after.
async fn keep_storing(watch: &Watch, entries: Vec<Event>, revision: Revision) {
    let checkpoint = Checkpoint {
        key: AUDITED.into(),
        value: Value::from(revision.0),
    };
    loop {
        let stored = watch
            .events
            .store_import(entries.clone(), checkpoint.clone());
        match stored.await {
            Ok(_) => return,
            Err(error @ (StoreError::Event(_) | StoreError::Conflict { .. })) => {
                tracing::error!(%error, "a change of settings could not be audited");
                return;
            }
            Err(_) => time::sleep(PAUSE).await,
        }
    }
}

/// Counts what happens in the tree, and remembers crashes for the node's health.
async fn reports(ctx: ChildContext, watch: Arc<Watch>) -> Result<(), BoxError> {
    let mut stream = watch.reports.lock().await;
    let Some(stream) = stream.as_mut() else {
        return Err("the tree has no reports".into());
    };
    let mut missed = stream.missed();
    loop {
        let report = tokio::select! {
            // What is there is taken first, also at the end.
            biased;
            report = stream.next() => report,
            () = ctx.cancelled() => return Ok(()),
        };
        let Some(report) = report else { return Ok(()) };
        watch.journal.report(&report);
        watch.figures.report(&report);
        match &report.what {
            Lifecycle::StartFailed { reason } => {
                watch.crashed(Arc::clone(&report.path), reason.to_string());
            }
            Lifecycle::Exited { reason, .. } if !reason.is_clean() => {
                watch.crashed(Arc::clone(&report.path), reason.to_string());
            }
            _ => {}
        }
        watch.figures.missed(stream.missed() - missed);
        missed = stream.missed();
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

fn take_figures(watch: &Watch) {
    let health = watch.health();
    watch.journal.health(&health);
    watch.figures.take(watch, health.health);
}
