//! A streaming S3 reverse proxy that brings every accepted write to a second S3 and records it in
//! an SQL inventory.
//!
//! # The life of a request
//! [`proxy::listener`] accepts; [`s3::address`] and [`s3::operation`] say what it is; for a
//! mutation [`journal::Journal::append`] makes the intent durable; [`upstream`] re-signs and
//! streams it to main while [`tee`] keeps a copy of small bodies; [`outcome`] judges its end; the
//! journal settles the intent.
//!
//! # The life of a change
//! The settled entry waits in the journal. A worker of [`mirror`] copies main's current state of
//! the key; [`inventory`] writes its row; when both are done the entry leaves.
//!
//! `docs/architecture.md` tells both at length, `docs/semantics.md` what users may rely on.

pub mod admin;
pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod dev;
pub mod doctor;
pub mod events;
pub mod http1;
pub mod inventory;
pub mod journal;
pub mod metrics;
pub mod mirror;
pub mod outcome;
pub mod proxy;
pub mod reconcile;
pub mod s3;
pub mod shutdown;
pub mod spans;
pub mod tee;
pub mod telemetry;
pub mod upstream;
