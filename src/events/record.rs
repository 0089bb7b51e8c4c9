//! An event as S3 writes it, and whether there is one. Pure.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::journal::entry::Facts;
use crate::journal::events::Event;
use crate::s3::encode::encode_into;
use crate::s3::event::EventName;

/// Does main have to be asked before it can be told?
pub(super) fn asks_main(event: &Event) -> bool {
    event.unknown
        || event.name() == EventName::Any
        || (event.name().leaves_an_object() && event.facts.size.is_none())
}

/// What is to be told of an event, if anything: `now` is what main said, if it was asked.
pub(super) fn told(event: &Event, now: Option<&Facts>) -> Option<(EventName, Facts)> {
    let name = event.name();
    let Some(now) = now else { return Some((known(name, &event.facts), event.facts.clone())) };
    match (name, now.absent) {
        // What is there afterwards names it.
        (EventName::Any, true) => Some((EventName::Removed, now.clone())),
        (EventName::Any, false) => Some((EventName::CreatedPut, now.clone())),
        // Whether it has happened is what main shows: a removal of what is there has not, or is no
        // longer the newest, and then that has an event of its own.
        _ if event.unknown => (now.absent != name.leaves_an_object()).then(|| (name, now.clone())),
        // It has happened, and only its details were asked for. Main may have moved on.
        (_, false)
            if event.facts.etag.as_ref().is_none_or(|etag| now.etag.as_ref() == Some(etag)) =>
        {
            let version_id = event.facts.version_id.clone().or_else(|| now.version_id.clone());
            Some((name, Facts { version_id, ..now.clone() }))
        }
        _ => Some((name, event.facts.clone())),
    }
}

/// A removal that made a version is that of a marker.
fn known(name: EventName, facts: &Facts) -> EventName {
    match name {
        EventName::Removed if facts.absent && facts.version_id.is_some() => {
            EventName::MarkerCreated
        }
        name => name,
    }
}

/// Is the key in another state than it was when its event was told?
pub(super) fn moved(told: &Facts, now: &Facts) -> bool {
    (told.absent, &told.etag, &told.version_id) != (now.absent, &now.etag, &now.version_id)
}

/// One record of the S3 event message structure, version 2.1. Who made the request, and from
/// where, is not recorded.
pub(super) fn record(event: &Event, name: EventName, facts: &Facts, region: &str) -> Value {
    let mut object = json!({
        "key": key(&event.object.key),
        // Sixteen digits, so that texts compare as the numbers do.
        "sequencer": format!("{:016X}", event.id),
    });
    if let Some(size) = facts.size {
        object["size"] = size.into();
    }
    if let Some(etag) = &facts.etag {
        object["eTag"] = etag.as_str().into();
    }
    if let Some(version_id) = &facts.version_id {
        object["versionId"] = version_id.as_str().into();
    }
    let bucket = &*event.object.bucket;
    json!({
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": region,
        "eventTime": time(event.accepted_ms),
        "eventName": name.as_str(),
        "userIdentity": { "principalId": "" },
        "requestParameters": { "sourceIPAddress": "" },
        "responseElements": { "x-amz-request-id": event.request_id, "x-amz-id-2": "" },
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "s3-mirror",
            "bucket": {
                "name": bucket,
                "ownerIdentity": { "principalId": "" },
                "arn": format!("arn:aws:s3:::{bucket}"),
            },
            "object": object,
        },
    })
}

/// Keys are written as in a form: `+` for a space, escapes for all but plain signs and slashes.
fn key(key: &str) -> String {
    let mut text = String::new();
    encode_into(&mut text, key.as_bytes(), true);
    text.replace("%20", "+")
}

fn time(ms: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000);
    let time = time.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    // Always three digits of milliseconds, as S3 has them.
    let whole = time.replace_nanosecond(0).unwrap_or(time).format(&Rfc3339).unwrap_or_default();
    format!("{}.{:03}Z", whole.trim_end_matches('Z'), time.millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::entry::ObjectKey;

    fn event(name: EventName, unknown: bool) -> Event {
        Event {
            id: 0x6_5A0B_C0FF_EE00,
            object: ObjectKey::new("my-bucket", "a b/ü+.txt"),
            accepted_ms: 1_704_110_400_042,
            request_id: "ABC".into(),
            unknown,
            facts: Facts { event: Some(name), ..Facts::default() },
            attempts: 0,
            again: false,
        }
    }

    fn there(etag: &str) -> Facts {
        Facts { etag: Some(etag.into()), size: Some(5), ..Facts::default() }
    }

    fn gone() -> Facts {
        Facts { absent: true, ..Facts::default() }
    }

    #[test]
    fn a_record_is_what_programs_that_know_s3_read() {
        let mut event = event(EventName::CreatedPut, false);
        event.facts.etag = Some("e".into());
        event.facts.size = Some(5);
        let (name, facts) = told(&event, None).unwrap();
        let record = record(&event, name, &facts, "eu-1");
        assert_eq!(record["eventName"], "ObjectCreated:Put");
        assert_eq!(record["eventTime"], "2024-01-01T12:00:00.042Z");
        assert_eq!(record["awsRegion"], "eu-1");
        assert_eq!(record["responseElements"]["x-amz-request-id"], "ABC");
        let object = &record["s3"]["object"];
        assert_eq!(object["key"], "a+b/%C3%BC%2B.txt");
        assert_eq!((&object["size"], &object["eTag"]), (&json!(5), &json!("e")));
        assert_eq!(object["sequencer"], "00065A0BC0FFEE00");
        assert_eq!(record["s3"]["bucket"]["arn"], "arn:aws:s3:::my-bucket");
    }

    #[test]
    fn what_nobody_answered_is_told_only_if_main_shows_it() {
        let name = |event: &Event, now: &Facts| told(event, Some(now)).map(|(name, _)| name);
        let put = event(EventName::CreatedPut, true);
        assert!(asks_main(&put));
        assert_eq!(name(&put, &there("e")), Some(EventName::CreatedPut));
        assert_eq!(name(&put, &gone()), None);
        let removal = event(EventName::Removed, true);
        assert_eq!(name(&removal, &gone()), Some(EventName::Removed));
        assert_eq!(name(&removal, &there("e")), None);
    }

    #[test]
    fn a_change_without_a_name_is_named_by_what_is_there() {
        let any = event(EventName::Any, false);
        assert_eq!(told(&any, Some(&there("e"))).unwrap().0, EventName::CreatedPut);
        assert_eq!(told(&any, Some(&gone())).unwrap().0, EventName::Removed);
    }

    #[test]
    fn details_come_from_main_unless_it_has_moved_on() {
        let mut copy = event(EventName::CreatedCopy, false);
        assert!(asks_main(&copy));
        assert_eq!(told(&copy, Some(&there("e"))).unwrap().1.size, Some(5));
        copy.facts.etag = Some("e".into());
        assert_eq!(told(&copy, Some(&there("newer"))).unwrap().1.size, None);
        let (name, facts) = told(&copy, Some(&gone())).unwrap();
        assert_eq!((name, facts.etag.as_deref()), (EventName::CreatedCopy, Some("e")));
    }

    #[test]
    fn a_removal_that_makes_a_version_is_that_of_a_marker() {
        let mut removal = event(EventName::Removed, false);
        assert!(!asks_main(&removal));
        assert_eq!(told(&removal, None).unwrap().0, EventName::Removed);
        removal.facts.version_id = Some("v".into());
        assert_eq!(told(&removal, None).unwrap().0, EventName::Removed, "that of one version");
        removal.facts.absent = true;
        assert_eq!(told(&removal, None).unwrap().0, EventName::MarkerCreated);
    }

    #[test]
    fn a_second_look_tells_whether_the_key_has_moved() {
        assert!(!moved(&there("e"), &there("e")) && !moved(&gone(), &gone()));
        assert!(moved(&there("e"), &there("f")) && moved(&gone(), &there("e")));
    }
}
