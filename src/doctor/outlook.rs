//! What will and will not be mirrored, from the findings and the settings. Pure.

use serde::Serialize;

use super::finding::{Finding, Level, Probe, Side};
use crate::config::{DeletePolicy, Mirroring};

/// One sentence of the outlook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outlook {
    /// Will it be mirrored?
    pub mirrored: bool,
    /// What.
    pub what: String,
}

/// The outlook. Promises nothing that was not tried: without findings of the mirror's own writes
/// there is none.
pub fn outlook(findings: &[Finding], mirroring: &Mirroring) -> Vec<Outlook> {
    let level = |side: Side, probe: Probe| {
        let found = findings.iter().filter(|found| found.side == side && found.probe == probe);
        found.map(|found| found.level).max()
    };
    let well = |probe| level(Side::Mirror, probe) == Some(Level::Ok);
    let mut lines = Vec::new();
    if level(Side::Mirror, Probe::Put).is_none() {
        return lines;
    }
    let mut line = |mirrored, what: &str| lines.push(Outlook { mirrored, what: what.to_owned() });
    line(well(Probe::Put), "objects that are written through the proxy, from its first day on");
    line(
        well(Probe::Put) && well(Probe::Head),
        "content headers (type, encoding, language, disposition, cache, expiry) and user metadata",
    );
    line(well(Probe::Tagging), "tags of objects");
    line(well(Probe::Multipart), "objects uploaded in parts, with the same parts");
    match mirroring.deletes {
        DeletePolicy::Apply => line(well(Probe::Delete), "deletes"),
        DeletePolicy::Delay(_) => line(well(Probe::Delete), "deletes, later (MIRROR_DELETES)"),
        DeletePolicy::Ignore => line(false, "deletes (MIRROR_DELETES=ignore)"),
    }
    if mirroring.acl {
        line(true, "what access control lists grant to everybody (MIRROR_ACL)");
    } else {
        line(false, "access control lists (MIRROR_ACL is off)");
    }
    line(
        false,
        "settings of buckets: policies, lifecycle, versioning, CORS, encryption and others",
    );
    line(
        mirroring.versions,
        "versions and delete markers, where a bucket has versioning on both sides \
         (MIRROR_VERSIONS); else only the current state of a key",
    );
    line(mirroring.object_lock, "retention and legal hold (MIRROR_OBJECT_LOCK)");
    line(false, "encryption settings of objects");
    line(false, "objects under a client's own key (SSE-C), and archived ones: they are parked");
    line(false, "what was there before, and what others change: `backfill`, `verify --repair` do");
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Environment};

    fn mirroring(pairs: &[(&str, &str)]) -> Mirroring {
        let mirror = ("MIRROR_S3_ENDPOINT", "http://mirror");
        let pairs = pairs.iter().chain([&mirror]);
        let pairs = pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let environment = Environment::from_pairs(pairs).unwrap();
        Config::from_environment(&environment).unwrap().mirroring
    }

    fn found(probe: Probe, level: Level) -> Finding {
        Finding::new(Side::Mirror, probe, level, "")
    }

    fn says(lines: &[Outlook], words: &str) -> bool {
        lines.iter().find(|line| line.what.contains(words)).unwrap().mirrored
    }

    #[test]
    fn what_the_mirror_refuses_and_what_is_switched_off_is_not_promised() {
        let probes = [Probe::Put, Probe::Head, Probe::Multipart, Probe::Delete, Probe::Tagging];
        let mut findings = probes.map(|probe| found(probe, Level::Ok));
        let lines = outlook(&findings, &mirroring(&[]));
        assert!(says(&lines, "tags") && says(&lines, "deletes") && says(&lines, "in parts"));
        assert!(!says(&lines, "settings of buckets") && !says(&lines, "access control"));

        findings[4].level = Level::Differs;
        let settings = mirroring(&[("MIRROR_DELETES", "ignore"), ("MIRROR_ACL", "true")]);
        let lines = outlook(&findings, &settings);
        assert!(!says(&lines, "tags") && !says(&lines, "deletes"));
        assert!(says(&lines, "access control"));
    }

    #[test]
    fn a_mirror_that_was_not_tried_is_promised_nothing() {
        assert_eq!(outlook(&[found(Probe::Credentials, Level::Fails)], &mirroring(&[])), []);
    }
}
