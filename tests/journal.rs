//! The journal as its users see it: what is durable, what a restart finds, what memory holds.
#![allow(clippy::unwrap_used, reason = "a test says that it failed by panicking")]
#![allow(
    clippy::disallowed_types,
    reason = "the rules are for the product; tests wait for a real disk in real time"
)]

#[path = "journal/claims.rs"]
mod claims;
#[path = "journal/crash.rs"]
mod crash;
#[path = "journal/disk.rs"]
mod disk;
#[path = "journal/events.rs"]
mod events;
#[path = "journal/files.rs"]
mod files;
#[path = "journal/rows.rs"]
mod rows;
#[path = "journal/support.rs"]
mod support;
