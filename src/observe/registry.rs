//! All rooms' metrics, and their text for the metrics listener.

use std::cell::Cell;
use std::fmt::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::metric::{BUCKETS, Block, Desc, Kind, ROWS, SUM_CELL, offset};
use super::process;
use crate::base::ShardId;

/// What [`render`] writes: OpenMetrics 1.0, which Prometheus reads.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Rooms are fewer. A room beyond counts but is not shown.
const BLOCKS_MAX: usize = 64;

static BLOCKS: [OnceLock<&'static Block>; BLOCKS_MAX] = [const { OnceLock::new() }; BLOCKS_MAX];

thread_local! {
    /// This thread's row in every block.
    static ROW: Cell<usize> = const { Cell::new(0) };
}

/// The highest row that a shard has entered.
static SHARD_ROWS: AtomicUsize = AtomicUsize::new(0);

/// Says that this thread is `shard` from here on.
pub fn enter_shard(shard: ShardId) {
    let row = 1 + usize::from(shard.0) % (ROWS - 1);
    SHARD_ROWS.fetch_max(row, Relaxed);
    ROW.set(row);
}

pub(super) fn row() -> usize {
    ROW.get()
}

/// Shows `block` from now on, zeros too. The first count does it as well.
pub fn register(block: &'static Block) {
    if block.registered.swap(true, Relaxed) {
        return;
    }
    for slot in &BLOCKS {
        if slot.set(block).is_ok() {
            return;
        }
    }
}

/// Everything that is counted, and facts of the process, as OpenMetrics text.
#[must_use]
pub fn render() -> String {
    let mut out = String::with_capacity(16 << 10);
    let mut blocks: Vec<&Block> = BLOCKS.iter().filter_map(OnceLock::get).copied().collect();
    blocks.sort_by_key(|block| block.room);
    for block in blocks {
        for (n, desc) in block.descs.iter().enumerate() {
            render_metric(block, desc, offset(block.descs, n), &mut out);
        }
    }
    process::render(&mut out);
    out.push_str("# EOF\n");
    out
}

fn render_metric(block: &Block, desc: &Desc, at: usize, out: &mut String) {
    let (kind, family) = match desc.kind {
        Kind::Counter => (
            "counter",
            desc.name.strip_suffix("_total").unwrap_or(desc.name),
        ),
        Kind::Gauge | Kind::ShardGauge => ("gauge", desc.name),
        Kind::Histogram(_) => ("histogram", desc.name),
    };
    let doc: Vec<&str> = desc.doc.iter().map(|line| line.trim()).collect();
    family_lines(family, kind, &doc.join(" "), out);
    for label in 0..desc.labels {
        let at = at + label * desc.cells();
        let mut labels = String::new();
        (desc.label)(label, &mut labels);
        match desc.kind {
            Kind::Counter => sample(family, "_total", &labels, block.sum(at), out),
            Kind::Gauge => sample(family, "", &labels, block.sum(at).cast_signed(), out),
            Kind::ShardGauge => {
                for row in 1..=SHARD_ROWS.load(Relaxed) {
                    let value = block.row(row, at).cast_signed();
                    sample(family, "", &format!("shard=\"{}\"", row - 1), value, out);
                }
            }
            Kind::Histogram(scale) => {
                let comma = if labels.is_empty() { "" } else { "," };
                let mut count = 0;
                for bucket in 0..=BUCKETS {
                    count += block.sum(at + bucket);
                    let bound = match bucket {
                        BUCKETS => "+Inf".to_owned(),
                        bucket => scale.bound(bucket).to_string(),
                    };
                    let labels = format!("{labels}{comma}le=\"{bound}\"");
                    sample(family, "_bucket", &labels, count, out);
                }
                sample(family, "_count", &labels, count, out);
                sample(
                    family,
                    "_sum",
                    &labels,
                    scale.shown(block.sum(at + SUM_CELL)),
                    out,
                );
            }
        }
    }
}

/// The lines above a family's samples.
pub(super) fn family_lines(family: &str, kind: &str, doc: &str, out: &mut String) {
    let _ = writeln!(out, "# TYPE {family} {kind}");
    let unit = ["seconds", "bytes"].into_iter().find(|unit| {
        family
            .strip_suffix(unit)
            .is_some_and(|rest| rest.ends_with('_'))
    });
    if let Some(unit) = unit {
        let _ = writeln!(out, "# UNIT {family} {unit}");
    }
    let doc = doc
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    let _ = writeln!(out, "# HELP {family} {doc}");
}

/// One sample line.
pub(super) fn sample(
    family: &str,
    suffix: &str,
    labels: &str,
    value: impl std::fmt::Display,
    out: &mut String,
) {
    let _ = match labels {
        "" => writeln!(out, "{family}{suffix} {value}"),
        labels => writeln!(out, "{family}{suffix}{{{labels}}} {value}"),
    };
}
