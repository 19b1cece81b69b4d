//! All that another node can reach here: services by their names. Whatever has no route does not exist for others.

use std::{collections::HashMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use super::error::Failure;
use crate::{ids::NodeName, otp::Monitor};

/// A request that came from another node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Incoming<'a> {
    pub(super) from: &'a NodeName,
    pub(super) payload: &'a [u8],
    /// How long the answer may be for the other node to read it.
    pub(super) answer_max: usize,
}

/// Where requests for one service go.
pub(super) trait Route: Send + Sync {
    /// Begins a call. The first poll of what it gives delivers the request, so that requests stay in order.
    fn call(
        &self,
        incoming: Incoming<'_>,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, Failure>>;

    /// Delivers a cast; what it gives, if anything, has to be polled until it is delivered.
    fn cast(&self, incoming: Incoming<'_>) -> Option<BoxFuture<'static, ()>>;

    /// Watches whoever serves now; `None` where there is no life to watch.
    fn monitor(&self) -> Option<Monitor>;
}

type Routes = HashMap<Arc<str>, Arc<dyn Route>>;

#[derive(Default)]
pub(super) struct Gateway {
    routes: ArcSwap<Routes>,
    /// Of whoever adds or takes away.
    changing: Mutex<()>,
}

impl Gateway {
    pub(super) fn add(&self, name: &str, route: Arc<dyn Route>) {
        self.change(|routes| {
            routes.insert(name.into(), route);
        });
    }

    pub(super) fn remove(&self, name: &str) {
        self.change(|routes| {
            routes.remove(name);
        });
    }

    fn change(&self, change: impl FnOnce(&mut Routes)) {
        let _changing = self.changing.lock();
        let mut routes = Routes::clone(&self.routes.load());
        change(&mut routes);
        self.routes.store(Arc::new(routes));
    }

    pub(super) fn route(&self, name: &str) -> Option<Arc<dyn Route>> {
        self.routes.load().get(name).cloned()
    }

    pub(super) fn names(&self) -> Vec<Arc<str>> {
        let mut names: Vec<_> = self.routes.load().keys().cloned().collect();
        names.sort_unstable();
        names
    }
}
