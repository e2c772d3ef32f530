//! Metrics of the process as a whole, and of the store: its rooms count for themselves, this
//! publishes what they counted every five seconds.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::config::Protocol;
use crate::net::ListenerCounters;
use crate::observe::{self, Block, label, metrics};
use crate::runtime::{self, Gate};
use crate::session::{pop3, smtp};
use crate::store::{Store, StoreStats};
use crate::{delivery, dns, queue};

label! {
    /// What a listener speaks.
    pub enum Speaks: "protocol" {
        Smtp = "smtp",
        Submission = "submission",
        Submissions = "submissions",
        Lmtp = "lmtp",
        Imap = "imap",
        Imaps = "imaps",
        Pop3 = "pop3",
        Pop3s = "pop3s",
        Metrics = "metrics",
    }
}

impl From<Protocol> for Speaks {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Smtp => Speaks::Smtp,
            Protocol::Submission => Speaks::Submission,
            Protocol::Submissions => Speaks::Submissions,
            Protocol::Lmtp => Speaks::Lmtp,
            Protocol::Imap => Speaks::Imap,
            Protocol::Imaps => Speaks::Imaps,
            Protocol::Pop3 => Speaks::Pop3,
            Protocol::Pop3s => Speaks::Pop3s,
            Protocol::Metrics => Speaks::Metrics,
        }
    }
}

metrics! {
    "server";
    /// Connections that were accepted.
    counter ACCEPTED by Speaks = "palomar_net_connections_accepted_total";
    /// Connections that a limit or a missing PROXY header refused.
    counter REFUSED by Speaks = "palomar_net_connections_refused_total";
    /// Shards that serve.
    gauge SHARDS_READY = "palomar_server_shards_ready";
    /// Reloads that were taken up.
    counter RELOADS = "palomar_server_reloads_total";
    /// Panics that were caught. Each is a bug; the log has it.
    gauge PANICS = "palomar_server_panics_caught";
    /// Records in the journal.
    counter RECORDS = "palomar_store_journal_records_total";
    /// Batches of records: what one write and one fdatasync made durable.
    counter BATCHES = "palomar_store_journal_batches_total";
    /// fdatasyncs of the journal, seals included.
    counter FDATASYNCS = "palomar_store_journal_fdatasyncs_total";
    /// Bytes written to the journal, padding included.
    counter BYTES = "palomar_store_journal_bytes_total";
    /// Slots that were recycled.
    counter RECYCLED = "palomar_store_journal_slots_recycled_total";
    /// How full the journal's ring is. From 850 new mail waits.
    shard_gauge FILL = "palomar_store_journal_fill_permille";
    /// Files that were written from the journal.
    counter SETTLED = "palomar_store_settled_total";
    /// Checkpoints.
    counter CHECKPOINTS = "palomar_store_checkpoints_total";
    /// Messages of a queue partition that their owner took.
    counter HANDED_OVER = "palomar_store_outbox_handed_over_total";
    /// Messages of a queue partition that wait for their owner.
    shard_gauge OUTBOX = "palomar_store_outbox_waiting";
    /// Files that wait to be written.
    shard_gauge UNSETTLED = "palomar_store_unsettled";
    /// Message files that were compressed after they were written.
    counter FILES_PACKED = "palomar_store_files_compressed_total";
    /// Message files that are gone although the index names them.
    counter FILES_MISSING = "palomar_store_files_missing_total";
    /// Mailbox indexes in memory, in octets.
    shard_gauge INDEX_BYTES = "palomar_store_index_bytes";
    /// Indexes that could not be read.
    counter INDEXES_DAMAGED = "palomar_store_indexes_damaged_total";
    /// Indexes that were made anew. Less than those damaged: look into the log.
    counter INDEXES_REBUILT = "palomar_store_indexes_rebuilt_total";
    /// Copies of catalogues that were damaged. The other copy takes their place.
    counter CATALOGUES_DAMAGED = "palomar_store_catalogues_damaged_total";
    /// Places in live slots of the journal that a scrub found damaged. A checkpoint mends them.
    counter JOURNAL_DAMAGED = "palomar_store_journal_damaged_total";
    /// Cached digests that were damaged, and made anew.
    counter DIGESTS_DAMAGED = "palomar_store_digests_damaged_total";
    /// Messages that are not what was taken in. `palomar scrub` says which.
    counter MESSAGES_DAMAGED = "palomar_store_messages_damaged_total";
    /// Message files without a row that were taken in as new messages.
    counter ORPHANS_TAKEN = "palomar_store_orphans_taken_total";
    /// Compressed archive files of which only a part could be unpacked.
    counter ARCHIVES_CUT = "palomar_store_archives_cut_total";
    /// Settling that had to be put off.
    counter SETTLE_FAILURES = "palomar_store_settle_failures_total";
    /// Partitions that cannot be settled: the log says which path is in the way.
    shard_gauge STUCK = "palomar_store_partitions_stuck";
    /// Removed messages, and parts of their history, that could not be kept for `palomar restore`.
    counter HISTORY_LOST = "palomar_store_history_lost_total";
    /// Free bytes on the file system of the data directory.
    gauge FREE_BYTES = "palomar_store_free_bytes";
    /// New mail that was refused because less than `store.free_bytes_min` was free.
    counter MAIL_REFUSED = "palomar_store_mail_refused_full_total";
    /// Days of removed messages that went early because the disk was full.
    counter HISTORY_DAYS_EARLY = "palomar_store_history_days_early_total";
}

/// Every room that counts (docs/METRICS.md).
#[must_use]
pub fn rooms() -> [&'static Block; 7] {
    [
        &observe::METRICS,
        &dns::METRICS,
        &delivery::METRICS,
        &queue::METRICS,
        &smtp::METRICS,
        &pop3::METRICS,
        &METRICS,
    ]
}

/// Scrapers come every fifteen seconds or so; an idle server hardly wakes.
const PUBLISH_EVERY: Duration = Duration::from_secs(5);

/// Publishes what the store of this shard did, until `gate` closes.
pub async fn publish(store: Store, gate: Gate) {
    let mut before = StoreStats::default();
    while !gate.is_closed() {
        let now = store.stats();
        let count = |counter: &crate::observe::Counter, now: u64, before: u64| {
            counter.add(now.saturating_sub(before));
        };
        count(&RECORDS, now.journal.records, before.journal.records);
        count(&BATCHES, now.journal.batches, before.journal.batches);
        count(
            &FDATASYNCS,
            now.journal.fdatasyncs,
            before.journal.fdatasyncs,
        );
        count(&BYTES, now.journal.bytes, before.journal.bytes);
        count(
            &RECYCLED,
            now.journal.slots_recycled,
            before.journal.slots_recycled,
        );
        count(&SETTLED, now.settled, before.settled);
        count(&CHECKPOINTS, now.checkpoints, before.checkpoints);
        count(&HANDED_OVER, now.handed_over, before.handed_over);
        count(&FILES_PACKED, now.packed, before.packed);
        count(&FILES_MISSING, now.files_missing, before.files_missing);
        count(
            &INDEXES_DAMAGED,
            now.indexes_damaged,
            before.indexes_damaged,
        );
        count(
            &INDEXES_REBUILT,
            now.indexes_rebuilt,
            before.indexes_rebuilt,
        );
        count(
            &CATALOGUES_DAMAGED,
            now.catalogues_damaged,
            before.catalogues_damaged,
        );
        count(
            &JOURNAL_DAMAGED,
            now.journal_damaged,
            before.journal_damaged,
        );
        count(
            &DIGESTS_DAMAGED,
            now.digests_damaged,
            before.digests_damaged,
        );
        count(
            &MESSAGES_DAMAGED,
            now.messages_damaged,
            before.messages_damaged,
        );
        count(&ORPHANS_TAKEN, now.orphans_taken, before.orphans_taken);
        count(&ARCHIVES_CUT, now.archives_cut, before.archives_cut);
        count(
            &SETTLE_FAILURES,
            now.settle_failures,
            before.settle_failures,
        );
        count(&HISTORY_LOST, now.history_lost, before.history_lost);
        count(
            &HISTORY_DAYS_EARLY,
            now.history_days_early,
            before.history_days_early,
        );
        count(&MAIL_REFUSED, now.mail_refused, before.mail_refused);
        FREE_BYTES.set(now.free_bytes);
        INDEX_BYTES.set(now.index_bytes);
        FILL.set(u64::from(now.journal_fill_permille));
        OUTBOX.set(now.outbox);
        UNSETTLED.set(now.unsettled);
        STUCK.set(now.stuck);
        PANICS.set(runtime::panics());
        before = now;
        let slept = async { runtime::rest(PUBLISH_EVERY).await };
        futures_lite::future::or(slept, gate.closing()).await;
    }
}

/// Publishes what the listeners of all shards saw; a task of one shard.
pub async fn publish_listeners(listeners: Vec<(Speaks, Arc<ListenerCounters>)>, gate: Gate) {
    let mut before = vec![(0, 0); listeners.len()];
    while !gate.is_closed() {
        for ((speaks, counters), before) in listeners.iter().zip(&mut before) {
            let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
            let refused = read(&counters.refused_address)
                + read(&counters.refused_listener)
                + read(&counters.refused_proxy);
            let now = (read(&counters.accepted), refused);
            ACCEPTED.add(*speaks, now.0 - before.0);
            REFUSED.add(*speaks, now.1 - before.1);
            *before = now;
        }
        let slept = async { runtime::rest(PUBLISH_EVERY).await };
        futures_lite::future::or(slept, gate.closing()).await;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write as _;
    use std::{env, fs};

    use super::rooms;

    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/METRICS.md");
    const ABOUT: &str = "# Metrics\n\n\
        What the `metrics` listener serves at `/metrics` as OpenMetrics text, beside the \
        `process_` facts that\nevery exporter has. Counts are since the start, over all shards \
        but where there is one series a shard.\n\n\
        This page is generated from the rooms' `counters.rs`; a test keeps it so\n\
        (`PALOMAR_REGENERATE=1 cargo test --lib server::counters`).\n";

    /// Every metric with its kind, its labels and its sentence.
    fn page() -> String {
        let mut out = ABOUT.to_owned();
        for room in rooms() {
            let _ = write!(
                out,
                "\n## {}\n\n| metric | kind | labels | says |\n",
                room.room
            );
            out.push_str("|---|---|---|---|\n");
            for desc in room.descs {
                let kind = match format!("{:?}", desc.kind).to_lowercase() {
                    kind if kind == "shardgauge" => "gauge, one a shard".to_owned(),
                    kind if kind.starts_with("histogram") => "histogram".to_owned(),
                    kind => kind,
                };
                let doc: Vec<&str> = desc.doc.iter().map(|line| line.trim()).collect();
                let (labels, doc) = (labels(desc.labels, desc.label), doc.join(" "));
                let _ = writeln!(out, "| `{}` | {kind} | {labels} | {doc} |", desc.name);
            }
        }
        out
    }

    /// `fate`: delivered, deferred...
    fn labels(count: usize, write: fn(usize, &mut String)) -> String {
        let mut keys: Vec<(String, Vec<String>)> = Vec::new();
        for at in 0..count {
            let mut text = String::new();
            write(at, &mut text);
            for pair in text.split(',').filter(|pair| !pair.is_empty()) {
                let (key, value) = pair.split_once('=').expect("key=value");
                let value = value.trim_matches('"').to_owned();
                match keys.iter_mut().find(|(known, _)| known == key) {
                    Some((_, values)) if values.contains(&value) => {}
                    Some((_, values)) => values.push(value),
                    None => keys.push((key.to_owned(), vec![value])),
                }
            }
        }
        let each = keys.iter();
        let each = each.map(|(key, values)| format!("`{key}`: {}", values.join(", ")));
        each.collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn the_page_has_every_metric() {
        let want = page();
        if env::var_os("PALOMAR_REGENERATE").is_some() {
            fs::write(PAGE, &want).expect("docs are there");
        }
        let got = fs::read_to_string(PAGE).unwrap_or_default();
        assert!(
            got == want,
            "docs/METRICS.md is not what the rooms count: regenerate it"
        );
        let names = rooms().into_iter().flat_map(|room| room.descs);
        let mut seen = BTreeSet::new();
        for desc in names {
            assert!(seen.insert(desc.name), "{} is there twice", desc.name);
        }
    }
}
