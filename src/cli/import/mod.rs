//! `palomar import maildir|mbox|eml`: takes mail over from elsewhere, and says whether all of it is
//! there.
//!
//! The files are read here, with the rights of who runs the command, and what is in them goes to
//! the server over its admin socket in batches, each of them one record; or, where no server
//! runs, straight into the store. Neither needs a right to the other's files.
//!
//! Nothing is remembered between runs: what a folder holds already, by content, is not sent again.
//! So a run that broke off, however it did, is simply run again. Afterwards folder and source are
//! compared, message by message.

mod files;
mod link;
mod maildir;
mod mbox;
mod report;
mod send;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use super::Site;
use super::error::{CliError, Left};
use super::print::{out, out_json};
use link::Link;
use report::Report;
use send::Sender;

#[derive(Debug, Subcommand)]
pub enum Import {
    /// From Maildir or Maildir++ trees: folders, flags, keywords, dates, subscriptions
    Maildir(From),
    /// From mbox files, also .gz and .zst, or directories of them (as Thunderbird has them)
    Mbox(From),
    /// From files with one message each, or directories of them
    Eml(From),
}

#[derive(Debug, Args)]
pub struct From {
    /// Whose mail it is: the full address, or a log-in name
    #[arg(long, value_name = "ADDRESS")]
    user: String,
    /// The folder it comes into; of a tree, the folder above all others
    #[arg(long)]
    folder: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[arg(required = true)]
    paths: Vec<PathBuf>,
}

/// What goes into one folder.
#[derive(Debug)]
pub(super) struct Job {
    folder: String,
    subscribed: bool,
    source: Source,
    /// What is not read, and why.
    skipped: Vec<String>,
}

#[derive(Debug)]
pub(super) enum Source {
    Maildir(PathBuf),
    Mbox(PathBuf),
    Files(Vec<PathBuf>),
}

impl Import {
    pub fn run(self, site: &Site) -> Result<(), CliError> {
        let config = site.config()?;
        let (from, mut jobs) = match self {
            Import::Maildir(from) => maildir::plan(from),
            Import::Mbox(from) => mbox::plan(from),
            Import::Eml(from) => files::plan(from),
        }?;
        // Sources of one folder come one after the other.
        jobs.sort_by(|one, two| one.folder.cmp(&two.folder));
        let link = Link::open(&config)?;
        let done = run_all(&link, &from, &jobs);
        // Also where it broke off: a stopped server's store is closed in order, or says why it
        // could not be opened.
        link.close()?;
        let reports = done?;
        if from.json {
            out_json(&reports)?;
        } else {
            out(&report::to_text(&reports))?;
        }
        match reports.iter().filter(|report| !report.is_equal()).count() {
            0 => Ok(()),
            folders => Err(CliError::Left(Left::Folders, folders)),
        }
    }
}

fn run_all(link: &Link, from: &From, jobs: &[Job]) -> Result<Vec<Report>, CliError> {
    let mut reports = Vec::new();
    for of_folder in jobs.chunk_by(|one, two| one.folder == two.folder) {
        let folder = &of_folder[0].folder;
        link.make_folder(
            &from.user,
            folder,
            of_folder.iter().any(|job| job.subscribed),
        )?;
        let mut sender = Sender::new(link, &from.user, folder)?;
        for job in of_folder {
            let bar = bar(folder);
            let skipped = job.skipped.iter().cloned();
            skipped.for_each(|what| sender.unreadable(what));
            match &job.source {
                Source::Maildir(path) => maildir::read(path, &mut sender, &bar)?,
                Source::Mbox(path) => mbox::read(path, &mut sender, &bar)?,
                Source::Files(paths) => files::read(paths, &mut sender, &bar)?,
            }
            sender.flush()?;
            bar.finish_and_clear();
        }
        reports.push(sender.compare()?);
    }
    Ok(reports)
}

/// Progress through one source, in octets or files.
fn bar(folder: &str) -> ProgressBar {
    let bar = ProgressBar::new(0);
    let style = "{prefix:20!} {wide_bar} {percent:>3} %, {msg}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar.set_prefix(super::print::shown(folder));
    bar
}

/// A name as a level of a folder's name: without what no folder name may hold.
pub(super) fn level(name: &str) -> String {
    let good = |c: char| !c.is_control() && c != '/';
    let name = name.trim();
    name.chars()
        .map(|c| if good(c) { c } else { '_' })
        .collect()
}

/// `name` below `above`; INBOX in any case is the one INBOX where nothing is above.
pub(super) fn below(above: &str, name: &str) -> String {
    let name = level(name);
    match above {
        "" if name.eq_ignore_ascii_case("INBOX") => "INBOX".to_owned(),
        "" => name,
        above => format!("{above}/{name}"),
    }
}

pub(super) fn not_followed(path: &std::path::Path) -> String {
    format!("{}: a symbolic link, which is not followed", path.display())
}

pub(super) fn file_error(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> CliError {
    let path = path.to_owned();
    move |error| CliError::File { path, error }
}
