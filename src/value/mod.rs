//! The self-describing value that configuration paths, event data and metadata all speak.
//!
//! A [`Value`] is a tree of maps, lists and scalars. Its sections are shared (`Arc`): a clone costs a counter, and changing one
//! [`Path`] copies the maps along that path and nothing else.
//!
//! Guarantees:
//!
//! * Every way in from outside ([`Value::from_json`], [`to_value`], serde, [`codec`]) keeps to [`Limits`] *while* it reads, so that
//!   hostile input neither overflows the stack nor takes memory out of proportion to its own size.
//! * What [`codec`] accepts for writing it reads back, equal to what was written.
//! * JSON goes both ways without loss: integers stay integers, bytes and non-finite floats have a form of their own (see
//!   [`Value::to_json`]).
//!
//! What it does not do: keep the order of keys (maps are sorted), hold integers beyond 64 bits, or index lists by path. A value that
//! a program itself nests thousands deep with [`Value::from`] is as deep as it made it; dropping, comparing and printing recurse.
//!
//! ```
//! use underpin::value::{Limits, Path, Value};
//!
//! # fn main() -> Result<(), underpin::value::ValueError> {
//! let settings = Value::from_json(r#"{"http": {"port": 4610}, "name": "a"}"#, Limits::CONFIG)?;
//! let port = Path::parse("http.port")?;
//! assert_eq!(settings.get(&port), Some(&Value::Int(4610)));
//!
//! let changed = settings.with(&port, Value::Int(80))?;
//! assert_eq!(changed.to_json(), r#"{"http":{"port":80},"name":"a"}"#);
//! # Ok(())
//! # }
//! ```

#[cfg(test)]
mod arbitrary;
pub mod codec;
mod deserialize;
mod error;
mod json;
mod limits;
mod map;
mod names;
mod path;
mod serialize;
mod tree;

pub use deserialize::from_value;
pub use error::{PathFault, ValueError};
pub use limits::Limits;
pub use map::Map;
pub(crate) use path::Components;
pub use path::Path;
pub use serialize::to_value;
pub use tree::Value;
