//! The log: intents of the last moments, in files whose room is there before it is needed.
//!
//! Requests wait for nothing else, so this does as little as a disk can be asked for: one write and one
//! sync. A database would write pages of a table and its own log, and hand all of it to a thread of its own.
//!
//! The intents that came together are a line: number, length and checksum, then text. Lines stand one
//! behind the other in a file of [`FILE_BYTES`]; when it is full, another follows. A file whose lines
//! nobody needs any more ([`Log::taken`]) is written over from its beginning. Numbers grow by one from line
//! to line, so that what an older use of a file has left behind the last line is not taken for one.
//!
//! # Crash
//! Where a line is torn its file ends: nobody has been told that it is there. Lines that have been taken
//! are found too; whoever took them knows up to which number.
//!
//! # When the disk fails
//! Nobody knows what a failed write or sync has left, so nothing more goes behind lines that are needed:
//! the next line begins another file, under the same number. One that holds nothing that is needed is tried
//! again from its beginning, so that however often the disk fails there is one file more.
//!
//! # Limits
//! [`SPARE_MAX`] files that nobody needs are kept.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crc_fast::CrcAlgorithm;
use rustix::fs::FallocateFlags;

use crate::config::JournalSync;

/// Room of a file; some thousand lines.
const FILE_BYTES: u64 = 1024 * 1024;
/// Files kept to be written over: what a second of many small writes takes.
const SPARE_MAX: usize = 8;
/// What the names of the files begin with; a number follows.
const NAME: &str = "journal.log.";
/// Number, length and checksum of a line.
const HEAD_BYTES: usize = 8 + 4 + 4;

/// A line: its number and its text.
pub(super) type Line = (i64, String);

/// See the module.
#[derive(Debug)]
pub(super) struct Log {
    directory: PathBuf,
    is_synced: bool,
    /// Those with lines that are needed, the one that is written at the back.
    used: VecDeque<Used>,
    /// Those that may be written over.
    spare: Vec<LogFile>,
    /// How many there have ever been, for the next name.
    names: u64,
    /// Number of the next line.
    next: i64,
    /// A line on its way, kept for its room.
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct LogFile {
    file: File,
    path: PathBuf,
}

/// A file with lines.
#[derive(Debug)]
struct Used {
    file: LogFile,
    /// Where its last line ends.
    end: u64,
    /// The number of that.
    last: i64,
    is_broken: bool,
}

impl Log {
    /// Finds the files of the previous run and the lines in them, the oldest first. They may be written
    /// over from here on, so whoever takes the lines has to have them on disk before the next is appended.
    pub(super) fn open(directory: &Path, sync: JournalSync) -> Result<(Self, Vec<Line>)> {
        let (mut spare, mut lines, mut names) = (Vec::new(), Vec::new(), 0);
        for entry in std::fs::read_dir(directory)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(NAME));
            let number = number.and_then(|number| number.parse::<u32>().ok());
            let Some(number) = number else { continue };
            names = names.max(u64::from(number) + 1);
            let path = directory.join(&name);
            lines.extend(lines_of(&std::fs::read(&path)?));
            let file = File::options().read(true).write(true).open(&path)?;
            spare.push(LogFile { file, path });
        }
        let is_synced = sync == JournalSync::Full;
        if is_synced {
            // Their names may be older than that setting.
            File::open(directory)?.sync_all()?;
        }
        // Stable: of two under one number neither is more than the other, but both are there.
        lines.sort_by_key(|(number, _)| *number);
        let log = Self {
            directory: directory.to_owned(),
            is_synced,
            used: VecDeque::new(),
            spare,
            names,
            next: 0,
            buffer: Vec::new(),
        };
        Ok((log, lines))
    }

    /// The next line has this number; to be called before the first.
    pub(super) fn begin_at(&mut self, number: i64) {
        self.next = number;
    }

    /// Writes a line and waits until it is as durable as `JOURNAL_SYNC` wants it; yields its number.
    pub(super) fn append(&mut self, text: &str) -> Result<i64> {
        let number = self.next;
        let mut buffer = std::mem::take(&mut self.buffer);
        let encoded = encode(number, text, &mut buffer);
        let written = encoded.and_then(|()| self.write(number, &buffer));
        self.buffer = buffer;
        written?;
        self.next += 1;
        Ok(number)
    }

    /// Lines up to this one are needed no more, and that is on disk.
    pub(super) fn taken(&mut self, up_to: i64) {
        while let Some(first) = self.used.pop_front_if(|first| first.last <= up_to) {
            if first.end > FILE_BYTES {
                // One long line has made it longer than the others are.
                first.file.file.set_len(FILE_BYTES).ok();
            }
            if self.used.is_empty() && !first.is_broken {
                // It goes on from its beginning, where the disk has room for it already.
                self.used.push_back(Used { end: 0, ..first });
                break;
            }
            self.spare.push(first.file);
        }
        while self.spare.len() > SPARE_MAX
            && let Some(LogFile { path, .. }) = self.spare.pop()
            && std::fs::remove_file(path).is_ok()
        {}
    }

    fn write(&mut self, number: i64, line: &[u8]) -> Result<()> {
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        let mut used = match self.used.pop_back_if(|used| used.has_room(length)) {
            Some(used) => used,
            None => Used::new(self.spare_or_new()?),
        };
        let file = &used.file.file;
        let written = file.write_all_at(line, used.end);
        let written = written.and_then(|()| if self.is_synced { file.sync_data() } else { Ok(()) });
        if written.is_err() && used.end == 0 {
            self.spare.push(used.file);
            return written;
        }
        used.is_broken = written.is_err();
        used.last = number;
        used.end += length;
        self.used.push_back(used);
        written
    }

    fn spare_or_new(&mut self) -> Result<LogFile> {
        self.spare.pop().map_or_else(|| self.make(), Ok)
    }

    /// Makes a file, its name durable.
    fn make(&mut self) -> Result<LogFile> {
        let path = self.directory.join(format!("{NAME}{}", self.names));
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        // A sync that need not find room as well takes two thirds of the time. Where the file system has no such
        // call, or no room, the write will tell.
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, FILE_BYTES).ok();
        if self.is_synced {
            let synced = file.sync_all().and_then(|()| File::open(&self.directory)?.sync_all());
            if let Err(error) = synced {
                std::fs::remove_file(path).ok();
                return Err(error);
            }
        }
        self.names += 1;
        Ok(LogFile { file, path })
    }
}

impl Used {
    fn new(file: LogFile) -> Self {
        Self { file, end: 0, last: i64::MIN, is_broken: false }
    }

    /// May a line go into it? One that is longer than any file takes one of its own.
    fn has_room(&self, length: u64) -> bool {
        !self.is_broken && (self.end == 0 || self.end.saturating_add(length) <= FILE_BYTES)
    }
}

fn encode(number: i64, text: &str, out: &mut Vec<u8>) -> Result<()> {
    let length = u32::try_from(text.len());
    let length = length.map_err(|_| Error::new(ErrorKind::InvalidInput, "too much for a line"))?;
    out.clear();
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(text.as_bytes());
    let sum = checksum(out);
    out[HEAD_BYTES - 4..HEAD_BYTES].copy_from_slice(&sum.to_le_bytes());
    Ok(())
}

/// Of a whole line whose own place for it holds zeros.
fn checksum(line: &[u8]) -> u32 {
    u32::try_from(crc_fast::checksum(CrcAlgorithm::Crc32IsoHdlc, line)).unwrap_or(u32::MAX)
}

/// The lines at the front of a file.
fn lines_of(mut file: &[u8]) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    while let Some(((number, text), length)) = line_of(file) {
        if lines.last().is_some_and(|(last, _)| number != last + 1) {
            break;
        }
        lines.push((number, text));
        file = file.get(length..).unwrap_or_default();
    }
    lines
}

/// The line at the front, and how many bytes it has; none: it is not whole.
fn line_of(file: &[u8]) -> Option<(Line, usize)> {
    let number = i64::from_le_bytes(file.get(..8)?.try_into().ok()?);
    let text_bytes = u32::from_le_bytes(file.get(8..12)?.try_into().ok()?);
    let sum = u32::from_le_bytes(file.get(12..HEAD_BYTES)?.try_into().ok()?);
    let length = HEAD_BYTES.checked_add(usize::try_from(text_bytes).ok()?)?;
    let mut line = file.get(..length)?.to_vec();
    line[HEAD_BYTES - 4..HEAD_BYTES].fill(0);
    if checksum(&line) != sum {
        return None;
    }
    let text = String::from_utf8(line.split_off(HEAD_BYTES)).ok()?;
    Some(((number, text), length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(directory: &Path) -> (Log, Vec<Line>) {
        Log::open(directory, JournalSync::Full).unwrap()
    }

    fn found(directory: &Path) -> Vec<i64> {
        open(directory).1.iter().map(|(number, _)| *number).collect()
    }

    fn files(directory: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(directory).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    #[test]
    fn what_was_appended_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let (mut log, lines) = open(directory.path());
        assert!(lines.is_empty());
        log.begin_at(7);
        for text in ["one", "", "\u{fc}\n\0"] {
            log.append(text).unwrap();
        }
        let lines = open(directory.path()).1;
        assert_eq!(lines, [(7, "one".into()), (8, String::new()), (9, "\u{fc}\n\0".into())]);
    }

    #[test]
    fn a_torn_line_and_what_follows_it_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let (mut log, _) = open(directory.path());
        for _ in 0..3 {
            log.append("a line").unwrap();
        }
        let file = files(directory.path()).remove(0);
        let whole = std::fs::read(&file).unwrap();
        let length = HEAD_BYTES + 6;
        for at in 0..3 * length {
            let mut torn = whole.clone();
            torn[at] ^= 1;
            std::fs::write(&file, &torn).unwrap();
            assert_eq!(found(directory.path()).len(), at / length, "{at}");
            std::fs::write(&file, &whole[..at]).unwrap();
            assert_eq!(found(directory.path()).len(), at / length, "{at}");
        }
    }

    #[test]
    fn a_file_that_is_written_over_keeps_no_line_of_before() {
        let directory = tempfile::tempdir().unwrap();
        let (mut log, _) = open(directory.path());
        for _ in 0..4 {
            log.append("of before").unwrap();
        }
        log.taken(2);
        assert_eq!(found(directory.path()), [0, 1, 2, 3], "the last one is still needed");
        log.taken(3);
        log.append("of after.").unwrap();
        assert_eq!(found(directory.path()), [4]);
        assert_eq!(files(directory.path()).len(), 1);
    }

    #[test]
    fn full_files_follow_one_another_and_come_back_when_they_are_not_needed() {
        let directory = tempfile::tempdir().unwrap();
        let (mut log, _) = open(directory.path());
        let text = "x".repeat(usize::try_from(FILE_BYTES).unwrap() / 2);
        for _ in 0..3 {
            log.append(&text).unwrap();
        }
        assert_eq!((files(directory.path()).len(), found(directory.path()).len()), (3, 3));
        log.taken(1);
        log.append(&text).unwrap();
        log.append(&"y".repeat(text.len() * 3)).unwrap();
        assert_eq!(files(directory.path()).len(), 3, "two of them were free");
        assert_eq!(found(directory.path()), [2, 3, 4]);
        drop(log);
        let (mut log, _) = open(directory.path());
        log.begin_at(5);
        for _ in 0..3 {
            log.append(&text).unwrap();
        }
        assert_eq!(files(directory.path()).len(), 3, "those of the previous run are used");
    }

    /// A file that cannot be written in the place of one.
    fn break_file(file: &mut LogFile) {
        file.file = File::open(&file.path).unwrap();
    }

    #[test]
    fn behind_a_failed_write_the_next_line_begins_another_file() {
        let directory = tempfile::tempdir().unwrap();
        let (mut log, _) = open(directory.path());
        log.append("before").unwrap();
        break_file(&mut log.used[0].file);
        log.append("not written").unwrap_err();
        assert_eq!(log.append("after").unwrap(), 1);
        assert_eq!((files(directory.path()).len(), found(directory.path())), (2, vec![0, 1]));
        log.taken(0);
        assert_eq!(log.used.len(), 2, "nobody knows what the failed one has left");
        log.taken(1);
        assert_eq!((log.used.len(), log.spare.len()), (1, 1));
    }

    #[test]
    fn however_often_the_disk_fails_there_is_one_file_more() {
        let directory = tempfile::tempdir().unwrap();
        let (mut log, _) = open(directory.path());
        log.append("before").unwrap();
        break_file(&mut log.used[0].file);
        log.append("not written").unwrap_err();
        for _ in 0..100 {
            let mut file = log.spare_or_new().unwrap();
            break_file(&mut file);
            log.spare.push(file);
            log.append("not written").unwrap_err();
        }
        assert_eq!(files(directory.path()).len(), 2);
        assert_eq!((log.used.len(), log.spare.len()), (1, 1));
    }

    #[test]
    fn no_more_files_are_kept_than_are_of_use() {
        let directory = tempfile::tempdir().unwrap();
        let (mut log, _) = open(directory.path());
        let text = "x".repeat(usize::try_from(FILE_BYTES).unwrap());
        for _ in 0..2 * SPARE_MAX {
            log.append(&text).unwrap();
        }
        assert_eq!(files(directory.path()).len(), 2 * SPARE_MAX);
        log.taken(i64::MAX);
        assert_eq!(files(directory.path()).len(), SPARE_MAX + 1);
    }
}
