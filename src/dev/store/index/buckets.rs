//! Buckets in the index.

use s3s::S3ErrorCode;
use sqlx::Row as _;

use super::super::fault::{Answer, no_such_bucket, refuse};
use super::super::files::FileId;
use super::writer::{Abort, Change, Tx};
use super::{Index, now_ms, unreadable};

/// A bucket as `ListBuckets` shows it.
#[derive(Clone, Debug)]
pub(in super::super) struct BucketRow {
    pub(in super::super) id: i64,
    pub(in super::super) name: String,
    pub(in super::super) created_ms: i64,
    /// The location constraint it was created with; empty for us-east-1.
    pub(in super::super) location: String,
}

pub(in super::super) struct CreateBucket {
    pub(in super::super) name: String,
    pub(in super::super) location: String,
}

pub(in super::super) struct DeleteBucket {
    pub(in super::super) name: String,
}

impl Index {
    pub(in super::super) async fn bucket(&self, name: &str) -> Answer<BucketRow> {
        let row = sqlx::query("SELECT id, name, created_ms, location FROM buckets WHERE name = ?")
            .bind(name)
            .fetch_optional(&self.readers)
            .await
            .map_err(unreadable)?;
        bucket(&row.ok_or_else(no_such_bucket)?).map_err(unreadable)
    }

    /// All buckets by name. Their number is bounded by who creates them: a development store.
    pub(in super::super) async fn buckets(&self) -> Answer<Vec<BucketRow>> {
        let rows = sqlx::query("SELECT id, name, created_ms, location FROM buckets ORDER BY name")
            .fetch_all(&self.readers)
            .await
            .map_err(unreadable)?;
        rows.iter().map(bucket).collect::<Result<_, _>>().map_err(unreadable)
    }
}

fn bucket(row: &sqlx::sqlite::SqliteRow) -> Result<BucketRow, sqlx::Error> {
    Ok(BucketRow {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        created_ms: row.try_get("created_ms")?,
        location: row.try_get("location")?,
    })
}

impl Change for CreateBucket {
    type Outcome = ();

    async fn apply(self, tx: &mut Tx) -> Result<(), Abort> {
        let created = sqlx::query(
            "INSERT INTO buckets (name, created_ms, location) VALUES (?, ?, ?)
             ON CONFLICT (name) DO NOTHING",
        )
        .bind(self.name)
        .bind(now_ms())
        .bind(self.location)
        .execute(&mut tx.db)
        .await?;
        if created.rows_affected() == 0 {
            return Err(Abort::Refused(refuse(
                S3ErrorCode::BucketAlreadyOwnedByYou,
                "Your previous request to create the named bucket succeeded and you already own it.",
            )));
        }
        Ok(())
    }
}

impl Change for DeleteBucket {
    type Outcome = ();

    async fn apply(self, tx: &mut Tx) -> Result<(), Abort> {
        let row = sqlx::query(
            "SELECT id, EXISTS (SELECT 1 FROM objects WHERE bucket_id = buckets.id) AS filled
             FROM buckets WHERE name = ?",
        )
        .bind(self.name)
        .fetch_optional(&mut tx.db)
        .await?
        .ok_or_else(no_such_bucket)?;
        let id: i64 = row.try_get("id")?;
        if row.try_get("filled")? {
            return Err(Abort::Refused(refuse(
                S3ErrorCode::BucketNotEmpty,
                "The bucket you tried to delete is not empty",
            )));
        }
        // As in S3, unfinished uploads do not keep a bucket alive.
        let orphans: Vec<i64> = sqlx::query_scalar(
            "DELETE FROM parts WHERE owner IN (SELECT id FROM uploads WHERE bucket_id = ?)
             RETURNING file",
        )
        .bind(id)
        .fetch_all(&mut tx.db)
        .await?;
        for file in orphans {
            tx.bury(FileId(file));
        }
        sqlx::query("DELETE FROM uploads WHERE bucket_id = ?").bind(id).execute(&mut tx.db).await?;
        sqlx::query("DELETE FROM buckets WHERE id = ?").bind(id).execute(&mut tx.db).await?;
        Ok(())
    }
}
