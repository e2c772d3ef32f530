//! The machine: io_uring, limits, clock, disk.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};

use super::Finding;
use crate::config::Config;
use crate::runtime;

/// A ring and its buffers, for each shard.
const MEMLOCK_BYTES_WANTED: u64 = 8 << 20;

/// One for each connection, and some for files.
const DESCRIPTORS_WANTED: u64 = 65_536;

/// Small writes that are timed.
const SYNCS: usize = 24;

/// No disk and no flash without a protected cache makes a write durable faster than this.
const SYNC_SPAN_MIN: Duration = Duration::from_micros(20);

/// Slower than this, every acknowledgement waits noticeably.
const SYNC_SPAN_MAX: Duration = Duration::from_millis(20);

/// What is left for mail when new mail should already worry somebody.
const FREE_BYTES_WANTED: u64 = 2 << 30;

/// f_type of statfs(2), with what to think of it.
const FILE_SYSTEMS: [(u64, &str, Verdict); 10] = [
    (0xef53, "ext4", Verdict::Good),
    (0x5846_5342, "XFS", Verdict::Good),
    (0x9123_683e, "btrfs", Verdict::Slow),
    (0x2fc1_2fc1, "ZFS", Verdict::Good),
    (0xf2f5_2010, "F2FS", Verdict::Good),
    (0x794c_7630, "overlayfs", Verdict::Container),
    (0x0102_1994, "tmpfs", Verdict::Lost),
    (0x8584_58f6, "ramfs", Verdict::Lost),
    (0x6969, "NFS", Verdict::Network),
    (0xff53_4d42, "CIFS", Verdict::Network),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    Slow,
    Container,
    Lost,
    Network,
}

pub fn look(config: &Config) -> Vec<Finding> {
    let mut findings = vec![uring(), memlock(), descriptors(), clock()];
    findings.extend(data_dir(&config.data_dir));
    findings
}

/// Starts a shard for a moment: the kernel says no here or never.
fn uring() -> Finding {
    match runtime::block_on(async {}) {
        Ok(()) => Finding::good("io_uring", "available"),
        Err(error) => {
            let setting = fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
            let remedy = match setting.as_deref().map(str::trim) {
                Ok("1" | "2") => "sysctl kernel.io_uring_disabled=0, and in /etc/sysctl.d",
                _ => {
                    "Linux 5.8 or later with io_uring; in a container allow it in the seccomp \
                     profile; raise memlock (LimitMEMLOCK=infinity)"
                }
            };
            Finding::bad("io_uring", error.to_string(), remedy)
        }
    }
}

fn memlock() -> Finding {
    limit(
        "memlock",
        Resource::Memlock,
        MEMLOCK_BYTES_WANTED,
        "LimitMEMLOCK=infinity",
    )
}

/// The server raises the soft limit by itself; the hard one is the host's.
fn descriptors() -> Finding {
    limit(
        "descriptors",
        Resource::Nofile,
        DESCRIPTORS_WANTED,
        "LimitNOFILE=262144",
    )
}

fn limit(area: &'static str, resource: Resource, wanted: u64, unit: &str) -> Finding {
    match getrlimit(resource).maximum {
        None => Finding::good(area, "unlimited"),
        Some(most) if most >= wanted => Finding::good(area, format!("at most {most}")),
        Some(most) => Finding::warning(
            area,
            format!("at most {most}; {wanted} are advised"),
            format!("{unit} in the systemd unit, or /etc/security/limits.conf"),
        ),
    }
}

/// N14: a mail server with a wrong clock dates mail wrongly and misjudges certificates.
fn clock() -> Finding {
    if Path::new("/run/systemd/timesync/synchronized").exists() {
        return Finding::good("clock", "synchronised by systemd-timesyncd");
    }
    let known = ["chronyd", "ntpd", "ntpd-rs", "openntpd", "ptp4l"];
    match known.into_iter().find(|name| is_process(name)) {
        Some(name) => Finding::good("clock", format!("{name} is running")),
        None => Finding::warning(
            "clock",
            "nothing synchronises it, or a hypervisor that does not say so",
            "apt install systemd-timesyncd (or chrony), then timedatectl",
        ),
    }
}

fn is_process(name: &str) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else {
        return false;
    };
    let comm =
        |entry: io::Result<fs::DirEntry>| fs::read_to_string(entry.ok()?.path().join("comm")).ok();
    processes.filter_map(comm).any(|comm| comm.trim() == name)
}

fn data_dir(path: &Path) -> Vec<Finding> {
    // Before the first start there is none: its nearest parent tells as much.
    let Some(there) = path.ancestors().find(|path| path.is_dir()) else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    findings.extend(file_system(there));
    findings.push(match time_syncs(there) {
        Err(error) => Finding::bad(
            "data_dir",
            format!("{}: {error}", there.display()),
            format!(
                "run this as the server's user; or: install -d -m 700 -o palomar {}",
                path.display()
            ),
        ),
        Ok(span) if span < SYNC_SPAN_MIN => Finding::warning(
            "disk",
            format!(
                "{}: fdatasync takes {span:?}: too quick to be true",
                there.display()
            ),
            "make sure that the disk or the virtual machine honours flushes (cache=none or \
             writethrough, not unsafe): else a power cut loses acknowledged mail",
        ),
        Ok(span) if span > SYNC_SPAN_MAX => Finding::warning(
            "disk",
            format!("{}: fdatasync takes {span:?}", there.display()),
            "every acknowledgement waits for one; a solid-state disk takes below 5 ms",
        ),
        Ok(span) => Finding::good(
            "disk",
            format!("{}: fdatasync takes {span:?}", there.display()),
        ),
    });
    findings
}

fn file_system(path: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Ok(facts) = rustix::fs::statfs(path) else {
        return findings;
    };
    let kind = facts.f_type as u64 & 0xffff_ffff;
    let place = path.display();
    let finding = match FILE_SYSTEMS.iter().find(|(magic, ..)| *magic == kind) {
        None => Finding::warning(
            "file system",
            format!("{place} is on an unknown kind ({kind:#x})"),
            "ext4 and XFS are what Palomar is tested on",
        ),
        Some((_, name, verdict)) => {
            let what = format!("{place} is on {name}");
            match verdict {
                Verdict::Good => Finding::good("file system", what),
                Verdict::Slow => Finding::warning(
                    "file system",
                    what,
                    "copy-on-write makes a journal slow: chattr +C on an empty `data_dir`",
                ),
                Verdict::Container => Finding::warning(
                    "file system",
                    what,
                    "mount a volume: what is on the container's own layer goes away with it",
                ),
                Verdict::Lost => Finding::bad(
                    "file system",
                    format!("{what}: nothing there survives a restart"),
                    "set `data_dir` to a disk",
                ),
                Verdict::Network => Finding::bad(
                    "file system",
                    format!("{what}: its syncs and locks cannot be relied on"),
                    "set `data_dir` to a disk of this machine",
                ),
            }
        }
    };
    findings.push(finding);
    let block = u64::try_from(facts.f_frsize).unwrap_or(4096).max(1);
    let free = facts.f_bavail.saturating_mul(block);
    let free_text = crate::base::ByteSize(free / 1_000_000 * 1_000_000);
    findings.push(match free < FREE_BYTES_WANTED {
        false => Finding::good("disk space", format!("{free_text} free")),
        true => Finding::warning(
            "disk space",
            format!("{free_text} free"),
            "the journal alone takes journal_slots x journal_slot_bytes for each shard",
        ),
    });
    findings
}

/// The median of some small durable writes, in a file that goes away again.
fn time_syncs(directory: &Path) -> io::Result<Duration> {
    let probe = Probe(directory.join(format!(".palomar-check-{}", std::process::id())));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&probe.0)?;
    let mut spans = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let began = Instant::now();
        file.write_all(&[0x55; 4096])?;
        file.sync_data()?;
        spans.push(began.elapsed());
    }
    spans.sort();
    Ok(Duration::from_micros(
        u64::try_from(spans[SYNCS / 2].as_micros()).unwrap_or(u64::MAX),
    ))
}

struct Probe(PathBuf);

impl Drop for Probe {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
