//! Objects in the index.

use bytes::Bytes;
use s3s::S3Error;
use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::super::attributes::Attributes;
use super::super::checksum::StoredChecksum;
use super::super::conditions::WriteConditions;
use super::super::fault::{Answer, no_such_bucket, no_such_key};
use super::super::files::FileId;
use super::super::receive::NewBody;
use super::super::tags::Tags;
use super::uploads::PartRow;
use super::writer::{Abort, Change, Tx};
use super::{Index, json, now_ms, size_of, to_json, to_sql, unreadable};

/// How often a reader looks again when an overwrite came between an object and its parts.
const READS_MAX: u32 = 10;

/// What a row keeps as JSON: never searched for, always read whole.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(in super::super) struct Detail {
    pub(in super::super) attributes: Attributes,
    pub(in super::super) checksum: Option<StoredChecksum>,
}

/// An object.
#[derive(Clone, Debug)]
pub(in super::super) struct ObjectRow {
    id: i64,
    pub(in super::super) size: u64,
    pub(in super::super) etag: String,
    pub(in super::super) modified_ms: i64,
    pub(in super::super) storage_class: String,
    /// Zero for an object that was stored in one piece.
    pub(in super::super) part_count: i64,
    pub(in super::super) file: Option<FileId>,
    pub(in super::super) tags: Tags,
    pub(in super::super) detail: Detail,
    pub(in super::super) inline: Option<Bytes>,
    /// In order; filled if the object has parts and the reader wanted them.
    pub(in super::super) parts: Vec<PartRow>,
}

/// What a reader needs of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Want {
    Head,
    HeadAndParts,
    Body,
}

/// Creates or replaces an object.
pub(in super::super) struct PutObject {
    pub(in super::super) bucket: String,
    pub(in super::super) key: String,
    pub(in super::super) conditions: WriteConditions,
    pub(in super::super) id: i64,
    pub(in super::super) size: u64,
    pub(in super::super) etag: String,
    pub(in super::super) storage_class: String,
    pub(in super::super) tags: Tags,
    pub(in super::super) detail: Detail,
    pub(in super::super) body: NewBody,
}

/// One object to delete, and under which conditions.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Deletion {
    pub(in super::super) key: String,
    pub(in super::super) etag: Option<String>,
    pub(in super::super) size: Option<i64>,
    pub(in super::super) modified_second: Option<i64>,
}

/// Deletes objects of one bucket. An object that is not there counts as deleted.
pub(in super::super) struct DeleteObjects {
    pub(in super::super) bucket: String,
    pub(in super::super) deletions: Vec<Deletion>,
}

pub(in super::super) struct SetTags {
    pub(in super::super) bucket: String,
    pub(in super::super) key: String,
    pub(in super::super) tags: Tags,
}

impl Index {
    /// The current object of a key.
    ///
    /// # Errors
    /// `NoSuchBucket`, `NoSuchKey`.
    pub(in super::super) async fn object(
        &self,
        bucket: &str,
        key: &str,
        want: Want,
    ) -> Answer<ObjectRow> {
        for _ in 0..READS_MAX {
            let mut object = self.object_row(bucket, key, want).await?;
            if object.part_count > 0 && want != Want::Head {
                object.parts = self.parts(object.id, 0, i64::MAX).await?;
            }
            // Numbers are never reused: either these are its parts, or it has been replaced.
            if want == Want::Head || object.parts.len() as u64 == object.part_count.unsigned_abs() {
                return Ok(object);
            }
        }
        Err(super::super::fault::internal("reading an object", "its parts do not match its row"))
    }

    async fn object_row(&self, bucket: &str, key: &str, want: Want) -> Answer<ObjectRow> {
        let with_body = "SELECT o.* FROM buckets b
             LEFT JOIN objects o ON o.bucket_id = b.id AND o.key = ?1 WHERE b.name = ?2";
        let head_only = "SELECT o.id, o.size, o.etag, o.modified_ms, o.storage_class, o.part_count,
             o.file, o.tags, o.detail, NULL AS inline FROM buckets b
             LEFT JOIN objects o ON o.bucket_id = b.id AND o.key = ?1 WHERE b.name = ?2";
        let sql = if want == Want::Body { with_body } else { head_only };
        let row = sqlx::query(sql)
            .bind(key.as_bytes())
            .bind(bucket)
            .fetch_optional(&self.readers)
            .await
            .map_err(unreadable)?
            .ok_or_else(no_such_bucket)?;
        let Some(id) = row.try_get("id").map_err(unreadable)? else {
            return Err(no_such_key());
        };
        object(&row, id).map_err(unreadable)
    }
}

fn object(row: &SqliteRow, id: i64) -> Result<ObjectRow, sqlx::Error> {
    Ok(ObjectRow {
        id,
        size: size_of(row, "size")?,
        etag: row.try_get("etag")?,
        modified_ms: row.try_get("modified_ms")?,
        storage_class: row.try_get("storage_class")?,
        part_count: row.try_get("part_count")?,
        file: row.try_get::<Option<i64>, _>("file")?.map(FileId),
        tags: json(row, "tags")?,
        detail: json(row, "detail")?,
        inline: row.try_get::<Option<Vec<u8>>, _>("inline")?.map(Bytes::from),
        parts: Vec::new(),
    })
}

/// The place of a key: its bucket, and the object that is there now.
pub(super) struct Slot {
    pub(super) bucket_id: i64,
    pub(super) existing: Option<Existing>,
}

pub(super) struct Existing {
    id: i64,
    pub(super) etag: String,
    size: i64,
    modified_ms: i64,
    part_count: i64,
    file: Option<FileId>,
}

impl Slot {
    pub(super) async fn find(tx: &mut Tx, bucket: &str, key: &[u8]) -> Result<Self, Abort> {
        let row = sqlx::query(
            "SELECT b.id AS bucket_id, o.id, o.etag, o.size, o.modified_ms, o.part_count, o.file
             FROM buckets b LEFT JOIN objects o ON o.bucket_id = b.id AND o.key = ?1
             WHERE b.name = ?2",
        )
        .bind(key)
        .bind(bucket)
        .fetch_optional(&mut tx.db)
        .await?
        .ok_or_else(no_such_bucket)?;
        let existing = match row.try_get::<Option<i64>, _>("id")? {
            None => None,
            Some(id) => Some(Existing {
                id,
                etag: row.try_get("etag")?,
                size: row.try_get("size")?,
                modified_ms: row.try_get("modified_ms")?,
                part_count: row.try_get("part_count")?,
                file: row.try_get::<Option<i64>, _>("file")?.map(FileId),
            }),
        };
        Ok(Self { bucket_id: row.try_get("bucket_id")?, existing })
    }

    pub(super) fn check(&self, conditions: &WriteConditions) -> Result<(), S3Error> {
        conditions.check(self.existing.as_ref().map(|existing| existing.etag.as_str()))
    }
}

impl Existing {
    /// Removes the row and what hangs on it.
    async fn delete(self, tx: &mut Tx) -> Result<(), sqlx::Error> {
        sqlx::query("DELETE FROM objects WHERE id = ?").bind(self.id).execute(&mut tx.db).await?;
        self.displace(tx).await
    }

    /// Removes what hangs on the row; [`insert`] replaces the row itself.
    pub(super) async fn displace(self, tx: &mut Tx) -> Result<(), sqlx::Error> {
        if let Some(file) = self.file {
            tx.bury(file);
        }
        if self.part_count > 0 {
            let files: Vec<i64> =
                sqlx::query_scalar("DELETE FROM parts WHERE owner = ? RETURNING file")
                    .bind(self.id)
                    .fetch_all(&mut tx.db)
                    .await?;
            for file in files {
                tx.bury(FileId(file));
            }
        }
        Ok(())
    }
}

/// Writes the row of an object, over the one of the same key if there is one.
pub(super) async fn insert(
    tx: &mut Tx,
    bucket_id: i64,
    object: &PutObject,
    part_count: i64,
) -> Result<i64, sqlx::Error> {
    let modified_ms = now_ms();
    let (file, inline) = match &object.body {
        NewBody::File(file) => (Some(file.id().0), None),
        // An object of parts has neither.
        NewBody::Inline(_) if part_count > 0 => (None, None),
        NewBody::Inline(bytes) => (None, Some(bytes.as_slice())),
    };
    sqlx::query(
        "INSERT OR REPLACE INTO objects (id, bucket_id, key, size, etag, modified_ms, storage_class,
             part_count, file, tags, detail, inline)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(object.id)
    .bind(bucket_id)
    .bind(object.key.as_bytes())
    .bind(to_sql(object.size))
    .bind(object.etag.as_str())
    .bind(modified_ms)
    .bind(object.storage_class.as_str())
    .bind(part_count)
    .bind(file)
    .bind(to_json(&object.tags)?)
    .bind(to_json(&object.detail)?)
    .bind(inline)
    .execute(&mut tx.db)
    .await?;
    Ok(modified_ms)
}

impl Change for PutObject {
    /// When it was stored, by the store's clock.
    type Outcome = i64;

    async fn apply(self, tx: &mut Tx) -> Result<i64, Abort> {
        let slot = Slot::find(tx, &self.bucket, self.key.as_bytes()).await?;
        slot.check(&self.conditions)?;
        if let Some(existing) = slot.existing {
            existing.displace(tx).await?;
        }
        let modified_ms = insert(tx, slot.bucket_id, &self, 0).await?;
        if let NewBody::File(file) = self.body {
            tx.keep(file);
        }
        Ok(modified_ms)
    }
}

impl Change for DeleteObjects {
    /// In the order asked, what kept an object from being deleted.
    type Outcome = Vec<Result<(), S3Error>>;

    async fn apply(self, tx: &mut Tx) -> Result<Self::Outcome, Abort> {
        let mut outcomes = Vec::with_capacity(self.deletions.len());
        for deletion in self.deletions {
            let slot = Slot::find(tx, &self.bucket, deletion.key.as_bytes()).await?;
            let allowed = deletion.allowed(slot.existing.as_ref());
            if let (Ok(()), Some(existing)) = (&allowed, slot.existing) {
                existing.delete(tx).await?;
            }
            outcomes.push(allowed);
        }
        Ok(outcomes)
    }
}

impl Deletion {
    fn allowed(&self, existing: Option<&Existing>) -> Result<(), S3Error> {
        let conditional =
            self.etag.is_some() || self.size.is_some() || self.modified_second.is_some();
        let Some(existing) = existing else {
            return if conditional { Err(no_such_key()) } else { Ok(()) };
        };
        let etag = self.etag.as_ref().is_none_or(|etag| etag == "*" || *etag == existing.etag);
        let size = self.size.is_none_or(|size| size == existing.size);
        let second = existing.modified_ms.div_euclid(1000);
        let modified = self.modified_second.is_none_or(|asked| asked == second);
        if etag && size && modified {
            Ok(())
        } else {
            Err(super::super::fault::precondition_failed())
        }
    }
}

impl Change for SetTags {
    type Outcome = ();

    async fn apply(self, tx: &mut Tx) -> Result<(), Abort> {
        let slot = Slot::find(tx, &self.bucket, self.key.as_bytes()).await?;
        let existing = slot.existing.ok_or_else(no_such_key)?;
        // Tags are not part of the object: its Last-Modified stays.
        sqlx::query("UPDATE objects SET tags = ? WHERE id = ?")
            .bind(to_json(&self.tags)?)
            .bind(existing.id)
            .execute(&mut tx.db)
            .await?;
        Ok(())
    }
}
