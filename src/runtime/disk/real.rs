//! The blocking calls. Only pool threads and the start come here.
//!
//! Files are opened as what they are said to be: a symbolic link under a file's name is not
//! followed, and a FIFO or a device, which could keep a thread for ever, is refused.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::io::{self, BufReader, BufWriter, Read as _, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::step::{APPEND, FilePart};
use super::{DirEntry, DiskError, DiskOp, Done, Open, Step};
use crate::base::UnixMs;

/// Read and written at once by a conversion.
const COPY_BYTES: usize = 128 << 10;
/// Links that one path may lead through, as the kernel has it.
const LINKS_MAX: usize = 40;

/// Who may have made the directories of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// We or the administrator, who may have put links among them.
    Own,
    /// Others: no link is followed.
    Foreign,
}

pub(super) fn apply(step: &Step, reach: Reach) -> Result<Done, DiskError> {
    if let Step::Group(steps) = step {
        return steps.iter().try_fold(Done::default(), |all, step| {
            apply(step, reach).map(|done| all.and(done))
        });
    }
    if let Some((path, at, bytes, how)) = step.as_write() {
        let fd =
            open(path, how, reach).map_err(|cause| DiskError::new(DiskOp::Open, path, &cause))?;
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
        let converted = convert((from, reach), to, *how);
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
    let file: File = open(tmp, APPEND, Reach::Own)
        .map_err(failed(DiskOp::Open))?
        .into();
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

pub(super) fn convert<T>(
    (from, reach): (&Path, Reach),
    to: &Path,
    how: impl FnOnce(&mut dyn io::Read, &mut dyn io::Write) -> io::Result<T>,
) -> io::Result<T> {
    let (file, _) = open_to_read(from, reach)?;
    let mut reader = BufReader::with_capacity(COPY_BYTES, file);
    let truncate = Open {
        truncate: true,
        ..APPEND
    };
    let mut writer =
        BufWriter::with_capacity(COPY_BYTES, File::from(open(to, truncate, Reach::Own)?));
    let made = how(&mut reader, &mut writer)?;
    writer.flush()?;
    Ok(made)
}

fn with_rest(head: &[u8], rest: &FilePart) -> io::Result<Vec<u8>> {
    let (file, _) = open_to_read(&rest.path, Reach::Own)?;
    if let Some((unpack, len)) = rest.unpack {
        let mut packed = vec![0; rest.len];
        file.read_exact_at(&mut packed, rest.at)?;
        return Ok([head, &unpack(&packed, len)].concat());
    }
    let mut whole = Vec::with_capacity(head.len() + rest.len);
    whole.extend_from_slice(head);
    whole.resize(head.len() + rest.len, 0);
    file.read_exact_at(&mut whole[head.len()..], rest.at)?;
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
        Step::Truncate { path, len } => File::from(open(path, WRITE, Reach::Own)?).set_len(*len),
        Step::SetTimes { path, at } => set_times(&open_to_read(path, Reach::Own)?.0, *at),
        Step::SyncFile { path } => open_to_read(path, Reach::Own)?.0.sync_all(),
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

pub(super) fn open(path: &Path, how: Open, reach: Reach) -> io::Result<OwnedFd> {
    let mut flags = match (how.read, how.write) {
        (true, true) => OFlags::RDWR,
        (false, true) => OFlags::WRONLY,
        (true, false) => OFlags::RDONLY,
        (false, false) => return Err(Errno::INVAL.into()),
    };
    flags.set(OFlags::CREATE, how.create || how.create_new);
    flags.set(OFlags::EXCL, how.create_new);
    flags.set(OFlags::TRUNC, how.truncate);
    let (file, _) = open_file(path, flags, reach)?;
    Ok(file.into())
}

/// Opens a file to read, and tells how long it is.
pub(super) fn open_sized(path: &Path, reach: Reach) -> io::Result<(OwnedFd, u64)> {
    let (file, stat) = open_to_read(path, reach)?;
    Ok((file.into(), stat.st_size.unsigned_abs()))
}

fn open_to_read(path: &Path, reach: Reach) -> io::Result<(File, Stat)> {
    open_file(path, OFlags::RDONLY, reach)
}

/// Opens a regular file, and nothing else.
fn open_file(path: &Path, flags: OFlags, reach: Reach) -> io::Result<(File, Stat)> {
    // Without waiting: the other end of a FIFO may never come.
    let safely = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = open_any(path, flags | safely, reach)?;
    let stat = rustix::fs::fstat(&fd)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        FileType::Directory => return Err(Errno::ISDIR.into()),
        _ => return Err(Errno::INVAL.into()),
    }
    // The ring would answer EAGAIN to what is not in memory.
    rustix::fs::fcntl_setfl(&fd, OFlags::empty())?;
    Ok((fd.into(), stat))
}

fn open_any(path: &Path, flags: OFlags, reach: Reach) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    let mode = match flags.contains(OFlags::CREATE) {
        true => Mode::RUSR | Mode::WUSR,
        false => Mode::empty(),
    };
    Ok(match reach {
        Reach::Own => rustix::fs::open(path, flags, mode)?,
        Reach::Foreign => rustix::fs::openat2(CWD, path, flags, mode, ResolveFlags::NO_SYMLINKS)?,
    })
}

/// A whole file of at most `max` octets; `EFBIG` where it is longer.
pub(super) fn read(path: &Path, max: u64, reach: Reach) -> io::Result<Vec<u8>> {
    let (file, stat) = open_to_read(path, reach)?;
    let len = stat.st_size.unsigned_abs();
    if len > max {
        return Err(Errno::FBIG.into());
    }
    let mut bytes = Vec::with_capacity(len as usize);
    // It may grow meanwhile.
    file.take(max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The path without links. What is gone is named as it would be if it were there.
pub(super) fn canonical(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..LINKS_MAX {
        match fs::canonicalize(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            outcome => return outcome,
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::NOENT.into());
        };
        match fs::read_link(&path) {
            Ok(to) => path = parent.join(to),
            Err(_) => return Ok(fs::canonicalize(parent)?.join(name)),
        }
    }
    Err(Errno::LOOP.into())
}

pub(super) fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    open_any(path, OFlags::RDONLY | OFlags::DIRECTORY, Reach::Own)
}

/// A sync that failed leaves its pages clean, with what they should have become: they are dropped.
pub(super) fn settle(path: &Path) -> io::Result<()> {
    let (file, _) = open_to_read(path, Reach::Own)?;
    rustix::fs::fdatasync(&file)?;
    Ok(rustix::fs::fadvise(
        &file,
        0,
        None,
        rustix::fs::Advice::DontNeed,
    )?)
}

pub(super) fn list(path: &Path, reach: Reach) -> io::Result<Vec<DirEntry>> {
    let dir = open_any(path, OFlags::RDONLY | OFlags::DIRECTORY, reach)?;
    let device = rustix::fs::fstat(&dir)?.st_dev;
    let we = rustix::process::geteuid().as_raw();
    let mut entries = Vec::new();
    for entry in Dir::read_from(&dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => {
                let kind = FileType::from_raw_mode(stat.st_mode);
                let is_dir = kind == FileType::Directory;
                entries.push(DirEntry {
                    name: OsStr::from_bytes(name.to_bytes()).to_owned(),
                    is_dir,
                    is_file: kind == FileType::RegularFile,
                    is_ours: is_ours(we, stat.st_uid, stat.st_mode, is_dir),
                    is_mount: stat.st_dev != device,
                    len: stat.st_size.unsigned_abs(),
                    modified: modified(&stat),
                });
            }
            // Went between the two calls.
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// Whether user `we` owns what is there and may do with it what is to be done: files are read and
/// linked, directories written to.
fn is_ours(we: u32, owner: u32, mode: u32, is_dir: bool) -> bool {
    let needed = if is_dir { 0o700 } else { 0o400 };
    we == 0 || (we == owner && mode & needed == needed)
}

/// Without a look at each file.
pub(super) fn names(path: &Path, reach: Reach) -> io::Result<Vec<OsString>> {
    let dir = open_any(path, OFlags::RDONLY | OFlags::DIRECTORY, reach)?;
    let mut names = Vec::new();
    for entry in Dir::read_from(&dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

pub(super) fn stat(path: &Path, reach: Reach) -> io::Result<(u64, UnixMs)> {
    let stat = match reach {
        Reach::Own => rustix::fs::stat(path)?,
        Reach::Foreign => rustix::fs::fstat(open_any(path, OFlags::PATH, reach)?)?,
    };
    Ok((stat.st_size.unsigned_abs(), modified(&stat)))
}

fn modified(stat: &Stat) -> UnixMs {
    UnixMs(stat.st_mtime * 1000 + i64::try_from(stat.st_mtime_nsec).unwrap_or(0) / 1_000_000)
}

pub(super) fn survey<T>(
    path: &Path,
    reach: Reach,
    look: fn(&Path, &mut dyn io::Read) -> io::Result<T>,
) -> io::Result<(T, UnixMs)> {
    let (mut file, stat) = open_to_read(path, reach)?;
    Ok((look(path, &mut file)?, modified(&stat)))
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

const WRITE: Open = Open {
    read: false,
    write: true,
    create: false,
    create_new: false,
    truncate: false,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_files_may_be_used() {
        let check = |we, owner, mode, is_dir, want| {
            assert_eq!(is_ours(we, owner, mode, is_dir), want, "{owner} {mode:o}");
        };
        check(7, 7, 0o100_600, false, true);
        check(7, 7, 0o100_400, false, true);
        check(7, 7, 0o100_200, false, false);
        check(7, 8, 0o100_666, false, false);
        check(7, 7, 0o040_700, true, true);
        check(7, 7, 0o040_500, true, false);
        check(7, 8, 0o040_777, true, false);
        check(0, 8, 0o040_000, true, true);
    }
}
