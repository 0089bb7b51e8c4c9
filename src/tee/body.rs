//! A body that was kept: in memory, in a file, or as the parts it was uploaded in.

use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::stream::{Stream, unfold};
use http::HeaderMap;
use tokio::sync::oneshot;

use super::budget::Reservation;
use super::headers::KeptHeaders;
use super::spool;
use crate::s3::state::stored_checksum;

/// A body that was kept, with what was sent beside it.
#[derive(Clone)]
pub struct TeedBody {
    pub(super) content: Content,
    pub(super) length: u64,
    pub(super) headers: Arc<KeptHeaders>,
    pub(super) _reservation: Arc<Reservation>,
}

#[derive(Clone)]
pub(super) enum Content {
    Memory(Bytes),
    Spool(Arc<SpooledFile>),
    Parts(Arc<[TeedBody]>),
}

/// A file of the spool, and the place it takes among the files.
pub(super) struct SpooledFile {
    file: Arc<File>,
    written: Mutex<Written>,
    _place: Reservation,
}

/// Whether the spool thread has written all of a file.
enum Written {
    Waiting(oneshot::Receiver<bool>),
    Known(bool),
}

impl std::fmt::Debug for TeedBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TeedBody({} bytes)", self.length)
    }
}

impl TeedBody {
    /// Bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Takes over what main has told of the object; only before the body is handed on.
    pub fn learn(&mut self, response: &HeaderMap) {
        if let Some(headers) = Arc::get_mut(&mut self.headers) {
            headers.checksum = stored_checksum(response);
        }
    }

    /// What was sent beside it.
    pub fn headers(&self) -> &KeptHeaders {
        &self.headers
    }

    /// The bytes, if they are in memory.
    pub fn bytes(&self) -> Option<&Bytes> {
        match &self.content {
            Content::Memory(bytes) => Some(bytes),
            Content::Spool(_) | Content::Parts(_) => None,
        }
    }

    /// The parts it was uploaded in, if it was.
    pub fn parts(&self) -> Option<&[TeedBody]> {
        match &self.content {
            Content::Parts(parts) => Some(parts),
            Content::Memory(_) | Content::Spool(_) => None,
        }
    }

    /// Is all of it there? Waits until the disk has it; false when the disk failed.
    pub async fn whole(&self) -> bool {
        let leaves = self.parts().unwrap_or(std::slice::from_ref(self));
        for leaf in leaves {
            if let Content::Spool(spooled) = &leaf.content
                && !spooled.whole().await
            {
                return false;
            }
        }
        true
    }

    /// The bytes, piece by piece.
    pub fn stream(&self) -> impl Stream<Item = std::io::Result<Bytes>> + Send + use<> {
        // The reservations live as long as the reading.
        let leaves = self.parts().unwrap_or(std::slice::from_ref(self)).to_vec();
        unfold((leaves.into_iter(), None), async |(mut leaves, current)| {
            let (body, at): (TeedBody, u64) = match current {
                Some(current) => current,
                None => (leaves.find(|body| body.length > 0)?, 0),
            };
            let piece = match &body.content {
                Content::Memory(bytes) => Ok(bytes.clone()),
                Content::Spool(spooled) => {
                    spool::read(spooled.file.clone(), at, body.length - at).await
                }
                Content::Parts(_) => Err(std::io::Error::other("a part has no parts")),
            };
            let read = piece
                .as_ref()
                .map_or(u64::MAX, |piece| u64::try_from(piece.len()).unwrap_or(u64::MAX));
            let next = at.saturating_add(read);
            let current = (next < body.length).then_some((body, next));
            Some((piece, (leaves, current)))
        })
    }
}

impl SpooledFile {
    /// `written` tells whether the spool's thread has written all of it.
    pub(super) fn new(
        file: Arc<File>,
        written: oneshot::Receiver<bool>,
        place: Reservation,
    ) -> Self {
        Self { file, written: Mutex::new(Written::Waiting(written)), _place: place }
    }

    async fn whole(&self) -> bool {
        let lock = || self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = std::mem::replace(&mut *lock(), Written::Known(false));
        let whole = match taken {
            Written::Known(whole) => whole,
            Written::Waiting(receiver) => receiver.await.unwrap_or(false),
        };
        *lock() = Written::Known(whole);
        whole
    }
}
