//! Pure: which stored parts make the object that a client asks to complete.

use md5::{Digest as _, Md5};
use s3s::S3ErrorCode;

use super::super::checksum::{Algorithm, Coverage, StoredChecksum};
use super::super::fault::{Answer, internal, refuse};
use super::super::index::uploads::PartRow;

/// Every part but the last has at least this size (J4): 5 MiB.
const PART_BYTES_MIN: u64 = 5 * 1024 * 1024;

/// A part as the client lists it.
#[derive(Clone, Debug)]
pub(in super::super) struct Listed {
    pub(in super::super) number: i64,
    pub(in super::super) etag: String,
    pub(in super::super) checksum: Option<StoredChecksum>,
}

/// The object to be.
#[derive(Debug)]
pub(in super::super) struct Plan {
    pub(in super::super) part_count: i64,
    pub(in super::super) size: u64,
    pub(in super::super) etag: String,
    pub(in super::super) checksum: Option<StoredChecksum>,
    /// Stored parts that the client did not list.
    pub(in super::super) unused: Vec<PartRow>,
}

impl Plan {
    /// Matches the list against the stored parts, which come in order of their numbers.
    ///
    /// # Errors
    /// `MalformedXML` for an empty list, `InvalidPartOrder`, `InvalidPart`, `EntityTooSmall`.
    pub(in super::super) fn of(
        listed: &[Listed],
        stored: Vec<PartRow>,
        wanted: Option<(Algorithm, Coverage)>,
    ) -> Answer<Self> {
        if listed.is_empty() {
            return Err(refuse(
                S3ErrorCode::MalformedXML,
                "The XML you provided was not well-formed or did not validate against our \
                 published schema",
            ));
        }
        if !listed.is_sorted_by(|one, next| one.number < next.number) {
            return Err(refuse(
                S3ErrorCode::InvalidPartOrder,
                "The list of parts was not in ascending order. Parts must be ordered by part \
                 number.",
            ));
        }
        let mut md5 = Md5::new();
        let mut size = 0;
        let mut checksums = Vec::with_capacity(listed.len());
        let mut unused = Vec::new();
        let mut wishes = listed.iter().peekable();
        for part in stored {
            let Some(wish) = wishes.next_if(|wish| wish.number == part.number) else {
                unused.push(part);
                continue;
            };
            let same_checksum = match (&wish.checksum, &part.checksum) {
                (Some(wish), Some(part)) if wish.algorithm == part.algorithm => {
                    wish.value == part.value
                }
                _ => true,
            };
            if wish.etag != part.etag || !same_checksum {
                return Err(invalid_part());
            }
            if part.size < PART_BYTES_MIN && wishes.peek().is_some() {
                return Err(refuse(
                    S3ErrorCode::EntityTooSmall,
                    "Your proposed upload is smaller than the minimum allowed size",
                ));
            }
            let raw = hex::decode(&part.etag).map_err(|error| internal("joining ETags", error))?;
            md5.update(raw);
            size += part.size;
            checksums.push((part.size, part.checksum));
        }
        if wishes.peek().is_some() {
            return Err(invalid_part());
        }
        let checksum = wanted.and_then(|(algorithm, coverage)| {
            StoredChecksum::join(algorithm, coverage, &checksums)
        });
        Ok(Self {
            part_count: i64::try_from(listed.len()).unwrap_or(i64::MAX),
            size,
            etag: format!("{}-{}", hex::encode(md5.finalize()), listed.len()),
            checksum,
            unused,
        })
    }
}

fn invalid_part() -> s3s::S3Error {
    refuse(
        S3ErrorCode::InvalidPart,
        "One or more of the specified parts could not be found. The part may not have been \
         uploaded, or the specified entity tag may not match the part's entity tag.",
    )
}

#[cfg(test)]
mod tests {
    use super::super::super::files::FileId;
    use super::*;

    const MD5_OF_A: &str = "0cc175b9c0f1b6a831c399e269772661";

    fn stored(number: i64, size: u64) -> PartRow {
        let etag = MD5_OF_A.to_owned();
        PartRow { number, size, etag, file: FileId(number), modified_ms: 0, checksum: None }
    }

    fn listed(number: i64) -> Listed {
        Listed { number, etag: MD5_OF_A.to_owned(), checksum: None }
    }

    fn code(listed: &[Listed], stored: Vec<PartRow>) -> String {
        Plan::of(listed, stored, None).unwrap_err().code().as_str().to_owned()
    }

    #[test]
    fn gaps_and_unlisted_parts_are_fine() {
        let parts = [(1, 5 << 20), (4, 1), (7, 6 << 20), (9, 3)].map(|(n, size)| stored(n, size));
        let plan = Plan::of(&[listed(1), listed(7), listed(9)], parts.to_vec(), None).unwrap();
        assert_eq!((plan.part_count, plan.size), (3, (11 << 20) + 3));
        assert_eq!(plan.unused.iter().map(|part| part.number).collect::<Vec<_>>(), [4]);
        // md5 of that digest three times.
        let digests = hex::decode(MD5_OF_A.repeat(3)).unwrap();
        assert_eq!(plan.etag, format!("{}-3", hex::encode(Md5::digest(digests))));
    }

    #[test]
    fn a_list_that_does_not_fit_is_refused_with_the_code_of_s3() {
        let two = || vec![stored(1, 5 << 20), stored(2, 1)];
        assert_eq!(code(&[], two()), "MalformedXML");
        assert_eq!(code(&[listed(2), listed(1)], two()), "InvalidPartOrder");
        assert_eq!(code(&[listed(1), listed(1)], two()), "InvalidPartOrder");
        assert_eq!(code(&[listed(1), listed(3)], two()), "InvalidPart");
        let other = Listed { etag: "00".repeat(16), ..listed(1) };
        assert_eq!(code(&[other], two()), "InvalidPart");
        assert_eq!(
            code(&[listed(2), listed(3)], vec![stored(2, 1), stored(3, 1)]),
            "EntityTooSmall"
        );
    }
}
