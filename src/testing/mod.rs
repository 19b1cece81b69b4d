//! For tests of programs built on underpin: a tree or a node for one test, crashes from outside, and waiting that does not guess.
//!
//! * [`with_tree`] and [`with_node`] run a story on a tree or a node of its own, and stop it afterwards;
//! * [`Life`] crashes a child, and waits for its end or its restart;
//! * [`Recorder`] records telemetry events;
//! * [`seed`] makes chance repeat itself: jitter, and ids that are drawn;
//! * [`report`] waits for something that happens in a tree, [`eventually`] for something that can only be looked at.
//!
//! Turn the feature `testing` on for tests only:
//!
//! ```toml
//! [dev-dependencies]
//! underpin = { version = "0.1", features = ["testing"] }
//! ```
//!
//! Guarantees: nothing is registered for the whole process, so tests that run side by side never meet; whatever becomes of a
//! story, its tree is stopped; a child that cannot be stopped fails the test. Whatever does not come fails the test too, after
//! [`PATIENCE`], with the line that waited and what came instead.
//!
//! # Under a paused clock
//!
//! Everything here works with `#[tokio::test(start_paused = true)]`. [`PATIENCE`] is real time, so a clock that leaps over an
//! hour of backoff does not end a wait. A wait for a report lets the clock go on from one timer to the next, as tokio does when
//! all tasks are idle; [`eventually`] lets it go on in small steps, at first by a millisecond a look.
//!
//! ```
//! use std::time::Duration;
//! use underpin::{
//!     otp::{ChildSpec, Intensity, SupervisorSpec},
//!     testing::{Life, with_tree},
//! };
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let ticker = ChildSpec::task("ticker", |ctx| async move {
//!     ctx.cancelled().await;
//!     Ok(())
//! });
//! let tree = SupervisorSpec::new("shop", Intensity::new(3, Duration::from_secs(5))).child(ticker);
//!
//! with_tree(tree, async |shop| {
//!     let restarted = Life::of(shop, "ticker").panic("out of stock").restarted().await;
//!
//!     assert_eq!((restarted.from, restarted.to), (1, 2));
//!     assert_eq!(restarted.reason.to_string(), "panic: out of stock");
//! })
//! .await;
//! # }
//! ```

mod chance;
mod life;
mod recorder;
mod story;
mod wait;

pub use chance::seed;
pub use life::{Child, Life, Restarted};
pub use recorder::Recorder;
pub use story::{in_memory, with_node, with_tree};
pub use wait::{PATIENCE, eventually, report};
