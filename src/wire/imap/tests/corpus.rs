//! Replays `fuzz/corpus/imap`: each file is what one client sends on a connection.

use std::path::Path;

use super::commands::exhaust;
use super::frame::{LIMITS, Reader};
use crate::wire::imap::{FrameLimits, Framer, parse};

const SEEDS_MIN: usize = 40;

fn seeds() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/imap");
    let mut seeds: Vec<_> = std::fs::read_dir(folder)
        .expect("the corpus is in the tree")
        .map(|entry| {
            let path = entry.expect("the folder reads").path();
            let name = path.file_name().expect("a file has a name");
            let bytes = std::fs::read(&path).expect("the seed reads");
            (name.to_string_lossy().into_owned(), bytes)
        })
        .collect();
    seeds.sort();
    assert!(seeds.len() >= SEEDS_MIN, "only {} seeds", seeds.len());
    seeds
}

fn replay(bytes: &[u8], limits: FrameLimits) -> Reader {
    let mut framer = Framer::new(limits);
    let mut reader = Reader::default();
    reader.feed(&mut framer, bytes);
    exhaust(bytes);
    reader
}

#[test]
fn seeds_end_in_step() {
    let limits = FrameLimits {
        line_bytes_max: 8_192,
        literal_bytes_max: 1_000,
    };
    for (name, bytes) in seeds() {
        let reader = replay(&bytes, limits);
        let events = &reader.events;
        // Every seed ends in this command: whatever came before it, it must be understood.
        assert_eq!(
            events.last().map(String::as_str),
            Some("command zz NOOP\\r\\n"),
            "{name}: {events:?}"
        );
        if !name.starts_with("append") && !name.starts_with("reject") {
            let good = parse(&reader.commands[0]).is_ok();
            assert_eq!(good, !name.starts_with("bad-"), "{name}");
        }
    }
}

#[test]
fn seeds_read_alike_in_any_chunking() {
    for (name, bytes) in seeds() {
        let whole = replay(&bytes, LIMITS).events;
        for size in 1..bytes.len().min(50) {
            let mut framer = Framer::new(LIMITS);
            let mut reader = Reader::default();
            for chunk in bytes.chunks(size) {
                reader.feed(&mut framer, chunk);
            }
            assert_eq!(reader.events, whole, "{name} in chunks of {size}");
        }
    }
}

#[test]
fn flipped_bits_do_no_harm() {
    for (_, seed) in seeds() {
        for bit in 0..seed.len().min(300) * 8 {
            let mut bytes = seed.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            replay(&bytes, LIMITS);
        }
    }
}
