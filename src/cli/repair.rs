//! `palomar repair`: makes index and cache anew from Maildir and journal, keeping UIDs.

use clap::Args;

use super::error::{CliError, Unanswered};
use super::print::{counted, out, out_json, shown};
use super::{Site, admin};
use crate::store::{IndexState, MailboxRepair, RepairOrder};
use crate::web::AdminRequest;

#[derive(Debug, Args)]
pub struct Repair {
    /// The address, or a bare name in the first domain
    user: String,
    /// One mailbox; all where none is given
    folder: Option<String>,
    /// Only tell what would be done, which is what happens without --yes too
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Do it
    #[arg(long)]
    yes: bool,
    /// Expunge messages whose files are gone; they can not be read again
    #[arg(long)]
    drop_missing: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Repair {
    pub fn run(self, site: &Site) -> Result<(), CliError> {
        let config = site.config()?;
        let user = super::user::full_address(&config, &self.user);
        let order = RepairOrder {
            folder: self.folder.clone(),
            apply: self.yes,
            drop_missing: self.drop_missing,
        };
        let value = admin::ask(&config, AdminRequest::Repair { user, order })?;
        let mailboxes: Vec<MailboxRepair> = serde_json::from_value(value)
            .map_err(|_| CliError::unanswered(config.admin_socket(), Unanswered::NotAnAnswer))?;
        if self.json {
            out_json(&mailboxes)?;
        } else {
            out(&self.told(&mailboxes))?;
        }
        match self.yes || self.dry_run || mailboxes.iter().all(is_well) {
            true => Ok(()),
            false => Err(CliError::NotDone),
        }
    }

    fn told(&self, mailboxes: &[MailboxRepair]) -> String {
        let mut text = String::new();
        for mailbox in mailboxes.iter().filter(|mailbox| !is_well(mailbox)) {
            let name = shown(&mailbox.name);
            match mailbox.index {
                IndexState::Whole => {}
                IndexState::Damaged => text.push_str(&format!(
                    "{name}: the index is damaged; to be made anew, after which more is known\n"
                )),
                IndexState::Mended => text.push_str(&format!("{name}: the index was made anew\n")),
            }
            let files = mailbox.files_without_row.len() as u64;
            if files > 0 {
                let files = counted(files, "file");
                text.push_str(&match self.yes {
                    true => format!("{name}: {} of {files} taken in\n", mailbox.taken_in),
                    false => format!("{name}: {files} without a row, to be taken in as new\n"),
                });
                let names = mailbox.files_without_row.iter();
                names.for_each(|file| text.push_str(&format!("  {}\n", shown(file))));
            }
            let grown = mailbox.grown.len() as u64;
            if grown > 0 {
                let uids: Vec<String> = mailbox.grown.iter().map(u32::to_string).collect();
                text.push_str(&format!(
                    "{name}: {} whose files another program made longer, {}: UID {}\n",
                    counted(grown, "message"),
                    match self.yes {
                        true => format!("{} taken in as new", mailbox.renewed),
                        false => "to be taken in as new".to_owned(),
                    },
                    uids.join(",")
                ));
            }
            let missing = mailbox.missing.len() as u64;
            if missing > 0 {
                let uids: Vec<String> = mailbox.missing.iter().map(u32::to_string).collect();
                text.push_str(&format!(
                    "{name}: {} whose files are gone{}: UID {}\n",
                    counted(missing, "message"),
                    match (self.yes, self.drop_missing) {
                        (true, true) => format!(", {} dropped", mailbox.dropped),
                        (false, true) => ", to be dropped".to_owned(),
                        (_, false) => ", left alone (--drop-missing drops them)".to_owned(),
                    },
                    uids.join(",")
                ));
            }
        }
        if text.is_empty() {
            let all = counted(mailboxes.len() as u64, "mailbox");
            text = format!("{}: nothing to repair\n", all.replace("boxs", "boxes"));
        }
        text
    }
}

fn is_well(mailbox: &MailboxRepair) -> bool {
    mailbox.index == IndexState::Whole
        && mailbox.files_without_row.is_empty()
        && mailbox.missing.is_empty()
        && mailbox.grown.is_empty()
}
