//! `palomar adopt`: Maildir++ trees as Dovecot left them become the mail of their accounts, in
//! place (`docs/howto/adopt-dovecot.md`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use serde::Serialize;

use super::Site;
use super::error::{CliError, Left};
use super::print::{counted, out, out_json, out_table, shown};
use crate::config::Config;
use crate::directory::{Account, Directory};
use crate::server;
use crate::store::{
    AccountRef, AdoptError, AdoptProgress, AdoptReport, AdoptRequest, FolderReport, Store,
    UidlFormat,
};

const BAR_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub struct Adopt {
    /// The account that gets the mail; it must be there, and have none
    #[arg(
        long,
        value_name = "ADDRESS",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    user: Option<String>,
    /// The tree: the directory that Dovecot's mail_location names
    #[arg(
        value_name = "DIR",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    dir: Option<PathBuf>,
    /// Every account whose tree is there
    #[arg(long, requires = "pattern")]
    all: bool,
    /// Where each account's tree is: %u its address, %n what stands before the @, %d behind it
    #[arg(long, value_name = "PATTERN", requires = "all")]
    pattern: Option<String>,
    /// Where Dovecot keeps dovecot-uidlist, if mail_location has CONTROL=; takes %u, %n, %d
    #[arg(long, value_name = "PATTERN")]
    control: Option<String>,
    /// Leave the tree where it is and take a copy; from another file system it is always a copy
    #[arg(long)]
    copy: bool,
    /// Dovecot's pop3_uidl_format: %u, %v, %f, with width and X for hexadecimal
    #[arg(long, value_name = "FORMAT", default_value_t, value_parser = uidl)]
    pop3_uidl_format: UidlFormat,
    /// The character that escapes others in folder names (the listescape plugin)
    #[arg(long, value_name = "CHARACTER", default_value_t = '\\')]
    escape: char,
    /// Read every message once more afterwards and compare it with what the store has
    #[arg(long)]
    verify: bool,
    /// Tell what would be done, folder by folder; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What became of one account.
#[derive(Debug, Serialize)]
struct Outcome {
    address: String,
    dir: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<AdoptReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// One of many accounts, and there is no tree for it.
    skipped: bool,
}

fn uidl(text: &str) -> Result<UidlFormat, String> {
    let why = "only %u, %v and %f, such as %08Xu%08Xv";
    text.parse().map_err(|_| why.to_owned())
}

/// `%u`, `%n` and `%d` for those of an address.
fn expanded(pattern: &str, address: &str) -> PathBuf {
    let (local, domain) = address.rsplit_once('@').unwrap_or((address, ""));
    let mut out = String::with_capacity(pattern.len() + address.len());
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let value = match after.chars().next() {
            Some('u') => address,
            Some('n') => local,
            Some('d') => domain,
            Some('%') => "%",
            _ => {
                out.push('%');
                rest = after;
                continue;
            }
        };
        out.push_str(value);
        rest = &after[1..];
    }
    out.push_str(rest);
    PathBuf::from(out)
}

impl Adopt {
    pub fn run(self, site: &Site) -> Result<(), CliError> {
        let config = site.config()?;
        if super::admin::is_running(&config) {
            return Err(CliError::Usage(
                "stop palomar first: adopting works on a stopped server",
            ));
        }
        let (json, dry_run) = (self.json, self.dry_run);
        let outcomes = self.adopt(&config)?;
        match json {
            true => out_json(&outcomes)?,
            false => tell(&outcomes, dry_run)?,
        }
        match outcomes.iter().filter(|o| !o.is_good()).count() {
            0 => Ok(()),
            failed => Err(CliError::Left(Left::Trees, failed)),
        }
    }

    fn request(&self, dir: &Path, address: &str) -> AdoptRequest {
        // Where it is must mean the same to the next run, from wherever that is started.
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        AdoptRequest {
            control: self.control.as_deref().map(|p| expanded(p, address)),
            copy: self.copy,
            escape: self.escape,
            uidl: self.pop3_uidl_format.clone(),
            dry_run: self.dry_run,
            verify: self.verify,
            ..AdoptRequest::new(dir)
        }
    }

    fn adopt(self, config: &Config) -> Result<Vec<Outcome>, CliError> {
        let work = async move |store: Store, directory: Directory| {
            let jobs = self.jobs(&directory)?;
            let of = jobs.len();
            let mut outcomes = Vec::with_capacity(of);
            for (n, (account, dir)) in jobs.into_iter().enumerate() {
                let which = match of {
                    1 => account.address.clone(),
                    _ => format!("{} ({} of {of})", account.address, n + 1),
                };
                let reference = directory.snapshot().reference(&account);
                let to = (&account, reference);
                let outcome = self.one(&store, to, dir, which).await;
                outcomes.push(outcome);
            }
            Ok(outcomes)
        };
        server::with_store(config, work)?
    }

    /// Who gets which tree.
    fn jobs(&self, directory: &Directory) -> Result<Vec<(Account, PathBuf)>, CliError> {
        let snapshot = directory.snapshot();
        if let (Some(user), Some(dir)) = (&self.user, &self.dir) {
            let account = snapshot.login(user).filter(|account| account.keeps_mail());
            let account = account.ok_or_else(|| CliError::NoAccount(user.clone()))?;
            return Ok(vec![((**account).clone(), dir.clone())]);
        }
        let pattern = self.pattern.as_deref().unwrap_or_default();
        let keeps = snapshot
            .accounts()
            .filter(|account| account.keeps_mail() && account.removed.is_none());
        let mut jobs: Vec<(Account, PathBuf)> = keeps
            .map(|account| ((**account).clone(), expanded(pattern, &account.address)))
            .collect();
        jobs.sort_by(|a, b| a.0.address.cmp(&b.0.address));
        Ok(jobs)
    }

    async fn one(
        &self,
        store: &Store,
        (account, reference): (&Account, AccountRef),
        dir: PathBuf,
        which: String,
    ) -> Outcome {
        let bar = ProgressBar::new(0);
        let style = "{msg} {wide_bar} {pos}/{len} messages, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        bar.set_message(shown(&which));
        bar.enable_steady_tick(BAR_EVERY);
        let request = self.request(&dir, &account.address);
        let mut tell = |progress: AdoptProgress| {
            bar.set_length(progress.of.max(progress.done));
            bar.set_position(progress.done);
        };
        let remote = store.remote();
        let adopted = remote.adopt(reference, &request, &mut tell).await;
        bar.finish_and_clear();
        let skipped = self.all && matches!(adopted, Err(AdoptError::NoTree(_)));
        let (report, error) = match adopted {
            Ok(report) => (Some(report), None),
            Err(error) => (None, Some(error.to_string())),
        };
        Outcome {
            skipped,
            address: account.address.clone(),
            dir,
            report,
            error,
        }
    }
}

impl Outcome {
    fn is_good(&self) -> bool {
        let is_bad = |f: &FolderReport| f.unreadable > 0 || f.differing.is_some_and(|n| n > 0);
        let report = self.report.as_ref();
        self.skipped || report.is_some_and(|report| !report.folders.iter().any(is_bad))
    }
}

fn tell(outcomes: &[Outcome], dry_run: bool) -> Result<(), CliError> {
    let is_one = outcomes.len() == 1;
    let mut rows = Vec::new();
    for outcome in outcomes {
        let Some(report) = &outcome.report else {
            continue;
        };
        match is_one {
            true => rows.extend(report.folders.iter().map(|f| row(&f.mailbox, f))),
            false => rows.push(row(&outcome.address, &sum(report))),
        }
    }
    let first = if is_one { "folder" } else { "account" };
    let header = [
        first, "messages", "size", "new UIDs", "renamed", "missing", "unread", "differ",
    ];
    if !rows.is_empty() {
        out_table(&header, rows)?;
    }
    let mut text = String::new();
    for outcome in outcomes {
        text.push_str(&shown(&outcome.last_words(dry_run)));
        text.push('\n');
        let unreadable = outcome.report.iter().flat_map(|r| &r.unreadable);
        for path in unreadable {
            text.push_str(&shown(&format!("not read, left where it is: {path}")));
            text.push('\n');
        }
        for folder in outcome.report.iter().flat_map(|r| &r.folders) {
            if let Some(former) = &folder.former_name {
                let changed = format!("called otherwise: {former:?} is {:?} here", folder.mailbox);
                text.push_str(&shown(&changed));
                text.push('\n');
            }
            for name in &folder.keywords_odd {
                let name = format!(
                    "{}: not taken over: {name:?} can be no keyword",
                    folder.mailbox
                );
                text.push_str(&shown(&name));
                text.push('\n');
            }
        }
        let aside = outcome.report.iter().flat_map(|r| &r.aside);
        for path in aside {
            let what = if dry_run {
                "would be put aside"
            } else {
                "put aside"
            };
            text.push_str(&shown(&format!("no mail, {what}: {path}")));
            text.push('\n');
        }
    }
    out(&text)
}

impl Outcome {
    fn last_words(&self, dry_run: bool) -> String {
        let address = &self.address;
        let Some(report) = &self.report else {
            let why = self.error.as_deref().unwrap_or_default();
            return match self.skipped {
                true => format!("{address}: passed over: {why}"),
                false => format!("{address}: not adopted: {why}"),
            };
        };
        let all = sum(report);
        let what = match (dry_run, report.copied) {
            (true, _) => "would be adopted",
            (false, true) => "adopted as a copy",
            (false, false) => "adopted",
        };
        let mut words = format!(
            "{address}: {} in {} {what}",
            counted(all.messages, "message"),
            counted(report.folders.len() as u64, "folder")
        );
        match all.differing {
            Some(0) => words.push_str("; flags, dates and hashes are equal"),
            Some(n) => words.push_str(&format!("; {n} differ")),
            None => {}
        }
        if report.folders.iter().any(|f| f.keywords_full) {
            words.push_str(
                "; a folder uses all 26 keyword letters: further keywords are in Dovecot's index \
                 alone, and not taken over",
            );
        }
        words
    }
}

fn sum(report: &AdoptReport) -> FolderReport {
    let mut all = FolderReport::default();
    for folder in &report.folders {
        all.messages += folder.messages;
        all.bytes += folder.bytes;
        all.numbered += folder.numbered;
        all.renamed += folder.renamed;
        all.missing += folder.missing;
        all.unreadable += folder.unreadable;
        if let Some(differing) = folder.differing {
            *all.differing.get_or_insert_default() += differing;
        }
    }
    all
}

fn row(name: &str, folder: &FolderReport) -> Vec<String> {
    let differing = folder.differing.map_or("-".to_owned(), |n| n.to_string());
    vec![
        name.to_owned(),
        folder.messages.to_string(),
        HumanBytes(folder.bytes).to_string(),
        folder.numbered.to_string(),
        folder.renamed.to_string(),
        folder.missing.to_string(),
        folder.unreadable.to_string(),
        differing,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_trees() {
        let check = |pattern: &str, want: &str| {
            assert_eq!(expanded(pattern, "ana@a.org"), Path::new(want), "{pattern}");
        };
        check("/var/vmail/%d/%n/Maildir", "/var/vmail/a.org/ana/Maildir");
        check("/m/%u", "/m/ana@a.org");
        check("/m/100%%/%x%", "/m/100%/%x%");
    }
}
