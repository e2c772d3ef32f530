//! Notices to senders as new messages: read, composed and addressed.

use std::rc::Rc;
use std::time::Duration;

use super::desk::EntryKey;
use super::notice::{Action, Notice, RETURNED_BYTES_MAX, Told};
use super::schedule::Schedule;
use super::{counters, own};
use crate::base::{Deadline, TraceId, UnixMs, crc32c};
use crate::config::Config;
use crate::observe::{event, log_event};
use crate::runtime::{self, Disk, Open};
use crate::store::{
    Body, MailClass, Message, NewEntry, Outbound, Remote, StoreError, Target, Tried,
};
use crate::wire::address::{Mailbox, Path};
use crate::wire::smtp::{BodyKind, DsnReturn, MailFrom, RcptTo};

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

impl Way {
    /// There is nobody of that name.
    #[must_use]
    pub fn is_nowhere(&self) -> bool {
        self.targets.is_empty() && self.elsewhere.is_empty()
    }
}

/// Finds addresses; the room that knows users gives it. Copies have this reverse path.
pub type Ways = Rc<dyn Fn(&Mailbox, &Path) -> Way>;

/// Who tells senders.
pub struct Teller {
    pub(super) remote: Remote,
    disk: Disk,
    pub(super) ways: Ways,
    pub(super) hostname: String,
    /// Of the postmaster who signs.
    pub(super) domain: String,
    schedule: Schedule,
}

/// A message that is in mailboxes here, and whose sender asked to be told (RFC 3461 5.2.2).
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    pub mail: &'a MailFrom,
    pub trace: TraceId,
    pub came: UnixMs,
    pub header: &'a [u8],
    /// Who it was for, and what became of it.
    pub recipients: &'a [(&'a RcptTo, Action)],
}

/// How long a notice may take to become durable.
const PLACE_SPAN: Duration = Duration::from_secs(60);

/// A notice that is to be put on record, and what is counted and logged of it once it is.
#[derive(Default)]
pub(super) struct Telling {
    pub notice: Option<NewEntry>,
    said: Option<Said>,
}

/// What was done to tell a sender.
enum Said {
    Made {
        kind: counters::Told,
        trace: TraceId,
        about: Option<TraceId>,
        to: String,
        recipients: usize,
    },
    Dropped {
        about: Option<TraceId>,
        to: Option<String>,
        why: &'static str,
    },
}

/// What an entry's notice is about.
struct Subject {
    sender: Mailbox,
    trace: Option<TraceId>,
    saved: UnixMs,
    outbound: Outbound,
}

impl Teller {
    #[must_use]
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
    #[must_use]
    pub fn postmaster(&self) -> Option<Mailbox> {
        Mailbox::parse(&format!("postmaster@{}", self.domain)).ok()
    }

    /// The notice to the sender of an entry about those of its recipients; empty where nobody is
    /// to be told. `tried` is what is not on record yet.
    pub(super) async fn notice(
        &self,
        key: EntryKey,
        about: &[(u16, Action)],
        tried: Option<&Tried>,
    ) -> Result<Telling, StoreError> {
        if about.is_empty() {
            return Ok(Telling::default());
        }
        let subject = match self.subject(key) {
            Some(Ok(subject)) => subject,
            Some(Err(dropped)) => return Ok(Telling::dropped(dropped)),
            None => return Ok(Telling::default()),
        };
        let way = (self.ways)(&subject.sender, &Path::Null);
        if way.is_nowhere() {
            return Ok(Telling::dropped(Said::Dropped {
                about: subject.trace,
                to: Some(subject.sender.to_string()),
                why: "the sender is unknown here",
            }));
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
        let said = Said::Made {
            kind,
            trace,
            about: subject.trace,
            to: subject.sender.to_string(),
            recipients: about.len(),
        };
        let is_leaving = !way.elsewhere.is_empty();
        let outbound = is_leaving.then(|| Box::new(self.outbound(&way.elsewhere)));
        let notice = NewEntry {
            message,
            trace,
            targets: way.targets,
            outbound,
        };
        Ok(Telling {
            notice: Some(notice),
            said: Some(said),
        })
    }

    /// Tells who sent something that it arrived.
    ///
    /// # Errors
    /// Where the notice could not be kept.
    pub async fn arrived(&self, arrival: Arrival<'_>) -> Result<(), StoreError> {
        let (Path::Mailbox(sender), false) = (&arrival.mail.path, arrival.recipients.is_empty())
        else {
            return Ok(());
        };
        let way = (self.ways)(sender, &Path::Null);
        let about = Some(arrival.trace);
        if way.is_nowhere() {
            let (to, why) = (Some(sender.to_string()), "the sender is unknown here");
            Telling::dropped(Said::Dropped { about, to, why }).tell();
            return Ok(());
        }
        let names: Vec<String> = arrival
            .recipients
            .iter()
            .map(|(rcpt, _)| address(&rcpt.path))
            .collect();
        let (now, trace) = (runtime::unix_now(), runtime::trace_id());
        let each = arrival.recipients.iter().zip(&names);
        let told = each.map(|((rcpt, action), name)| Told {
            recipient: name,
            original: rcpt.original.as_ref(),
            action: *action,
            status: "2.1.5",
            host: None,
            reply: None,
            tried: Some(now),
            retried_until: None,
        });
        let (told, to): (Vec<Told<'_>>, String) = (told.collect(), sender.to_string());
        let notice = Notice {
            id: trace,
            hostname: &self.hostname,
            domain: &self.domain,
            sender: &to,
            language: way.language.as_deref(),
            now,
            arrived: arrival.came,
            envelope_id: arrival.mail.envelope_id.as_deref(),
            ret: arrival.mail.ret,
            told: &told,
            header: &arrival.header[..arrival.header.len().min(HEADER_BYTES_MAX)],
            whole: None,
        };
        let (kind, recipients) = (counters::Told::Arrived, told.len());
        self.send(&notice.compose(), way, trace).await?;
        let said = Said::Made {
            kind,
            trace,
            about,
            to,
            recipients,
        };
        Telling {
            notice: None,
            said: Some(said),
        }
        .tell();
        Ok(())
    }

    /// A message of ours on its way to an address, from nobody, as a record of its own.
    pub(super) async fn send(
        &self,
        text: &[u8],
        way: Way,
        trace: TraceId,
    ) -> Result<(), StoreError> {
        let mut incoming = self.remote.incoming();
        incoming.write(text).await?;
        let message = incoming.finish().await?;
        let is_leaving = !way.elsewhere.is_empty();
        let outbound = is_leaving.then(|| Box::new(self.outbound(&way.elsewhere)));
        let until = Deadline::after(runtime::now(), PLACE_SPAN);
        let sent = self
            .remote
            .send(message, way.targets, outbound, trace, until);
        sent.await.map(|_| ())
    }

    /// `None`: there is no entry any more. It may have nobody to be told (RFC 5321 4.5.5).
    fn subject(&self, key: EntryKey) -> Option<Result<Subject, Said>> {
        self.remote.queue_entry(key, |entry| {
            let sender = match &entry.outbound.mail.path {
                Path::Mailbox(mailbox) => mailbox.clone(),
                Path::Null | Path::Postmaster => {
                    return Err(Said::Dropped {
                        about: entry.trace,
                        to: None,
                        why: "it is about a message that has no sender itself",
                    });
                }
            };
            Ok(Subject {
                sender,
                trace: entry.trace,
                saved: entry.saved,
                outbound: entry.outbound.clone(),
            })
        })
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
        let recipients = outbound.recipients.iter();
        let names: Vec<String> = recipients.map(|r| address(&r.rcpt.path)).collect();
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

    /// The header of an entry's message, where it can be read.
    pub(super) async fn header(&self, key: EntryKey) -> Vec<u8> {
        match self.remote.queue_body(key).await {
            Ok(message) => self.read(&message).await.0,
            Err(_) => Vec::new(),
        }
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
        let expires = self.schedule.expires(now, MailClass::Notice);
        let mut outbound = own::outbound(Path::Null, to, MailClass::Notice, now, expires);
        outbound.mail.body = BodyKind::EightBit;
        outbound
    }
}

impl Telling {
    fn dropped(said: Said) -> Self {
        Telling {
            notice: None,
            said: Some(said),
        }
    }

    /// Who would have been told, if there were anybody of that name, and why he is not.
    pub fn unreached(&self) -> Option<(&str, &'static str)> {
        match &self.said {
            Some(Said::Dropped { to, why, .. }) => Some((to.as_deref()?, why)),
            _ => None,
        }
    }

    /// It is on record.
    pub fn tell(self) {
        match self.said {
            Some(Said::Made {
                kind,
                trace,
                about,
                to,
                recipients,
            }) => {
                counters::NOTICES.increment(kind);
                log_event!(
                    INFO,
                    event::NOTICE_MADE,
                    message = %trace,
                    about = about.map(|t| t.to_string()),
                    to,
                    recipients = recipients as u64
                );
            }
            Some(Said::Dropped { about, to, why }) => {
                counters::NOTICES.increment(counters::Told::Dropped);
                log_event!(
                    WARN,
                    event::NOTICE_DROPPED,
                    message = about.map(|t| t.to_string()),
                    to,
                    why
                );
            }
            None => {}
        }
    }
}

/// Without its brackets.
pub(super) fn address(path: &Path) -> String {
    match path {
        Path::Mailbox(mailbox) => mailbox.to_string(),
        other => other.to_string(),
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
