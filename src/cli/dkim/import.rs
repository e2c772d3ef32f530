//! `palomar dkim import`: the key that a domain signs with already, so that its record can stay.

use std::fs::File;
use std::io::Read as _;

use data_encoding::BASE64;

use super::{Import, keys, to_publish};
use crate::cli::conversation::Conversation;
use crate::cli::error::CliError;
use crate::cli::print::{out, out_json};
use crate::config::Config;
use crate::directory::{DkimCommand, Secret};

/// No key is as long.
const KEY_BYTES_MAX: u64 = 64 << 10;

impl Import {
    pub(super) fn run(self, config: &Config, line: &Conversation) -> Result<(), CliError> {
        let mut bytes = Vec::new();
        let read = File::open(&self.file)
            .and_then(|file| file.take(KEY_BYTES_MAX).read_to_end(&mut bytes));
        read.map_err(|error| CliError::File {
            path: self.file.clone(),
            error,
        })?;
        let import = DkimCommand::Import {
            domain: self.domain,
            selector: self.selector,
            key: Secret(pem_content(&bytes).unwrap_or_else(|| BASE64.encode(&bytes))),
        };
        let taken = keys(config, line, import)?;
        if self.json {
            out_json(&taken)
        } else {
            out(&to_publish(&taken))
        }
    }
}

/// The base 64 of the first private key (RFC 7468 10 and its forebears); what it holds the
/// directory sees.
fn pem_content(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| line.starts_with("-----BEGIN ") && line.ends_with("PRIVATE KEY-----"))?;
    Some(
        lines
            .take_while(|line| !line.starts_with("-----END "))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_private_key_of_a_file_is_found() {
        #[track_caller]
        fn check(text: &str, want: Option<&str>) {
            assert_eq!(pem_content(text.as_bytes()).as_deref(), want, "{text:?}");
        }
        check(
            "-----BEGIN PRIVATE KEY-----\nAB\r\nCD\n-----END PRIVATE KEY-----\n",
            Some("ABCD"),
        );
        check(
            "-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n\
             -----BEGIN RSA PRIVATE KEY-----\nBB\n-----END RSA PRIVATE KEY-----\n",
            Some("BB"),
        );
        check(
            "-----BEGIN PUBLIC KEY-----\nAA\n-----END PUBLIC KEY-----\n",
            None,
        );
        check("AB", None);
        assert_eq!(pem_content(b"\xff\x30"), None);
    }
}
