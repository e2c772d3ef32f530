//! Replays `fuzz/corpus/smtp-replies`: each file is what one server sends.

use std::path::Path;

use crate::wire::smtp::{Offer, PeerReply, ReplyFault, ReplyParser};

const SEEDS_MIN: usize = 15;

/// All replies of `bytes`, shown `size` octets more at a time as a connection does it.
fn replies(bytes: &[u8], size: usize) -> (Vec<PeerReply>, Option<ReplyFault>) {
    let (mut parser, mut replies) = (ReplyParser::default(), Vec::new());
    let (mut at, mut shown) = (0, 0);
    while shown < bytes.len() {
        shown = bytes.len().min(shown.saturating_add(size));
        loop {
            let (used, read) = parser.read(&bytes[at..shown]);
            at += used;
            match read {
                Ok(Some(reply)) => {
                    let _ = (Offer::read(&reply), reply.to_string());
                    replies.push(reply);
                }
                Ok(None) => break,
                Err(fault) => return (replies, Some(fault)),
            }
        }
    }
    (replies, None)
}

fn seeds() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/smtp-replies");
    let seeds = std::fs::read_dir(folder).expect("the corpus is in the tree");
    let seed = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.expect("the folder reads").path();
        let name = path.file_name().expect("a file has a name");
        let bytes = std::fs::read(&path).expect("the seed reads");
        (name.to_string_lossy().into_owned(), bytes)
    };
    seeds.map(seed).collect()
}

#[test]
fn seeds_are_read_alike_however_they_are_cut() {
    let seeds = seeds();
    assert!(seeds.len() >= SEEDS_MIN, "only {} seeds", seeds.len());
    for (name, bytes) in seeds {
        let whole = replies(&bytes, usize::MAX);
        assert_eq!(whole.1.is_some(), name.starts_with("bad-"), "{name}");
        assert!(!whole.0.is_empty() || name.starts_with("bad-") || name == "cut");
        for size in 1..bytes.len().min(40) {
            assert_eq!(replies(&bytes, size), whole, "{name} in pieces of {size}");
        }
    }
}

#[test]
fn flipped_bits_do_no_harm() {
    for (_, seed) in seeds() {
        for bit in 0..seed.len() * 8 {
            let mut bytes = seed.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            replies(&bytes, 7);
        }
    }
}
