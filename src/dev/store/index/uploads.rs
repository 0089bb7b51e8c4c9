//! Multipart uploads and parts in the index.

use s3s::S3ErrorCode;
use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::super::attributes::Attributes;
use super::super::checksum::{Algorithm, Coverage, StoredChecksum};
use super::super::conditions::WriteConditions;
use super::super::fault::{Answer, invalid, no_such_bucket, no_such_upload, refuse};
use super::super::files::{FileId, FreshFile};
use super::super::multipart::plan::{Listed, Plan};
use super::super::receive::NewBody;
use super::super::tags::Tags;
use super::objects::{Detail, PutObject, Slot, insert};
use super::writer::{Abort, Change, Tx};
use super::{Index, json, now_ms, size_of, to_json, to_sql, unreadable};

/// What an upload's row keeps as JSON.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(in super::super) struct UploadDetail {
    pub(in super::super) attributes: Attributes,
    /// What the finished object's checksum shall be, if the client asked for one.
    pub(in super::super) checksum: Option<(Algorithm, Coverage)>,
}

/// An unfinished upload.
#[derive(Clone, Debug)]
pub(in super::super) struct UploadRow {
    pub(in super::super) id: i64,
    pub(in super::super) key: Vec<u8>,
    pub(in super::super) upload_id: String,
    pub(in super::super) initiated_ms: i64,
    pub(in super::super) storage_class: String,
    tags: Tags,
    pub(in super::super) detail: UploadDetail,
}

/// A part of an upload or of a finished object.
#[derive(Clone, Debug)]
pub(in super::super) struct PartRow {
    pub(in super::super) number: i64,
    pub(in super::super) size: u64,
    /// MD5 in hex.
    pub(in super::super) etag: String,
    pub(in super::super) file: FileId,
    pub(in super::super) modified_ms: i64,
    pub(in super::super) checksum: Option<StoredChecksum>,
}

/// Which upload a request means.
#[derive(Clone, Debug)]
pub(in super::super) struct UploadName {
    pub(in super::super) bucket: String,
    pub(in super::super) key: String,
    pub(in super::super) upload_id: String,
}

pub(in super::super) struct CreateUpload {
    pub(in super::super) name: UploadName,
    pub(in super::super) id: i64,
    pub(in super::super) storage_class: String,
    pub(in super::super) tags: Tags,
    pub(in super::super) detail: UploadDetail,
}

/// Adds a part, or replaces the part of the same number.
pub(in super::super) struct PutPart {
    pub(in super::super) name: UploadName,
    pub(in super::super) number: i64,
    pub(in super::super) size: u64,
    pub(in super::super) etag: String,
    pub(in super::super) checksum: Option<StoredChecksum>,
    pub(in super::super) file: FreshFile,
}

/// Turns the listed parts into the object; the other parts go.
pub(in super::super) struct CompleteUpload {
    pub(in super::super) name: UploadName,
    pub(in super::super) conditions: WriteConditions,
    pub(in super::super) listed: Vec<Listed>,
    /// The whole object's checksum as the client computed it.
    pub(in super::super) checksum: Option<StoredChecksum>,
    pub(in super::super) coverage: Option<Coverage>,
    pub(in super::super) size: Option<u64>,
}

/// What a completed upload became.
pub(in super::super) struct Completed {
    pub(in super::super) etag: String,
    pub(in super::super) detail: Detail,
}

pub(in super::super) struct AbortUpload {
    pub(in super::super) name: UploadName,
}

const FIND_UPLOAD: &str = "SELECT b.id AS bucket_id, u.* FROM buckets b
     LEFT JOIN uploads u ON u.bucket_id = b.id AND u.key = ?1 AND u.upload_id = ?2
     WHERE b.name = ?3";

impl Index {
    /// # Errors
    /// `NoSuchBucket`, `NoSuchUpload`.
    pub(in super::super) async fn upload(&self, name: &UploadName) -> Answer<UploadRow> {
        let row = sqlx::query(FIND_UPLOAD)
            .bind(name.key.as_bytes())
            .bind(name.upload_id.as_str())
            .bind(name.bucket.as_str())
            .fetch_optional(&self.readers)
            .await
            .map_err(unreadable)?
            .ok_or_else(no_such_bucket)?;
        found(&row).map_err(unreadable)?.ok_or_else(no_such_upload)
    }

    /// Parts of an upload or object with numbers above `after`, in order.
    pub(in super::super) async fn parts(
        &self,
        owner: i64,
        after: i64,
        count_max: i64,
    ) -> Answer<Vec<PartRow>> {
        let rows = sqlx::query(
            "SELECT * FROM parts WHERE owner = ? AND number > ? ORDER BY number LIMIT ?",
        )
        .bind(owner)
        .bind(after)
        .bind(count_max)
        .fetch_all(&self.readers)
        .await
        .map_err(unreadable)?;
        rows.iter().map(part).collect::<Result<_, _>>().map_err(unreadable)
    }

    /// Uploads of a bucket in order of key, then upload ID, from `from` on (a key, and an upload
    /// ID to stay above within that key).
    pub(in super::super) async fn uploads(
        &self,
        bucket_id: i64,
        from: (&[u8], &str),
        count_max: i64,
    ) -> Answer<Vec<UploadRow>> {
        let rows = sqlx::query(
            "SELECT * FROM uploads WHERE bucket_id = ?1 AND (key > ?2 OR (key = ?2 AND upload_id > ?3))
             ORDER BY key, upload_id LIMIT ?4",
        )
        .bind(bucket_id)
        .bind(from.0)
        .bind(from.1)
        .bind(count_max)
        .fetch_all(&self.readers)
        .await
        .map_err(unreadable)?;
        rows.iter()
            .filter_map(|row| found(row).transpose())
            .collect::<Result<_, _>>()
            .map_err(unreadable)
    }
}

fn found(row: &SqliteRow) -> Result<Option<UploadRow>, sqlx::Error> {
    let Some(id) = row.try_get("id")? else {
        return Ok(None);
    };
    Ok(Some(UploadRow {
        id,
        key: row.try_get("key")?,
        upload_id: row.try_get("upload_id")?,
        initiated_ms: row.try_get("initiated_ms")?,
        storage_class: row.try_get("storage_class")?,
        tags: json(row, "tags")?,
        detail: json(row, "detail")?,
    }))
}

fn part(row: &SqliteRow) -> Result<PartRow, sqlx::Error> {
    Ok(PartRow {
        number: row.try_get("number")?,
        size: size_of(row, "size")?,
        etag: row.try_get("etag")?,
        file: FileId(row.try_get("file")?),
        modified_ms: row.try_get("modified_ms")?,
        checksum: json(row, "checksum")?,
    })
}

async fn find(tx: &mut Tx, name: &UploadName) -> Result<UploadRow, Abort> {
    let row = sqlx::query(FIND_UPLOAD)
        .bind(name.key.as_bytes())
        .bind(name.upload_id.as_str())
        .bind(name.bucket.as_str())
        .fetch_optional(&mut tx.db)
        .await?
        .ok_or_else(no_such_bucket)?;
    Ok(found(&row)?.ok_or_else(no_such_upload)?)
}

impl Change for CreateUpload {
    type Outcome = ();

    async fn apply(self, tx: &mut Tx) -> Result<(), Abort> {
        let slot = Slot::find(tx, &self.name.bucket, self.name.key.as_bytes()).await?;
        sqlx::query(
            "INSERT INTO uploads (id, bucket_id, key, upload_id, initiated_ms, storage_class,
                 tags, detail)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(self.id)
        .bind(slot.bucket_id)
        .bind(self.name.key.as_bytes())
        .bind(self.name.upload_id)
        .bind(now_ms())
        .bind(self.storage_class)
        .bind(to_json(&self.tags)?)
        .bind(to_json(&self.detail)?)
        .execute(&mut tx.db)
        .await?;
        Ok(())
    }
}

impl Change for PutPart {
    /// When it was stored, by the store's clock.
    type Outcome = i64;

    async fn apply(self, tx: &mut Tx) -> Result<i64, Abort> {
        // The upload may have ended while the body was on its way.
        let upload = find(tx, &self.name).await?;
        let replaced: Option<i64> =
            sqlx::query_scalar("DELETE FROM parts WHERE owner = ? AND number = ? RETURNING file")
                .bind(upload.id)
                .bind(self.number)
                .fetch_optional(&mut tx.db)
                .await?;
        if let Some(file) = replaced {
            tx.bury(FileId(file));
        }
        let modified_ms = now_ms();
        sqlx::query(
            "INSERT INTO parts (owner, number, size, etag, file, modified_ms, checksum)
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(upload.id)
        .bind(self.number)
        .bind(to_sql(self.size))
        .bind(self.etag)
        .bind(self.file.id().0)
        .bind(modified_ms)
        .bind(to_json(&self.checksum)?)
        .execute(&mut tx.db)
        .await?;
        tx.keep(self.file);
        Ok(modified_ms)
    }
}

impl Change for CompleteUpload {
    type Outcome = Completed;

    async fn apply(self, tx: &mut Tx) -> Result<Completed, Abort> {
        let upload = find(tx, &self.name).await?;
        let rows = sqlx::query("SELECT * FROM parts WHERE owner = ? ORDER BY number")
            .bind(upload.id)
            .fetch_all(&mut tx.db)
            .await?;
        let stored: Vec<_> = rows.iter().map(part).collect::<Result<_, _>>()?;
        let plan = Plan::of(&self.listed, stored, upload.detail.checksum)?;
        if self.size.is_some_and(|size| size != plan.size) {
            return Err(Abort::Refused(invalid(
                "The provided 'x-amz-mp-object-size' header value does not match the size of the \
                 object.",
            )));
        }
        if let (Some(asked), Some((_, kept))) = (self.coverage, upload.detail.checksum)
            && asked != kept
        {
            return Err(Abort::Refused(invalid(
                "The upload was created using another checksum type than the one specified.",
            )));
        }
        if let (Some(claimed), Some(computed)) = (&self.checksum, &plan.checksum)
            && (claimed.algorithm != computed.algorithm || claimed.value != computed.value)
        {
            return Err(Abort::Refused(refuse(
                S3ErrorCode::BadDigest,
                "The checksum you specified did not match the calculated checksum.",
            )));
        }
        let slot = Slot::find(tx, &self.name.bucket, self.name.key.as_bytes()).await?;
        slot.check(&self.conditions)?;

        if let Some(existing) = slot.existing {
            existing.displace(tx).await?;
        }
        for unused in &plan.unused {
            sqlx::query("DELETE FROM parts WHERE owner = ? AND number = ?")
                .bind(upload.id)
                .bind(unused.number)
                .execute(&mut tx.db)
                .await?;
            tx.bury(unused.file);
        }
        sqlx::query("DELETE FROM uploads WHERE id = ?").bind(upload.id).execute(&mut tx.db).await?;
        let object = PutObject {
            bucket: self.name.bucket,
            key: self.name.key,
            conditions: WriteConditions::default(),
            // The parts already belong to this number.
            id: upload.id,
            size: plan.size,
            etag: plan.etag,
            storage_class: upload.storage_class,
            tags: upload.tags,
            detail: Detail { attributes: upload.detail.attributes, checksum: plan.checksum },
            body: NewBody::Inline(Vec::new()),
        };
        insert(tx, slot.bucket_id, &object, plan.part_count).await?;
        Ok(Completed { etag: object.etag, detail: object.detail })
    }
}

impl Change for AbortUpload {
    type Outcome = ();

    async fn apply(self, tx: &mut Tx) -> Result<(), Abort> {
        let upload = find(tx, &self.name).await?;
        let files: Vec<i64> =
            sqlx::query_scalar("DELETE FROM parts WHERE owner = ? RETURNING file")
                .bind(upload.id)
                .fetch_all(&mut tx.db)
                .await?;
        for file in files {
            tx.bury(FileId(file));
        }
        sqlx::query("DELETE FROM uploads WHERE id = ?").bind(upload.id).execute(&mut tx.db).await?;
        Ok(())
    }
}
