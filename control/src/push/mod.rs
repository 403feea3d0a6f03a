//! Keeps the dataplane's state equal to the desired one.

pub mod gate;
