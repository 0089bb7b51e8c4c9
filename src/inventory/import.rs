//! Rows for what main holds already, as a listing tells it; beside proxies that write meanwhile.
//!
//! # Why a listing never replaces newer news
//! A listing is old by the time it is written. So an import adds rows for keys that have none, and
//! touches a row only if nobody has written it since the listing began ([`AsOf`]), which the
//! statement looks at under the row's lock. Whatever a proxy writes later replaces the import's
//! row like any other. A key that was deleted through a proxy after it was listed has a row that
//! says so, also when the inventory had never heard of it before.
//!
//! A row that tells the listed object already stays as it is, but for what the listing knows
//! better: an `ETag` or media type that the row lacks, and that the mirror has the object.
//!
//! # Crash
//! What was written stays; importing again changes nothing.

use time::OffsetDateTime;

use super::row::RowFault;

/// How old the news of an import is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsOf {
    /// Rows that were written at this moment or later are left alone.
    pub moment: OffsetDateTime,
    /// Also leave rows alone whose object is younger than the listed one: for lists that may have
    /// missed changes made before `moment`.
    pub only_if_newer: bool,
}

/// What became of the rows of one import.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Rows of keys that had none.
    pub added: u64,
    /// Rows that were brought up to date.
    pub updated: u64,
    /// Rows, by index, that were not stored.
    pub faults: Vec<(usize, RowFault)>,
}
