//! Room for the files of `src/upstream` that are under test.

pub mod wire;

pub use wire::WireError;
