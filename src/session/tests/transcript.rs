//! Transcripts: `tests/transcripts/<protocol>/*.txt`, played in the order of their lines.
//!
//! - `#` and what follows: a comment. `#raw` alone: sessions of IMAP are not logged in beforehand.
//! - `NAME> `: the client says; `NAME< `: the server must say next. A name is a listener of
//!   `world.rs`, and anything behind it makes another connection; the first line with it opens it.
//! - `| `: a line of the literal whose `{}` or `{+}` ends the line before, or of the letter.
//! - `deliver: MAILBOX`: a letter arrives for `$ana`; `quota: BYTES MESSAGES`: sets `$ana`'s limits;
//!   `kick: USER`: ends that user's sessions.
//!
//! `\r \n \t \0` are what they are in C, and a client's line that ends in `\c` has no line end. In
//! the server's lines `<any>` stands for anything, `<n>` for digits, and `(closed)` for the end of
//! the connection. `$ana` and `$ben` are two accounts of the file's own, `$ben` with little quota,
//! `$team` is an alias of both; `$user` is `$ana` by her short name, `$plain` logs her in by AUTH
//! PLAIN, and `$password` is everybody's. `TRANSCRIPT=part-of-a-name` plays only some.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::world::{Client, PASSWORD, World};
use crate::base::ByteSize;
use crate::directory::Command;
use crate::runtime;

/// What `$ben` may keep.
const QUOTA: ByteSize = ByteSize(2_000);

/// Plays every transcript of these protocols.
pub(super) fn play(protocols: &[&str]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let entries = |protocol: &&str| std::fs::read_dir(root.join(protocol)).expect("a directory");
    let of = |protocol| entries(protocol).map(|entry| entry.expect("an entry").path());
    let mut files: Vec<PathBuf> = protocols.iter().flat_map(of).collect();
    files.sort();
    let only = std::env::var("TRANSCRIPT").unwrap_or_default();
    files.retain(|file| file.to_string_lossy().contains(&only));
    runtime::block_on(async move {
        let world = World::start().await;
        let mut faults = String::new();
        for (number, file) in files.iter().enumerate() {
            let text = std::fs::read_to_string(file).expect("text");
            let mut play = Play::new(&world, number, &text).await;
            let fault = play.run(&text).await.err();
            faults.extend(fault.map(|fault| format!("{}:{fault}\n", file.display())));
        }
        assert!(faults.is_empty(), "{faults}");
    })
    .expect("a shard");
}

/// One file.
struct Play<'a> {
    world: &'a World,
    number: usize,
    raw: bool,
    clients: BTreeMap<String, Client>,
}

impl Play<'_> {
    async fn new<'a>(world: &'a World, number: usize, text: &str) -> Play<'a> {
        let play = Play {
            world,
            number,
            raw: text.lines().any(|line| line == "#raw"),
            clients: BTreeMap::new(),
        };
        world.user(&format!("ana{number}"), None).await;
        world.user(&format!("ben{number}"), Some(QUOTA)).await;
        let to = vec![play.address("ana"), play.address("ben")];
        let from = play.address("team");
        world.execute(Command::AliasAdd { from, to }).await;
        play
    }

    fn address(&self, name: &str) -> String {
        format!("{name}{}@example.org", self.number)
    }

    fn user(&self) -> String {
        format!("ana{}", self.number)
    }

    /// The fault is the number of a line and what is wrong there.
    async fn run(&mut self, text: &str) -> Result<(), String> {
        let mut lines = text.lines().zip(1..).peekable();
        while let Some((line, number)) = lines.next() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut literal = String::new();
            while let Some((line, _)) = lines.next_if(|(line, _)| line.starts_with('|')) {
                literal.push_str(line[1..].strip_prefix(' ').unwrap_or(""));
                literal.push_str("\r\n");
            }
            let done = self.step(line, &literal).await;
            done.map_err(|fault| format!("{number}\n{fault}"))?;
        }
        Ok(())
    }

    async fn step(&mut self, line: &str, literal: &str) -> Result<(), String> {
        let end = line.find(['>', '<', ':']).ok_or("no such line")?;
        let (who, mark, said) = (&line[..end], &line[end..=end], &line[end + 1..]);
        let said = self.filled_in(said.strip_prefix(' ').unwrap_or(said));
        match (mark, who) {
            (">", _) => self.say(who, &said, literal).await,
            ("<", _) => {
                let got = self.client(who).await.line().await;
                if !matches(&said, &got) {
                    return Err(format!(" want {said}\n  got {got}"));
                }
            }
            (_, "deliver") => self.world.deliver(&self.user(), &said, literal).await,
            (_, "quota") => self.world.set_quota(&self.user(), &said).await,
            (_, "kick") if self.world.roster.kick(&said) > 0 => {}
            (_, "kick") => return Err(format!("{said} has no session")),
            _ => return Err(format!("there is nothing that is called {who}")),
        }
        Ok(())
    }

    fn filled_in(&self, said: &str) -> String {
        let plain = format!("\0{}\0{PASSWORD}", self.address("ana"));
        let plain = data_encoding::BASE64.encode(plain.as_bytes());
        [
            ("$ana", self.address("ana").as_str()),
            ("$ben", &self.address("ben")),
            ("$team", &self.address("team")),
            ("$user", &self.user()),
            ("$plain", &plain),
            ("$password", PASSWORD),
            ("\\r", "\r"),
            ("\\n", "\n"),
            ("\\t", "\t"),
            ("\\0", "\0"),
        ]
        .iter()
        .fold(said.to_owned(), |said, (from, to)| said.replace(from, to))
    }

    async fn client(&mut self, who: &str) -> &mut Client {
        if !self.clients.contains_key(who) {
            let client = match who.starts_with("imap") && !self.raw {
                true => Client::imap(self.world, &self.user()).await,
                false => Client::connect(self.world, who).await,
            };
            self.clients.insert(who.to_owned(), client);
        }
        self.clients.get_mut(who).expect("made above")
    }

    async fn say(&mut self, who: &str, said: &str, literal: &str) {
        let client = self.client(who).await;
        let bytes = literal.len();
        let text = if let Some(line) = said.strip_suffix("{+}") {
            format!("{line}{{{bytes}+}}\r\n{literal}\r\n")
        } else if let Some(line) = said.strip_suffix("{}") {
            let line = format!("{line}{{{bytes}}}\r\n");
            client.say(line.as_bytes()).await;
            let plus = client.line().await;
            assert!(plus.starts_with("+ "), "{plus}");
            format!("{literal}\r\n")
        } else if let Some(said) = said.strip_suffix("\\c") {
            said.to_owned()
        } else {
            format!("{said}\r\n")
        };
        client.say(text.as_bytes()).await;
    }
}

/// Whether `line` is what `pattern` says.
pub(super) fn matches(pattern: &str, line: &str) -> bool {
    let Some((before, rest)) = pattern.split_once('<') else {
        return pattern == line;
    };
    let (word, after) = rest.split_once('>').unwrap_or(("", ""));
    let Some(tail) = line.strip_prefix(before) else {
        return false;
    };
    match word {
        "any" => (0..=tail.len())
            .filter(|at| tail.is_char_boundary(*at))
            .any(|at| matches(after, &tail[at..])),
        "n" => {
            let digits = tail.bytes().take_while(u8::is_ascii_digit).count();
            digits > 0 && matches(after, &tail[digits..])
        }
        // A `<` of its own.
        _ => tail
            .strip_prefix('<')
            .is_some_and(|tail| matches(rest, tail)),
    }
}

#[test]
fn patterns_match() {
    assert!(matches("* <n> EXISTS", "* 12 EXISTS") && !matches("* <n> EXISTS", "* x EXISTS"));
    assert!(matches("a OK <any>", "a OK [X] done") && matches("<a@b>", "<a@b>"));
}
