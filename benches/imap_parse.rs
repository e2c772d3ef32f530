//! Reading the IMAP commands that come often: time for each, and proof that none uses the heap.
//!
//! Every command is framed, parsed, and its lists walked, as a session does.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use criterion::Criterion;
use palomar::wire::imap::{Body, FrameLimits, Framer, Next, parse};

/// The system's allocator, counted.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to `System` as it came; only a counter is added.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.realloc(block, layout, bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const LIMITS: FrameLimits = FrameLimits {
    line_bytes_max: 64 << 10,
    literal_bytes_max: 64 << 10,
};

const COMMANDS: &[(&str, &str)] = &[
    ("fetch flags", "a1 UID FETCH 1:* (FLAGS)\r\n"),
    (
        "fetch as Thunderbird",
        "42 UID fetch 1:50,77,80:120 (UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (From To Cc \
         Bcc Subject Date Message-ID Priority X-Priority References Newsgroups In-Reply-To \
         Content-Type Reply-To)])\r\n",
    ),
    (
        "fetch body",
        "a2 UID FETCH 4711 (BODY.PEEK[1.2]<0.65536>)\r\n",
    ),
    (
        "store",
        "a3 UID STORE 4:9,12 +FLAGS.SILENT (\\Seen $Forwarded)\r\n",
    ),
    (
        "search",
        "a4 UID SEARCH RETURN (ALL COUNT) UNSEEN SINCE 1-Feb-2026 OR FROM \"ana\" NOT (TO bob \
         LARGER 10000)\r\n",
    ),
    ("copy", "a5 UID COPY 1:4 \"Sent Items\"\r\n"),
];

/// Reads `bytes` and says how much was in it, so that nothing is left out as useless.
fn read(bytes: &[u8]) -> u64 {
    let mut framer = Framer::new(LIMITS);
    let Next::Command { bytes: end } = framer.next(bytes) else {
        panic!("a bench command is whole");
    };
    let command = parse(&bytes[..end]).expect("a bench command is right");
    match &command.body {
        Body::Fetch(fetch) => {
            let numbers: u64 = fetch
                .set
                .resolve(900)
                .map(|(_, high)| u64::from(high))
                .sum();
            let names: usize = fetch.items.iter().map(|item| size_of_val(&item)).sum();
            numbers + names as u64
        }
        Body::Store(store) => {
            let numbers: u64 = store
                .set
                .resolve(900)
                .map(|(_, high)| u64::from(high))
                .sum();
            numbers + store.flags.iter().count() as u64
        }
        Body::Search(search) => search.keys.as_bytes().len() as u64,
        Body::Copy { mailbox, .. } => mailbox.as_bytes().len() as u64,
        other => panic!("no bench command: {other:?}"),
    }
}

fn assert_no_allocation() {
    for (name, command) in COMMANDS {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        for _ in 0..1_000 {
            black_box(read(black_box(command.as_bytes())));
        }
        let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
        assert_eq!(allocations, 0, "{name} used the heap");
        println!("{name}: 0 allocations in 1000 reads");
    }
}

fn main() {
    assert_no_allocation();
    let mut criterion = Criterion::default().configure_from_args();
    for (name, command) in COMMANDS {
        criterion.bench_function(&format!("imap_parse/{name}"), |b| {
            b.iter(|| read(black_box(command.as_bytes())));
        });
    }
    criterion.final_summary();
}
