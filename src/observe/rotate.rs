//! Names of log files, and what becomes of old ones.
//!
//! `palomar.log` is written; put aside it is `palomar-20260102T030405.678Z.log` after the time of
//! its last line at the latest, then `.log.gz`, then after the days to keep it is deleted.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use flate2::Compression;
use flate2::write::GzEncoder;

/// The file that is written.
pub(super) const CURRENT: &str = "palomar.log";

const PREFIX: &str = "palomar-";
const STAMP: &str = "%Y%m%dT%H%M%S%.3fZ";
const DAY_SECONDS: i64 = 86_400;

/// A file that was put aside.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Aside {
    /// Not before its last line.
    pub until: jiff::Timestamp,
    pub compressed: bool,
    pub path: PathBuf,
}

pub(super) fn today() -> i64 {
    jiff::Timestamp::now().as_second().div_euclid(DAY_SECONDS)
}

pub(super) fn day_of(time: SystemTime) -> i64 {
    jiff::Timestamp::try_from(time).map_or(0, |ts| ts.as_second().div_euclid(DAY_SECONDS))
}

/// Whether the file, which is not empty, ends with a whole line.
pub(super) fn ends_with_newline(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    file.seek(io::SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// Renames the current file after the present time; its new name.
pub(super) fn put_aside(directory: &Path) -> io::Result<PathBuf> {
    let mut until = jiff::Timestamp::now();
    loop {
        let stem = directory.join(format!("{PREFIX}{}", until.strftime(STAMP)));
        let (plain, packed) = (
            stem.with_added_extension("log"),
            stem.with_added_extension("log.gz"),
        );
        if plain.exists() || packed.exists() {
            until += jiff::SignedDuration::from_millis(1);
            continue;
        }
        fs::rename(directory.join(CURRENT), &plain)?;
        return Ok(plain);
    }
}

/// Every file that was put aside, oldest first. Where a stop left a file in both forms, the packed
/// one counts: it got its name only when whole.
pub(super) fn list(directory: &Path) -> io::Result<Vec<Aside>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(stem) = name.and_then(|name| name.strip_prefix(PREFIX)) else {
            continue;
        };
        let (stamp, compressed) = match (stem.strip_suffix(".log"), stem.strip_suffix(".log.gz")) {
            (Some(stamp), _) => (stamp, false),
            (_, Some(stamp)) => (stamp, true),
            _ => continue,
        };
        if let Some(until) = parse_stamp(stamp) {
            files.push(Aside {
                until,
                compressed,
                path,
            });
        }
    }
    Ok(one_form_each(files))
}

/// As [`list`], for a reader while a sweep may be at work. One listing can miss a file that is
/// packed just then: its new name comes too late, its old one is gone too early. Such a file is in
/// a second listing, and one that the second misses was in the first.
pub(super) fn list_beside_sweep(directory: &Path) -> io::Result<Vec<Aside>> {
    let mut files = list(directory)?;
    files.extend(list(directory)?);
    Ok(one_form_each(files))
}

/// Opens the file in the form that it has now; true if that is the packed one.
pub(super) fn open(aside: &Aside) -> io::Result<(File, bool)> {
    match File::open(&aside.path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !aside.compressed => {
            Ok((File::open(aside.path.with_added_extension("gz"))?, true))
        }
        other => Ok((other?, aside.compressed)),
    }
}

fn one_form_each(mut files: Vec<Aside>) -> Vec<Aside> {
    files.sort_by_key(|file| (file.until, !file.compressed));
    files.dedup_by_key(|file| file.until);
    files
}

fn parse_stamp(stamp: &str) -> Option<jiff::Timestamp> {
    let time = jiff::civil::DateTime::strptime(STAMP, stamp).ok()?;
    Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
}

/// Compresses what is plain, deletes what is too old; the number of failures.
pub(super) fn sweep(directory: &Path, keep_days: u32) -> u64 {
    let Ok(files) = list(directory) else {
        return 1;
    };
    let keep = jiff::SignedDuration::from_secs(i64::from(keep_days) * DAY_SECONDS);
    let now = jiff::Timestamp::now();
    let mut failures = 0;
    for file in files {
        let plain = file.path.with_extension("");
        let done = if now.duration_since(file.until) > keep {
            fs::remove_file(&file.path)
        } else if !file.compressed {
            compress(&file.path)
        } else if plain.exists() {
            fs::remove_file(plain)
        } else {
            Ok(())
        };
        failures += u64::from(done.is_err());
    }
    failures
}

/// The packed file gets its name only when it is whole on disk; only then the plain one goes.
fn compress(plain: &Path) -> io::Result<()> {
    let packed = plain.with_added_extension("gz");
    let partial = plain.with_added_extension("gz.tmp");
    let mut from = File::open(plain)?;
    let mut encoder = GzEncoder::new(File::create(&partial)?, Compression::fast());
    let packing = io::copy(&mut from, &mut encoder).and_then(|_| encoder.finish());
    let packing = packing.and_then(|file| {
        file.set_permissions(from.metadata()?.permissions())?;
        file.sync_all()?;
        fs::rename(&partial, &packed)
    });
    if packing.is_err() {
        // Best effort on a full disk; the next try truncates it anyway.
        let _ = fs::remove_file(&partial);
    }
    packing?;
    fs::remove_file(plain)
}
