//! `palomar journal`: looking at it, and `cut`, the way out where a damaged journal keeps the
//! server from starting.
//!
//! The numbers of `cut` come from the refusal itself. What goes is listed first and copied aside
//! before it is cut; only `--yes` cuts.

mod look;
mod words;

use clap::{Args, Subcommand};

use super::Site;
use super::error::CliError;
use super::print::{counted, out};
use crate::net;
use crate::runtime::{self, Disk, Pool};
use crate::server::ServerError;
use crate::store::journal::{self, JournalConfig, Loss};
use crate::store::lock;

const POOL_THREADS: usize = 1;
const POOL_DEPTH: usize = 64;

#[derive(Debug, Subcommand)]
pub enum Journal {
    /// Show records in words: who, where, when; never what a message or a value says
    Show(look::Show),
    /// Check every slot: checksums, chains, gaps; ends with 1 where something is wrong
    Verify(look::Verify),
    /// Cut a stream off at the damage; what was accepted after that place is lost
    Cut(Cut),
}

#[derive(Debug, Args)]
pub struct Cut {
    /// As the server's refusal to start names it; so are the others
    #[arg(long, value_name = "S")]
    stream: u16,
    #[arg(long, value_name = "N")]
    slot: u64,
    #[arg(long, value_name = "O")]
    offset: u64,
    /// Cut; without it the command only tells what would be lost
    #[arg(long)]
    yes: bool,
}

impl Journal {
    pub fn run(self, site: &Site) -> Result<(), CliError> {
        match self {
            Journal::Show(show) => show.run(site),
            Journal::Verify(verify) => verify.run(site),
            Journal::Cut(cut) => cut.run(site),
        }
    }
}

impl Cut {
    fn run(self, site: &Site) -> Result<(), CliError> {
        let config = site.config()?;
        let root = config.data_dir.clone();
        let path = root.join("journal");
        if let Err(error) = std::fs::metadata(&path) {
            return Err(CliError::File { path, error });
        }
        net::become_owner(&path).map_err(ServerError::from)?;
        let _lock = lock(&root).map_err(ServerError::from)?;
        let disk = Disk::real(Pool::start(POOL_THREADS, POOL_DEPTH));
        // Slot sizes stand in the slots; nothing else of it is needed here.
        let cfg = JournalConfig::new(root, 1);
        let aside = path.join("aside");
        let Cut {
            stream,
            slot,
            offset,
            yes,
        } = self;
        let work = async move {
            let losses = journal::losses(&cfg, &disk, stream, slot, offset).await?;
            if yes {
                journal::cut(&cfg, &disk, stream, slot, offset).await?;
            }
            Ok(losses)
        };
        let losses = runtime::block_on(work)
            .map_err(CliError::Runtime)?
            .map_err(CliError::Journal)?;
        let mut text = told(stream, &losses);
        if !yes {
            out(&text)?;
            return Err(CliError::NotConfirmed);
        }
        text.push_str(&format!(
            "cut; a copy of each slot is in {}\nstart the server: it says if there is more\n",
            aside.display()
        ));
        out(&text)
    }
}

/// One line a slot, and what it comes to.
pub(super) fn told(stream: u16, losses: &[Loss]) -> String {
    let mut text = String::new();
    for loss in losses {
        text.push_str(&format!(
            "stream {stream}, slot {} ({}), from offset {}: {} in {}, {}\n",
            loss.slot,
            loss.path.display(),
            loss.from,
            counted(loss.records, "record"),
            match loss.batches {
                1 => "1 batch".to_owned(),
                batches => format!("{batches} batches"),
            },
            counted(loss.bytes, "byte"),
        ));
    }
    let records = losses.iter().map(|loss| loss.records).sum();
    text.push_str(&format!(
        "to be discarded: {} that can still be read, and what is damaged; each is a message or \
         a change that was acknowledged\n",
        counted(records, "record")
    ));
    text
}
