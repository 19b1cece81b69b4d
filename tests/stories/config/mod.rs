//! What a user of the config room can rely on.
//!
//! Scenarios of the original that are not here, and why:
//!
//! * F30, the half in which subscribers are lost with the server: here they survive its restart.
//! * F105, the half in which a refused update is queued and applied later: deliberately different. A change that was refused is
//!   never made behind anyone's back; the caller has a typed error that says whether it may have run.
//! * F106, a cache that expires and can be lost: there is none. Readers look at the published state, which does not age.
//! * F8's and F9's paths do not exist in a typed document, so they are refused as unknown; those that exist are refused as fixed.
//! * F14's functions and dangerous structs cannot be values.
//! * F13's components that are no text cannot be written down as a path.

mod bounds;
mod followers;
mod following;
mod foundation;
mod keeping;
mod layers;
mod lists;
mod models;
mod overlay;
mod reads_and_writes;
mod reloading;
mod rules;
mod saving;
mod secrets;
mod together;
