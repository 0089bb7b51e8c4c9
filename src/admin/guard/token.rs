//! Where the admin token is kept, and whether another one is the same. Only hashes are kept and
//! compared.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::config::parse::TOKEN_BYTES_MIN;
use crate::config::{AdminToken, Secret};

/// Longest file of a token, in bytes.
const FILE_BYTES_MAX: u64 = 4096;

/// Where the token is.
pub(super) enum Source {
    /// Nowhere: nothing may be changed.
    None,
    /// In the environment; its hash.
    Given([u8; 32]),
    /// In a file that is read at every use, so that a new token is good at once.
    File(PathBuf),
}

/// Why a token's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// It cannot be read.
    #[error("cannot read ADMIN_TOKEN_FILE {path}: {source}")]
    Unreadable {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It holds no usable token.
    #[error(
        "ADMIN_TOKEN_FILE {0} must hold one token of 16 to 4000 printable characters without spaces"
    )]
    Unusable(PathBuf),
}

impl Source {
    /// A token in a file is read once, to be told about mistakes at the start.
    pub(super) async fn new(token: &AdminToken) -> Result<Self, TokenFileError> {
        Ok(match token {
            AdminToken::None => Self::None,
            AdminToken::Given(token) => Self::Given(hash(token.expose())),
            AdminToken::File(path) => {
                read(path).await?;
                Self::File(path.clone())
            }
        })
    }

    pub(super) fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// The hash of the token as it is now, if there is one.
    pub(super) async fn hash(&self) -> Result<Option<[u8; 32]>, TokenFileError> {
        Ok(match self {
            Self::None => None,
            Self::Given(hash) => Some(*hash),
            Self::File(path) => Some(hash(read(path).await?.expose())),
        })
    }
}

/// Is it the token with this hash? Looks at every byte. What could still be learnt from timing is a
/// hash, not a token.
pub(super) fn is_same(given: &str, wanted: &[u8; 32]) -> bool {
    let pairs = hash(given).into_iter().zip(wanted);
    std::hint::black_box(pairs.fold(0, |different, (a, b)| different | (a ^ b))) == 0
}

/// Can this be a token: printable ASCII without spaces, long enough?
fn usable(token: &str) -> bool {
    token.len() >= TOKEN_BYTES_MIN && token.bytes().all(|byte| byte.is_ascii_graphic())
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

async fn read(path: &Path) -> Result<Secret, TokenFileError> {
    use tokio::io::AsyncReadExt as _;
    let unreadable = |source| TokenFileError::Unreadable { path: path.to_owned(), source };
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).await.map_err(unreadable)?;
    let token = text.trim();
    if usable(token) {
        Ok(Secret::new(token))
    } else {
        Err(TokenFileError::Unusable(path.to_owned()))
    }
}
