//! The blocking calls. Only pool threads and the start come here.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::io::Errno;

use super::step::{APPEND, Convert, FilePart};
use super::{DirEntry, DiskError, DiskOp, Done, Open, Step};
use crate::base::UnixMs;

/// Read and written at once by a conversion.
const COPY_BYTES: usize = 128 << 10;

pub(super) fn apply(step: &Step) -> Result<Done, DiskError> {
    if let Step::Group(steps) = step {
        return steps.iter().try_fold(Done::default(), |all, step| {
            apply(step).map(|done| all.and(done))
        });
    }
    if let Some((path, at, bytes, how)) = step.as_write() {
        let fd = open(path, how).map_err(|cause| DiskError::new(DiskOp::Open, path, &cause))?;
        File::from(fd)
            .write_all_at(bytes, at)
            .map_err(|cause| DiskError::new(DiskOp::Write, path, &cause))?;
        return Ok(Done::wrote(bytes));
    }
    if let Step::Replace {
        tmp,
        to,
        bytes,
        rest,
        pack,
        modified,
    } = step
    {
        let mut whole = Cow::Borrowed(bytes.as_slice());
        if let Some(rest) = rest {
            let joined = with_rest(bytes, rest);
            let failed = |cause| DiskError::new(DiskOp::Read, &rest.path, &cause);
            whole = Cow::Owned(joined.map_err(failed)?);
        }
        if let Some(pack) = pack {
            whole = Cow::Owned(pack(whole.into_owned()));
        }
        return replace(tmp, to, &whole, *modified);
    }
    if let Step::Convert { from, to, how } = step {
        let converted = convert(from, to, *how);
        let converted = converted.map_err(|cause| DiskError::new(DiskOp::Write, from, &cause));
        return converted.map(|()| Done::default());
    }
    let (op, path) = step.subject();
    change(step).map_err(|cause| DiskError::new(op, path, &cause))?;
    Ok(Done::default())
}

fn replace(
    tmp: &Path,
    to: &Path,
    bytes: &[u8],
    modified: Option<UnixMs>,
) -> Result<Done, DiskError> {
    let failed = |op| move |cause: io::Error| DiskError::new(op, tmp, &cause);
    let file: File = open(tmp, APPEND).map_err(failed(DiskOp::Open))?.into();
    file.write_all_at(bytes, 0).map_err(failed(DiskOp::Write))?;
    // An earlier life may have left a longer one.
    let len = bytes.len() as u64;
    file.metadata()
        .and_then(|found| match found.len() == len {
            true => Ok(()),
            false => file.set_len(len),
        })
        .map_err(failed(DiskOp::Truncate))?;
    if let Some(at) = modified {
        set_times(&file, at).map_err(failed(DiskOp::SetTimes))?;
    }
    fs::rename(tmp, to).map_err(failed(DiskOp::Rename))?;
    Ok(Done::wrote(bytes))
}

fn convert(from: &Path, to: &Path, how: Convert) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(COPY_BYTES, File::open(from)?);
    let truncate = Open {
        truncate: true,
        ..APPEND
    };
    let mut writer = BufWriter::with_capacity(COPY_BYTES, File::from(open(to, truncate)?));
    how(&mut reader, &mut writer)?;
    writer.flush()
}

fn with_rest(head: &[u8], rest: &FilePart) -> io::Result<Vec<u8>> {
    let mut whole = Vec::with_capacity(head.len() + rest.len);
    whole.extend_from_slice(head);
    whole.resize(head.len() + rest.len, 0);
    File::open(&rest.path)?.read_exact_at(&mut whole[head.len()..], rest.at)?;
    Ok(whole)
}

fn set_times(file: &File, at: UnixMs) -> io::Result<()> {
    let at = system_time(at);
    file.set_times(fs::FileTimes::new().set_accessed(at).set_modified(at))
}

fn change(step: &Step) -> io::Result<()> {
    match step {
        Step::Rename { from, to } => fs::rename(from, to),
        Step::Link { from, to } => fs::hard_link(from, to),
        Step::Unlink { path } => fs::remove_file(path),
        Step::CreateDirAll { path } => DirBuilder::new().recursive(true).mode(0o700).create(path),
        Step::RemoveDirAll { path } => fs::remove_dir_all(path),
        Step::Truncate { path, len } => OpenOptions::new().write(true).open(path)?.set_len(*len),
        Step::SetTimes { path, at } => set_times(&File::open(path)?, *at),
        Step::SyncFile { path } => File::open(path)?.sync_all(),
        Step::SyncDir { path } => Ok(rustix::fs::fsync(open_dir(path)?)?),
        Step::WriteNew { .. }
        | Step::Append { .. }
        | Step::Replace { .. }
        | Step::Convert { .. }
        | Step::Group(_) => {
            unreachable!("a write is no change")
        }
    }
}

pub(super) fn open(path: &Path, how: Open) -> io::Result<OwnedFd> {
    let file = OpenOptions::new()
        .read(how.read)
        .write(how.write)
        .create(how.create)
        .create_new(how.create_new)
        .truncate(how.truncate)
        .mode(0o600)
        .open(path)?;
    Ok(file.into())
}

/// Opens a file to read, and tells how long it is.
pub(super) fn open_sized(path: &Path) -> io::Result<(OwnedFd, u64)> {
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    Ok((file.into(), len))
}

pub(super) fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    let flags =
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, rustix::fs::Mode::empty())?)
}

/// A sync that failed leaves its pages clean, with what they should have become: they are dropped.
pub(super) fn settle(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    rustix::fs::fdatasync(&file)?;
    Ok(rustix::fs::fadvise(
        &file,
        0,
        None,
        rustix::fs::Advice::DontNeed,
    )?)
}

pub(super) fn list(path: &Path) -> io::Result<Vec<DirEntry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        match entry.metadata() {
            Ok(metadata) => entries.push(DirEntry {
                name: entry.file_name(),
                is_dir: metadata.is_dir(),
                len: metadata.len(),
                modified: modified(&metadata),
            }),
            // Went between the two calls.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// Without a look at each file.
pub(super) fn names(path: &Path) -> io::Result<Vec<OsString>> {
    let entries = fs::read_dir(path)?;
    let mut names = entries
        .map(|entry| Ok(entry?.file_name()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable();
    Ok(names)
}

pub(super) fn stat(path: &Path) -> io::Result<(u64, UnixMs)> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.len(), modified(&metadata)))
}

fn modified(metadata: &fs::Metadata) -> UnixMs {
    UnixMs(metadata.mtime() * 1000 + metadata.mtime_nsec() / 1_000_000)
}

pub(super) fn survey<T>(
    path: &Path,
    look: fn(&Path, &mut dyn io::Read) -> io::Result<T>,
) -> io::Result<(T, UnixMs)> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    let modified = metadata.mtime() * 1000 + metadata.mtime_nsec() / 1_000_000;
    Ok((look(path, &mut file)?, UnixMs(modified)))
}

pub(super) fn syncfs(root: Option<Arc<OwnedFd>>) -> io::Result<()> {
    Ok(rustix::fs::syncfs(root.ok_or(Errno::BADF)?)?)
}

pub(super) fn free_bytes(root: Option<Arc<OwnedFd>>) -> io::Result<u64> {
    let stat = rustix::fs::fstatvfs(root.ok_or(Errno::BADF)?)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn system_time(at: UnixMs) -> SystemTime {
    let span = Duration::from_millis(at.0.unsigned_abs());
    if at.0 < 0 {
        UNIX_EPOCH - span
    } else {
        UNIX_EPOCH + span
    }
}
