//! Several copies of one child, and a key that says which of them: work that one actor cannot do fast enough, spread over
//! as many as there are processors, with everything of one key still in one place.
//!
//! Elixir's `PartitionSupervisor`. A [`PartitionSupervisorSpec`] makes each partition together with the handle that leads to
//! it (an [`Address`](super::Address), a [`DynamicSupervisor`](super::DynamicSupervisor), whatever the program needs), and
//! [`PartitionSupervisor::get`] hands out the handle for a key.
//!
//! Guarantees: the same key leads to the same partition as long as the number of partitions is the same, in every process
//! and on every machine ([`PartitionKey`]); a partition that is restarted keeps its index and its handle; looking one up
//! takes no lock and asks nobody. Not offered: moving what a partition holds when the number changes, or
//! another strategy than one_for_one, which Elixir lets one choose.
//!
//! ```
//! # use underpin::ractor::{Actor, ActorProcessingErr, ActorRef};
//! # use underpin::otp::Reply;
//! # enum Message { Add(Reply<u64>) }
//! # underpin::otp::message!(Message);
//! # struct Counter;
//! # impl Actor for Counter {
//! #     type Msg = Message;
//! #     type State = u64;
//! #     type Arguments = ();
//! #     async fn pre_start(&self, _: ActorRef<Message>, (): ()) -> Result<u64, ActorProcessingErr> { Ok(0) }
//! #     async fn handle(&self, _: ActorRef<Message>, message: Message, total: &mut u64) -> Result<(), ActorProcessingErr> {
//! #         let Message::Add(reply) = message;
//! #         *total += 1;
//! #         reply.send(*total);
//! #         Ok(())
//! #     }
//! # }
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::{thread::available_parallelism, time::Duration};
//! use underpin::otp::{Address, ChildSpec, Intensity, PartitionSupervisor, PartitionSupervisorSpec};
//!
//! const SECOND: Duration = Duration::from_secs(1);
//! let spec = PartitionSupervisorSpec::new("counters", available_parallelism()?, Intensity::new(3, SECOND), |_| {
//!     let counter = Address::new();
//!     let spec = ChildSpec::actor("counter", &counter, |_| (Counter, ()));
//!     (counter, spec)
//! });
//! let counters = PartitionSupervisor::start(spec).await?;
//!
//! assert_eq!(counters.get("alice")?.call(Message::Add, SECOND).await?, 1);
//! assert_eq!(counters.get("alice")?.call(Message::Add, SECOND).await?, 2);
//! counters.supervisor().stop().await;
//! # Ok(()) }
//! ```

mod error;
mod handle;
mod routing;
mod spec;

pub use error::PartitionError;
pub use handle::PartitionSupervisor;
pub use routing::{PartitionKey, stable_hash};
pub use spec::PartitionSupervisorSpec;
