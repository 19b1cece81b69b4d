//! The node as its interface sees it.

use std::sync::Arc;

use futures_util::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use serde_json::json;

use super::{
    Reason,
    watch::{Phase, Watch},
};
use crate::{
    config::Serving,
    ids::IdGenerator,
    otp::TreeLimits,
    web::{Interface, Overview},
};

#[derive(Debug)]
struct View(Arc<Watch>);

pub(super) fn interface(watch: &Arc<Watch>, ids: &Arc<IdGenerator>) -> Interface {
    let view = Arc::new(View(Arc::clone(watch)));
    Interface::new(&watch.events, &watch.config, &watch.telemetry, ids, view)
}

impl Overview for View {
    fn status(&self) -> serde_json::Value {
        let watch = &self.0;
        let health = watch.health();
        let events = watch.events.stats();
        let config = watch.config.status();
        json!({
            "version": 1,
            "health": health.health,
            "reasons": health.reasons,
            "name": watch.name.as_str(),
            "node": watch.events.ids().node().get(),
            "underpin": env!("CARGO_PKG_VERSION"),
            "ready": self.ready().is_ok(),
            "time": Timestamp::now(),
            "uptime_ms": millis(watch.uptime()),
            "events": {
                "count": events.events,
                "stored": events.stored,
                "duplicates": events.duplicates,
                "pruned": events.pruned,
                "refused": events.refused,
                "unreadable": events.unreadable,
                "segments": events.segments,
                "log_bytes": events.log_bytes,
                "hot_bytes": events.hot_bytes,
                "index_bytes": events.index_bytes,
                "gaps": events.opened.gaps,
                "torn": events.opened.torn,
            },
            "config": {
                "revision": config.revision.0,
                "updates": config.updates_count,
                "last_update": config.last_update,
                "running": matches!(config.serving, Serving::Running { .. }),
                "subscribers": config.subscribers,
                "restart_needed": config.restart_needed.iter().map(ToString::to_string).collect::<Vec<_>>(),
            },
            "telemetry": { "metrics": watch.telemetry.snapshot().families.len() },
        })
    }

    fn tree(&self, path: Option<&str>, limits: TreeLimits) -> Option<serde_json::Value> {
        let root = self.0.root()?;
        let top = root.tree()?.path;
        let tree = root.tree_at(path.unwrap_or(&top), limits);
        // Whoever asks may leave the root out, which every path has.
        let below = || root.tree_at(&format!("{top}/{}", path?), limits);
        let tree = tree.or_else(below)?;
        let mut tree = serde_json::to_value(tree).ok()?;
        tell_reasons(&mut tree, &self.0.health().reasons);
        Some(tree)
    }

    #[cfg(feature = "cluster")]
    fn cluster(&self) -> Option<serde_json::Value> {
        self.0.cluster.as_ref().map(super::joining::shown)
    }

    #[cfg(not(feature = "cluster"))]
    fn cluster(&self) -> Option<serde_json::Value> {
        None
    }

    #[cfg(feature = "cluster")]
    fn leave(&self) -> BoxFuture<'static, Result<(), String>> {
        let cluster = self.0.cluster.clone();
        async move {
            match cluster {
                Some(cluster) => cluster.leave().await.map_err(|error| error.to_string()),
                None => Ok(()),
            }
        }
        .boxed()
    }

    #[cfg(not(feature = "cluster"))]
    fn leave(&self) -> BoxFuture<'static, Result<(), String>> {
        futures_util::future::ready(Ok(())).boxed()
    }

    fn ready(&self) -> Result<(), String> {
        match self.0.phase() {
            Phase::Starting => Err("the node is starting".to_owned()),
            Phase::Running => Ok(()),
            Phase::Stopping => Err("the node is stopping".to_owned()),
        }
    }
}

/// Puts what is wrong at each place there.
fn tell_reasons(tree: &mut serde_json::Value, reasons: &[Reason]) {
    let here: Vec<_> = reasons
        .iter()
        .filter(|reason| tree["path"] == *reason.part)
        .map(|reason| json!({ "reason": reason.reason, "since": reason.since }))
        .collect();
    tree["health"] = if here.is_empty() {
        "healthy".into()
    } else {
        "degraded".into()
    };
    if !here.is_empty() {
        tree["reasons"] = here.into();
    }
    // Asked for with `get_mut`: to index what is not there would make it.
    let children = tree.get_mut("children");
    for child in children
        .and_then(|children| children.as_array_mut())
        .into_iter()
        .flatten()
    {
        tell_reasons(child, reasons);
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
