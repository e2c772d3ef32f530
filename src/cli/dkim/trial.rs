//! `palomar dkim test`: what the active keys make of a message file.

use std::fs::File;
use std::io::{self, Read as _};

use data_encoding::BASE64;

use super::Test;
use crate::cli::conversation::Conversation;
use crate::cli::error::{CliError, Unanswered};
use crate::cli::print::{out, out_bytes};
use crate::config::Config;
use crate::directory::{Answer, Command, DkimCommand};
use crate::policy::dkim::{BodyHash, from_domain};
use crate::wire::mime::CrlfWriter;

/// More header than any server takes; what goes over the admin socket is bounded.
const HEAD_BYTES_MAX: usize = 1 << 20;

impl Test {
    pub(super) fn run(self, config: &Config, line: &Conversation) -> Result<(), CliError> {
        let message = self.read(config.limits.message_bytes_max.0)?;
        let (head, body) = split(&message);
        let absent = |what: &str| CliError::Absent(format!("{}: {what}", self.file.display()));
        if head.len() > HEAD_BYTES_MAX {
            return Err(absent("the header is longer than any server takes"));
        }
        let domain = from_domain(head);
        let domain = domain.ok_or_else(|| absent("no From with a domain, so nobody signs it"))?;
        let mut hash = BodyHash::default();
        hash.update(body);
        let sign = DkimCommand::Sign {
            from_domain: domain.clone(),
            head: BASE64.encode(head),
            body: BASE64.encode(&hash.finish().0),
            lifetime: self.lifetime.map(|span| span.0),
        };
        let fields = match line.directory(Command::Dkim(sign))? {
            Answer::Signed { fields } => fields,
            _ => {
                let socket = config.admin_socket();
                return Err(CliError::unanswered(socket, Unanswered::NotAnAnswer));
            }
        };
        if fields.is_empty() {
            return Err(absent(&format!(
                "no active key signs for {domain}; see palomar dkim list"
            )));
        }
        match self.whole {
            true => out_bytes(&[fields.as_bytes(), &message].concat()),
            false => out(&fields.replace("\r\n", "\n")),
        }
    }

    /// The message with the line ends of the wire.
    fn read(&self, bytes_max: u64) -> Result<Vec<u8>, CliError> {
        let failed = |error| CliError::File {
            path: self.file.clone(),
            error,
        };
        let mut bytes = Vec::new();
        let file = File::open(&self.file).map_err(failed)?;
        // One more than is allowed tells that there is more.
        let read = file
            .take(bytes_max.saturating_add(1))
            .read_to_end(&mut bytes);
        if read.map_err(failed)? as u64 > bytes_max {
            let what = "longer than limits.message_bytes_max";
            return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, what)));
        }
        let mut message = Vec::with_capacity(bytes.len());
        CrlfWriter::default().feed(&bytes, &mut message);
        Ok(message)
    }
}

/// Header without its blank line, and body.
fn split(message: &[u8]) -> (&[u8], &[u8]) {
    if let Some(body) = message.strip_prefix(b"\r\n") {
        return (b"", body);
    }
    let end = memchr::memmem::find(message, b"\r\n\r\n");
    match end {
        Some(at) => (&message[..at + 2], &message[at + 4..]),
        None => (message, b""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_falls_into_header_and_body() {
        #[track_caller]
        fn check(message: &str, head: &str, body: &str) {
            assert_eq!(
                split(message.as_bytes()),
                (head.as_bytes(), body.as_bytes())
            );
        }
        check("A: b\r\n\r\nc\r\n\r\nd", "A: b\r\n", "c\r\n\r\nd");
        check("A: b\r\n", "A: b\r\n", "");
        check("\r\nbody", "", "body");
    }
}
