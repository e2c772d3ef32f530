//! APPEND (RFC 9051 6.3.12) and MULTIAPPEND (RFC 3502): messages are streamed as they come.

use super::super::answer::{Answer, Status};
use super::super::client::{End, Input};
use super::super::machine::rule_of;
use super::super::report::Told;
use super::super::serve::Known;
use super::copy::try_create;
use super::store::{Unsettable, read_flags};
use crate::base::{Deadline, MailboxId, UnixMs};
use crate::store::{Appended, Flags, Incoming, NewMessage, StoreError};
use crate::wire::imap::{
    AppendPart, AppendRest, Bad, Body, Command, Literal, append_rest, parse, sequence_set,
};

/// Messages of one command: they become one record.
const MESSAGES_MAX: usize = 1_000;
/// Octets after which further messages of one command wait in spool files.
const WAITING_BYTES_MAX: u64 = 1 << 20;

/// One message before its octets: what the command said of it.
struct Part {
    flags: Flags,
    keywords: Vec<String>,
    date: Option<UnixMs>,
    utf8: bool,
    bytes: u64,
}

/// Carries out the command whose first message was announced; its text is in the client's line.
pub async fn run(known: &mut Known, literal: Literal) -> Result<(), End> {
    let line = std::mem::take(&mut known.client.line);
    let (tag, body) = match parse(&line) {
        Ok(Command { tag, body }) => (tag, body),
        Err(Bad { tag, fault }) => {
            return refuse(known, tag.unwrap_or("*"), &fault.into()).await;
        }
    };
    let rule = rule_of(&body);
    let Body::Append(append) = &body else {
        return refuse(known, tag, &Answer::bad("only APPEND takes a message")).await;
    };
    let ready = append
        .mailbox
        .name(known.coding())
        .map_err(Answer::from)
        .and_then(|name| {
            known
                .account
                .find(&name)
                .ok_or_else(|| try_create(StoreError::NoMailbox))
        })
        .and_then(|mailbox| Ok((mailbox, part(known, append.first, (0, 0))?)));
    let (mailbox, first) = match ready {
        Ok(ready) => ready,
        Err(answer) => return refuse(known, tag, &answer).await,
    };
    let answer = match take_all(known, mailbox, first, literal).await? {
        Taken::Whole(answer) => answer,
        // The literal that was refused is answered already.
        Taken::Refused(answer) => return refuse(known, tag, &answer).await,
    };
    known.finish(tag, rule, &Told::default(), &answer)
}

/// Answers instead of taking the literal that was announced.
async fn refuse(known: &mut Known, tag: &str, answer: &Answer) -> Result<(), End> {
    known.client.refuse_literal(tag, answer).await?;
    match answer.status {
        Status::Bad => known.count_nonsense(),
        _ => Ok(()),
    }
}

enum Taken {
    Whole(Answer),
    /// At a literal that nobody will take any more.
    Refused(Answer),
}

async fn take_all(
    known: &mut Known,
    mailbox: MailboxId,
    first: Part,
    literal: Literal,
) -> Result<Taken, End> {
    let mut messages = Vec::new();
    let (mut part_now, mut literal) = (first, literal);
    // Set once the command has failed; what comes of it is still passed over.
    let mut failed: Option<Answer> = None;
    let mut waiting = 0;
    loop {
        known.client.accept_message(literal).await?;
        let wanted = failed.is_none().then(|| match waiting > WAITING_BYTES_MAX {
            true => known.service.remote.incoming_to_spool(),
            false => known.service.remote.incoming(),
        });
        waiting += part_now.bytes;
        let taken = stream(known, &part_now, wanted).await?;
        match taken {
            Ok(Some(message)) => messages.push(message),
            Ok(None) => {}
            Err(error) => failed = Some(error.into()),
        }
        let until = literal_deadline(known);
        let input = known.client.next_after_literal(until).await?;
        let line = std::mem::take(&mut known.client.line);
        let rest = append_rest(&line, part_now.utf8);
        match (input, rest) {
            (Input::Command, Ok(AppendRest::End)) => break,
            (Input::Command, Ok(AppendRest::Another(_))) => {
                return Ok(Taken::Whole(Answer::bad(
                    "the message must come as a literal",
                )));
            }
            (Input::Command, Err(fault)) => return Ok(Taken::Whole(fault.into())),
            (Input::Message(next), Ok(AppendRest::Another(another))) => {
                let before = (waiting, messages.len() as u64);
                let another = part(known, another, before).and_then(|part| match failed.take() {
                    Some(answer) => Err(answer),
                    None if messages.len() >= MESSAGES_MAX => {
                        Err(Answer::no("LIMIT", "too many messages in one command"))
                    }
                    None => Ok(part),
                });
                match another {
                    Ok(part) => (part_now, literal) = (part, next),
                    Err(answer) => return Ok(Taken::Refused(answer)),
                }
            }
            (Input::Message(_), Ok(AppendRest::End)) => {
                return Ok(Taken::Refused(Answer::bad("a literal has no place here")));
            }
            (Input::Message(_), Err(fault)) => return Ok(Taken::Refused(fault.into())),
        }
    }
    if let Some(answer) = failed {
        return Ok(Taken::Whole(answer));
    }
    Ok(Taken::Whole(
        match known.account.append(mailbox, messages).await {
            Ok(appended) => Answer::ok("APPEND done").with_code(append_uid(&appended)),
            Err(error) => try_create(error),
        },
    ))
}

/// Takes the octets of one message; passes them over where nobody wants them or storing failed.
async fn stream(
    known: &mut Known,
    part: &Part,
    mut incoming: Option<Incoming>,
) -> Result<Result<Option<NewMessage>, StoreError>, End> {
    let mut failure = None;
    let mut left = part.bytes;
    while left > 0 {
        let until = literal_deadline(known);
        let bytes = known.client.literal_chunk(left, until).await?;
        if let Some(into) = &mut incoming
            && let Err(error) = into.write(&known.client.conn.unread()[..bytes]).await
        {
            failure = Some(error);
            incoming = None;
        }
        known.client.consume(bytes);
        left -= bytes as u64;
    }
    if let Some(error) = failure {
        return Ok(Err(error));
    }
    Ok(finish(incoming, part).await)
}

async fn finish(incoming: Option<Incoming>, part: &Part) -> Result<Option<NewMessage>, StoreError> {
    let Some(incoming) = incoming else {
        return Ok(None);
    };
    let message = incoming.finish().await?;
    Ok(Some(NewMessage {
        message,
        flags: part.flags,
        keywords: part.keywords.clone(),
        internal_date: part.date,
        trace: None,
    }))
}

/// Each piece of a message may take as long as a command may.
fn literal_deadline(known: &Known) -> Deadline {
    known.client.door.until(|config| config.limits.imap_idle.0)
}

/// Reads what was said of a message and sees whether it may come.
///
/// `before` is what comes before it in the same command: octets and messages.
fn part(known: &Known, part: AppendPart<'_>, before: (u64, u64)) -> Result<Part, Answer> {
    let (flags, keywords) = read_flags(part.flags, Unsettable::PassOver)?;
    // RFC 9051 6.3.12: a message is never empty; some clients probe with one.
    if part.bytes == 0 {
        return Err(Answer::no("CANNOT", "an empty message can not be kept"));
    }
    if part.bytes > known.client.door.listener().message_bytes_max.0 {
        return Err(Answer::no("TOOBIG", "the message is too large"));
    }
    let (bytes, messages) = before;
    let bytes = part.bytes.saturating_add(bytes);
    known.account.has_room(bytes, messages + 1)?;
    let date = part.date.map(|date| date.at);
    Ok(Part {
        flags,
        keywords,
        date,
        utf8: part.utf8,
        bytes: part.bytes,
    })
}

/// `APPENDUID validity uids` (RFC 9051 7.1).
fn append_uid(appended: &Appended) -> String {
    let mut code = format!("APPENDUID {} ", appended.uidvalidity).into_bytes();
    sequence_set(&mut code, appended.uids.iter().map(|uid| uid.0));
    String::from_utf8_lossy(&code).into_owned()
}
