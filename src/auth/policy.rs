//! Uploads by HTML form: the policy a client signed, and the fields that must obey it.
//!
//! The signature covers the policy's text only; the policy then binds the fields. So every field
//! must be named by a condition, but for those that carry the signature itself and the file.

use std::borrow::Cow;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use time::OffsetDateTime;

use super::Identity;
use super::clock::{parse_amz_date, parse_rfc3339, rfc3339};
use super::error::AuthError;
use super::scope::Scope;
use super::sigv4::{Kind, SKEW_MAX, parse_signature};
use crate::s3::chunked::SigningKey;

/// The most fields a form may have; S3 forms have about a dozen, plus user metadata of 2 KB in all.
pub const FORM_FIELDS_MAX: usize = 1000;
/// The longest policy accepted, in bytes of its base64 text.
const POLICY_BYTES_MAX: usize = 64 * 1024;
/// How long a form may be used after it was signed, whatever its policy says; as presigned URLs.
const VALIDITY_MAX: Duration = Duration::from_hours(7 * 24);

/// Fields that need no condition (S3 user guide, "POST policy").
const UNCONDITIONED: [&str; 3] = ["x-amz-signature", "policy", "file"];
/// Fields whose names begin so need no condition.
const IGNORED_PREFIX: &str = "x-ignore-";

/// The fields of a form and the bucket it was sent to.
#[derive(Clone, Copy)]
pub struct PostForm<'f> {
    /// The bucket of the request's address.
    pub bucket: &'f str,
    /// Names and values of all fields before `file`, in order. Names have any letter case.
    /// `${filename}` in the value of `key` is replaced already.
    pub fields: &'f [(String, String)],
}

/// A form that may be used.
#[derive(Clone, Debug)]
pub struct PostGrant {
    /// Who signed the policy.
    pub identity: Identity,
    /// The least and most bytes the file may have, if the policy says so. The caller answers
    /// `EntityTooSmall` or `EntityTooLarge`.
    pub content_length: Option<(u64, u64)>,
}

/// What a form says about its signature; nothing of it is proven.
pub(super) struct PostClaim<'f> {
    pub(super) scope: Scope<'f>,
    pub(super) policy: &'f str,
    signature: [u8; 32],
}

impl PostClaim<'_> {
    /// Whether `key` signed the policy.
    pub(super) fn is_signed_by(&self, key: &SigningKey) -> bool {
        key.verify(self.policy.as_bytes(), &self.signature)
    }
}

impl<'f> PostForm<'f> {
    /// Finds and parses the form's claim and checks its time.
    pub(super) fn claim(&self, now: OffsetDateTime) -> Result<PostClaim<'f>, AuthError> {
        let kind = Kind::PostPolicy;
        let malformed = |why: &'static str| AuthError::malformed(kind, why);
        if self.fields.len() > FORM_FIELDS_MAX {
            return Err(malformed("the form has too many fields"));
        }
        if self.field("AWSAccessKeyId")?.is_some() {
            return Err(AuthError::sigv2());
        }
        let Some(policy) = self.field("policy")? else {
            return Err(AuthError::access_denied());
        };
        if policy.len() > POLICY_BYTES_MAX {
            return Err(AuthError::bad_policy("the policy is too long"));
        }
        let field = |name| {
            self.field(name)?.ok_or_else(|| malformed("a field of the signature is missing"))
        };
        match field("x-amz-algorithm")? {
            "AWS4-HMAC-SHA256" => {}
            "AWS4-ECDSA-P256-SHA256" => return Err(AuthError::sigv4a()),
            _ => return Err(malformed("x-amz-algorithm must be AWS4-HMAC-SHA256")),
        }
        let scope = Scope::parse(kind, Cow::Borrowed(field("x-amz-credential")?))?;
        let amz_date = field("x-amz-date")?;
        let time = parse_amz_date(amz_date).ok_or_else(|| malformed("x-amz-date is not a date"))?;
        scope.check_date(kind, amz_date)?;
        if time - now > SKEW_MAX {
            return Err(AuthError::not_yet_valid(rfc3339(now)));
        }
        if now - time > VALIDITY_MAX {
            return Err(AuthError::policy_failed("Policy expired."));
        }
        let signature = parse_signature(kind, field("x-amz-signature")?)?;
        Ok(PostClaim { scope, policy, signature })
    }

    /// Checks validity and conditions of the (verified) policy; gives the allowed file sizes.
    pub(super) fn check_policy(
        &self,
        policy: &str,
        now: OffsetDateTime,
    ) -> Result<Option<(u64, u64)>, AuthError> {
        // Browsers may have folded the text of a long hidden field.
        let text: Vec<u8> = policy.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let json = STANDARD.decode(text).map_err(|_| AuthError::bad_policy("not base64"))?;
        let document: Value =
            serde_json::from_slice(&json).map_err(|_| AuthError::bad_policy("not JSON"))?;
        let expiration = document.get("expiration").and_then(Value::as_str).and_then(parse_rfc3339);
        let expiration = expiration.ok_or_else(|| AuthError::bad_policy("no valid expiration"))?;
        if now > expiration {
            return Err(AuthError::policy_failed("Policy expired."));
        }
        let conditions = document.get("conditions").and_then(Value::as_array);
        let conditions =
            conditions.ok_or_else(|| AuthError::bad_policy("no list of conditions"))?;
        let mut content_length = None;
        let mut named = Vec::new();
        for condition in conditions {
            match Condition::parse(condition)? {
                Condition::ContentLength(least, most) => {
                    // Several ranges: all must hold.
                    let (low, high) = content_length.unwrap_or((0, u64::MAX));
                    content_length = Some((least.max(low), most.min(high)));
                }
                Condition::Field { name, value, is_prefix } => {
                    self.check_field(&name, value, is_prefix)?;
                    named.push(name);
                }
            }
        }
        self.check_all_named(&named)?;
        Ok(content_length)
    }

    fn check_field(&self, name: &str, expected: &str, is_prefix: bool) -> Result<(), AuthError> {
        let found = if name == "bucket" { Some(self.bucket) } else { self.field(name)? };
        let found = found.unwrap_or_default();
        let holds = match (is_prefix, name) {
            (false, _) => found == expected,
            // A list of content types obeys the condition if each of them does.
            (true, "content-type") => found.split(',').all(|one| one.trim().starts_with(expected)),
            (true, _) => found.starts_with(expected),
        };
        if holds {
            return Ok(());
        }
        let operator = if is_prefix { "starts-with" } else { "eq" };
        // A session token and a customer's key are values too.
        let shown = if name.starts_with("x-amz-") { "..." } else { expected };
        let condition = Value::from(vec![operator, &format!("${name}"), shown]);
        Err(AuthError::policy_failed(format_args!("Policy Condition failed: {condition}")))
    }

    fn check_all_named(&self, named: &[String]) -> Result<(), AuthError> {
        // The bucket counts as a field: a policy for no bucket in particular is good for none.
        if !named.iter().any(|name| name == "bucket") {
            return Err(AuthError::policy_failed("Extra input fields: bucket"));
        }
        let extra = self.fields.iter().map(|(name, _)| name.to_ascii_lowercase()).find(|name| {
            !(UNCONDITIONED.contains(&name.as_str())
                || name.starts_with(IGNORED_PREFIX)
                || named.contains(name))
        });
        match extra {
            None => Ok(()),
            Some(name) => Err(AuthError::policy_failed(format_args!("Extra input fields: {name}"))),
        }
    }

    /// The value of a field; an error if it is there more than once, for two readers of the form
    /// could then take different values.
    fn field(&self, name: &str) -> Result<Option<&'f str>, AuthError> {
        let mut values = self.fields.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value.as_str());
        if values.next().is_some() {
            return Err(AuthError::malformed(Kind::PostPolicy, "a field of the form is repeated"));
        }
        Ok(value)
    }
}

enum Condition<'p> {
    ContentLength(u64, u64),
    /// The name is in lower case and has no `$`.
    Field {
        name: String,
        value: &'p str,
        is_prefix: bool,
    },
}

impl<'p> Condition<'p> {
    fn parse(condition: &'p Value) -> Result<Self, AuthError> {
        let malformed = || AuthError::bad_policy("a condition is malformed");
        if let Value::Object(map) = condition {
            let mut pairs = map.iter();
            return match (pairs.next(), pairs.next()) {
                (Some((name, Value::String(value))), None) => {
                    Ok(Self::Field { name: name.to_ascii_lowercase(), value, is_prefix: false })
                }
                _ => Err(malformed()),
            };
        }
        let list = condition.as_array().ok_or_else(malformed)?;
        let [operator, first, second] = list.as_slice() else {
            return Err(malformed());
        };
        let operator = operator.as_str().map(str::to_ascii_lowercase).ok_or_else(malformed)?;
        if operator == "content-length-range" {
            let (least, most) = size(first).zip(size(second)).ok_or_else(malformed)?;
            return Ok(Self::ContentLength(least, most));
        }
        let name = first.as_str().and_then(|name| name.strip_prefix('$')).ok_or_else(malformed)?;
        let (name, value) = (name.to_ascii_lowercase(), second.as_str().ok_or_else(malformed)?);
        match operator.as_str() {
            "eq" => Ok(Self::Field { name, value, is_prefix: false }),
            "starts-with" => Ok(Self::Field { name, value, is_prefix: true }),
            _ => Err(malformed()),
        }
    }
}

/// A size as a number or, as some clients write it, as its text.
fn size(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok()))
}
