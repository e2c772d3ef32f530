//! Mail that comes over the admin socket: `POST /v1/import`, one batch of messages a request.
//!
//! The command line reads the files, so that it needs no right of the server's to them, and sends
//! what is in them. A batch is a stream of frames, one octet kind, four octets length, content:
//! a batch begins with [`BATCH`] (JSON), each message with [`MESSAGE`] (JSON), then come
//! [`PIECE`]s of its octets; [`DROP`] takes the message back, [`END`] makes the batch durable as one
//! record. A stream that breaks off before leaves nothing behind.
//!
//! Large messages go to spool files as they come: memory is bounded by [`PIECE_BYTES_MAX`] and
//! what one record holds.

use http_body_util::BodyExt as _;
use hyper::body::Incoming as HttpBody;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::admin::{AdminError, AdminReply};
use crate::base::{Uid, UnixMs};
use crate::directory::Directory;
use crate::runtime::yield_if_needed;
use crate::store::{
    AccountRef, Flags, Incoming, NewMessage, ROWS_MAX, Remote, Resource, Row, StoreError,
};
use crate::wire::imap::is_keyword;

/// Begins a batch: [`Batch`].
pub const BATCH: u8 = 1;
/// Begins a message: [`Head`].
pub const MESSAGE: u8 = 2;
/// Octets of the message.
pub const PIECE: u8 = 3;
/// The message is not wanted after all.
pub const DROP: u8 = 4;
/// Ends the batch: what was sent becomes durable.
pub const END: u8 = 5;

/// Content of one frame.
pub const PIECE_BYTES_MAX: usize = 256 << 10;
/// What is said of a batch or a message, which stays in memory until the batch is whole.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Messages of one batch.
pub const BATCH_MESSAGES_MAX: usize = 1_000;
/// Octets after which further messages of one batch wait in spool files.
const WAITING_BYTES_MAX: u64 = 2 << 20;

/// Whose mail it is, and the folder it comes into.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Batch {
    pub user: String,
    pub folder: String,
}

/// What is known of a message beside its octets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Bits of [`Flags`].
    pub flags: u8,
    pub keywords: Vec<String>,
    pub date: UnixMs,
}

impl Head {
    /// What goes into replies of IMAP as it is must be what it is there: whoever sends may be wrong.
    fn check(&self) -> Result<(), AdminError> {
        match self.keywords.iter().find(|word| !is_keyword(word)) {
            Some(word) => Err(failed(&format!("{word:?} can be no keyword"), false)),
            None => Ok(()),
        }
    }
}

/// What an import asks before and after.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImportQuery {
    /// Makes a folder where it is missing.
    Folder {
        user: String,
        folder: String,
        subscribed: bool,
    },
    /// [`ImportRow`]s of a folder, those after a UID.
    Rows {
        user: String,
        folder: String,
        after: u32,
    },
}

/// One message of a folder, as the index has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImportRow {
    pub uid: u32,
    /// First half of the BLAKE3 of the message, hexadecimal.
    pub hash: String,
    #[serde(flatten)]
    pub head: Head,
}

/// An answer to [`ImportQuery::Rows`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImportRows {
    pub rows: Vec<ImportRow>,
    /// There are more after the last.
    pub more: bool,
}

/// Where the octets of a batch come from.
pub enum Pieces {
    Socket(HttpBody),
    /// On a stopped server: from another thread of the command line.
    Thread(flume::Receiver<Vec<u8>>),
}

impl Pieces {
    /// The next; `None` at the end, and where the stream broke off.
    async fn next(&mut self) -> Option<Vec<u8>> {
        match self {
            Pieces::Socket(body) => loop {
                let frame = body.frame().await?.ok()?;
                if let Ok(data) = frame.into_data() {
                    return Some(data.to_vec());
                }
            },
            Pieces::Thread(pieces) => pieces.recv_async().await.ok(),
        }
    }
}

/// Carries out imports on this shard. Clones are handles to the same.
#[derive(Clone)]
pub struct Importer {
    remote: Remote,
    directory: Directory,
}

/// A batch on its way in.
#[derive(Default)]
struct Taking {
    batch: Option<Batch>,
    messages: Vec<NewMessage>,
    /// Octets of `messages` that wait in memory.
    waiting: u64,
    now: Option<(Head, Incoming)>,
}

impl Importer {
    #[must_use]
    pub fn new(remote: Remote, directory: Directory) -> Self {
        Importer { remote, directory }
    }

    /// Answers a question.
    pub async fn ask(&self, query: ImportQuery) -> AdminReply {
        let asked = match query {
            ImportQuery::Folder {
                user,
                folder,
                subscribed,
            } => self.folder(&user, folder, subscribed).await,
            ImportQuery::Rows {
                user,
                folder,
                after,
            } => self.rows(&user, folder, Uid(after)).await,
        };
        asked.map_or_else(AdminReply::Failed, AdminReply::Done)
    }

    async fn folder(
        &self,
        user: &str,
        folder: String,
        subscribed: bool,
    ) -> Result<serde_json::Value, AdminError> {
        let account = self.account(user)?;
        let made = self
            .remote
            .make_mailbox(account, folder.clone(), subscribed);
        made.await.map_err(|why| refusal(&why, user, &folder))?;
        Ok(json!({}))
    }

    async fn rows(
        &self,
        user: &str,
        folder: String,
        after: Uid,
    ) -> Result<serde_json::Value, AdminError> {
        let account = self.account(user)?;
        let rows = self.remote.rows(account, folder.clone(), after).await;
        let rows = rows.map_err(|why| refusal(&why, user, &folder))?;
        let rows = ImportRows {
            more: rows.len() == ROWS_MAX,
            rows: rows.into_iter().map(shown).collect(),
        };
        serde_json::to_value(rows).map_err(|error| failed(&error.to_string(), false))
    }

    /// Takes one batch.
    pub async fn take(&self, pieces: Pieces) -> AdminReply {
        match self.take_all(pieces).await {
            Ok(taken) => AdminReply::Done(json!({ "taken": taken })),
            Err(error) => AdminReply::Failed(error),
        }
    }

    async fn take_all(&self, mut pieces: Pieces) -> Result<usize, AdminError> {
        let mut taking = Taking::default();
        let mut held: Vec<u8> = Vec::new();
        loop {
            let mut used = 0;
            while let Some((kind, content)) = frame(&held[used..])? {
                yield_if_needed().await;
                used += FRAME_BYTES + content.len();
                if kind == END {
                    return self.finish(taking).await;
                }
                self.one(&mut taking, kind, content).await?;
            }
            held.drain(..used);
            match pieces.next().await {
                Some(piece) => held.extend_from_slice(&piece),
                None => return Err(failed("the batch broke off", true)),
            }
        }
    }

    async fn one(&self, taking: &mut Taking, kind: u8, content: &[u8]) -> Result<(), AdminError> {
        match kind {
            BATCH => taking.batch = Some(read(content)?),
            MESSAGE => {
                taking.end_message().await?;
                if taking.messages.len() >= BATCH_MESSAGES_MAX {
                    return Err(failed("the batch has too many messages", false));
                }
                let incoming = match taking.waiting < WAITING_BYTES_MAX {
                    true => self.remote.incoming(),
                    false => self.remote.incoming_to_spool(),
                };
                let head: Head = read(content)?;
                head.check()?;
                taking.now = Some((head, incoming));
            }
            PIECE => match &mut taking.now {
                Some((_, incoming)) => {
                    let written = incoming.write(content).await;
                    written.map_err(|why| refusal(&why, "the user", "the folder"))?;
                }
                None => return Err(failed("octets of no message", false)),
            },
            DROP => taking.now = None,
            _ => return Err(failed("a frame of another version", false)),
        }
        Ok(())
    }

    async fn finish(&self, mut taking: Taking) -> Result<usize, AdminError> {
        taking.end_message().await?;
        let Some(Batch { user, folder }) = taking.batch else {
            return Err(failed("a batch for nobody", false));
        };
        let count = taking.messages.len();
        if count > 0 {
            let account = self.account(&user)?;
            let appended = self.remote.append(account, folder.clone(), taking.messages);
            appended
                .await
                .map_err(|why| refusal(&why, &user, &folder))?;
        }
        Ok(count)
    }

    fn account(&self, user: &str) -> Result<AccountRef, AdminError> {
        let snapshot = self.directory.snapshot();
        match snapshot.login(user) {
            Some(account) if account.keeps_mail() => Ok(snapshot.reference(account)),
            Some(_) => Err(failed(&format!("{user} keeps no mail here"), false)),
            None => Err(failed(
                &format!("there is no user {user}; add it with palomar user add"),
                false,
            )),
        }
    }
}

impl Taking {
    async fn end_message(&mut self) -> Result<(), AdminError> {
        let Some((head, incoming)) = self.now.take() else {
            return Ok(());
        };
        let message = incoming.finish().await;
        let message = message.map_err(|why| refusal(&why, "the user", "the folder"))?;
        self.waiting += message.size;
        self.messages.push(NewMessage {
            message,
            flags: Flags(head.flags & Flags::ALL.0),
            keywords: head.keywords,
            internal_date: Some(head.date),
            trace: None,
        });
        Ok(())
    }
}

/// Octets before a frame's content.
const FRAME_BYTES: usize = 5;

/// Puts a frame at the end of `out`.
pub fn put_frame(out: &mut Vec<u8>, kind: u8, content: &[u8]) {
    out.push(kind);
    let len = u32::try_from(content.len()).expect("frames are short");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(content);
}

/// The frame at the begin of `bytes`, once it is whole.
fn frame(bytes: &[u8]) -> Result<Option<(u8, &[u8])>, AdminError> {
    let Some((head, rest)) = bytes.split_first_chunk::<FRAME_BYTES>() else {
        return Ok(None);
    };
    let len = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if len > PIECE_BYTES_MAX {
        return Err(failed("a frame that is too long", false));
    }
    Ok(rest.get(..len).map(|content| (head[0], content)))
}

fn read<'a, T: Deserialize<'a>>(content: &'a [u8]) -> Result<T, AdminError> {
    if content.len() > HEAD_BYTES_MAX {
        return Err(failed("a head that is too long", false));
    }
    serde_json::from_slice(content)
        .map_err(|error| failed(&format!("not an import of this version: {error}"), false))
}

fn shown(row: Row) -> ImportRow {
    let keywords = row.keywords.iter().map(ToString::to_string).collect();
    ImportRow {
        uid: row.uid.0,
        hash: data_encoding::HEXLOWER.encode(&row.email_id),
        head: Head {
            flags: row.flags.0,
            keywords,
            date: row.internal_date,
        },
    }
}

fn failed(message: &str, temporary: bool) -> AdminError {
    AdminError {
        message: message.to_owned(),
        temporary,
    }
}

/// Why the store did not take it, and what to do.
fn refusal(error: &StoreError, user: &str, folder: &str) -> AdminError {
    use StoreError as E;
    match error {
        E::Full => failed("the disk or the journal is full", true),
        // Whether the batch is in or not, nobody knows. To send it again as it is could double it; a
        // new run looks first.
        E::Poisoned => failed(
            "the server's disk failed and it is stopping; see its log, then run the same command \
             again: it brings nothing twice",
            false,
        ),
        E::Late => failed(
            "the server did not answer in time; run the same command again: it brings nothing twice",
            false,
        ),
        E::Busy => failed("the server is too busy", true),
        E::OverQuota {
            used, limit, of, ..
        } => failed(
            &format!(
                "{user} has {used} of {limit} {} and no room for this: raise the quota, then \
                 run the same command again",
                match of {
                    Resource::Storage => "octets",
                    Resource::Messages => "messages",
                }
            ),
            false,
        ),
        E::BadName => failed(&format!("no folder can be called {folder}"), false),
        E::UidsUsedUp => failed(&format!("{folder} takes no more messages, ever"), false),
        E::ReadOnly => failed(
            &format!("{folder} is an archive, which takes no mail"),
            false,
        ),
        E::ArchivesOnly => failed(
            &format!("{folder}: Archives has the folders of store.archives alone; choose another"),
            false,
        ),
        E::NoMailbox | E::MailboxExists | E::MailboxGone => {
            failed(&format!("{folder} was removed meanwhile"), true)
        }
        E::NotAllowed | E::HasChildren | E::Expunged | E::Damaged { .. } | E::NotOwner(_) => {
            failed(&format!("{folder}: {error:?}; see the server's log"), false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch whose outcome is not known was sent a second time, and was in twice.
    #[test]
    fn only_what_was_refused_is_sent_again() {
        let check = |error: StoreError, again: bool| {
            let told = refusal(&error, "ana", "INBOX");
            assert_eq!(told.temporary, again, "{error:?}");
            let says = told.message.contains("run the same command again");
            assert!(again || says, "{}", told.message);
        };
        check(StoreError::Late, false);
        check(StoreError::Poisoned, false);
        check(StoreError::Busy, true);
        check(StoreError::Full, true);
        check(StoreError::MailboxGone, true);
    }

    /// A keyword that was no atom was told in FETCH as it was, and ended the list of flags there.
    #[test]
    fn keywords_are_atoms_whoever_sends_them() {
        let check = |word: &str, want: bool| {
            let head = Head {
                flags: 0,
                keywords: vec!["$Forwarded".to_owned(), word.to_owned()],
                date: UnixMs(0),
            };
            assert_eq!(head.check().is_ok(), want, "{word:?}");
        };
        check("Work", true);
        check("x) UID 7 FLAGS (\\Deleted", false);
        check("a\"b", false);
        check("{5}", false);
        check("\\Seen", false);
        check("bä", false);
        check("a]", false);
        check("50%", false);
        check("", false);
        check(&"x".repeat(255), true);
        check(&"x".repeat(256), false);
    }
}
