//! `palomar settle`: writes every message file that is due.

use clap::Args;

use super::error::{CliError, Unanswered};
use super::print::{counted, out, out_json, shown};
use super::{Site, admin};
use crate::web::{AdminRequest, Settled};

#[derive(Debug, Args)]
pub struct Settle {
    /// Every mailbox of every account, which is what happens without it too
    #[arg(long)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Settle {
    pub fn run(self, site: &Site) -> Result<(), CliError> {
        let config = site.config()?;
        let settled = admin::ask(&config, AdminRequest::Settle)?;
        let settled: Settled = serde_json::from_value(settled)
            .map_err(|_| CliError::unanswered(config.admin_socket(), Unanswered::NotAnAnswer))?;
        match self.json {
            true => out_json(&settled),
            false => out(&told(&settled)),
        }
    }
}

fn told(settled: &Settled) -> String {
    let mut text =
        "settled: what was accepted before now is in the Maildir files, their names have \
                    the flags, and all of it is on the disk\n"
            .to_owned();
    for one in &settled.keywords_apart {
        let keywords = counted(u64::from(one.keywords), "keyword");
        let folder = shown(&format!("{}: {}", one.address, one.mailbox));
        text.push_str(&format!(
            "{folder}: {keywords} in no name, which other programs do not get: names have 26 \
             letters\n"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::SettledApart;

    #[test]
    fn keywords_without_a_letter_are_told() {
        let check = |keywords_apart: Vec<SettledApart>, want: &str| {
            let settled = true;
            let told = told(&Settled {
                settled,
                keywords_apart,
            });
            assert_eq!(told.lines().skip(1).collect::<Vec<_>>().join("\n"), want);
        };
        check(Vec::new(), "");
        check(
            vec![SettledApart {
                address: "ana@example.org".to_owned(),
                mailbox: "Work".to_owned(),
                keywords: 2,
            }],
            "ana@example.org: Work: 2 keywords in no name, which other programs do not get: names \
             have 26 letters",
        );
    }
}
