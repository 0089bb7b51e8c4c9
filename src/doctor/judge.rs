//! What was seen, in words for a person who has never read this code. Pure.

use super::call::Seen;
use super::finding::{Finding, Level, Probe, Side};

/// Skew of a clock that is worth a word, and the one from which signatures are refused, in seconds.
const SKEW: (u64, u64) = (60, 15 * 60);

fn reason(seen: &Seen) -> String {
    match seen {
        Seen::Refused { status, code } if code.is_empty() => format!("refused with {status}"),
        Seen::Refused { status, code } => format!("refused with {status} {code}"),
        Seen::Otherwise(what) => (*what).to_owned(),
        Seen::Away(reason) => reason.clone(),
        Seen::Stopped => "ended".to_owned(),
    }
}

/// What an operation's outcome means; `None` where it was not asked to the end.
pub(super) fn outcome(side: Side, probe: Probe, seen: Result<(), Seen>) -> Option<Finding> {
    let seen = match seen {
        Ok(()) => return Some(Finding::new(side, probe, Level::Ok, works(probe))),
        Err(Seen::Stopped) => return None,
        Err(seen) => seen,
    };
    let (level, means) = consequence(side, probe, &seen);
    Some(Finding::new(side, probe, level, reason(&seen)).meaning(means))
}

fn works(probe: Probe) -> &'static str {
    match probe {
        Probe::Put => "objects are written",
        Probe::Head => "size, headers and metadata come back as they were sent",
        Probe::Get => "bytes come back as they were sent",
        Probe::List => "listings have what was written",
        Probe::Multipart => "multipart uploads work",
        Probe::Copy => "copies within the service work",
        Probe::Tagging => "tags are kept and changed",
        Probe::Checksums => "checksums are checked",
        Probe::Conditions => "`If-None-Match: *` is kept",
        Probe::Delete => "objects are deleted",
        _ => "works",
    }
}

fn consequence(side: Side, probe: Probe, seen: &Seen) -> (Level, &'static str) {
    use Level::{Differs, Fails};
    let mirror = side == Side::Mirror;
    match probe {
        Probe::Put if mirror => (Fails, "nothing can be mirrored"),
        Probe::Put => (Fails, "writes of clients will be refused, and there is nothing to mirror"),
        Probe::Head if mirror && !matches!(seen, Seen::Otherwise(_)) => {
            (Fails, "copies cannot be checked, and nothing is mirrored")
        }
        Probe::Head if mirror => (Differs, "copies will lack headers or metadata that main has"),
        Probe::Head if !matches!(seen, Seen::Otherwise(_)) => {
            (Fails, "main cannot be asked what a key is, and nothing is mirrored")
        }
        Probe::Head => (Differs, "clients and copies get headers or metadata as main tells them"),
        Probe::Get if mirror => {
            (Differs, "`verify --deep`, `restore` and reads from the mirror will not work")
        }
        Probe::Get => (Fails, "what the spool did not keep cannot be read, and is not mirrored"),
        Probe::List => (Differs, "`backfill`, `verify` and `restore` will not work"),
        Probe::Multipart if mirror => {
            (Fails, "objects that were uploaded in parts will be parked, not mirrored")
        }
        Probe::Multipart => (Differs, "clients cannot upload large objects"),
        Probe::Copy if mirror => {
            (Differs, "mirroring does not need it; after a failover clients cannot copy")
        }
        Probe::Copy => (Differs, "clients cannot copy objects"),
        Probe::Tagging if mirror => match seen {
            Seen::Refused { status: 401 | 403, .. } => {
                (Differs, "objects with tags will wait until the keys may tag; others are mirrored")
            }
            Seen::Refused { .. } => (
                Differs,
                "tags will not be mirrored: objects with tags are parked; others are mirrored",
            ),
            _ => (Differs, "tags will not be mirrored, or wrongly"),
        },
        Probe::Tagging => (Differs, "clients cannot use tags, so there are none to mirror"),
        Probe::Checksums if matches!(seen, Seen::Otherwise(_)) => {
            (Differs, "bytes that are damaged on their way there are not noticed there")
        }
        Probe::Checksums if mirror => {
            (Differs, "mirroring does not need it; after a failover new SDKs may be refused")
        }
        Probe::Checksums => {
            (Differs, "new SDKs send checksums: set `no-checksums` in MAIN_QUIRKS, or they fail")
        }
        Probe::Conditions if mirror => (
            Differs,
            "mirroring does not need it; after a failover conditional writes are not safe there",
        ),
        Probe::Conditions => (Differs, "conditional writes of clients are not safe there"),
        Probe::Delete if mirror => (Fails, "deletes will not reach the mirror"),
        Probe::Delete => (Fails, "deletes of clients will be refused"),
        _ => (Fails, "what follows from it is not known"),
    }
}

/// Are the keys known? `None`: it was ended.
pub(super) fn credentials(side: Side, listed: &Result<(), Seen>) -> Option<Finding> {
    let finding = |level, what: String| Finding::new(side, Probe::Credentials, level, what);
    Some(match listed {
        Ok(()) => finding(Level::Ok, "it answers, and knows the keys".into()),
        Err(Seen::Stopped) => return None,
        Err(seen @ Seen::Refused { status, code }) => match (status, code.as_str()) {
            (_, "RequestTimeTooSkewed") => finding(Level::Fails, reason(seen))
                .meaning("set this machine's clock: signatures are good for 15 minutes"),
            (401, _)
            | (
                _,
                "InvalidAccessKeyId"
                | "SignatureDoesNotMatch"
                | "ExpiredToken"
                | "InvalidToken"
                | "AuthorizationHeaderMalformed"
                | "InvalidClientTokenId",
            ) => finding(Level::Fails, reason(seen))
                .meaning("keys, secret or region are not those of this service: nothing will work"),
            (500..=599, _) if *status != 501 => {
                finding(Level::Fails, reason(seen)).meaning("the service is not well")
            }
            _ => finding(Level::Differs, format!("listing buckets is {}", reason(seen)))
                .meaning("`backfill` and `verify` need `--bucket`; mirroring does not need it"),
        },
        Err(seen) => finding(Level::Fails, reason(seen))
            .meaning("it cannot be reached, or is no S3: check endpoint, network and TLS"),
    })
}

/// `skew`: seconds by which the service is ahead of us.
pub(super) fn clock(side: Side, skew: i64) -> Finding {
    let (off, direction) = (skew.unsigned_abs(), if skew < 0 { "behind" } else { "ahead of" });
    if off <= 2 {
        return Finding::new(side, Probe::Clock, Level::Ok, "its clock and ours agree");
    }
    let what = format!("its clock is {off} s {direction} ours");
    match off {
        _ if off > SKEW.1 => Finding::new(side, Probe::Clock, Level::Fails, what)
            .meaning("S3 refuses signatures that are more than 15 minutes off"),
        _ if off > SKEW.0 => Finding::new(side, Probe::Clock, Level::Differs, what)
            .meaning("from 15 minutes on signatures are refused: look at time synchronisation"),
        _ => Finding::new(side, Probe::Clock, Level::Ok, what),
    }
}

pub(super) fn named_bucket(side: Side, name: &str, there: &Result<(), Seen>) -> Option<Finding> {
    Some(match there {
        Ok(()) => {
            let what =
                format!("bucket `{name}` is there; whether buckets can be made was not tried");
            Finding::new(side, Probe::Bucket, Level::Ok, what)
        }
        Err(Seen::Stopped) => return None,
        Err(Seen::Refused { status: 404, .. }) => {
            let what = format!("there is no bucket `{name}`; nothing else was tried");
            Finding::new(side, Probe::Bucket, Level::Fails, what)
        }
        Err(seen) => {
            let what = format!("bucket `{name}`: {}; nothing else was tried", reason(seen));
            Finding::new(side, Probe::Bucket, Level::Fails, what)
        }
    })
}

pub(super) fn own_bucket(side: Side, name: &str, made: &Result<(), Seen>) -> Option<Finding> {
    let seen = match made {
        Ok(()) => {
            let what = format!("buckets can be made (`{name}`)");
            return Some(Finding::new(side, Probe::Bucket, Level::Ok, what));
        }
        Err(Seen::Stopped) => return None,
        Err(seen) => seen,
    };
    let what = format!("making bucket `{name}`: {}; nothing else was tried", reason(seen));
    let means = match side {
        Side::Mirror => {
            "the mirror's buckets have to be there beforehand (MIRROR_BUCKET_PREFIX + name); \
             name one with `--bucket` to try the rest"
        }
        _ => "clients cannot make buckets; name one with `--bucket` to try the rest",
    };
    Some(Finding::new(side, Probe::Bucket, Level::Fails, what).meaning(means))
}

/// `own`: it is a bucket that was just made, and tells nothing of others.
pub(super) fn versioning(
    side: Side,
    own: bool,
    status: &Result<Option<String>, Seen>,
) -> Option<Finding> {
    let finding = |level, what: String| Finding::new(side, Probe::Versioning, level, what);
    let look = "`--bucket` looks at one of yours";
    Some(match (status, side) {
        (Err(Seen::Stopped), _) => return None,
        (Err(seen), _) => finding(Level::Ok, format!("the state of versioning: {}", reason(seen)))
            .meaning("where the mirror has no versions, only the current state is mirrored"),
        (Ok(None), _) if own => finding(Level::Ok, format!("new buckets have no versions; {look}")),
        (Ok(None), _) => finding(Level::Ok, "the bucket has no versions".into()),
        (Ok(Some(status)), Side::Mirror) => {
            finding(Level::Ok, format!("versioning is {}", status.to_lowercase())).meaning(
                "old versions take room until a lifecycle rule removes them; those of main are \
                 kept here where main has versioning too",
            )
        }
        (Ok(Some(status)), _) => {
            finding(Level::Ok, format!("versioning is {}", status.to_lowercase()))
        }
    })
}

/// Main's bucket has versions. Does the mirror's copy of it keep them? `None`: it has none yet.
pub(super) fn versions_kept(enabled: bool, mirror: Option<&str>) -> Finding {
    let finding = |level, what: &str| Finding::new(Side::Mirror, Probe::Versioning, level, what);
    match mirror {
        _ if !enabled => finding(Level::Differs, "MIRROR_VERSIONS is false")
            .meaning("only the current state of a key is mirrored, not its older versions"),
        Some("Enabled") => {
            finding(Level::Ok, "every version and delete marker is kept here, in order")
        }
        _ => finding(Level::Differs, "main's bucket has versions, its copy keeps none").meaning(
            "only the current state of a key is mirrored; switch versioning on at the mirror's \
             bucket to keep every version",
        ),
    }
}

pub(super) fn checksums_off(side: Side) -> Finding {
    let what = "not tried: the setting `no-checksums` keeps them from it";
    Finding::new(side, Probe::Checksums, Level::Ok, what)
}

/// Medians in microseconds.
pub(super) fn latency(side: Side, put: u128, get: u128) -> Finding {
    let ms = |micros: u128| format!("{}.{} ms", micros / 1000, micros / 100 % 10);
    let what = format!("1 KiB: put {}, get {} (median of 5, one after another)", ms(put), ms(get));
    Finding::new(side, Probe::Latency, Level::Ok, what)
}

/// How the end was. `in_doubt`: a request that writes was never answered.
pub(super) fn cleanup(
    side: Side,
    place: &str,
    in_doubt: bool,
    outcome: &Result<(), Seen>,
) -> Finding {
    let finding = |level, what: String| Finding::new(side, Probe::Cleanup, level, what);
    match outcome {
        Ok(()) if !in_doubt => finding(Level::Ok, "everything written was removed".into()),
        Ok(()) => finding(
            Level::Differs,
            format!("everything that could be seen was removed; look at {place} once more"),
        )
        .meaning("a request was not answered, and may take effect yet"),
        Err(seen) => finding(Level::Fails, format!("CLEANING UP FAILED: {}", reason(seen)))
            .meaning(format!("objects, or parts of uploads, may be left in {place}: remove them")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, code: &str) -> Result<(), Seen> {
        Err(Seen::Refused { status, code: code.into() })
    }

    #[test]
    fn wrong_keys_fail_and_a_missing_right_to_list_only_differs() {
        let level = |seen| credentials(Side::Main, &seen).unwrap().level;
        assert_eq!(level(refused(403, "SignatureDoesNotMatch")), Level::Fails);
        assert_eq!(level(refused(403, "InvalidAccessKeyId")), Level::Fails);
        assert_eq!(level(refused(503, "SlowDown")), Level::Fails);
        assert_eq!(level(Err(Seen::Away("cannot connect".into()))), Level::Fails);
        assert_eq!(level(refused(403, "AccessDenied")), Level::Differs);
        assert_eq!(level(refused(501, "NotImplemented")), Level::Differs);
        assert_eq!(level(Ok(())), Level::Ok);
        assert_eq!(credentials(Side::Main, &Err(Seen::Stopped)), None);
    }

    #[test]
    fn a_mirror_without_tagging_says_that_tags_will_not_be_mirrored() {
        let found = outcome(Side::Mirror, Probe::Tagging, refused(501, "NotImplemented")).unwrap();
        assert_eq!(found.level, Level::Differs);
        assert_eq!(found.what, "refused with 501 NotImplemented");
        assert!(found.means.unwrap().starts_with("tags will not be mirrored"));
        let found = outcome(Side::Mirror, Probe::Tagging, refused(403, "")).unwrap();
        assert!(found.means.unwrap().contains("wait"));
    }

    #[test]
    fn what_only_clients_use_does_not_fail_the_mirror() {
        for probe in [Probe::Copy, Probe::Conditions, Probe::Checksums, Probe::List] {
            let found = outcome(Side::Mirror, probe, refused(501, "NotImplemented")).unwrap();
            assert_eq!(found.level, Level::Differs, "{probe:?}");
        }
        for probe in [Probe::Put, Probe::Multipart, Probe::Delete] {
            let found = outcome(Side::Mirror, probe, refused(501, "NotImplemented")).unwrap();
            assert_eq!(found.level, Level::Fails, "{probe:?}");
        }
    }

    #[test]
    fn a_clock_may_be_a_minute_off_and_not_a_quarter_of_an_hour() {
        let level = |skew| clock(Side::Main, skew).level;
        assert_eq!((level(0), level(-59)), (Level::Ok, Level::Ok));
        assert_eq!((level(61), level(-900)), (Level::Differs, Level::Differs));
        assert_eq!((level(901), level(-7200)), (Level::Fails, Level::Fails));
        assert_eq!(clock(Side::Main, -70).what, "its clock is 70 s behind ours");
    }

    #[test]
    fn versions_are_kept_where_both_sides_have_them() {
        let enabled = Ok(Some("Enabled".to_owned()));
        let level = |side, status| versioning(side, false, status).unwrap().level;
        assert_eq!(versions_kept(true, Some("Enabled")).level, Level::Ok);
        for mirror in [None, Some("Suspended")] {
            assert_eq!(versions_kept(true, mirror).level, Level::Differs);
        }
        assert_eq!(versions_kept(false, Some("Enabled")).level, Level::Differs);
        assert_eq!(level(Side::Main, &enabled), Level::Ok);
        assert_eq!(level(Side::Mirror, &enabled), Level::Ok);
        assert_eq!(level(Side::Main, &Ok(None)), Level::Ok);
        let refused = Err(Seen::Refused { status: 501, code: "NotImplemented".into() });
        assert_eq!(level(Side::Main, &refused), Level::Ok);
    }

    #[test]
    fn latency_is_told_to_a_tenth_of_a_millisecond() {
        let found = latency(Side::Main, 12_345, 950);
        assert!(found.what.contains("put 12.3 ms, get 0.9 ms"), "{}", found.what);
    }

    #[test]
    fn what_is_left_is_named() {
        let away = Err(Seen::Away("no answer in time".into()));
        let found = cleanup(Side::Mirror, "bucket `b` below `p/`", false, &away);
        assert_eq!(found.level, Level::Fails);
        assert!(found.means.unwrap().contains("bucket `b` below `p/`"));
        let found = cleanup(Side::Mirror, "bucket `b`", true, &Ok(()));
        assert_eq!(found.level, Level::Differs);
    }
}
