//! Answers from a table, for tests of other rooms: any outcome for any name, and what was asked.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use hashbrown::HashMap;

use super::answer::{Answer, DnsError, Kind, Outcome, Rdata, Security};

type Answers = HashMap<(String, Kind), Result<Answer, DnsError>>;

/// What a resolver says; a name that is not here does not exist. Clones are handles to the same.
#[derive(Clone, Default)]
pub(crate) struct Script {
    answers: Rc<RefCell<Answers>>,
    asked: Rc<RefCell<Vec<String>>>,
    /// Of all answers; else a minute.
    ttl: Rc<Cell<Option<u32>>>,
}

impl Script {
    /// One line a record: `[secure] NAME KIND DATA`, where DATA is as in a zone file, or `none`,
    /// `servfail`, `timeout` or `bogus`. `NAME CNAME TARGET` is an alias for all kinds.
    pub(crate) fn new(lines: &str) -> Self {
        let script = Script::default();
        lines.lines().for_each(|line| script.say(line));
        script
    }

    /// Adds a line.
    pub(crate) fn say(&self, line: &str) {
        let (security, rest) = match line.trim().strip_prefix("secure ") {
            Some(rest) => (Security::Secure, rest),
            None => (Security::Insecure, line.trim()),
        };
        let words: Vec<&str> = rest.split_whitespace().collect();
        let [name, kind, data @ ..] = &words[..] else {
            assert!(rest.is_empty(), "no record: {rest}");
            return;
        };
        let kind: Kind = kind.parse().expect(line);
        let mut answers = self.answers.borrow_mut();
        let key = ((*name).to_owned(), kind);
        let failure = match data[0] {
            "servfail" => Some(DnsError::ServFail),
            "timeout" => Some(DnsError::Timeout),
            "bogus" => Some(DnsError::Bogus("no signature".to_owned())),
            _ => None,
        };
        if let Some(failure) = failure {
            answers.insert(key, Err(failure));
            return;
        }
        let fresh = || Ok(absent(name, Outcome::NoData, security));
        let answer = answers.entry(key).or_insert_with(fresh);
        if let (Ok(answer), false) = (answer, data[0] == "none") {
            answer.outcome = Outcome::Records;
            answer.records.push(rdata(kind, data));
            answer.records.sort();
        }
    }

    /// Takes all that was said of a name back.
    pub(crate) fn forget(&self, name: &str, kind: Kind) {
        self.answers.borrow_mut().remove(&(name.to_owned(), kind));
    }

    /// All answers are to be used for so many seconds.
    pub(crate) fn set_ttl(&self, ttl: u32) {
        self.ttl.set(Some(ttl));
    }

    /// What was asked since the last time: `name KIND`.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.take()
    }

    pub(super) fn answer(&self, name: &str, kind: Kind) -> Result<Answer, DnsError> {
        self.asked
            .borrow_mut()
            .push(format!("{name} {}", kind.name()));
        let answers = self.answers.borrow();
        let (mut name, mut aliases, mut security) = (name, 0, Security::Secure);
        loop {
            let alias = answers.get(&(name.to_owned(), Kind::Cname));
            if let Some(Ok(found)) = alias
                && let Some(Rdata::Name(target)) = found.records.first()
            {
                (name, aliases) = (target, aliases + 1);
                security = security.min(found.security);
                continue;
            }
            let mut answer = match answers.get(&(name.to_owned(), kind)) {
                Some(answer) => answer.clone()?,
                None => {
                    let exists = answers.keys().any(|(known, _)| known == name);
                    match exists {
                        true => absent(name, Outcome::NoData, Security::Insecure),
                        false => absent(name, Outcome::NoName, Security::Insecure),
                    }
                }
            };
            answer.aliases = aliases;
            answer.ttl = self.ttl.get().unwrap_or(answer.ttl);
            answer.security = answer.security.min(security);
            return Ok(answer);
        }
    }
}

fn absent(name: &str, outcome: Outcome, security: Security) -> Answer {
    Answer {
        outcome,
        records: Vec::new(),
        name: name.to_owned(),
        aliases: 0,
        ttl: 60,
        security,
        server: ([127, 0, 0, 1], 53).into(),
    }
}

fn rdata(kind: Kind, data: &[&str]) -> Rdata {
    let plain = |text: &str| text.trim_end_matches('.').to_owned();
    match kind {
        Kind::A | Kind::Aaaa => Rdata::Address(data[0].parse().expect("an address")),
        Kind::Mx => Rdata::Mx {
            preference: data[0].parse().expect("a preference"),
            host: plain(data[1]),
        },
        Kind::Cname => Rdata::Name(plain(data[0])),
        Kind::Txt => Rdata::Text(data.join(" ")),
        Kind::Tlsa => {
            let number = |at: usize| data[at].parse().expect("a number");
            let hex = data_encoding::HEXLOWER.decode(data[3].as_bytes());
            Rdata::Tlsa {
                usage: number(0),
                selector: number(1),
                matching: number(2),
                data: hex.expect("hex digits"),
            }
        }
        _ => panic!("nobody asks for it"),
    }
}
