//! The words of S3, without I/O: addresses, operations, headers, XML, aws-chunked framing.
//!
//! Everything here is a pure function or a state machine fed by its caller. Parsed once, each
//! request travels on as these types.

pub mod acl;
pub mod address;
pub mod checksum;
pub mod chunked;
pub mod encode;
pub mod event;
pub mod form;
pub mod headers;
pub mod listing;
pub mod operation;
pub mod refusal;
pub mod report;
pub mod state;
pub mod trace;
pub mod uploads;
pub mod versions;
pub mod xml;
