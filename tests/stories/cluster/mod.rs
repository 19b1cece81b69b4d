//! Nodes that form one system.

mod calling;
mod groups;
mod joining;
mod support;
