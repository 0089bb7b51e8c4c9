//! The settings in force, secrets masked: `.env.example` names them all with their defaults, the
//! environment says which were set.

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::Admin;
use crate::config::env::Shown;

/// Every setting with its default and a comment; `tests/docs.rs` holds it to the code.
const EXAMPLE: &str = include_str!("../../.env.example");

/// One setting.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Setting {
    name: &'static str,
    /// Masked if it may be secret; empty for none.
    value: String,
    /// Was it set, or is this the default?
    set: bool,
    /// What it is for.
    comment: String,
}

/// `GET /api/v1/config`
pub(super) async fn configuration(State(admin): State<Admin>) -> Json<Vec<Setting>> {
    Json(settings(EXAMPLE, &admin.inner.parts.settings))
}

fn settings(example: &'static str, given: &Shown) -> Vec<Setting> {
    let mut found = Vec::new();
    let mut comment = String::new();
    for line in example.lines() {
        let bare = line.strip_prefix('#').unwrap_or(line);
        let is_name = |name: &str| {
            name.starts_with(|c: char| c.is_ascii_uppercase())
                && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
        };
        match bare.split_once('=') {
            Some((name, default)) if is_name(name) => {
                let value = given.get(name);
                found.push(Setting {
                    name,
                    set: value.is_some(),
                    value: value.unwrap_or(default).to_owned(),
                    comment: std::mem::take(&mut comment),
                });
            }
            _ if bare.trim_start().starts_with("---") || bare.trim().is_empty() => comment.clear(),
            _ => {
                if !comment.is_empty() {
                    comment.push(' ');
                }
                comment.push_str(bare.trim());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    #[test]
    fn settings_tell_value_or_default_and_no_secret() {
        let pairs = [
            ("MIRROR_S3_ENDPOINT", "http://mirror"),
            ("MIRROR_SECRET_KEY", "hunter2"),
            ("POSTGRES_URL", "postgres://u:hunter2@h/d"),
            ("POSTGRES_PASSWORD_FILE", "/run/secret"),
            ("ADMIN_TOKEN", "hunter2hunter2hunter2"),
        ];
        let pairs = pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let shown = Environment::from_pairs(pairs).unwrap().shown();
        let all = settings(EXAMPLE, &shown);
        let find = |name: &str| all.iter().find(|setting| setting.name == name).unwrap();
        assert_eq!(find("MIRROR_S3_ENDPOINT").value, "http://mirror");
        assert!(find("MIRROR_S3_ENDPOINT").set && !find("FENCE").set);
        assert_eq!(find("FENCE").value, "always");
        assert_eq!(find("POSTGRES_PASSWORD_FILE").value, "/run/secret");
        assert_eq!(find("ADMIN_TOKEN").value, "***");
        assert!(!format!("{all:?}{shown:?}").contains("hunter2"));
        assert!(all.len() > 30, "{}", all.len());
    }
}
