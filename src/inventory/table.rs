//! Table and index names: pure rules, the same for both stores.
//!
//! - A bucket's table is `bucket_` + the bucket name, every run of characters outside `[A-Za-z0-9]`
//!   replaced by one underscore: `my-data` -> `bucket_my_data`.
//! - Letters are lowered. The documented DDL and queries name tables without quotes, which
//!   `PostgreSQL` folds to lower case: so `bucket_MyData` in a person's query means
//!   `bucket_mydata`, and earlier deployments named their tables just so.
//! - Two buckets may want one name (`my-data`, `my.data`, `My-Data`). The first comer gets it, the
//!   others a hash suffix; the registry table remembers who is who ([`candidates`] gives the
//!   order).
//! - No identifier is over [`IDENTIFIER_BYTES_MAX`], so the server never truncates one silently.

use sha2::{Digest, Sha256};

/// `PostgreSQL`'s limit (`NAMEDATALEN` - 1). Names here are ASCII, so bytes are characters.
pub const IDENTIFIER_BYTES_MAX: usize = 63;

/// The registry: which bucket owns which table. Outside the `bucket_%` pattern on purpose.
pub const REGISTRY: &str = "s3_mirror_buckets";

/// The bucket whose table is made and rolled back to see whether tables can be made.
pub(super) const REHEARSED: &str = "s3-mirror-doctor";

/// The indexes of a bucket's table, by suffix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Index {
    /// The unique index behind `path`.
    Path,
    /// Rows that the mirror does not have yet.
    Backup,
    /// Soft-deleted rows.
    Deleted,
}

/// A table name to try, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The name, lower case ASCII, at most [`IDENTIFIER_BYTES_MAX`] bytes.
    pub name: String,
    /// Use it only if such a table exists already: the name under which an earlier deployment's
    /// server truncated an over-long one.
    pub only_if_exists: bool,
}

/// The name the rule gives, whatever its length.
pub fn plain_name(bucket: &str) -> String {
    let mut name = String::from("bucket_");
    let mut in_run = false;
    for character in bucket.chars() {
        if character.is_ascii_alphanumeric() {
            name.push(character.to_ascii_lowercase());
            in_run = false;
        } else if !in_run {
            name.push('_');
            in_run = true;
        }
    }
    name
}

/// The names to try for a bucket, best first. The caller takes the first that no other bucket owns.
/// The last carries 128 bits of the bucket's hash, so that the list does not run out.
pub fn candidates(bucket: &str) -> Vec<Candidate> {
    let plain = plain_name(bucket);
    let hash = hex::encode(Sha256::digest(bucket.as_bytes()));
    let mut names = vec![Candidate {
        only_if_exists: plain.len() > IDENTIFIER_BYTES_MAX,
        name: plain.chars().take(IDENTIFIER_BYTES_MAX).collect(),
    }];
    for digits in [8, 16, 32] {
        let suffix: String = hash.chars().take(digits).collect();
        let room = IDENTIFIER_BYTES_MAX - 1 - digits;
        let stem: String = plain.chars().take(room).collect();
        names.push(Candidate { name: format!("{stem}_{suffix}"), only_if_exists: false });
    }
    names
}

/// `idx_<table>_<suffix>`; where that would be over-long, the table's part is cut and carries a
/// hash of the whole, so that two long tables never share an index name.
pub fn index_name(table: &str, index: Index) -> String {
    let suffix = match index {
        Index::Path => "path",
        Index::Backup => "backup",
        Index::Deleted => "deleted",
    };
    let full = format!("idx_{table}_{suffix}");
    if full.len() <= IDENTIFIER_BYTES_MAX {
        return full;
    }
    let hash = hex::encode(Sha256::digest(table.as_bytes()));
    let digest: String = hash.chars().take(8).collect();
    let room = IDENTIFIER_BYTES_MAX - "idx___".len() - digest.len() - suffix.len();
    let stem: String = table.chars().take(room).collect();
    format!("idx_{stem}_{digest}_{suffix}")
}

/// An identifier in double quotes, as both databases read it.
pub fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// A text literal in single quotes. Only for DDL, which takes no parameters; the caller has made
/// sure that there is no NUL. Backslashes are plain under `standard_conforming_strings`, which
/// every session here sets.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn documented_examples_keep_their_names() {
        assert_eq!(plain_name("my-data"), "bucket_my_data");
        assert_eq!(plain_name("user.files"), "bucket_user_files");
        assert_eq!(plain_name("backup-2024"), "bucket_backup_2024");
    }

    #[test]
    fn runs_become_one_underscore_and_letters_are_lowered() {
        assert_eq!(plain_name("a.-_b"), "bucket_a_b");
        assert_eq!(plain_name("MyData"), "bucket_mydata");
        assert_eq!(plain_name("\"; drop table x; --"), "bucket__drop_table_x_");
        assert_eq!(plain_name("été"), "bucket__t_");
    }

    #[test]
    fn an_over_long_name_is_hashed_unless_its_truncated_table_exists() {
        let bucket = "x".repeat(63);
        let names = candidates(&bucket);
        assert!(names[0].only_if_exists);
        assert_eq!(names[0].name.len(), IDENTIFIER_BYTES_MAX);
        assert!(!names[1].only_if_exists);
        let fits = candidates(&"x".repeat(56));
        assert!(!fits[0].only_if_exists);
        assert_eq!(fits[0].name.len(), IDENTIFIER_BYTES_MAX);
    }

    #[test]
    fn identifiers_and_literals_cannot_break_out() {
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("it's"), "'it''s'");
    }

    proptest! {
        #[test]
        fn names_fit_and_need_no_folding(bucket in "\\PC{0,80}") {
            for candidate in candidates(&bucket) {
                prop_assert!(candidate.name.len() <= IDENTIFIER_BYTES_MAX);
                prop_assert!(candidate.name.starts_with("bucket_"));
                prop_assert_eq!(candidate.name.to_ascii_lowercase(), candidate.name.clone());
                for index in [Index::Path, Index::Backup, Index::Deleted] {
                    let name = index_name(&candidate.name, index);
                    prop_assert!(name.len() <= IDENTIFIER_BYTES_MAX);
                }
            }
        }

        #[test]
        fn different_tables_have_different_indexes(a in "[a-z_]{40,56}", b in "[a-z_]{40,56}") {
            prop_assume!(a != b);
            let indexes = [Index::Path, Index::Backup, Index::Deleted];
            let all = |table: &str| indexes.map(|index| index_name(table, index));
            for left in all(&a) {
                prop_assert!(!all(&b).contains(&left));
            }
        }
    }
}
