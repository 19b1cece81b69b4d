//! Nodes that form one system.

mod calling;
mod groups;
mod joining;
mod nodes;
mod securing;
mod support;
