//! `cargo +nightly fuzz run burst`, in this directory's parent. What it does is in `burst/`.
#![no_main]
#![allow(clippy::unwrap_used)]

#[path = "../burst/mod.rs"]
mod burst;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drop(burst::run(bytes)));
