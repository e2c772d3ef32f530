//! An index against a plain list of rows, by seed; and its snapshots while it changes.

use super::*;
use crate::base::{PSeq, UnixMs};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// What the index should hold.
type Plain = Vec<NewRow>;

fn row(uid: u32, random: &mut Random) -> NewRow {
    let keywords = (0..random.below(3)).map(|n| format!("K{}", n * random.below(9)));
    let keywords = keywords.collect();
    let extra = Extra {
        uidl: Some(format!("uidl-{uid}").into()),
        ..Extra::default()
    };
    NewRow {
        uid: Uid(uid),
        flags: Flags(random.below(32) as u8),
        keywords,
        modseq: ModSeq(u64::from(uid)),
        internal_date: UnixMs(random.below(1 << 40) as i64),
        saved: UnixMs(random.below(1 << 40) as i64),
        size: random.below(1 << 34),
        cold: Cold {
            name: NameId {
                partition: PartitionId(3),
                pseq: PSeq(u64::from(uid)),
                ordinal: 0,
            },
            cache: CacheRef { at: 0, len: 9 },
            prefix_bytes: 0,
            bare_newlines: 0,
            letters: random.below(100) as u32,
            email_id: [uid as u8; 16],
            uid_in_name: random.below(2) == 0,
        },
        extra: (random.below(7) == 0).then(|| Box::new(extra)),
    }
}

fn check(index: &Index, plain: &Plain) {
    assert!(index.uids().iter().eq(plain.iter().map(|row| &row.uid)));
    let mut total = Weight::default();
    for (at, want) in plain.iter().enumerate() {
        assert_eq!(index.flags(at), want.flags);
        assert_eq!(index.modseq(at), want.modseq);
        assert_eq!(
            (index.date(at), index.saved(at)),
            (want.internal_date, want.saved)
        );
        assert_eq!((index.size(at), index.cold(at)), (want.size, &want.cold));
        assert_eq!(index.extra(at), want.extra.as_deref());
        let mut keywords: Vec<_> = index.keywords(at).map(|k| k.to_string()).collect();
        let mut wanted = want.keywords.clone();
        keywords.sort();
        wanted.sort();
        wanted.dedup();
        assert_eq!(keywords, wanted);
        total.add(want.weight());
    }
    assert_eq!(index.total(), total);
}

/// One change to both.
fn change(index: &mut Index, plain: &mut Plain, random: &mut Random, uid: &mut u32) {
    match random.below(4) {
        0 | 1 => {
            for _ in 0..random.below(1500) {
                *uid += 1 + random.below(3) as u32;
                let row = row(*uid, random);
                index.add(&row);
                plain.push(row);
            }
        }
        2 => {
            for _ in 0..random.below(50).min(plain.len() as u64) {
                let at = random.below(plain.len() as u64) as usize;
                let want = &mut plain[at];
                want.flags = Flags(random.below(32) as u8);
                want.keywords = vec![format!("L{}", random.below(5))];
                want.modseq = ModSeq(random.below(1 << 30));
                want.cold.letters = 7;
                index.set(at, want.flags, &want.keywords, want.modseq);
                index.set_letters(at, 7);
            }
        }
        _ => {
            let keep = 1 + random.below(9);
            let mut gone = Vec::new();
            let from = random.below(plain.len() as u64 + 1) as usize;
            for at in from..plain.len() {
                if random.below(9) >= keep {
                    gone.push(at);
                }
            }
            index.remove(&gone, Some(ModSeq(u64::from(*uid))));
            let mut at = 0;
            plain.retain(|_| {
                at += 1;
                gone.binary_search(&(at - 1)).is_err()
            });
        }
    }
}

#[test]
fn an_index_is_a_list_of_rows_and_a_snapshot_one_moment_of_it() {
    for seed in 0..4 {
        println!("seed {seed}");
        let mut random = Random(seed);
        let (mut index, mut plain) = (Index::default(), Plain::new());
        let mut uid = 0;
        let mut taken = None;
        for round in 0..40 {
            change(&mut index, &mut plain, &mut random, &mut uid);
            match taken.take() {
                None => taken = Some((index.snapshot(), plain.clone())),
                Some((snapshot, before)) if round % 3 == 0 => {
                    let restored = Index::restore(Snapshot::clone(&snapshot));
                    check(&restored, &before);
                    let bytes: Vec<u8> = snapshot.pieces().flatten().collect();
                    let read = Index::decode(&bytes).expect("decodes");
                    check(&read, &before);
                    assert_eq!(read.encode(), bytes);
                }
                kept => taken = kept,
            }
            check(&index, &plain);
        }
        // Holes are not kept for ever.
        let rows = plain.len();
        assert!(
            index.bytes() < 200_000 + rows * 1000,
            "{} for {rows}",
            index.bytes()
        );
    }
}
