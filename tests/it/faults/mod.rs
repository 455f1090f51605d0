//! Faults on purpose: calls that write fail one after the other, at seeded moments, under the built program (Linux).
//!
//! Whatever fails and when: no panic and no signal, one error with a reason, nothing unfinished under a final name, what
//! was said to be finished is whole, and the same command afterwards gives what it gives without faults.

#![cfg(all(target_os = "linux", feature = "ffmpeg"))]

mod shim;
mod writes;
