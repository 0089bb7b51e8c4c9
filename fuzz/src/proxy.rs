//! Room for the files of `src/proxy` that are under test.

mod error;
pub mod http1;
