//! Notices to senders as new messages: read, composed and addressed.

use std::rc::Rc;

use super::desk::EntryKey;
use super::notice::{Action, Notice, RETURNED_BYTES_MAX, Told};
use super::schedule::Schedule;
use super::{counters, destination_of};
use crate::base::{TraceId, UnixMs, crc32c};
use crate::config::Config;
use crate::observe::{event, log_event};
use crate::runtime::{self, Disk, Open};
use crate::store::{
    Body, MailClass, Message, NewEntry, Outbound, OutboundRecipient, RecipientState, Remote,
    StoreError, Target, Tried,
};
use crate::wire::address::{Mailbox, Path};
use crate::wire::smtp::{BodyKind, DsnReturn, MailFrom, Notify, RcptTo};

/// Octets of a header that comes back.
const HEADER_BYTES_MAX: usize = 32 << 10;

/// How an address is reached.
#[derive(Clone, Debug, Default)]
pub struct Way {
    /// Mailboxes here.
    pub targets: Vec<Target>,
    /// Addresses elsewhere: itself, or where an address here leads. Neither: there is nobody of
    /// that name.
    pub elsewhere: Vec<Mailbox>,
    /// The language he reads.
    pub language: Option<String>,
}

/// Finds addresses; the room that knows users gives it. Copies have this reverse path.
pub type Ways = Rc<dyn Fn(&Mailbox, &Path) -> Way>;

/// Who tells senders.
pub(super) struct Teller {
    pub remote: Remote,
    pub disk: Disk,
    pub ways: Ways,
    pub hostname: String,
    pub domain: String,
    pub schedule: Schedule,
}

/// What an entry's notice is about.
struct Subject {
    sender: Mailbox,
    trace: Option<TraceId>,
    saved: UnixMs,
    outbound: Outbound,
}

impl Teller {
    pub fn new(
        config: &Config,
        remote: Remote,
        disk: Disk,
        ways: Ways,
        schedule: Schedule,
    ) -> Self {
        let first = config.domains.first().map(ToString::to_string);
        Teller {
            remote,
            disk,
            ways,
            hostname: config.hostname.to_string(),
            domain: first.unwrap_or_else(|| config.hostname.to_string()),
            schedule,
        }
    }

    /// Who gets the mail for a postmaster without a domain.
    pub fn postmaster(&self) -> Option<Mailbox> {
        Mailbox::parse(&format!("postmaster@{}", self.domain)).ok()
    }

    /// The notice to the sender of an entry about those of its recipients; `None` where nobody is
    /// to be told. `tried` is what is not on record yet.
    pub async fn notice(
        &self,
        key: EntryKey,
        about: &[(u16, Action)],
        tried: Option<&Tried>,
    ) -> Result<Option<NewEntry>, StoreError> {
        if about.is_empty() {
            return Ok(None);
        }
        let Some(subject) = self.subject(key) else {
            return Ok(None);
        };
        let way = (self.ways)(&subject.sender, &Path::Null);
        if way.targets.is_empty() && way.elsewhere.is_empty() {
            counters::NOTICES.increment(counters::Told::Dropped);
            log_event!(
                WARN,
                event::NOTICE_DROPPED,
                message = subject.trace.map(|t| t.to_string()),
                to = %subject.sender,
                why = "the sender is unknown here"
            );
            return Ok(None);
        }
        let trace = runtime::trace_id();
        let text = self
            .compose(key, &subject, (about, tried), &way, trace)
            .await?;
        let mut incoming = self.remote.incoming();
        incoming.write(&text).await?;
        let message = incoming.finish().await?;
        let kind = match about.first() {
            Some((_, Action::Failed)) => counters::Told::Failed,
            Some((_, Action::Delayed)) => counters::Told::Delayed,
            _ => counters::Told::Relayed,
        };
        counters::NOTICES.increment(kind);
        log_event!(
            INFO,
            event::NOTICE_MADE,
            message = %trace,
            about = subject.trace.map(|t| t.to_string()),
            to = %subject.sender,
            recipients = about.len() as u64
        );
        let is_leaving = !way.elsewhere.is_empty();
        let outbound = is_leaving.then(|| Box::new(self.outbound(&way.elsewhere)));
        Ok(Some(NewEntry {
            message,
            trace,
            targets: way.targets,
            outbound,
        }))
    }

    /// `None`: there is no entry any more, or it has nobody to be told (RFC 5321 4.5.5).
    fn subject(&self, key: EntryKey) -> Option<Subject> {
        let subject = self.remote.queue_entry(key, |entry| {
            let sender = match &entry.outbound.mail.path {
                Path::Mailbox(mailbox) => mailbox.clone(),
                Path::Null | Path::Postmaster => {
                    counters::NOTICES.increment(counters::Told::Dropped);
                    log_event!(
                        WARN,
                        event::NOTICE_DROPPED,
                        message = entry.trace.map(|t| t.to_string()),
                        why = "it is about a message that has no sender itself"
                    );
                    return None;
                }
            };
            Some(Subject {
                sender,
                trace: entry.trace,
                saved: entry.saved,
                outbound: entry.outbound.clone(),
            })
        });
        subject.flatten()
    }

    async fn compose(
        &self,
        key: EntryKey,
        subject: &Subject,
        (about, tried): (&[(u16, Action)], Option<&Tried>),
        way: &Way,
        trace: TraceId,
    ) -> Result<Vec<u8>, StoreError> {
        let (header, whole) = match self.remote.queue_body(key).await {
            Ok(message) => self.read(&message).await,
            Err(StoreError::Poisoned) => return Err(StoreError::Poisoned),
            // He is told all the same, and what was delivered meanwhile is put on record.
            Err(_) => (Vec::new(), None),
        };
        let outbound = &subject.outbound;
        let names: Vec<String> = outbound
            .recipients
            .iter()
            .map(|r| match &r.rcpt.path {
                Path::Mailbox(mailbox) => mailbox.to_string(),
                other => other.to_string(),
            })
            .collect();
        let told = about.iter().filter_map(|(ordinal, action)| {
            let at = usize::from(*ordinal);
            let recipient = outbound.recipients.get(at)?;
            let now = tried.and_then(|t| t.results.iter().find(|r| r.ordinal == *ordinal));
            let last = recipient.last.as_ref();
            let status = now
                .map(|r| r.status.as_str())
                .or(last.map(|l| l.status.as_str()));
            let hop = tried
                .map(|t| t.hop.as_str())
                .or(last.map(|l| l.hop.as_str()));
            Some(Told {
                recipient: &names[at],
                original: recipient.rcpt.original.as_ref(),
                action: *action,
                status: status.unwrap_or("4.0.0"),
                host: hop.filter(|hop| !hop.is_empty()).map(host_of),
                reply: now
                    .map(|r| r.reply.as_str())
                    .or(last.map(|l| l.reply.as_str())),
                tried: tried.map(|t| t.at).or(last.map(|l| l.at)),
                retried_until: (*action == Action::Delayed).then_some(outbound.expires),
            })
        });
        let told: Vec<Told<'_>> = told.collect();
        let sender = subject.sender.to_string();
        let notice = Notice {
            id: trace,
            hostname: &self.hostname,
            domain: &self.domain,
            sender: &sender,
            language: way.language.as_deref(),
            now: runtime::unix_now(),
            arrived: subject.saved,
            envelope_id: outbound.mail.envelope_id.as_deref(),
            // RFC 8689 5: the content must not go back less protected than it went.
            ret: match outbound.mail.require_tls {
                true => Some(DsnReturn::Headers),
                false => outbound.mail.ret,
            },
            told: &told,
            header: &header,
            whole: whole.as_deref(),
        };
        Ok(notice.compose())
    }

    /// The header of a message, and all of it where it is short.
    async fn read(&self, message: &Message) -> (Vec<u8>, Option<Vec<u8>>) {
        let begin = match &message.body {
            Body::Inline(bytes) => bytes.clone(),
            Body::Spool(path) => {
                let how = Open {
                    read: true,
                    ..Open::default()
                };
                let read = async {
                    let file = self.disk.open(path, how).await?;
                    file.read_at(RETURNED_BYTES_MAX, 0).await
                };
                read.await.unwrap_or_default()
            }
            Body::InJournal => Vec::new(),
        };
        // Only as it was taken in.
        let is_whole = begin.len() as u64 == message.size
            && begin.len() <= RETURNED_BYTES_MAX
            && crc32c(&begin) == message.crc32c;
        let end = header_end(&begin).min(HEADER_BYTES_MAX);
        let header = begin[..end].to_vec();
        (header, is_whole.then_some(begin))
    }

    /// A notice for somebody elsewhere: from nobody, and about it nobody is told.
    fn outbound(&self, to: &[Mailbox]) -> Outbound {
        let now = runtime::unix_now();
        let recipient = |to: &Mailbox| OutboundRecipient {
            rcpt: RcptTo {
                path: Path::Mailbox(to.clone()),
                notify: Some(Notify::default()),
                original: None,
            },
            destination: destination_of(to),
            redirect: None,
            state: RecipientState::Waiting { due: now },
            tries: 0,
            last: None,
            is_delay_told: false,
        };
        Outbound {
            mail: MailFrom {
                path: Path::Null,
                size: None,
                body: BodyKind::EightBit,
                smtputf8: !to.iter().all(Mailbox::is_ascii),
                require_tls: false,
                ret: None,
                envelope_id: None,
                auth: None,
                hold: None,
                verp: false,
            },
            class: MailClass::Notice,
            submitter: None,
            head: Vec::new(),
            expires: self.schedule.expires(now, MailClass::Notice),
            recipients: to.iter().map(recipient).collect(),
        }
    }
}

/// The name in `name [address]`.
fn host_of(hop: &str) -> &str {
    hop.split_once(" [").map_or(hop, |(host, _)| host)
}

/// Where the header ends, with the line ends of the store.
fn header_end(bytes: &[u8]) -> usize {
    let crlf = memchr::memmem::find(bytes, b"\r\n\r\n").map(|at| at + 2);
    let lf = memchr::memmem::find(bytes, b"\n\n").map(|at| at + 1);
    [crlf, lf]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(bytes.len())
}
