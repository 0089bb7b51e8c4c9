//! Comparing one key by content: both copies are read to their end, side by side, and hashed, so
//! that memory is constant.

use http::Method;
use http_body_util::BodyExt as _;
use md5::Md5;
use sha2::{Digest as _, Sha256};

use super::World;
use super::examine::{Seen, absent, patiently};
use super::report::What;
use crate::upstream::ask::{AskError, Question};
use crate::upstream::read::Reader;
use crate::upstream::{Upstream, describe};

/// One copy, read to its end.
struct Content {
    seen: Seen,
    digest: [u8; 32],
    /// As hexadecimal digits, which are the `ETag` of an object that was uploaded in one piece; none of others.
    md5: Option<String>,
}

impl Content {
    /// Are these the bytes that its `ETag` is of? Not told by every `ETag`.
    fn is_its_etags(&self) -> bool {
        self.md5.as_deref().is_some_and(|md5| self.seen.state.etag.eq_ignore_ascii_case(md5))
    }
}

impl World {
    /// How the two copies of a key differ, in bytes, headers or tags; `None`: they do not.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub(super) async fn deep(&self, bucket: &str, key: &str) -> Result<Option<What>, String> {
        let there = self.mirror_bucket(bucket);
        let (main, mirror) = tokio::join!(
            content(&self.main, "main", bucket, key),
            content(&self.mirror, "mirror", &there, key)
        );
        let (main, mirror) = match (main?, mirror?) {
            (Some(main), Some(mirror)) => (main, mirror),
            (None, None) => return Ok(None),
            (Some(_), None) => return Ok(Some(What::OnlyMain)),
            (None, Some(_)) => return Ok(Some(What::OnlyMirror)),
        };
        let (one, other) = (&main.seen.state, &mirror.seen.state);
        if one.size != other.size {
            return Ok(Some(What::Content));
        }
        if main.digest != mirror.digest {
            if one.etag == other.etag && mirror.is_its_etags() {
                return Err(
                    "main's bytes are not those of its ETag, and the mirror's are: main is \
                            damaged, and nothing is repaired"
                        .to_owned(),
                );
            }
            return Ok(Some(if one.etag == other.etag { What::Bytes } else { What::Content }));
        }
        if one.headers != other.headers {
            return Ok(Some(What::Headers));
        }
        if one.tag_count == 0 && other.tag_count == 0 {
            return Ok(None);
        }
        let (ours, theirs) = tokio::join!(
            tags(&self.main, "main", bucket, key),
            tags(&self.mirror, "mirror", &there, key)
        );
        Ok((ours? != theirs?).then_some(What::Tags))
    }
}

async fn tags(
    upstream: &Upstream,
    who: &'static str,
    bucket: &str,
    key: &str,
) -> Result<Vec<(String, String)>, String> {
    let reader = Reader { upstream, who, bucket, key: Some(key), version: None };
    patiently(|| reader.tags(), |error| !error.is_permanent())
        .await
        .map_err(|error| error.to_string())
}

async fn content(
    upstream: &Upstream,
    who: &'static str,
    bucket: &str,
    key: &str,
) -> Result<Option<Content>, String> {
    let read = || read(upstream, who, bucket, key);
    patiently(read, AskError::is_transient).await.map_err(|error| format!("{who}: {error}"))
}

async fn read(
    upstream: &Upstream,
    who: &'static str,
    bucket: &str,
    key: &str,
) -> Result<Option<Content>, AskError> {
    let what = "GetObject";
    let question = Question::bare(what, Method::GET, Some(bucket), Some(key));
    let response = upstream.open(question).await?;
    let status = response.status();
    if status == http::StatusCode::NOT_FOUND {
        return absent(upstream, who, bucket, key).await.map(|()| None);
    }
    if !status.is_success() {
        return Err(AskError::Refused { what, status: status.as_u16(), code: String::new() });
    }
    let (parts, mut body) = response.into_parts();
    let seen = Seen::from_headers(&parts.headers)
        .ok_or_else(|| AskError::Unusable(format!("{what}: the answer has no ETag or length")))?;
    let mut digest = Sha256::new();
    let mut md5 = seen.state.parts().is_none().then(Md5::new);
    let mut length = 0u64;
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|error| AskError::Unreachable(format!("{what}: {}", describe(&error))))?;
        if let Some(data) = frame.data_ref() {
            digest.update(data);
            if let Some(md5) = &mut md5 {
                md5.update(data);
            }
            length += u64::try_from(data.len()).unwrap_or(0);
        }
    }
    if length != seen.state.size {
        return Err(AskError::Unreachable(format!("{what}: the answer broke off")));
    }
    Ok(Some(Content {
        seen,
        digest: digest.finalize().into(),
        md5: md5.map(|md5| hex::encode(md5.finalize())),
    }))
}
