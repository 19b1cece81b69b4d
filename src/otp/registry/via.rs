//! Supervised children that have a name.

use std::{fmt::Debug, future::ready, hash::Hash, sync::Arc};

use futures_util::{FutureExt, future::BoxFuture};

use super::{Owner, Registry};
use crate::otp::{
    ChildSpec, ExitReason,
    start::{Around, NotStarted, Seat, Start, Started},
};

impl ChildSpec {
    /// The child owns `key` in `registry` from before each of its starts until its end: Elixir's `:via`.
    ///
    /// Where the key is unique and another's, the child does not start, and what is said is whose it is. `value` is what the key
    /// leads to: mostly the child's address, so that it can be called by its name.
    #[must_use]
    pub fn registered<K, V>(mut self, registry: &Registry<K, V>, key: K, value: V) -> Self
    where
        K: Hash + Eq + Clone + Debug + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
    {
        let registry = registry.clone();
        self.start = Arc::new(Around {
            inner: self.start,
            start: move |inner: &dyn Start, seat: Seat| {
                start(inner, seat, &registry, &key, value.clone())
            },
        });
        self
    }
}

fn start<K, V>(
    inner: &dyn Start,
    seat: Seat,
    registry: &Registry<K, V>,
    key: &K,
    value: V,
) -> BoxFuture<'static, Result<Started, NotStarted>>
where
    K: Hash + Eq + Clone + Debug + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    let life = Arc::clone(&seat.incarnation);
    let owner = Owner::child(life, Arc::clone(seat.node.path()));
    if let Err(taken) = registry.register(key.clone(), &owner, value) {
        let reason = ExitReason::from_error(&taken);
        return ready(Err(reason.into())).boxed();
    }
    let name = Name {
        registry: registry.clone(),
        key: key.clone(),
        owner,
        started: false,
    };
    let starting = inner.start(seat);
    async move {
        // The whole of it, so that it goes with the start.
        let mut name = name;
        let started = starting.await?;
        name.started = true;
        Ok(started)
    }
    .boxed()
}

/// The name of a child that is being started. One that does not start has none when that is told, so that the next can have it.
struct Name<K, V>
where
    K: Hash + Eq + Clone + Debug + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    registry: Registry<K, V>,
    key: K,
    owner: Owner,
    started: bool,
}

impl<K, V> Drop for Name<K, V>
where
    K: Hash + Eq + Clone + Debug + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn drop(&mut self) {
        if !self.started {
            self.registry.unregister(&self.key, &self.owner);
        }
    }
}
