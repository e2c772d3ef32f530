//! Facts of this process from /proc/self, under the names that dashboards know.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use super::registry::{family_lines, sample};

/// When the first look at the metrics or the log was set up: the start of the process, to us.
static STARTED: OnceLock<f64> = OnceLock::new();

/// Notes the start of the process, once.
pub(super) fn note_start() -> f64 {
    *STARTED.get_or_init(|| {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        now.as_secs_f64()
    })
}

/// Appends the facts. Blocks on /proc only, which is memory. What can not be read is left out.
pub(super) fn render(out: &mut String) {
    let mut gauge = |name: &str, doc: &str, value: Option<u64>| {
        if let Some(value) = value {
            family_lines(name, "gauge", doc, out);
            sample(name, "", "", value, out);
        }
    };
    gauge(
        "process_resident_memory_bytes",
        "Resident memory.",
        resident_bytes(),
    );
    gauge(
        "process_open_fds",
        "Open file descriptors.",
        open_descriptors(),
    );
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    gauge(
        "process_max_fds",
        "Most file descriptors that may be open.",
        most,
    );
    family_lines(
        "process_start_time_seconds",
        "gauge",
        "Start, seconds since 1970.",
        out,
    );
    sample("process_start_time_seconds", "", "", note_start(), out);
    if let Some(seconds) = cpu_seconds() {
        family_lines(
            "process_cpu_seconds",
            "counter",
            "Processor time, user and system.",
            out,
        );
        sample("process_cpu_seconds", "_total", "", seconds, out);
    }
    family_lines("palomar_build", "info", "The version that runs.", out);
    let version = concat!("version=\"", env!("CARGO_PKG_VERSION"), "\"");
    sample("palomar_build", "_info", version, 1, out);
}

/// The second field of statm counts pages (proc(5)).
fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

fn open_descriptors() -> Option<u64> {
    let entries = std::fs::read_dir("/proc/self/fd").ok()?;
    // One of them is this listing.
    Some((entries.count() as u64).saturating_sub(1))
}

/// Fields 14 and 15 of stat, in ticks; the name in field 2 may hold spaces (proc(5)).
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / rustix::param::clock_ticks_per_second() as f64)
}
