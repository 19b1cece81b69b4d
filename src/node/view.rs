//! The node as its interface sees it.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;

use super::watch::{Phase, Watch};
use crate::{
    config::Serving,
    ids::IdGenerator,
    otp::Tree,
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

    fn tree(&self) -> Option<Tree> {
        self.0.tree()
    }

    fn ready(&self) -> Result<(), String> {
        match self.0.phase() {
            Phase::Starting => Err("the node is starting".to_owned()),
            Phase::Running => Ok(()),
            Phase::Stopping => Err("the node is stopping".to_owned()),
        }
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
