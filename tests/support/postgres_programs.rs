//! Finds the `PostgreSQL` server programs, and a user to run them as.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test crate that includes this file uses a part"
)]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// The directory that holds `initdb` and `postgres`.
pub fn programs() -> PathBuf {
    let mut places = Vec::new();
    if let Some(directory) = std::env::var_os("PG_BIN_DIR") {
        places.push(PathBuf::from(directory));
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        places.extend(std::env::split_paths(&path));
        for (parent, child) in [
            ("/usr/lib/postgresql", "bin"),
            ("/opt/homebrew/opt", "bin"),
            ("/usr/local/opt", "bin"),
            ("/usr/local/Cellar/postgresql", "bin"),
            ("/Applications/Postgres.app/Contents/Versions", "bin"),
        ] {
            let mut versions: Vec<PathBuf> = fs::read_dir(parent)
                .map(|entries| entries.flatten().map(|entry| entry.path().join(child)).collect())
                .unwrap_or_default();
            versions.sort();
            places.extend(versions.into_iter().rev());
        }
    }
    let found = places.into_iter().find_map(|place| {
        // `postgres` in PATH may be a link; its files are found from where it really is, and
        // `initdb` must be of the same version.
        let place = fs::canonicalize(place.join("postgres")).ok()?.parent()?.to_owned();
        (place.join("postgres").is_file() && place.join("initdb").is_file()).then_some(place)
    });
    found.expect(
        "no PostgreSQL server programs (initdb, postgres) were found in PG_BIN_DIR, PATH or the \
         usual places; install them (Debian, Ubuntu: apt-get install postgresql) or set PG_BIN_DIR",
    )
}

/// The user and group to run as, if we are root.
pub fn owner() -> Option<(u32, u32)> {
    let we_are_root = fs::metadata("/proc/self").map_or_else(
        |_| {
            let output = Command::new("id").arg("-u").output().expect("the id program");
            output.stdout.trim_ascii() == b"0"
        },
        |process| std::os::unix::fs::MetadataExt::uid(&process) == 0,
    );
    if !we_are_root {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("/etc/passwd can be read");
    let find = |name: &str| {
        users.lines().find_map(|line| {
            let mut fields = line.split(':');
            let found = fields.next() == Some(name);
            let user = fields.nth(1)?.parse().ok()?;
            let group = fields.next()?.parse().ok()?;
            found.then_some((user, group))
        })
    };
    Some(find("postgres").or_else(|| find("nobody")).expect("a user to run PostgreSQL as"))
}
