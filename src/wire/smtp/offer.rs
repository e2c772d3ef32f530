//! What a server offers: the keywords of its answer to EHLO or LHLO (RFC 5321 4.1.1.1).

use super::peer::PeerReply;

/// SASL mechanisms that are kept of a list.
const MECHANISMS_MAX: usize = 32;

/// A server's extensions. The default is what HELO gives: none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// What the server calls itself.
    pub server: String,
    /// RFC 2920.
    pub pipelining: bool,
    /// RFC 1870; the parameter may be given.
    pub size: bool,
    /// Its value, where it is a limit.
    pub message_bytes_max: Option<u64>,
    /// RFC 6152.
    pub eight_bit: bool,
    /// RFC 3030.
    pub binary: bool,
    /// RFC 3030.
    pub chunking: bool,
    /// RFC 6531.
    pub smtputf8: bool,
    /// RFC 3461.
    pub dsn: bool,
    /// RFC 2034.
    pub enhanced_codes: bool,
    /// RFC 3207.
    pub start_tls: bool,
    /// RFC 8689.
    pub require_tls: bool,
    /// RFC 4954; in upper case.
    pub auth: Vec<String>,
    /// RFC 9422: recipients of one message.
    pub recipients_max: Option<u64>,
    /// RFC 9422: messages of one connection.
    pub messages_max: Option<u64>,
    /// RFC 4865: longest time in seconds that a message is held.
    pub hold_seconds_max: Option<u64>,
    /// RFC 2852: shortest time in seconds that may be asked for, 0 where it is not said.
    pub deliver_by_seconds_min: Option<u64>,
    /// RFC 6710.
    pub priorities: bool,
}

impl Offer {
    /// Reads a positive answer to EHLO or LHLO. What is not known or makes no sense is passed over.
    #[must_use]
    pub fn read(reply: &PeerReply) -> Self {
        let mut lines = reply.lines();
        let mut offer = Offer {
            server: server_name(lines.next().unwrap_or_default()),
            ..Offer::default()
        };
        for line in lines {
            offer.keyword(line);
        }
        offer
    }

    /// A positive answer to HELO.
    #[must_use]
    pub fn plain(reply: &PeerReply) -> Self {
        Offer {
            server: server_name(reply.lines().next().unwrap_or_default()),
            ..Offer::default()
        }
    }

    fn keyword(&mut self, line: &str) {
        let mut words = line.split_ascii_whitespace();
        let keyword = words.next().unwrap_or_default().to_ascii_uppercase();
        match &keyword[..] {
            "PIPELINING" => self.pipelining = true,
            "SIZE" => {
                self.size = true;
                // RFC 1870 4: 0 is no fixed limit.
                self.message_bytes_max = number(words.next()).filter(|bytes| *bytes > 0);
            }
            "8BITMIME" => self.eight_bit = true,
            "BINARYMIME" => self.binary = true,
            "CHUNKING" => self.chunking = true,
            "SMTPUTF8" => self.smtputf8 = true,
            "DSN" => self.dsn = true,
            "ENHANCEDSTATUSCODES" => self.enhanced_codes = true,
            "STARTTLS" => self.start_tls = true,
            "REQUIRETLS" => self.require_tls = true,
            "AUTH" => self.mechanisms(words),
            "LIMITS" => self.limits(words),
            "FUTURERELEASE" => self.hold_seconds_max = number(words.next()),
            "DELIVERBY" => {
                self.deliver_by_seconds_min = Some(number(words.next()).unwrap_or(0));
            }
            "MT-PRIORITY" => self.priorities = true,
            // What servers said before there was a standard, and some still do.
            old => {
                if let Some(first) = old.strip_prefix("AUTH=") {
                    self.mechanisms(std::iter::once(first).chain(words));
                }
            }
        }
    }

    fn mechanisms<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        for name in names.map(str::to_ascii_uppercase) {
            if self.auth.len() < MECHANISMS_MAX && !self.auth.contains(&name) {
                self.auth.push(name);
            }
        }
    }

    /// RFC 9422 3: `NAME=value` words; an unknown one is passed over.
    fn limits<'a>(&mut self, words: impl Iterator<Item = &'a str>) {
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            let value = number(Some(value)).filter(|value| *value > 0);
            match &name.to_ascii_uppercase()[..] {
                "RCPTMAX" => self.recipients_max = value,
                "MAILMAX" => self.messages_max = value,
                _ => {}
            }
        }
    }
}

fn server_name(line: &str) -> String {
    line.split(' ').next().unwrap_or_default().to_owned()
}

/// Digits alone; what overflows is as good as no limit.
fn number(word: Option<&str>) -> Option<u64> {
    let word = word?;
    let is_number = !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| word.parse().unwrap_or(u64::MAX))
}
