//! The stores of the inventory against real databases.
#![allow(clippy::unwrap_used, reason = "a test says that it failed by panicking")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the rules are for the product; tests wait for real processes in real time"
)]

#[path = "inventory_store/access.rs"]
mod access;
#[path = "inventory_store/both.rs"]
mod both;
#[path = "inventory_store/browse.rs"]
mod browse;
#[path = "support/certificates.rs"]
mod certificates;
#[path = "inventory_store/feed.rs"]
mod feed;
#[path = "inventory_store/files.rs"]
mod files;
#[path = "support/inventory.rs"]
mod inventory;
#[path = "support/postgres.rs"]
mod postgres;
#[path = "inventory_store/retention.rs"]
mod retention;
#[path = "inventory_store/server.rs"]
mod server;
#[path = "inventory_store/speed.rs"]
mod speed;
#[path = "inventory_store/tables.rs"]
mod tables;
