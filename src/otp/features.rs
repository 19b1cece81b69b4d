//! What other crates may switch on in ractor. `cluster` and `message_span_propogation` work (see [`message`](super::message)); the third,
//! `async-trait`, gives the trait `Actor` other signatures, which no crate can be written for together with the usual ones. There
//! is no way to ask for a feature of a dependency, but that one alone brings an attribute into ractor's root, which is then found
//! before ours and refuses what stands beneath it: the first error names the feature.

mod ours {
    /// Does nothing, with nothing to derive.
    pub(super) use core::prelude::v1::derive as async_trait;
}

#[expect(
    unused_imports,
    reason = "has no such attribute unless its feature async-trait is on"
)]
use crate::ractor::*;
#[cfg_attr(
    not(test),
    expect(clippy::wildcard_imports, reason = "only one glob yields to another")
)]
use ours::*;

#[async_trait()]
#[expect(dead_code, reason = "only its name matters, where a compiler shows it")]
struct UnderpinDoesNotWorkWithTheFeatureAsyncTraitOfRactorTurnItOff;
