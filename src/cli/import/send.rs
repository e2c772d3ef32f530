//! Messages of one folder: what is there already is left out, the rest is sent in batches.
//!
//! Small messages are gathered, so that a batch is one record and one wait for the disk. A large
//! one is a batch of its own and streamed: whether it is there already is known at its end, when it
//! may still be taken back. No body is ever held whole but the small.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use super::link::{Link, Stream};
use super::report::{Expected, Report, id_of};
use crate::base::UnixMs;
use crate::cli::error::CliError;
use crate::cli::print::counted;
use crate::store::Flags;
use crate::web::import::{
    BATCH, Batch, DROP, END, Head, MESSAGE, PIECE, PIECE_BYTES_MAX, put_frame,
};
use crate::wire::mbox::{self, FromLine};

/// Larger ones are streamed.
const SMALL_BYTES_MAX: usize = 512 << 10;
/// A batch is sent when it has as much.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_MESSAGES: usize = 500;
/// What is looked at of a message for its flags.
const HEAD_BYTES: usize = 64 << 10;
/// A server whose disk is behind is given this long, in steps.
const TRIES_MAX: u32 = 240;
const TRY_EVERY: Duration = Duration::from_millis(500);

/// What is known of a message before its octets come.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    Known(Head),
    /// Its header says the rest.
    Mbox(FromLine),
}

pub(super) struct Sender<'l> {
    link: &'l Link,
    /// `limits.message_bytes_max`: what is larger is left out, and told.
    bytes_max: u64,
    batch_head: Batch,
    /// What the folder held before, and was not met in the source yet.
    before: HashMap<[u8; 16], u32>,
    /// Frames of the messages that wait to be sent, and their count.
    batch: Vec<u8>,
    waiting: usize,
    now: Option<Now>,
    report: Report,
    expected: Vec<Expected>,
    /// Keywords in headers that cannot be here.
    keywords_odd: u64,
}

/// The message that comes in.
struct Now {
    origin: Origin,
    /// Where it is, for who is told of it.
    place: String,
    bytes: u64,
    hasher: blake3::Hasher,
    text: Vec<u8>,
    stage: Stage,
}

enum Stage {
    Small,
    Large(Head, Stream),
    /// Nobody's mail: dropped to its end.
    Skipped,
    /// The same of what is above the limit.
    TooLarge,
}

impl<'l> Sender<'l> {
    pub fn new(link: &'l Link, user: &str, folder: &str) -> Result<Self, CliError> {
        let mut sender = Sender {
            link,
            bytes_max: link.bytes_max(),
            batch_head: Batch {
                user: user.to_owned(),
                folder: folder.to_owned(),
            },
            before: HashMap::new(),
            batch: Vec::new(),
            waiting: 0,
            now: None,
            report: Report::new(user, folder),
            expected: Vec::new(),
            keywords_odd: 0,
        };
        let mut before = HashMap::new();
        sender.each_row(|row| *before.entry(row.id).or_default() += 1)?;
        sender.before = before;
        Ok(sender)
    }

    fn each_row(&self, mut each: impl FnMut(Expected)) -> Result<(), CliError> {
        let Batch { user, folder } = &self.batch_head;
        let mut after = 0;
        loop {
            let page = self.link.rows(user, folder, after)?;
            for row in &page.rows {
                after = after.max(row.uid);
                if let Some(row) = Expected::of_row(row) {
                    each(row);
                }
            }
            if !page.more {
                return Ok(());
            }
        }
    }

    /// A source, for the report.
    pub fn source(&mut self, source: String) {
        self.report.sources.push(source);
    }

    /// Something of messages that cannot be here.
    pub fn left_out(&mut self, what: String) {
        self.report.left_out.push(what);
    }

    /// Something of the source could not be read.
    pub fn unreadable(&mut self, what: String) {
        self.report.unreadable.push(what);
    }

    /// A message at `place` begins.
    pub fn begin(&mut self, origin: Origin, place: String) {
        self.now = Some(Now {
            origin,
            place,
            bytes: 0,
            hasher: blake3::Hasher::new(),
            text: Vec::new(),
            stage: Stage::Small,
        });
    }

    /// What began is no message after all: it could not be read to its end.
    pub fn give_up(&mut self, what: String) {
        // A stream that is not ended leaves nothing behind.
        self.now = None;
        self.unreadable(what);
    }

    pub fn piece(&mut self, piece: &[u8]) -> Result<(), CliError> {
        let Some(mut now) = self.now.take() else {
            return Ok(());
        };
        now.hasher.update(piece);
        now.bytes += piece.len() as u64;
        if now.bytes > self.bytes_max && matches!(now.stage, Stage::Large(..)) {
            // A stream that is not ended leaves nothing behind.
            now.stage = Stage::TooLarge;
        }
        match &mut now.stage {
            Stage::Skipped | Stage::TooLarge => {}
            Stage::Small => {
                now.text.extend_from_slice(piece);
                if now.text.len() > SMALL_BYTES_MAX {
                    now.stage = self.enlarge(&now)?;
                    now.text = Vec::new();
                }
            }
            Stage::Large(_, stream) => pieces(piece, |frames| stream.write(frames)),
        }
        self.now = Some(now);
        Ok(())
    }

    /// Begins a batch of its own for a message that is too large for others.
    fn enlarge(&mut self, now: &Now) -> Result<Stage, CliError> {
        let Some(head) = self.head(&now.origin, &now.text) else {
            return Ok(Stage::Skipped);
        };
        self.flush()?;
        let mut stream = self.link.stream()?;
        let mut frames = Vec::new();
        put_json(&mut frames, BATCH, &self.batch_head);
        put_json(&mut frames, MESSAGE, &head);
        stream.write(&frames);
        pieces(&now.text, |frames| stream.write(frames));
        Ok(Stage::Large(head, stream))
    }

    /// Flags, keywords and date; `None` where it is no mail.
    fn head(&mut self, origin: &Origin, text: &[u8]) -> Option<Head> {
        let from = match origin {
            Origin::Known(head) => return Some(head.clone()),
            Origin::Mbox(from) => from,
        };
        let text = &text[..text.len().min(HEAD_BYTES)];
        let marks = mbox::marks(text, from);
        if marks.removed || mbox::is_internal(text) {
            return None;
        }
        self.keywords_odd += u64::from(marks.left_out);
        Some(Head {
            flags: Flags::from(&marks).0,
            date: UnixMs::from_seconds(marks.arrived.unwrap_or(from.date).seconds()),
            keywords: marks.keywords,
        })
    }

    /// The message is whole.
    pub fn end(&mut self) -> Result<(), CliError> {
        let Some(now) = self.now.take() else {
            return Ok(());
        };
        let id = id_of(&now.hasher);
        match now.stage {
            Stage::Skipped => self.report.skipped += 1,
            Stage::TooLarge => self.too_large(&now),
            Stage::Small => {
                let Some(head) = self.head(&now.origin, &now.text) else {
                    self.report.skipped += 1;
                    return Ok(());
                };
                if now.bytes > self.bytes_max {
                    self.too_large(&now);
                    return Ok(());
                }
                if !self.met(id, &head) {
                    put_json(&mut self.batch, MESSAGE, &head);
                    pieces(&now.text, |frames| self.batch.extend_from_slice(frames));
                    self.waiting += 1;
                }
                if self.batch.len() >= BATCH_BYTES || self.waiting >= BATCH_MESSAGES {
                    self.flush()?;
                }
            }
            Stage::Large(head, mut stream) => {
                let mut frames = Vec::new();
                let met = self.met(id, &head);
                if met {
                    put_frame(&mut frames, DROP, &[]);
                }
                put_frame(&mut frames, END, &[]);
                stream.write(&frames);
                stream.finish()?;
                self.report.added += u64::from(!met);
            }
        }
        Ok(())
    }

    fn too_large(&mut self, now: &Now) {
        let (place, bytes, most) = (&now.place, now.bytes, self.bytes_max);
        self.unreadable(format!(
            "{place}: left out: {bytes} octets, and limits.message_bytes_max is {most}"
        ));
    }

    /// Takes the message into account; true where the folder has it from before.
    fn met(&mut self, id: [u8; 16], head: &Head) -> bool {
        self.report.messages += 1;
        self.expected.push(Expected::new(id, head));
        match self.before.get_mut(&id) {
            Some(left) if *left > 0 => {
                *left -= 1;
                self.report.present += 1;
                true
            }
            _ => false,
        }
    }

    /// Sends what waits. Returns when it is durable.
    pub fn flush(&mut self) -> Result<(), CliError> {
        if self.waiting == 0 {
            return Ok(());
        }
        let mut tries = 0;
        loop {
            match self.send() {
                Ok(()) => break,
                // Refused as a whole, so it can be sent again as a whole.
                Err(CliError::Refused(why)) if why.temporary && tries < TRIES_MAX => {
                    tries += 1;
                    thread::sleep(TRY_EVERY);
                }
                Err(why) => return Err(why),
            }
        }
        self.report.added += self.waiting as u64;
        self.waiting = 0;
        self.batch.clear();
        Ok(())
    }

    fn send(&self) -> Result<(), CliError> {
        let mut stream = self.link.stream()?;
        let mut ends = Vec::new();
        put_json(&mut ends, BATCH, &self.batch_head);
        stream.write(&ends);
        for piece in self.batch.chunks(PIECE_BYTES_MAX) {
            stream.write(piece);
        }
        ends.clear();
        put_frame(&mut ends, END, &[]);
        stream.write(&ends);
        stream.finish()
    }

    /// How many messages were read so far.
    pub fn count(&self) -> u64 {
        self.report.messages
    }

    /// Compares the folder with all that was read.
    pub fn compare(mut self) -> Result<Report, CliError> {
        let mut there = Vec::new();
        self.each_row(|row| there.push(row))?;
        self.report.compare(&mut self.expected, &mut there);
        if self.keywords_odd > 0 {
            let words = counted(self.keywords_odd, "word");
            self.left_out(format!("{words} in X-Keywords can be no keyword: left out"));
        }
        Ok(self.report)
    }
}

fn pieces(bytes: &[u8], mut write: impl FnMut(&[u8])) {
    let mut frame = Vec::new();
    for piece in bytes.chunks(PIECE_BYTES_MAX) {
        frame.clear();
        put_frame(&mut frame, PIECE, piece);
        write(&frame);
    }
}

fn put_json(out: &mut Vec<u8>, kind: u8, content: &impl serde::Serialize) {
    let content = serde_json::to_vec(content).expect("plain values become JSON");
    put_frame(out, kind, &content);
}
