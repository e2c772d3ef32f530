//! Replays `fuzz/corpus/mbox`: each file is an mbox file that some program wrote, or a broken one.

use std::path::Path;

use super::read;
use crate::wire::mbox::{Dialect, from_line, is_internal, judge, marks};

const SEEDS_MIN: usize = 8;

#[test]
fn seeds_are_read_alike_however_they_are_cut() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/mbox");
    let seeds = std::fs::read_dir(folder).expect("the corpus is in the tree");
    let mut count = 0;
    for seed in seeds {
        let path = seed.expect("the folder reads").path();
        let file = std::fs::read(&path).expect("the seed reads");
        let dialect = judge(&file, true);
        for dialect in [dialect, Dialect::RD] {
            let whole = read(&file, dialect, 1 << 20);
            assert_eq!(read(&file, dialect, 13), whole, "{}", path.display());
            for found in whole.iter().flatten() {
                let from = from_line(b"From x Mon Jan  5 10:11:12 2026\n").expect("a From line");
                let _ = (marks(&found.text, &from), is_internal(&found.text));
            }
        }
        count += 1;
    }
    assert!(count >= SEEDS_MIN, "only {count} seeds");
}
