//! The clients of the proxy: their keys, what they may do, and the file that says so.
//!
//! ```json
//! [{"access_key_id": "app", "secret_access_key": "...",
//!   "buckets": [{"bucket": "photos", "prefixes": ["thumbs/"], "access": "read-write"},
//!               {"bucket": "logs-*", "access": "write"}],
//!   "main_access_key": "...", "main_secret_key": "..."},
//!  {"anonymous": true, "buckets": [{"bucket": "public", "access": "read"}]}]
//! ```
//!
//! Promises: a file is taken as a whole or not at all; every fault in the values is named with its
//! place; no fault and no `Debug` output contains a secret. Pure: reading the file is
//! [`super::reload`]'s business.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::grant::{Access, Grant};

/// The longest access key ID accepted, in bytes; AWS documents 128.
const ACCESS_KEY_ID_BYTES_MAX: usize = 128;

/// A secret access key. It cannot be displayed; its `Debug` form is a mask.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretAccessKey(String);

impl SecretAccessKey {
    /// Wraps a secret.
    pub fn new(secret: String) -> Self {
        Self(secret)
    }

    /// The secret itself; the only way to it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretAccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A key pair of main that stands in for one client, so that owners and ACLs stay apart there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MainKeyPair {
    /// Access key ID on main.
    pub access_key_id: String,
    /// Secret access key on main.
    pub secret_access_key: SecretAccessKey,
}

/// One client: a key pair and what it is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// What the client signs with.
    pub access_key_id: String,
    /// The other half of it.
    pub secret_access_key: SecretAccessKey,
    /// What the client may do; the union of all.
    pub grants: Vec<Grant>,
    /// The client's own key pair on main, if it has one.
    pub main: Option<MainKeyPair>,
}

impl Client {
    /// Whether the client may do this; see [`Grant::allows`].
    pub fn may(&self, access: Access, bucket: Option<&str>, key: Option<&str>) -> bool {
        self.grants.iter().any(|grant| grant.allows(access, bucket, key))
    }
}

/// All clients, by access key ID.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    clients: HashMap<String, Arc<Client>>,
    /// What requests without any signature may read; usually nothing.
    anonymous: Arc<Vec<Grant>>,
}

/// Why a file of credentials is refused: its faults, one text each, without any value that could be
/// secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("client credentials: {}", .faults.join("; "))]
pub struct CredentialsError {
    /// Every fault found; never empty.
    pub faults: Vec<String>,
}

impl CredentialsError {
    pub(super) fn one(fault: impl Into<String>) -> Self {
        Self { faults: vec![fault.into()] }
    }
}

// Values stay unparsed at first: an error of the JSON library would quote them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawClient {
    anonymous: Option<Value>,
    access_key_id: Option<Value>,
    secret_access_key: Option<Value>,
    buckets: Option<Vec<RawGrant>>,
    main_access_key: Option<Value>,
    main_secret_key: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGrant {
    bucket: Option<Value>,
    prefixes: Option<Value>,
    access: Option<Value>,
}

impl Credentials {
    /// Parses the file's text.
    ///
    /// Errors: all faults of the values at once; of the JSON itself the first one, by its place.
    pub fn parse(text: &[u8]) -> Result<Self, CredentialsError> {
        let raw: Vec<RawClient> =
            serde_json::from_slice(text).map_err(|error| json_fault(&error))?;
        let mut faults = Faults::default();
        let mut clients = HashMap::new();
        let mut anonymous = Vec::new();
        if raw.iter().all(|raw| raw.anonymous.is_some()) {
            faults.add("the file", "names no client");
        }
        for (index, raw) in raw.into_iter().enumerate() {
            let place = format!("client {}", index + 1);
            if raw.anonymous.is_some() {
                anonymous.extend(read_anonymous(&raw, &place, &mut faults));
                continue;
            }
            let Some(client) = read_client(&raw, &place, &mut faults) else {
                continue;
            };
            let id = client.access_key_id.clone();
            if clients.insert(id, Arc::new(client)).is_some() {
                faults.add(&place, "access_key_id is the same as an earlier client's");
            }
        }
        if faults.0.is_empty() {
            Ok(Self { clients, anonymous: Arc::new(anonymous) })
        } else {
            Err(CredentialsError { faults: faults.0 })
        }
    }

    /// The client with this access key ID.
    pub fn client(&self, access_key_id: &str) -> Option<&Arc<Client>> {
        self.clients.get(access_key_id)
    }

    /// What requests without any signature may read.
    pub fn anonymous(&self) -> &Arc<Vec<Grant>> {
        &self.anonymous
    }

    /// How many clients there are.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }
}

#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn add(&mut self, place: &str, what: &str) {
        self.0.push(format!("{place}: {what}"));
    }

    /// The text of a field, or `None` with the fault noted if it is no text or must not be missing.
    fn text(&mut self, place: &str, name: &str, value: Option<&Value>) -> Option<String> {
        match value {
            Some(Value::String(text)) if !text.is_empty() => return Some(text.clone()),
            Some(_) => self.add(place, &format!("{name} must be a text that is not empty")),
            None => self.add(place, &format!("{name} is missing")),
        }
        None
    }
}

fn read_client(raw: &RawClient, place: &str, faults: &mut Faults) -> Option<Client> {
    let id = faults.text(place, "access_key_id", raw.access_key_id.as_ref());
    if id.as_ref().is_some_and(|id| !is_access_key_id(id)) {
        faults.add(
            place,
            "access_key_id must be 1 to 128 printable ASCII characters without , and /",
        );
    }
    let secret = faults.text(place, "secret_access_key", raw.secret_access_key.as_ref());
    let main = match (&raw.main_access_key, &raw.main_secret_key) {
        (None, None) => None,
        (main_id, main_secret) => {
            let main_id = faults.text(place, "main_access_key", main_id.as_ref());
            let main_secret = faults.text(place, "main_secret_key", main_secret.as_ref());
            main_id.zip(main_secret)
        }
    };
    let grants = read_grants(raw, place, faults);
    Some(Client {
        access_key_id: id?,
        secret_access_key: SecretAccessKey(secret?),
        grants,
        main: main.map(|(access_key_id, secret)| MainKeyPair {
            access_key_id,
            secret_access_key: SecretAccessKey(secret),
        }),
    })
}

/// What everybody may read: a switch that has to be set by name, and for reading alone.
fn read_anonymous(raw: &RawClient, place: &str, faults: &mut Faults) -> Vec<Grant> {
    if raw.anonymous != Some(Value::Bool(true)) {
        faults.add(place, "anonymous must be true, or left out");
    }
    let keys =
        [&raw.access_key_id, &raw.secret_access_key, &raw.main_access_key, &raw.main_secret_key];
    if keys.iter().any(|key| key.is_some()) {
        faults.add(place, "anonymous requests have no keys");
    }
    let grants = read_grants(raw, place, faults);
    if grants.iter().any(Grant::writes) {
        faults.add(place, "anonymous requests may have access read and no other");
    }
    grants
}

fn read_grants(raw: &RawClient, place: &str, faults: &mut Faults) -> Vec<Grant> {
    if raw.buckets.as_ref().is_none_or(Vec::is_empty) {
        faults.add(place, "buckets is missing or empty");
    }
    let mut grants = Vec::new();
    for (index, raw) in raw.buckets.iter().flatten().enumerate() {
        let place = format!("{place}, bucket {}", index + 1);
        grants.extend(read_grant(raw, &place, faults));
    }
    grants
}

fn read_grant(raw: &RawGrant, place: &str, faults: &mut Faults) -> Option<Grant> {
    let bucket = faults.text(place, "bucket", raw.bucket.as_ref());
    let access = faults.text(place, "access", raw.access.as_ref());
    let (read, write) = match access.as_deref() {
        Some("read") => (true, false),
        Some("write") => (false, true),
        Some("read-write") => (true, true),
        Some(_) => {
            faults.add(place, "access must be read, write or read-write");
            return None;
        }
        None => return None,
    };
    let prefixes = match &raw.prefixes {
        None => Vec::new(),
        Some(Value::Array(list)) if !list.is_empty() => {
            let texts = list.iter().map(|value| faults.text(place, "a prefix", Some(value)));
            texts.collect::<Option<Vec<_>>>()?
        }
        Some(_) => {
            faults.add(place, "prefixes must be a list that is not empty, or left out");
            return None;
        }
    };
    let grant = Grant::new(&bucket?, prefixes, read, write);
    if grant.is_none() {
        faults.add(place, "bucket may have one *, at its end");
    }
    grant
}

/// The characters a `Credential` can carry without ambiguity.
fn is_access_key_id(text: &str) -> bool {
    let fits = (1..=ACCESS_KEY_ID_BYTES_MAX).contains(&text.len());
    fits && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b',')
}

/// A fault of the JSON text. The library's own message is kept only where it names fields, because
/// all others may quote values.
fn json_fault(error: &serde_json::Error) -> CredentialsError {
    let text = error.to_string();
    let place = format!("line {} column {}", error.line(), error.column());
    if text.starts_with("unknown field `") || text.starts_with("duplicate field `") {
        return CredentialsError::one(text);
    }
    CredentialsError::one(match error.classify() {
        serde_json::error::Category::Data => format!("{place}: not of the documented shape"),
        _ => format!("{place}: not valid JSON"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"[
        {"access_key_id": "app", "secret_access_key": "app-secret",
         "buckets": [{"bucket": "photos", "prefixes": ["thumbs/"], "access": "read-write"},
                     {"bucket": "logs-*", "access": "write"}],
         "main_access_key": "m", "main_secret_key": "main-secret"},
        {"access_key_id": "ops", "secret_access_key": "ops-secret",
         "buckets": [{"bucket": "*", "access": "read"}]}]"#;

    fn faults(text: &str) -> String {
        Credentials::parse(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_good_file_gives_clients_with_their_grants() {
        let credentials = Credentials::parse(GOOD.as_bytes()).unwrap();
        assert_eq!((credentials.len(), credentials.is_empty()), (2, false));
        let app = credentials.client("app").unwrap();
        assert_eq!(app.secret_access_key.expose(), "app-secret");
        let main = app.main.as_ref().unwrap();
        assert_eq!((&*main.access_key_id, main.secret_access_key.expose()), ("m", "main-secret"));
        assert!(app.may(Access::Write, Some("photos"), Some("thumbs/1")));
        assert!(!app.may(Access::Read, Some("photos"), Some("full/1")));
        assert!(app.may(Access::Write, Some("logs-2026"), Some("x")));
        assert!(!app.may(Access::Read, Some("logs-2026"), Some("x")));
        let ops = credentials.client("ops").unwrap();
        assert!(ops.main.is_none() && ops.may(Access::Read, None, None));
        assert!(credentials.client("nobody").is_none());
    }

    #[test]
    fn all_faults_are_named_at_once_with_their_places() {
        let text = faults(
            r#"[{"access_key_id": "a/b", "secret_access_key": "hush-1", "buckets": []},
                {"access_key_id": 5, "buckets": [{"bucket": "a*b", "access": "read"},
                    {"bucket": "c", "access": "hush-2", "prefixes": []},
                    {"access": "read", "prefixes": "hush-3"},
                    {"bucket": "d", "access": "write", "prefixes": [""]}],
                 "main_secret_key": "hush-4"},
                {"access_key_id": "x", "secret_access_key": "hush-5",
                 "buckets": [{"bucket": "d", "access": "write"}]},
                {"access_key_id": "x", "secret_access_key": "hush-6",
                 "buckets": [{"bucket": "d", "access": "write"}]}]"#,
        );
        for fault in [
            "client 1: access_key_id must be 1 to 128",
            "client 1: buckets is missing or empty",
            "client 2: access_key_id must be a text",
            "client 2: secret_access_key is missing",
            "client 2: main_access_key is missing",
            "client 2, bucket 1: bucket may have one *",
            "client 2, bucket 2: access must be read, write or read-write",
            "client 2, bucket 3: bucket is missing",
            "client 2, bucket 3: prefixes must be a list",
            "client 2, bucket 4: a prefix must be a text",
            "client 4: access_key_id is the same",
        ] {
            assert!(text.contains(fault), "{fault} is not in: {text}");
        }
        assert!(!text.contains("hush"), "{text}");
    }

    #[test]
    fn what_everybody_may_read_is_said_by_name_and_is_reading() {
        let read = |more: &str| {
            let public = format!(r#"{{"anonymous": true, {more}}}"#);
            let app = r#"{"access_key_id": "a", "secret_access_key": "hush",
                "buckets": [{"bucket": "b", "access": "read"}]}"#;
            Credentials::parse(format!("[{app}, {public}]").as_bytes())
        };
        let good = read(r#""buckets": [{"bucket": "pub", "prefixes": ["a/"], "access": "read"}]"#);
        let good = good.unwrap();
        assert_eq!((good.len(), good.anonymous().len()), (1, 1));
        assert!(good.anonymous()[0].allows(Access::Read, Some("pub"), Some("a/k")));
        for (more, fault) in [
            (
                r#""buckets": [{"bucket": "pub", "access": "read-write"}]"#,
                "access read and no other",
            ),
            (r#""buckets": [{"bucket": "pub", "access": "write"}]"#, "access read and no other"),
            (r#""buckets": []"#, "buckets is missing or empty"),
            (r#""access_key_id": "x", "buckets": [{"bucket": "p", "access": "read"}]"#, "no keys"),
        ] {
            let found = read(more).unwrap_err().to_string();
            assert!(found.contains(fault), "{more}: {found}");
        }
        let off = r#"[{"anonymous": false, "buckets": [{"bucket": "p", "access": "read"}]}]"#;
        let found = faults(off);
        assert!(found.contains("must be true") && found.contains("names no client"), "{found}");
        assert!(Credentials::parse(GOOD.as_bytes()).unwrap().anonymous().is_empty());
    }

    #[test]
    fn faults_of_the_json_show_their_place_and_no_value() {
        for (text, fault) in [
            ("", "not valid JSON"),
            ("[", "not valid JSON"),
            (r#"{"hush": 1}"#, "not of the documented shape"),
            (r#"["hush"]"#, "not of the documented shape"),
            (r#"[{"buckets": "hush"}]"#, "not of the documented shape"),
            (r#"[{"secret": "hush"}]"#, "unknown field `secret`"),
            (r#"[{"access_key_id": "hush", "access_key_id": "x"}]"#, "duplicate field"),
            ("[]", "names no client"),
        ] {
            let found = faults(text);
            assert!(found.contains(fault) && !found.contains("hush"), "{text}: {found}");
        }
    }

    #[test]
    fn secrets_cannot_be_displayed() {
        let shown = format!("{:?}", Credentials::parse(GOOD.as_bytes()).unwrap());
        assert!(shown.contains("ops") && !shown.contains("secret\"") && !shown.contains("-secret"));
    }
}
