//! `palomar journal show` and `verify`: beside a running server or on a stopped one, changing
//! nothing. Both read the slot files themselves, as whoever may read the data directory.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::rc::Rc;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::super::Site;
use super::super::error::{CliError, Left};
use super::super::print::{counted, out, out_json};
use super::words;
use crate::base::PartitionId;
use crate::runtime::{self, Disk, Pool};
use crate::store::journal::{self, Inspected, Look, Onlooker, Seen};

const POOL_THREADS: usize = 1;
const POOL_DEPTH: usize = 64;

#[derive(Debug, Args)]
pub struct Show {
    /// Only this stream; there is one a shard
    #[arg(long, value_name = "S")]
    stream: Option<u16>,
    /// Records from this pseq on; without it the last ones are shown
    #[arg(long, value_name = "N")]
    from: Option<u64>,
    /// How many records
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// Only this partition: a number, queue-N of shard N, or system
    #[arg(long, value_name = "P", value_parser = partition)]
    partition: Option<PartitionId>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct Verify {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn partition(text: &str) -> Result<PartitionId, String> {
    if text == "system" {
        return Ok(PartitionId::SYSTEM);
    }
    let wrong = || "write a number, queue-0 and so on, or system".to_owned();
    match text.strip_prefix("queue-") {
        Some(shard) => match shard.parse::<u16>() {
            Ok(shard) if shard < 128 => Ok(PartitionId::queue(shard)),
            _ => Err(wrong()),
        },
        None => text.parse().map(PartitionId).map_err(|_| wrong()),
    }
}

/// Keeps the records that are wanted, in both forms.
struct Keeper {
    show: Show,
    kept: Rc<RefCell<VecDeque<(String, Value)>>>,
}

impl Onlooker for Keeper {
    fn record(&mut self, seen: &Seen<'_>) {
        let (show, record) = (&self.show, seen.record);
        let wanted = show
            .partition
            .is_none_or(|wanted| wanted == record.partition)
            && show.from.is_none_or(|from| record.pseq.0 >= from);
        let mut kept = self.kept.borrow_mut();
        if !wanted || (show.from.is_some() && kept.len() >= show.limit) {
            return;
        }
        if kept.len() >= show.limit {
            kept.pop_front();
        }
        if show.limit > 0 {
            kept.push_back((words::to_text(seen), words::to_json(seen)));
        }
    }
}

impl Show {
    pub fn run(self, site: &Site) -> Result<(), CliError> {
        let kept = Rc::default();
        let (json, stream) = (self.json, self.stream);
        let keeper = Keeper {
            show: self,
            kept: Rc::clone(&kept),
        };
        let root = site.config()?.data_dir;
        let found = look(root, stream, keeper)?;
        let kept = std::mem::take(&mut *kept.borrow_mut());
        if json {
            return out_json(&kept.into_iter().map(|(_, json)| json).collect::<Vec<_>>());
        }
        kept.iter().try_for_each(|(text, _)| out(text))?;
        let faults = found.faults.len() as u64;
        out(&format!(
            "{} of {}{}\n",
            counted(kept.len() as u64, "record"),
            found.records,
            match faults {
                0 => String::new(),
                faults => format!("; {}: palomar journal verify", counted(faults, "fault")),
            }
        ))
    }
}

struct Progress(ProgressBar);

impl Onlooker for Progress {
    fn begin(&mut self, bytes: u64) {
        self.0.set_length(bytes);
    }

    fn read(&mut self, bytes: u64) {
        self.0.inc(bytes);
    }
}

impl Verify {
    pub fn run(self, site: &Site) -> Result<(), CliError> {
        let root = site.config()?.data_dir;
        let bar = match std::io::stderr().is_terminal() {
            true => ProgressBar::new(0),
            false => ProgressBar::hidden(),
        };
        let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {eta}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let found = look(root, None, Progress(bar.clone()));
        bar.finish_and_clear();
        let found = found?;
        match self.json {
            true => out_json(&to_json(&found))?,
            false => out(&to_text(&found))?,
        }
        match found.faults.len() {
            0 => Ok(()),
            faults => Err(CliError::Left(Left::JournalFaults, faults)),
        }
    }
}

fn look(
    root: PathBuf,
    stream: Option<u16>,
    mut onlooker: impl Onlooker + 'static,
) -> Result<Inspected, CliError> {
    let path = root.join("journal");
    if let Err(error) = std::fs::read_dir(&path) {
        return Err(CliError::File { path, error });
    }
    let disk = Disk::real(Pool::start(POOL_THREADS, POOL_DEPTH));
    let look = Look { root, stream };
    let work = async move { journal::inspect(&look, &disk, &mut onlooker).await };
    let found = runtime::block_on(work).map_err(CliError::Runtime)?;
    found.map_err(CliError::Journal)
}

fn to_text(found: &Inspected) -> String {
    let mut text = format!(
        "{} in {}: {} in {}\n{} in {} would be read by a restart; a checkpoint covers the rest\n",
        counted(found.slots, "slot"),
        counted(found.streams, "stream"),
        counted(found.records, "record"),
        match found.batches {
            1 => "1 batch".to_owned(),
            batches => format!("{batches} batches"),
        },
        counted(found.live_records, "record"),
        counted(found.live_slots, "slot"),
    );
    for torn in &found.torn {
        text.push_str(&format!(
            "a batch of {} bytes was being written at the end of stream {} (slot {}, offset {}): \
             nobody was told that it is kept\n",
            torn.bytes, torn.stream, torn.slot, torn.offset
        ));
    }
    for fault in &found.faults {
        text.push_str(&format!("FAULT {fault}\n"));
    }
    if found.faults.is_empty() {
        text.push_str("no fault\n");
    }
    text
}

fn to_json(found: &Inspected) -> Value {
    let torn = found.torn.iter().map(|torn| {
        json!({ "stream": torn.stream, "slot": torn.slot, "offset": torn.offset,
                "bytes": torn.bytes })
    });
    let faults = found.faults.iter().map(ToString::to_string);
    json!({
        "streams": found.streams,
        "slots": found.slots,
        "live_slots": found.live_slots,
        "batches": found.batches,
        "records": found.records,
        "live_records": found.live_records,
        "torn": torn.collect::<Vec<_>>(),
        "faults": faults.collect::<Vec<_>>(),
    })
}
