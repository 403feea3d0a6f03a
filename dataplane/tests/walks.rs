//! Packet walks: frames into a worker by ports in memory, and what comes out, byte for byte, with every counted drop.
//!
//! `walk` is the world they happen in, `scenarios` the tables of who sends what and what comes out where.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod scenarios;
mod walk;
