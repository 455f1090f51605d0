//! Stands in for the crate of this name, which joins thirty crates of which one is needed (see `Cargo.toml`).

pub use icu_normalizer as normalizer;
