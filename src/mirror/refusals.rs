//! Which checksums the mirror cannot take, as it has shown itself.
//!
//! Main's checksum of an object goes along with its copy, so that the mirror checks the bytes too.
//! Vendors that do not know an algorithm refuse the request with codes that say all kinds of things.
//! Only when the same object has been taken without the checksum is that noted, until the next start:
//! a copy that is refused for another reason costs nobody their checks.

use std::sync::atomic::{AtomicU32, Ordering};

use http::header::HeaderName;

use super::retry::Failure;
use crate::s3::checksum::ChecksumAlgorithm;

/// A bit for each algorithm that the mirror refuses.
#[derive(Debug, Default)]
pub(super) struct Refusals(AtomicU32);

impl Refusals {
    /// May a checksum with this header be sent along?
    pub(super) fn takes(&self, name: &HeaderName) -> bool {
        self.0.load(Ordering::Relaxed) & bit(name) == 0
    }

    /// The mirror has refused an object with this checksum, and taken it without.
    pub(super) fn note(&self, name: &HeaderName, failure: &Failure) {
        let bit = bit(name);
        if self.0.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            let error = failure.to_string();
            tracing::warn!(
                checksum = name.as_str(),
                error,
                "copies go to the mirror without this checksum from now on"
            );
        }
    }
}

/// May this refusal be one of the checksum? Checksums that are wrong have codes of their own.
pub(super) fn may_be_about_checksum(failure: &Failure) -> bool {
    matches!(failure.code(), "NotImplemented" | "InvalidRequest" | "InvalidArgument")
}

/// Algorithms this program has no name for share one bit.
fn bit(name: &HeaderName) -> u32 {
    let known = ChecksumAlgorithm::from_header_name(name.as_str());
    let place = known.and_then(|known| ChecksumAlgorithm::ALL.iter().position(|a| *a == known));
    1 << place.unwrap_or(31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_algorithm_is_left_out_and_others_are_not() {
        let refusals = Refusals::default();
        let name = |text| HeaderName::from_static(text);
        let failure = Failure::from_status("mirror", "PutObject", 400, "InvalidRequest");
        refusals.note(&name("x-amz-checksum-crc64nvme"), &failure);
        assert!(!refusals.takes(&name("x-amz-checksum-crc64nvme")));
        assert!(refusals.takes(&name("x-amz-checksum-crc32")));
        assert!(refusals.takes(&name("x-amz-checksum-of-tomorrow")));
    }
}
