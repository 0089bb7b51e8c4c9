//! Sending one message: signed, posted, judged.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::{Answer, judge};
use super::{Courier, Told, sign};
use crate::config::{Secret, WebhookSecret, usable_secret};
use crate::journal::events::Event;
use crate::journal::now_ms;

/// How long the receiver may take for one message.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest file of a secret, in bytes.
const FILE_BYTES_MAX: u64 = 4096;

impl Courier {
    /// Sends what is to be told of these events.
    pub(super) async fn send(&mut self, events: &[Event], told: Vec<Told>) -> Answer {
        let records: Vec<Value> = told
            .into_iter()
            .filter_map(|told| match told {
                Told::Record(record) => Some(record),
                Told::Nothing => None,
            })
            .collect();
        let count = records.len();
        let (Some(first), Some(last), true) = (events.first(), events.last(), count > 0) else {
            return Answer::Taken;
        };
        let id = format!("evt_{:016X}_{:016X}_{count}", first.id, last.id);
        let body = Bytes::from(json!({ "Records": records }).to_string());
        if let Err(reason) = self.read_secret().await {
            return Answer::Away { reason, pause: None };
        }
        let secret = self.secret.as_ref().map_or("", Secret::expose);
        let Some(headers) = sign::headers(secret, &id, now_ms() / 1000, &body) else {
            let reason = "the secret of the webhook begins with whsec_ and is no base64".to_owned();
            return Answer::Away { reason, pause: None };
        };
        let address = self.webhook.address.expose();
        let answer = match self.poster.post(address, headers, body, TIMEOUT).await {
            Ok(response) => judge(&response),
            Err(reason) => Answer::Away { reason, pause: None },
        };
        if answer == Answer::Taken {
            self.receiver.taken_ms.store(now_ms(), Ordering::Relaxed);
            self.metrics.events_delivered.inc_by(u64::try_from(count).unwrap_or(0));
            if self.receiver.error.swap(None).is_some() {
                tracing::info!("events are delivered again");
            }
        }
        answer
    }

    /// Secrets are rotated by replacing files, and the moment in between must not count.
    async fn read_secret(&mut self) -> Result<(), String> {
        match &self.webhook.secret {
            WebhookSecret::Given(secret) => self.secret = Some(secret.clone()),
            WebhookSecret::File(path) => match read_secret(path).await {
                Ok(secret) => self.secret = Some(secret),
                Err(error) if self.secret.is_none() => {
                    return Err(format!("EVENTS_WEBHOOK_SECRET_FILE {}: {error}", path.display()));
                }
                Err(error) => {
                    tracing::warn!(error, "the secret of the webhook cannot be read again");
                }
            },
        }
        Ok(())
    }
}

async fn read_secret(path: &Path) -> Result<Secret, String> {
    let length = tokio::fs::metadata(path).await.map_err(|error| error.to_string())?.len();
    if length > FILE_BYTES_MAX {
        return Err("the file is too long".into());
    }
    let text = tokio::fs::read_to_string(path).await.map_err(|error| error.to_string())?;
    let secret = text.trim();
    if usable_secret(secret) {
        Ok(Secret::new(secret))
    } else {
        Err("it must hold one secret of at least 16 printable characters, base64 behind whsec_"
            .into())
    }
}
