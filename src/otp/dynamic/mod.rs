//! A supervisor whose children come and go by the thousand: sessions, connections, jobs.
//!
//! Elixir's `DynamicSupervisor`, OTP's `simple_one_for_one`. It starts empty; each child is started on request
//! ([`DynamicSupervisor::start_child`]) and named by the [`ChildRef`] that comes back, so that ids need not differ. A child is
//! restarted alone, as its spec says, with backoff and a budget of its own if it has them; all stop at the same time.
//!
//! Differences from [`Supervisor`](super::Supervisor): a child that ended and is not restarted is forgotten with its spec, also a
//! transient one; a start that declines ([`Ignore`](super::Ignore)) leaves nothing behind; children do not depend on each
//! other, so there are no strategies and no significant children; `max_children` bounds them. In a [`Tree`](super::Tree) and in
//! reports a child stands as `id#number`, since ids may repeat.
//!
//! Guarantees: a child's successor starts only after everything of its predecessor is gone; however many children there
//! are, starting one takes the same time, and stopping all takes no longer than the slowest may take. Not offered: an order
//! among children.
//!
//! ```
//! # use underpin::ractor::{Actor, ActorProcessingErr, ActorRef};
//! # use underpin::otp::Reply;
//! # enum Message { Greet(Reply<String>) }
//! # underpin::otp::message!(Message);
//! # struct Session(&'static str);
//! # impl Actor for Session {
//! #     type Msg = Message;
//! #     type State = ();
//! #     type Arguments = ();
//! #     async fn pre_start(&self, _: ActorRef<Message>, (): ()) -> Result<(), ActorProcessingErr> { Ok(()) }
//! #     async fn handle(&self, _: ActorRef<Message>, message: Message, (): &mut ()) -> Result<(), ActorProcessingErr> {
//! #         let Message::Greet(reply) = message;
//! #         reply.send(format!("hello {}", self.0));
//! #         Ok(())
//! #     }
//! # }
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use underpin::otp::{Address, ChildSpec, DynamicSupervisor, DynamicSupervisorSpec, Intensity, Restart};
//!
//! const SECOND: Duration = Duration::from_secs(1);
//! let spec = DynamicSupervisorSpec::new("sessions", Intensity::new(3, 5 * SECOND)).max_children(10_000);
//! let sessions = DynamicSupervisor::start(spec).await?;
//!
//! let address = Address::new();
//! let session = ChildSpec::actor("session", &address, |_| (Session("alice"), ())).restart(Restart::Temporary);
//! let alice = sessions.start_child(session).await?;
//! assert_eq!(address.call(Message::Greet, SECOND).await?, "hello alice");
//!
//! sessions.terminate_child(&alice).await?;
//! assert!(sessions.terminate_child(&alice).await.is_err());
//! sessions.stop().await;
//! # Ok(()) }
//! ```

mod actor;
mod child;
mod ending;
mod handle;
mod message;
mod nursery;
mod spec;
mod starting;
mod stopping;
mod together;

pub use handle::{ChildRef, DynamicChild, DynamicSupervisor};
pub use spec::DynamicSupervisorSpec;
