//! FETCH (RFC 9051 6.4.5). Columns come by [`View::scan`], structure from the digests, and only
//! body sections from the message, in pieces.

mod binary;
mod body;
mod first;
mod plan;
mod section;

use std::sync::Arc;

use super::super::answer::Answer;
use super::super::client::{Client, End};
use super::super::numbering::resolve;
use super::super::report::{Told, write_flags, write_modseq};
use super::super::serve::Known;
use super::{Cut, Done};
use crate::base::{ModSeq, Uid, UnixMs};
use crate::runtime::yield_if_needed;
use crate::store::{
    Access, BodyReader, FlagChange, FlagMode, Flags, Row, ScanRow, StoreError, View,
};
use crate::wire::imap::{self, DateTime, number, write_date_time};
use crate::wire::mime::DigestView;
pub use body::{Extent, Pieces};
use plan::{Item, Plan};
pub use section::extent;

/// What a message's items are written from.
struct Source<'a> {
    view: &'a View,
    row: &'a ScanRow,
    /// Present where an item needs it.
    digest: Option<DigestView<'a>>,
    reader: Option<BodyReader>,
    full: Option<Row>,
    recent: bool,
}

/// What went wrong for some of the messages.
#[derive(Default)]
struct Trouble {
    missing: bool,
    answer: Option<Answer>,
    /// Messages that could not be read.
    damaged: Vec<Uid>,
    /// Why the item that is being written can not be.
    unreadable: Option<StoreError>,
}

impl Trouble {
    fn note(&mut self, uid: Uid, error: StoreError) {
        match error {
            StoreError::Expunged => self.missing = true,
            StoreError::Damaged { .. } => self.damaged.push(uid),
            error => self.answer = Some(error.into()),
        }
    }
}

/// Damaged messages that the tagged line names.
const NAMED_MAX: usize = 20;

pub async fn fetch(known: &mut Known, fetch: imap::Fetch<'_>, told: &mut Told) -> Done {
    let condstore = known.enabled.condstore;
    let plan = Plan::new(
        fetch.items,
        fetch.uid,
        fetch.changed_since.is_some(),
        condstore,
    );
    // A CONDSTORE enabling command (RFC 7162 3.1).
    known.enabled.condstore |= plan.modseq;
    let rev2 = known.enabled.imap4rev2;
    let owner = known.owner.clone();
    let (client, selected) = known.parts();
    let mut uids = resolve(fetch.set, fetch.uid, selected.view.uids(), &selected.saved)
        .map_err(|_| Answer::bad("there is no message of this number"))?;
    if let Some(since) = fetch.changed_since {
        uids = changed_since(&selected.view, &uids, since);
    }
    let writable = selected.view.access() == Access::ReadWrite;
    let mut trouble = Trouble::default();
    let mut rows: Vec<ScanRow> = Vec::new();
    let mut at = 0;
    for batch in uids.chunks(plan.batch_messages()) {
        let view = &selected.view;
        let seen = match plan.sets_seen && writable {
            true => mark_seen(view, batch, told).await,
            false => Vec::new(),
        };
        rows.clear();
        view.scan(batch, &mut |row| rows.push(row));
        trouble.missing |= rows.len() < batch.len();
        let digests = digests(view, &plan, &rows).await;
        for (n, row) in rows.iter().enumerate() {
            at += view.uids()[at..].partition_point(|uid| *uid < row.uid);
            let with_flags = seen.binary_search(&row.uid).is_ok();
            let source = Source {
                view,
                row,
                digest: None,
                reader: None,
                full: None,
                recent: !rev2 && view.is_recent(row.uid),
            };
            if plan.reads_text && first::is_first(&mut selected.noted, view, row, with_flags) {
                first::log(client, &owner, &selected.name, row.uid);
            }
            let digest = digests.get(n);
            one(
                client,
                &plan,
                source,
                digest,
                (at + 1) as u64,
                with_flags,
                &mut trouble,
            )
            .await?;
            client.flush_batch().await?;
        }
        yield_if_needed().await;
    }
    Ok(outcome(trouble, fetch.uid))
}

fn outcome(trouble: Trouble, by_uid: bool) -> Answer {
    match trouble {
        Trouble { damaged, .. } if !damaged.is_empty() => corrupt(&damaged),
        Trouble {
            answer: Some(answer),
            ..
        } => answer,
        // RFC 2180 4.1.2: what is there was told; a UID that is gone is no error.
        Trouble { missing: true, .. } if !by_uid => {
            Answer::no("EXPUNGEISSUED", "some of the messages are gone")
        }
        _ => Answer::ok("FETCH done"),
    }
}

/// Which messages are damaged; all others were told.
fn corrupt(damaged: &[Uid]) -> Answer {
    let mut named = Vec::new();
    let first = damaged.iter().take(NAMED_MAX);
    imap::sequence_set(&mut named, first.map(|uid| uid.0));
    let named = String::from_utf8_lossy(&named);
    let more = match damaged.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let text = format!("UID {named}{more} can not be read: damaged; tell the postmaster");
    Answer::no("CORRUPTION", text)
}

fn changed_since(view: &View, uids: &[Uid], since: ModSeq) -> Vec<Uid> {
    let mut changed = Vec::new();
    view.scan(uids, &mut |row| {
        if row.modseq > since {
            changed.push(row.uid);
        }
    });
    changed
}

/// Sets `\Seen` where it is not, before the bodies go out (RFC 9051 6.4.5). A disk that takes no
/// change stops no reading.
async fn mark_seen(view: &View, batch: &[Uid], told: &mut Told) -> Vec<Uid> {
    let mut unseen = Vec::new();
    view.scan(batch, &mut |row| {
        if !row.flags.contains(Flags::SEEN) {
            unseen.push(row.uid);
        }
    });
    if unseen.is_empty() {
        return unseen;
    }
    let change = FlagChange {
        mode: FlagMode::Add,
        flags: Flags::SEEN,
        keywords: Vec::new(),
    };
    match view.store(&unseen, &change, None).await {
        Ok(stored) => {
            told.add(stored.told());
            stored.uids
        }
        Err(_) => Vec::new(),
    }
}

async fn digests(
    view: &View,
    plan: &Plan<'_>,
    rows: &[ScanRow],
) -> Vec<Result<Arc<[u8]>, StoreError>> {
    if !plan.digest {
        return Vec::new();
    }
    let uids: Vec<Uid> = rows.iter().map(|row| row.uid).collect();
    view.digests(&uids).await
}

/// One FETCH response; none of a message of which an item can not be read. To programs NIL is no
/// message, or an empty one that they keep, and a response without the item is of another message;
/// with none and the NO at the end they know that this one is bad, and go on with the next.
async fn one(
    client: &mut Client,
    plan: &Plan<'_>,
    mut source: Source<'_>,
    digest: Option<&Result<Arc<[u8]>, StoreError>>,
    seq: u64,
    with_flags: bool,
    trouble: &mut Trouble,
) -> Result<(), Cut> {
    if let Err(error) = prepare(plan, &mut source, digest).await {
        trouble.note(source.row.uid, error);
        return Ok(());
    }
    let (begin, sent) = (client.out.len(), client.sent);
    client.out.extend_from_slice(b"* ");
    number(&mut client.out, seq);
    client.out.extend_from_slice(b" FETCH (");
    let mut first = true;
    if with_flags && !plan.flags {
        flags(&mut client.out, &source);
        first = false;
    }
    for item in &plan.items {
        if !std::mem::take(&mut first) {
            client.out.push(b' ');
        }
        match item {
            Item::Section(wanted) => section::write(client, &source, wanted, trouble).await?,
            Item::Binary(wanted) => binary::write(client, &source, wanted, trouble).await?,
            item => column(&mut client.out, item, &source),
        }
        let Some(error) = trouble.unreadable.take() else {
            continue;
        };
        trouble.note(source.row.uid, error);
        if client.sent != sent {
            // A part of the response is gone: NIL is all that is left to say.
            client.out.extend_from_slice(b"NIL");
            continue;
        }
        client.out.truncate(begin);
        if with_flags {
            seen_only(&mut client.out, plan, &source, seq);
        }
        return Ok(());
    }
    client.out.extend_from_slice(b")\r\n");
    Ok(())
}

/// That a message is seen now, of which nothing else can be told.
fn seen_only(out: &mut Vec<u8>, plan: &Plan<'_>, source: &Source<'_>, seq: u64) {
    out.extend_from_slice(b"* ");
    number(out, seq);
    out.extend_from_slice(b" FETCH (");
    if plan.items.contains(&Item::Uid) {
        column(out, &Item::Uid, source);
        out.push(b' ');
    }
    flags(out, source);
    out.extend_from_slice(b")\r\n");
}

/// Gets what the items need before a byte of the response is written.
async fn prepare<'a>(
    plan: &Plan<'_>,
    source: &mut Source<'a>,
    digest: Option<&'a Result<Arc<[u8]>, StoreError>>,
) -> Result<(), StoreError> {
    if let Some(digest) = digest {
        let bytes = digest.as_ref().map_err(Clone::clone)?;
        source.digest = DigestView::parse(bytes).ok();
    }
    if plan.reader {
        source.reader = Some(source.view.body(source.row.uid).await?);
    }
    let keywords = plan.flags && source.row.has_keywords;
    if plan.reader || plan.email_id || keywords || plan.sets_seen {
        let row = source.view.row(source.row.uid);
        source.full = Some(row.ok_or(StoreError::Expunged)?);
    }
    Ok(())
}

/// An item that needs no message body.
fn column(out: &mut Vec<u8>, item: &Item<'_>, source: &Source<'_>) {
    let row = source.row;
    match item {
        Item::Flags => flags(out, source),
        Item::Uid => {
            out.extend_from_slice(b"UID ");
            number(out, row.uid.0.into());
        }
        Item::InternalDate => {
            out.extend_from_slice(b"INTERNALDATE ");
            date(out, row.internal_date);
        }
        Item::SaveDate => {
            out.extend_from_slice(b"SAVEDATE ");
            date(out, row.saved);
        }
        Item::Size => {
            out.extend_from_slice(b"RFC822.SIZE ");
            number(out, row.size);
        }
        Item::ModSeq => write_modseq(out, row.modseq),
        Item::EmailId => {
            let id = source
                .full
                .as_ref()
                .map(|row| row.email_id)
                .unwrap_or_default();
            out.extend_from_slice(b"EMAILID (");
            out.extend_from_slice(email_id(&id).as_bytes());
            out.push(b')');
        }
        // RFC 8474 5.2: no threads are kept.
        Item::ThreadId => out.extend_from_slice(b"THREADID NIL"),
        Item::Envelope => structure(out, "ENVELOPE ", source, |digest| digest.envelope()),
        Item::Structure => structure(out, "BODYSTRUCTURE ", source, |digest| {
            digest.bodystructure()
        }),
        Item::StructureBasic => structure(out, "BODY ", source, |digest| digest.body()),
        Item::Section(_) | Item::Binary(_) => {}
    }
}

fn structure(
    out: &mut Vec<u8>,
    name: &str,
    source: &Source<'_>,
    text: impl for<'d> Fn(&DigestView<'d>) -> &'d [u8],
) {
    out.extend_from_slice(name.as_bytes());
    match &source.digest {
        Some(digest) => out.extend_from_slice(text(digest)),
        None => out.extend_from_slice(b"NIL"),
    }
}

fn flags(out: &mut Vec<u8>, source: &Source<'_>) {
    out.extend_from_slice(b"FLAGS ");
    match &source.full {
        Some(row) => write_flags(out, row.flags, source.recent, &row.keywords),
        None => write_flags::<&str>(out, source.row.flags, source.recent, &[]),
    }
}

fn date(out: &mut Vec<u8>, at: UnixMs) {
    write_date_time(
        out,
        DateTime {
            at,
            zone_minutes: 0,
        },
    );
}

/// RFC 8474 5.1: equal for equal bodies.
#[must_use]
pub fn email_id(id: &[u8; 16]) -> String {
    format!("M{}", data_encoding::HEXLOWER.encode(id))
}

/// What cannot be told in a response that has begun.
fn broken() -> Cut {
    Cut::End(End::Broken("a message could not be read to its end"))
}
