//! `DeleteObjects`: an intent for every key that is named, an outcome for every key answered.

use http::Response;
use http::header::HeaderValue;

use super::answer::{error_before_sending, failed};
use super::document::collect;
use super::error::S3Error;
use super::exchange::{UploadSource, outgoing};
use super::record::Record;
use super::response::{Judge, ResponseBody};
use super::source::Source;
use super::{Admitted, Proxy};
use crate::journal::Intents;
use crate::journal::entry::{Facts, ObjectKey, Outcome, VersionFacts};
use crate::outcome::{Reached, judge};
use crate::s3::operation::Change;
use crate::s3::{versions, xml};

impl Proxy {
    /// `DeleteObjects`: an intent for every key named, an outcome for every key answered.
    pub(super) async fn delete_objects(
        &self,
        mut admitted: Box<Admitted>,
        body: Source,
        record: Box<Record>,
    ) -> Result<Response<ResponseBody>, (S3Error, Box<Record>)> {
        let prepared = match collect(body).await {
            Ok(document) => {
                xml::delete_keys(&document).map(|keys| (document, keys)).map_err(S3Error::from)
            }
            Err(error) => Err(error),
        };
        let (document, keys) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return Err((error, record)),
        };
        let bucket = admitted.address.bucket.as_deref();
        for named in &keys {
            let (write, key) = (crate::auth::Access::Write, &named.key);
            if let Err(error) = self.access.check_key(&admitted.caller, write, bucket, Some(key)) {
                return Err((error, record));
            }
        }
        // Some servers still demand it while most SDKs have stopped sending it.
        if !admitted.parts.headers.contains_key("content-md5") {
            use base64::Engine as _;
            use md5::Digest as _;
            let md5 = base64::engine::general_purpose::STANDARD.encode(md5::Md5::digest(&document));
            if let Ok(value) = HeaderValue::try_from(md5) {
                admitted.parts.headers.insert("content-md5", value);
            }
        }
        let bucket = admitted.address.bucket.clone().unwrap_or_default();
        let changes = keys.iter().map(|named| {
            let change = if named.version { Change::Other } else { Change::Delete };
            (ObjectKey::new(&bucket, &named.key), change)
        });
        let changes = changes.collect();
        let appended = self.append(changes, Facts::default(), &admitted, &record).await;
        let (intents, gate) = match appended {
            Ok(appended) => appended,
            Err(error) => return Err((error, record)),
        };
        let operation = admitted.operation;
        let (outgoing, transfer) = outgoing(admitted, UploadSource::Document(document), gate, None);
        let response = match self.main.send(outgoing).await {
            Ok(response) => response,
            Err(error) => {
                let withheld = error_before_sending(&error) || transfer.withhold();
                let reached = if withheld { Reached::Withheld } else { Reached::NoResponse };
                self.settle_all(intents, judge(operation, reached)).await;
                return Err((failed(&error), record));
            }
        };
        if response.status().is_success() {
            let judge = self.judge_deletes(intents);
            return Ok(self.answer(response, record, Some(judge)).await);
        }
        let reached = Reached::Response { status: response.status(), document: None };
        self.settle_all(intents, judge(operation, reached)).await;
        Ok(self.answer(response, record, None).await)
    }

    pub(super) fn judge_deletes(&self, intents: Intents) -> Judge {
        let journal = self.journal.clone();
        let spawner = journal.clone();
        Box::new(move |document| {
            let errors = document.as_ref().map(|document| xml::delete_errors(document));
            let told = document.and_then(|document| versions::deleted(&document).ok());
            let mut told = told.unwrap_or_default();
            spawner.spawn(async move {
                for intent in intents {
                    let marker = told.remove(&*intent.object().key);
                    let deleted = matches!(&errors, Some(Ok(errors))
                        if !errors.contains(&*intent.object().key));
                    let outcome = if deleted { Outcome::Changed } else { Outcome::Unknown };
                    let absent = deleted && intent.change() == Change::Delete;
                    // A quiet result does not tell whether there are versions.
                    let untold = (absent && marker.is_none())
                        .then(|| Box::new(VersionFacts { untold: true, ..Default::default() }));
                    let version_id = marker.flatten();
                    let facts = Facts { absent, version_id, versions: untold, ..Facts::default() };
                    journal.settle(intent, outcome, facts, None).await;
                }
            });
        })
    }
}
