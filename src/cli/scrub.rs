//! `palomar scrub`: reads and compares all that is at rest, and tells what it found.

use std::thread;
use std::time::Duration;

use clap::Args;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use serde_json::Value;

use super::error::{CliError, Left, Unanswered};
use super::print::{counted, out, out_json, out_table, when};
use super::{Site, admin};
use crate::base::ByteSize;
use crate::config::Config;
use crate::store::{Finding, FindingKind, ScrubStatus};
use crate::web::AdminRequest;

const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub struct Scrub {
    /// The address, or a bare name in the first domain; everybody where none is given
    user: Option<String>,
    /// Bytes a second on each shard, as 20MB; 0 is as fast as it goes [default: store.scrub_rate]
    #[arg(long, value_name = "SIZE", value_parser = super::user::size)]
    rate: Option<ByteSize>,
    /// Begin nothing: tell how far the present scrub is, or what the last one found
    #[arg(long, conflicts_with = "rate", conflicts_with = "user")]
    status: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Scrub {
    pub fn run(self, site: &Site) -> Result<(), CliError> {
        let config = site.config()?;
        let shards = match self.status {
            true => asked(&config, admin::ask(&config, AdminRequest::ScrubStatus)?)?,
            false => self.whole(&config)?,
        };
        if self.json {
            out_json(&shards)?;
        } else {
            report(&shards)?;
        }
        let findings = shards.iter().flat_map(|shard| &shard.findings);
        let left = findings.filter(|f| !f.kind.is_mended()).count();
        match left {
            0 => Ok(()),
            left => Err(CliError::Left(Left::Damage, left)),
        }
    }

    /// Begins one, and waits for its end.
    fn whole(&self, config: &Config) -> Result<Vec<ScrubStatus>, CliError> {
        let user = self.user.as_deref();
        let user = user.map(|user| super::user::full_address(config, user));
        let rate = self.rate.unwrap_or(config.store.scrub_rate).0;
        let begun = admin::ask(config, AdminRequest::Scrub { user, rate })?;
        let mut shards = asked(config, begun)?;
        let bar = ProgressBar::new(0);
        let style = "{wide_bar} {pos}/{len} messages, {msg}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        while shards.iter().any(|shard| shard.is_running) {
            let sum = |count: fn(&ScrubStatus) -> u64| shards.iter().map(count).sum();
            bar.set_length(sum(|shard| shard.messages_total));
            bar.set_position(sum(|shard| shard.messages));
            bar.set_message(HumanBytes(sum(|shard| shard.bytes)).to_string());
            thread::sleep(LOOK_EVERY);
            shards = asked(
                config,
                admin::ask_running(config, &AdminRequest::ScrubStatus)?,
            )?;
        }
        bar.finish_and_clear();
        Ok(shards)
    }
}

fn asked(config: &Config, value: Value) -> Result<Vec<ScrubStatus>, CliError> {
    serde_json::from_value(value)
        .map_err(|_| CliError::unanswered(config.admin_socket(), Unanswered::NotAnAnswer))
}

fn report(shards: &[ScrubStatus]) -> Result<(), CliError> {
    let findings: Vec<&Finding> = shards.iter().flat_map(|shard| &shard.findings).collect();
    if !findings.is_empty() {
        let header = ["account", "mailbox", "uid", "what", "detail"];
        let row = |finding: &&Finding| {
            vec![
                finding.account.map_or(String::new(), |id| id.to_string()),
                finding.mailbox.clone(),
                finding.uid.map_or(String::new(), |uid| uid.to_string()),
                named(finding.kind).to_owned(),
                finding.detail.clone(),
            ]
        };
        out_table(&header, findings.iter().map(row).collect())?;
    }
    let mut text = String::new();
    for repair in shards.iter().flat_map(|shard| &shard.repairs) {
        let outcome = match repair.is_exact {
            true => "nothing was lost".to_owned(),
            false => format!(
                "{} by the names of their files, {} as new ones, {} without a file, {} dropped",
                counted(repair.from_names.into(), "message"),
                repair.orphans,
                repair.without_file,
                repair.dropped
            ),
        };
        text.push_str(&format!(
            "{}: the index of account {}, {}, was made anew: {outcome}\n",
            when(repair.at),
            repair.account,
            super::print::shown(&repair.name)
        ));
    }
    for repair in shards.iter().flat_map(|shard| &shard.catalogues) {
        let files: Vec<_> = repair
            .files
            .iter()
            .map(|f| f.display().to_string())
            .collect();
        text.push_str(&format!(
            "{}: {} was damaged, is kept in damaged/ and was written anew; nothing was lost\n",
            when(repair.at),
            files.join(" and ")
        ));
    }
    let total = |count: fn(&ScrubStatus) -> u64| shards.iter().map(count).sum::<u64>();
    let state = match shards.iter().any(|shard| shard.is_running) {
        true => " so far",
        false => "",
    };
    text.push_str(&format!(
        "read{state}: {} of journal, catalogues of {}, {}, {} of {}; {}\n",
        HumanBytes(total(|shard| shard.journal_bytes)),
        counted(total(|shard| shard.catalogues_read), "partition"),
        counted(total(|shard| shard.accounts), "account"),
        counted(total(|shard| shard.messages), "message"),
        HumanBytes(total(|shard| shard.bytes)),
        counted(total(|shard| shard.findings_total), "finding")
    ));
    out(&text)
}

fn named(kind: FindingKind) -> &'static str {
    match kind {
        FindingKind::IndexMended => "index mended",
        FindingKind::IndexUnreadable => "index unreadable",
        FindingKind::DigestsMended => "digests mended",
        FindingKind::MessageMissing => "message missing",
        FindingKind::MessageDamaged => "message damaged",
        FindingKind::FileWithoutRow => "file without row",
        FindingKind::JournalMended => "journal mended",
        FindingKind::JournalDamaged => "journal damaged",
        FindingKind::CatalogueMended => "catalogue mended",
        FindingKind::CatalogueDamaged => "catalogue damaged",
    }
}
