//! What an operator may change about the store. The server fills it from its own keys.

use std::path::PathBuf;
use std::time::Duration;

use super::Packing;
use super::journal::JournalConfig;
use super::progress::Progress;
use super::queue::QueueBounds;

#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The data directory.
    pub data_dir: PathBuf,
    pub shards: u16,
    /// How many user partitions a new data directory gets.
    pub partitions: u16,
    pub journal: JournalConfig,
    /// Between checkpoints, unless the journal fills up faster.
    pub checkpoint_every: Duration,
    /// Bodies being received, before they go to spool files. For each shard.
    pub body_memory_bytes_max: usize,
    /// Indexes kept loaded although nobody looks. For each shard.
    pub index_memory_bytes_max: usize,
    /// Where each user's archive files are: `%u` address, `%n` and `%d` its parts.
    pub archives: Option<PathBuf>,
    /// Unpacked copies of compressed archive files.
    pub archive_cache_bytes_max: u64,
    /// Take the lock of the data directory; not on a simulated disk.
    pub lock: bool,
    /// How message files are written from now on.
    pub packing: Packing,
    /// Compress those of before too, in the background.
    pub pack_old: bool,
    /// Every account is scrubbed again after this time.
    pub scrub_every: Option<Duration>,
    /// How fast, on each shard.
    pub scrub_bytes_per_second: u64,
    /// How long settling waits for more to do.
    pub settle_after: Duration,
    /// Days for which removed messages can be restored; 0: not at all.
    pub undelete_days: u32,
    /// New mail is refused while less than this is free beside what is not written yet. 0: until
    /// there is nothing.
    pub free_bytes_min: u64,
    /// When what waits in a queue has a log of its own.
    pub queue_bounds: QueueBounds,
    /// Who watches the start.
    pub progress: Progress,
}

impl StoreConfig {
    /// What a server gets that says nothing else.
    #[must_use]
    pub fn new(data_dir: PathBuf, shards: u16) -> Self {
        StoreConfig {
            journal: JournalConfig::new(data_dir.clone(), shards),
            data_dir,
            shards,
            partitions: 256,
            checkpoint_every: Duration::from_secs(60),
            body_memory_bytes_max: 64 << 20,
            index_memory_bytes_max: 256 << 20,
            archives: None,
            archive_cache_bytes_max: 4 << 30,
            lock: true,
            packing: Packing::Plain,
            pack_old: false,
            scrub_every: None,
            scrub_bytes_per_second: 20_000_000,
            settle_after: Duration::from_millis(100),
            undelete_days: 14,
            free_bytes_min: 0,
            queue_bounds: QueueBounds::default(),
            progress: Progress::default(),
        }
    }
}
