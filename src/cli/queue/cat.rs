//! `palomar queue cat`: a message as it would leave.

use std::io::{self, IsTerminal as _};

use clap::Args;
use data_encoding::BASE64;
use serde_json::value::from_value;

use super::not_an_answer;
use crate::base::{Crc32c, crc32c_append};
use crate::cli::conversation::Conversation;
use crate::cli::error::CliError;
use crate::cli::print::{out, out_bytes, shown};
use crate::config::Config;
use crate::queue::{Answer, Ask, CatPiece, Filter};
use crate::web::{AdminError, AdminRequest};

#[derive(Debug, Args)]
pub struct Cat {
    /// The id of `250 queued as ID`
    id: String,
    /// Before it, and an empty line: who it is from and for, as a host would be told
    #[arg(long)]
    envelope: bool,
    /// The copy of this recipient, where copies differ; part of the address
    #[arg(long, value_name = "TEXT")]
    recipient: Option<String>,
}

impl Cat {
    pub fn run(self, config: &Config) -> Result<(), CliError> {
        let line = Conversation::open(config)?;
        let outcome = self.print(config, &line);
        line.conclude(outcome)
    }

    fn print(&self, config: &Config, line: &Conversation) -> Result<(), CliError> {
        let ask = |ask: Ask| -> Result<Option<CatPiece>, CliError> {
            match from_value(line.ask(AdminRequest::Queue(ask))?) {
                Ok(Answer::Cat(piece)) => Ok(piece),
                _ => Err(not_an_answer(config)),
            }
        };
        let decoded = |text: &str| {
            let bytes = BASE64.decode(text.as_bytes());
            bytes.map_err(|_| not_an_answer(config))
        };
        let filter = Filter {
            ids: vec![self.id.clone()],
            to: self.recipient.clone(),
            ..Filter::default()
        };
        let first = ask(Ask::Cat { filter })?;
        let mut piece = first.ok_or_else(|| CliError::NotQueued(self.id.clone()))?;
        if self.envelope {
            let lines = piece.envelope.iter();
            let lines: String = lines.map(|line| format!("{}\n", shown(line))).collect();
            out(&format!("{lines}\n"))?;
        }
        out_message(&decoded(&piece.head)?)?;
        let (mut at, mut sum) = (0, Crc32c(0));
        loop {
            let bytes = decoded(&piece.data)?;
            out_message(&bytes)?;
            at += bytes.len() as u64;
            sum = crc32c_append(sum, &bytes);
            if at >= piece.total || bytes.is_empty() {
                break;
            }
            let more = ask(Ask::CatMore {
                partition: piece.partition,
                pseq: piece.pseq,
                from: at,
            })?;
            piece = more.ok_or_else(|| refused("the rest has left while this was read"))?;
        }
        match at == piece.total && sum.0 == piece.crc32c {
            true => Ok(()),
            false => Err(refused(
                "this is not what was taken in: the message is damaged, and will not be sent",
            )),
        }
    }
}

fn refused(message: &str) -> CliError {
    CliError::Refused(AdminError {
        message: message.to_owned(),
        temporary: false,
    })
}

/// As it is; on a terminal, without what would steer that.
fn out_message(bytes: &[u8]) -> Result<(), CliError> {
    if !io::stdout().is_terminal() {
        return out_bytes(bytes);
    }
    let text = String::from_utf8_lossy(bytes);
    let lines = text.split_inclusive('\n').map(|line| {
        let end = if line.ends_with('\n') { "\n" } else { "" };
        let inner = line.trim_end_matches(['\r', '\n']).split('\t');
        let inner = inner.map(shown).collect::<Vec<_>>().join("\t");
        format!("{inner}{end}")
    });
    out(&lines.collect::<String>())
}
