//! The decisions against a world of plain sets: what is alive, what was asked, what has to come back.

mod giving_up;
mod parting;
mod random;
mod restarts;
mod world;
