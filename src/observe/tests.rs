//! Lines that can not be forged, found again over rotated files; counters as a scraper reads them.

use std::collections::HashSet;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tracing_subscriber::layer::SubscriberExt as _;

use super::reader::{Follower, Query, newest_first};
use super::*;
use crate::base::{ByteSize, ShardId};

const SOON: Duration = Duration::from_secs(20);

/// Runs `body` with a log in `directory`, and waits until it is written.
fn logged(directory: &Path, file_bytes_max: u64, body: impl FnOnce(&Guard)) {
    let file = LogFile {
        directory: directory.to_owned(),
        file_bytes_max: ByteSize(file_bytes_max),
        keep_days: 365,
    };
    let (layer, guard) = LogLayer::start(LogTarget::File(file)).expect("the log opens");
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, || {
        body(&guard);
        assert!(guard.finish(SOON), "the log is written");
    });
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < until, "not in time: {what}");
        std::thread::yield_now();
    }
}

fn current(directory: &Path) -> String {
    fs::read_to_string(directory.join("palomar.log")).expect("there is a log")
}

#[test]
fn a_line_has_its_fields_in_order_and_no_content() {
    let directory = tempfile::tempdir().expect("a directory");
    logged(directory.path(), 1 << 20, |_| {
        log_event!(
            INFO,
            event::MESSAGE_ACCEPTED,
            session = %"aaaa",
            message = "bbbb",
            sender = "ana@example.org",
            bytes = 1234u64,
            tls = true,
            subject = "never",
            body = "never"
        );
        log_event!(DEBUG, event::JOURNAL_COMMITTED, records = 3u64);
        tracing::error!(target: "library", text = "not ours");
    });
    let text = current(directory.path());
    let (stamp, rest) = text.split_at(r#"{"ts":"2026-01-02T03:04:05.678Z""#.len());
    assert!(
        stamp.starts_with(r#"{"ts":"2"#) && stamp.ends_with("Z\""),
        "{text}"
    );
    insta::assert_snapshot!(rest.replace(",\"", "\n\""), @r#"

    "level":"info"
    "event":"message.accepted"
    "session":"aaaa"
    "message":"bbbb"
    "sender":"ana@example.org"
    "bytes":1234
    "tls":true}
    "#);
}

#[test]
fn a_cut_line_is_not_continued() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("palomar.log"), "{\"ts\":\"20").expect("written");
    logged(directory.path(), 1 << 20, |_| {
        log_event!(INFO, event::SERVER_STARTED)
    });
    let text = current(directory.path());
    assert_eq!(text.lines().count(), 2, "{text}");
}

const HOSTILE: &str = "(\\PC|[\u{0}-\u{1f}\u{7f}-\u{9f}\u{2028}\"\\\\= ]){0,400}";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a client sends as its name stays one value of one line.
    #[test]
    fn no_value_forges_a_line(value in HOSTILE) {
        let fields = fields_of(&value);
        let (json, logfmt) = (fields.json(), fields.logfmt());
        for line in [&json, &logfmt] {
            prop_assert_eq!(line.matches('\n').count(), 1);
            prop_assert!(line.ends_with('\n'));
            prop_assert!(!line.trim_end_matches('\n').contains(char::is_control));
        }
        let parsed: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        let kept = parsed["user"].as_str().expect("a text");
        match value.len() <= line::VALUE_BYTES_MAX {
            true => prop_assert_eq!(kept, value),
            false => prop_assert!(kept.ends_with("...") && value.starts_with(&kept[..900])),
        }
        prop_assert!(logfmt.contains(" user=") && logfmt.ends_with(" last=1\n"));
    }
}

/// The fields of an event whose user is `value`, taken as the layer takes them.
fn fields_of(value: &str) -> line::Fields {
    use std::sync::mpsc::{SyncSender, sync_channel};
    struct Catch(SyncSender<line::Fields>);
    impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Catch {
        fn on_event(
            &self,
            event: &tracing::Event<'_>,
            _: tracing_subscriber::layer::Context<'_, S>,
        ) {
            let fields = line::Fields::of(event, jiff::Timestamp::UNIX_EPOCH);
            self.0.try_send(fields).expect("one event");
        }
    }
    let (sender, events) = sync_channel(1);
    let subscriber = tracing_subscriber::registry().with(Catch(sender));
    tracing::subscriber::with_default(subscriber, || {
        log_event!(INFO, event::LOGIN_FAILED, user = value, last = 1u64);
    });
    events.try_recv().expect("the event came")
}

#[test]
fn event_names_are_noun_and_past_verb_once() {
    let mut seen = HashSet::new();
    for (name, doc) in event::ALL {
        let (noun, verb) = name.split_once('.').expect("noun.verb");
        let word = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        assert!(word(noun) && word(verb) && !doc.is_empty(), "{name}");
        assert!(seen.insert(name), "{name} stands twice");
    }
}

#[test]
fn lines_are_found_over_rotated_and_packed_files() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    logged(path, 4_000, |_| {
        for n in 0..300u64 {
            let user = if n % 3 == 0 {
                "ana@example.org"
            } else {
                "ben@example.org"
            };
            let id = format!("m{n}");
            log_event!(INFO, event::LOGIN_SUCCEEDED, user, session = "s1", message = %id, n);
        }
    });
    let packed = || {
        rotate::list(path)
            .expect("listed")
            .iter()
            .any(|file| file.compressed)
    };
    eventually("a file is packed", packed);
    for file in fs::read_dir(path).expect("listed").flatten() {
        // A file may just have been packed and be gone.
        let small = file.metadata().map_or(true, |facts| facts.len() < 4_500);
        assert!(small, "{file:?}");
    }
    let find = |query: &Query, most| -> Vec<u64> {
        let (found, trouble) = newest_first(path, query, most);
        assert!(trouble.is_none(), "{trouble:?}");
        found
            .iter()
            .filter_map(|entry| entry.get("n")?.parse().ok())
            .collect()
    };
    let all = Query::default();
    assert_eq!(find(&all, 10_000), (0..300).rev().collect::<Vec<u64>>());
    let ana = Query {
        user: Some("Ana@Example.org".to_owned()),
        ..Query::default()
    };
    assert_eq!(find(&ana, 3), [297, 294, 291]);
    assert_eq!(find(&ana, 10_000).len(), 100);
    let one = Query {
        message: Some("m7".to_owned()),
        session: Some("s1".to_owned()),
        ..Query::default()
    };
    assert_eq!(find(&one, 10), [7]);
    let (found, _) = newest_first(path, &one, 1);
    let exact = Query {
        since: Some(found[0].time),
        until: Some(found[0].time),
        ..one.clone()
    };
    assert_eq!(find(&exact, 10), [7]);
    let later = Query {
        since: Some(crate::base::UnixMs(found[0].time.0 + 1)),
        ..one
    };
    assert!(find(&later, 10).is_empty());
}

#[test]
fn following_goes_on_into_the_next_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    logged(path, 600, |guard| {
        let query = Query {
            user: Some("ana".to_owned()),
            ..Query::default()
        };
        let mut follower = Follower::open(path, query).expect("opens");
        let mut seen = Vec::new();
        for n in 0..40u64 {
            log_event!(INFO, event::LOGIN_SUCCEEDED, user = "ana", n);
            log_event!(INFO, event::LOGIN_SUCCEEDED, user = "ben", n);
            assert!(guard.finish(SOON));
            seen.extend(
                follower
                    .poll()
                    .expect("reads")
                    .iter()
                    .filter_map(|e| e.get("n")),
            );
        }
        assert_eq!(
            seen,
            (0..40).map(|n: u64| n.to_string()).collect::<Vec<_>>()
        );
    });
    assert!(!rotate::list(path).expect("listed").is_empty());
}

#[test]
fn old_files_are_deleted_young_ones_packed() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    let young = format!(
        "palomar-{}.log",
        jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%.3fZ")
    );
    for name in [
        "palomar-20200101T000000.000Z.log.gz",
        young.as_str(),
        "palomar-notes.log",
    ] {
        fs::write(path.join(name), "a line\n").expect("written");
    }
    assert_eq!(rotate::sweep(path, 365), 0);
    let mut names: Vec<String> = fs::read_dir(path)
        .expect("listed")
        .map(|entry| {
            entry
                .expect("entry")
                .file_name()
                .into_string()
                .expect("ASCII")
        })
        .collect();
    names.sort();
    assert_eq!(
        names,
        [format!("{young}.gz"), "palomar-notes.log".to_owned()]
    );
}

/// A full disk: lines wait, nobody who logs does, and all are there when there is room again.
#[test]
fn a_full_disk_loses_no_line_that_fits_the_buffer() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("palomar.log");
    std::os::unix::fs::symlink("/dev/full", &log).expect("linked");
    let before = counters::LOG_WRITE_ERRORS.get();
    logged(directory.path(), 1 << 20, |guard| {
        for n in 0..100u64 {
            log_event!(INFO, event::LOGIN_SUCCEEDED, n);
        }
        assert!(!guard.finish(Duration::from_millis(50)), "the disk is full");
        assert!(counters::LOG_WRITE_ERRORS.get() > before);
        fs::remove_file(&log).expect("removed");
    });
    assert_eq!(current(directory.path()).lines().count(), 100);
}

/// A disk that stands still: the queue fills, lines are dropped and counted, nobody waits.
#[test]
fn a_stuck_disk_never_holds_up_who_logs() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("palomar.log");
    rustix::fs::mkfifoat(rustix::fs::CWD, &log, 0o600.into()).expect("a pipe");
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK;
    let pipe = rustix::fs::open(&log, flags, 0.into()).expect("opens");
    let before = counters::LOG_DROPPED.get();
    logged(directory.path(), 1 << 30, |_| {
        let begin = Instant::now();
        for n in 0..40_000u64 {
            log_event!(
                INFO,
                event::LOGIN_SUCCEEDED,
                user = "somebody@example.org",
                n
            );
        }
        assert!(begin.elapsed() < SOON);
        assert!(counters::LOG_DROPPED.get() - before > 10_000);
        fs::remove_file(&log).expect("removed");
        // The writer sees a broken pipe, and opens a file.
        fs::File::from(pipe)
            .read_exact(&mut [0; 100])
            .expect("something was written");
    });
    assert!(current(directory.path()).lines().count() > 1_000);
}

mod metered {
    use super::super::{label, metrics};

    label! {
        /// A protocol.
        pub enum Proto: "proto" { Imap = "imap", Smtp = "smtp" }
    }
    label! {
        /// An end.
        pub enum Outcome: "outcome" { Good = "good", Bad = "bad" }
    }
    metrics! {
        "test";
        /// Things.
        counter PLAIN = "palomar_test_things_total";
        /// Ends
        /// in two lines, "quoted" \ and all.
        counter ENDS by (Proto, Outcome) = "palomar_test_ends_total";
        /// Open ones.
        gauge OPEN by Proto = "palomar_test_open";
        /// Deep ones.
        shard_gauge DEPTH = "palomar_test_depth_bytes";
        /// Waits.
        histogram WAIT(Seconds) by Proto = "palomar_test_wait_seconds";
        /// Sizes.
        histogram SIZE(Bytes) = "palomar_test_size_bytes";
        /// Batches.
        histogram BATCH(Count) = "palomar_test_batch_records";
    }
}

#[test]
fn counts_of_all_threads_are_summed_and_rendered() {
    use metered::*;
    let each = |shard: u16| {
        std::thread::spawn(move || {
            enter_shard(ShardId(shard));
            for _ in 0..1_000 {
                PLAIN.increment();
                ENDS.increment((Proto::Smtp, Outcome::Bad));
                OPEN.add(Proto::Imap, 1);
                WAIT.observe(Proto::Smtp, Duration::from_micros(15));
            }
            OPEN.subtract(Proto::Imap, 999);
            DEPTH.set(u64::from(shard) + 7);
        })
    };
    let threads: Vec<_> = (0..3).map(each).collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().expect("no panic"));
    PLAIN.add(5);
    SIZE.record(0);
    SIZE.record(1_024);
    SIZE.record(1_025);
    SIZE.record(u64::MAX);
    BATCH.record(3);
    assert_eq!(PLAIN.get(), 3_005);
    assert_eq!(ENDS.get((Proto::Smtp, Outcome::Bad)), 3_000);
    assert_eq!(ENDS.get((Proto::Imap, Outcome::Good)), 0);
    assert_eq!(OPEN.get(Proto::Imap), 3);
    assert_eq!(WAIT.count(Proto::Smtp), 3_000);

    let text = render();
    check_open_metrics(&text);
    for line in [
        "palomar_test_things_total 3005",
        "palomar_test_ends_total{proto=\"smtp\",outcome=\"bad\"} 3000",
        "palomar_test_open{proto=\"imap\"} 3",
        "palomar_test_depth_bytes{shard=\"2\"} 9",
        "palomar_test_wait_seconds_bucket{proto=\"smtp\",le=\"0.00001\"} 0",
        "palomar_test_wait_seconds_bucket{proto=\"smtp\",le=\"0.00002\"} 3000",
        "palomar_test_size_bytes_bucket{le=\"1024\"} 2",
        "palomar_test_size_bytes_bucket{le=\"2048\"} 3",
        "palomar_test_size_bytes_bucket{le=\"+Inf\"} 4",
        "palomar_test_batch_records_bucket{le=\"2\"} 0",
        "palomar_test_batch_records_bucket{le=\"4\"} 1",
        "palomar_test_batch_records_sum 3",
        "palomar_build_info{version=\"0.1.0\"} 1",
    ] {
        assert!(
            text.contains(&format!("\n{line}\n")),
            "{line} is not in:\n{text}"
        );
    }
    assert!(text.contains("process_resident_memory_bytes"));
}

/// The rules of OpenMetrics 1.0 that a scraper trips over.
fn check_open_metrics(text: &str) {
    let body = text.strip_suffix("# EOF\n").expect("ends with EOF");
    let (mut family, mut kind) = ("", "");
    let (mut families, mut samples) = (HashSet::new(), HashSet::new());
    let (mut last_bucket, mut last_set) = (0.0, String::new());
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            (family, kind) = rest.split_once(' ').expect("name and type");
            assert!(
                ["counter", "gauge", "histogram", "info"].contains(&kind),
                "{line}"
            );
            assert!(!family.ends_with("_total"), "{line}");
            assert!(
                families.insert(family),
                "a family stands in one place: {line}"
            );
        } else if let Some(rest) = line.strip_prefix("# UNIT ") {
            let (name, unit) = rest.split_once(' ').expect("name and unit");
            assert!(
                name == family && name.ends_with(&format!("_{unit}")),
                "{line}"
            );
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            assert!(rest.starts_with(family), "{line}");
        } else {
            let (series, value) = line.rsplit_once(' ').expect("series and value");
            let value: f64 = value.parse().expect("a number");
            assert!(samples.insert(series.to_owned()), "twice: {line}");
            let (name, labels) = match series.split_once('{') {
                Some((name, labels)) => (name, labels.strip_suffix('}').expect("closed")),
                None => (series, ""),
            };
            let suffix = name.strip_prefix(family).expect("of this family");
            let allowed: &[&str] = match kind {
                "counter" => &["_total"],
                "gauge" => &[""],
                "histogram" => &["_bucket", "_count", "_sum"],
                _ => &["_info"],
            };
            assert!(allowed.contains(&suffix), "{line}");
            for label in labels.split(',').filter(|label| !label.is_empty()) {
                let (key, value) = label.split_once("=\"").expect("key=\"value\"");
                assert!(
                    key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
                    "{line}"
                );
                let value = value.strip_suffix('"').expect("closed");
                assert!(!value.contains(['"', '\\', '\n']), "{line}");
            }
            if suffix == "_bucket" {
                let set = labels.split("le=").next().unwrap_or_default().to_owned() + family;
                assert!(
                    set != last_set || value >= last_bucket,
                    "not cumulative: {line}"
                );
                (last_bucket, last_set) = (value, set);
            } else if suffix == "_count" {
                assert!(value == last_bucket, "count is the +Inf bucket: {line}");
            }
        }
    }
    assert!(families.len() > 5);
}
