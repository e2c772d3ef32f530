//! Looking at users' mailboxes for an administrator: on the shard that owns the account, or on the
//! one shard of a stopped server.

use std::sync::Arc;

use data_encoding::{BASE64, HEXLOWER};
use serde::Serialize;

use super::admin::{done, failed};
use super::control::{self, Control};
use crate::base::{AccountId, ShardId, Uid};
use crate::directory::{self, Directory, Sourced};
use crate::runtime::Mesh;
use crate::store::{
    Access, Account, AccountRef, Flags, FolderSize, KeywordsApart, QuotaUsage, Store, StoreError,
    View,
};
use crate::web::{
    AdminReply, MailboxRow, MessageRow, PIECE_BYTES_MAX, Piece, Question, QuotaRow, Recounted,
    Settled, SettledApart,
};

/// Accounts that one question to a shard names.
const ACCOUNTS_PER_QUESTION: usize = 2_000;
/// A header is looked for so far.
const HEADER_BYTES_MAX: u64 = 1 << 20;

/// A question with the account that it is about.
pub struct Inspection {
    pub account: AccountRef,
    address: String,
    question: Question,
    pub piece_bytes_max: u64,
}

/// An account whose usage is wanted.
pub struct Wanted {
    pub account: AccountRef,
    address: String,
    class: String,
    limits: Sourced,
}

impl Wanted {
    /// Counts the account anew.
    pub fn recount(self) -> Inspection {
        Inspection {
            account: self.account,
            address: self.address,
            question: Question::Recount,
            piece_bytes_max: 0,
        }
    }
}

fn find(snapshot: &directory::Snapshot, user: &str) -> Result<Arc<directory::Account>, AdminReply> {
    let account = match user.strip_prefix('#').map(str::parse) {
        Some(Ok(id)) => snapshot.account(AccountId(id)),
        Some(Err(_)) => None,
        None => snapshot.login(user),
    };
    account.cloned().ok_or_else(|| {
        let text = format!("there is no user {user}; palomar user list --removed shows all");
        failed(&text, false)
    })
}

impl Inspection {
    /// What to say where no answer came in time, if that is no fault.
    pub fn goes_on(&self) -> Option<&'static str> {
        let changes = matches!(self.question, Question::Rescan { .. } | Question::Recount);
        changes.then_some("it takes long and goes on; ask again later for what is left")
    }
}

/// Looks the user up.
pub fn inspection(
    directory: &Directory,
    user: &str,
    question: Question,
) -> Result<Inspection, AdminReply> {
    let snapshot = directory.snapshot();
    let account = find(&snapshot, user)?;
    Ok(Inspection {
        account: snapshot.reference(&account),
        address: account.address.clone(),
        question,
        piece_bytes_max: PIECE_BYTES_MAX,
    })
}

/// One user, or everybody who may have mail.
pub fn quotas_wanted(directory: &Directory, user: Option<&str>) -> Result<Vec<Wanted>, AdminReply> {
    let snapshot = directory.snapshot();
    let wanted = |account: &directory::Account| Wanted {
        account: snapshot.reference(account),
        address: account.address.clone(),
        class: account.class.to_string(),
        limits: snapshot.limits(account),
    };
    match user {
        Some(user) => Ok(vec![wanted(&*find(&snapshot, user)?)]),
        None => {
            let has_mail = |account: &&Arc<directory::Account>| {
                account.keeps_mail() && account.removed.is_none()
            };
            let mut all: Vec<Wanted> = snapshot
                .accounts()
                .filter(has_mail)
                .map(|account| wanted(account))
                .collect();
            all.sort_by(|a, b| a.address.cmp(&b.address));
            Ok(all)
        }
    }
}

/// Usage of accounts of this shard, in their order.
pub fn usage(store: &Store, accounts: &[AccountRef]) -> Vec<QuotaUsage> {
    let remote = store.remote();
    let usage = |account: &AccountRef| remote.usage(*account);
    accounts.iter().map(usage).collect()
}

pub fn folders(store: &Store, account: AccountRef) -> Vec<FolderSize> {
    let account = store.remote().look_at(account);
    account.map_or(Vec::new(), |account| account.folder_sizes())
}

/// Usage of accounts of any shard, in their order. Names the shard that did not answer.
pub async fn usage_everywhere(
    mesh: &Mesh<Control>,
    wanted: &[Wanted],
) -> Result<Vec<QuotaUsage>, ShardId> {
    let mut all: Vec<Option<QuotaUsage>> = vec![None; wanted.len()];
    for shard in (0..mesh.shards()).map(ShardId) {
        let is_owner = |n: &usize| wanted[*n].account.partition.owner(mesh.shards()) == shard;
        let of_shard: Vec<usize> = (0..wanted.len()).filter(is_owner).collect();
        for some in of_shard.chunks(ACCOUNTS_PER_QUESTION) {
            let accounts = some.iter().map(|n| wanted[*n].account).collect();
            let ask = |reply| Control::Usage(accounts, reply);
            let answer = control::ask_one(mesh, shard, ask).await.ok_or(shard)?;
            for (n, usage) in some.iter().zip(answer) {
                all[*n] = Some(usage);
            }
        }
    }
    Ok(all.into_iter().flatten().collect())
}

pub fn quota_rows(
    wanted: Vec<Wanted>,
    usage: &[QuotaUsage],
    mut folders: Vec<FolderSize>,
) -> Vec<QuotaRow> {
    let row = |(one, usage): (Wanted, &QuotaUsage)| {
        let limit = one.account.quota;
        let (bytes_of, messages_of) = one.limits;
        let usage = QuotaUsage { limit, ..*usage };
        QuotaRow {
            address: one.address,
            class: one.class,
            bytes: usage.bytes,
            messages: usage.messages,
            bytes_max: limit.bytes.map(|bytes| bytes.0),
            bytes_max_of: bytes_of.map(|(_, of)| of),
            messages_max: limit.messages,
            messages_max_of: messages_of.map(|(_, of)| of),
            percent: usage.percent(),
            folders: std::mem::take(&mut folders),
        }
    };
    wanted.into_iter().zip(usage).map(row).collect()
}

/// Everything that is due is written, names of files are as the flags are, and all of it is on the
/// disk. Answers which keywords no file's name tells.
pub async fn settle(store: &Store) -> Result<Vec<KeywordsApart>, StoreError> {
    let apart = store.settle_all().await?;
    store.checkpoint().await?;
    Ok(apart)
}

/// What the command line is told of that.
pub fn settled(directory: &Directory, apart: Vec<KeywordsApart>) -> AdminReply {
    let snapshot = directory.snapshot();
    let address = |one: &KeywordsApart| match snapshot.account(one.account) {
        Some(account) => account.address.clone(),
        None => format!("#{}", one.account),
    };
    let of = |one: KeywordsApart| SettledApart {
        address: address(&one),
        mailbox: one.mailbox,
        keywords: one.keywords,
    };
    done(&Settled {
        settled: true,
        keywords_apart: apart.into_iter().map(of).collect(),
    })
}

/// Carries out a question about an account of this shard.
pub async fn inspect(store: &Store, inspection: Inspection) -> AdminReply {
    let answer = answer(store, &inspection).await;
    answer.unwrap_or_else(|why| {
        let temporary = matches!(why, StoreError::Busy | StoreError::Late | StoreError::Full);
        let text = match (&why, &inspection.question) {
            (StoreError::NoMailbox, _) => {
                let address = &inspection.address;
                format!("there is no such folder; palomar mailbox list {address} shows all")
            }
            (StoreError::Expunged, Question::Message { uid, .. } | Question::Body { uid, .. }) => {
                format!("the folder has no message with UID {uid}; it may have been deleted")
            }
            _ => told(&why),
        };
        failed(&text, temporary)
    })
}

/// An error of the store in words for the administrator.
pub fn told(why: &StoreError) -> String {
    match why {
        StoreError::Damaged { partition, .. } => format!(
            "something in partition {partition} is not what the index says; the server's log has \
             the file"
        ),
        StoreError::Busy | StoreError::Late => "the server is busy; try again".to_owned(),
        StoreError::Full => {
            "no room on the disk or in the journal; make room, then try again".into()
        }
        other => format!("the store refused: {other:?}; the server's log has more"),
    }
}

async fn answer(store: &Store, inspection: &Inspection) -> Result<AdminReply, StoreError> {
    let account = store.remote().look_at(inspection.account)?;
    Ok(match &inspection.question {
        Question::Mailboxes => done(&mailboxes(&account)?),
        Question::Message { folder, uid } => {
            let view = open(&account, folder).await?;
            done(&message(&view, folder, Uid(*uid))?)
        }
        Question::Body {
            folder,
            uid,
            headers,
            from,
        } => {
            let view = open(&account, folder).await?;
            let most = inspection.piece_bytes_max;
            done(&piece(&view, Uid(*uid), *headers, *from, most).await?)
        }
        Question::Recount => done(&Recounted {
            address: inspection.address.clone(),
            count: account.recount().await?,
        }),
        Question::Rescan { folder } => done(&account.rescan(folder.as_deref()).await?),
    })
}

fn mailboxes(account: &Account) -> Result<impl Serialize + use<>, StoreError> {
    let row = |info: crate::store::MailboxInfo| {
        let status = account.status(info.id)?;
        Ok(MailboxRow {
            name: info.name,
            id: info.id.0,
            special_use: info.special_use.map(|of| of.attribute().to_owned()),
            subscribed: info.subscribed,
            messages: status.messages,
            unseen: status.unseen,
            deleted: status.deleted,
            bytes: status.size,
            uidnext: status.uidnext.0,
            uidvalidity: status.uidvalidity.0,
            highest_modseq: status.highest_modseq.0,
        })
    };
    let rows: Result<Vec<MailboxRow>, StoreError> =
        account.mailboxes().into_iter().map(row).collect();
    rows
}

async fn open(account: &Account, folder: &str) -> Result<View, StoreError> {
    let mailbox = account.find(folder).ok_or(StoreError::NoMailbox)?;
    account.select(mailbox, Access::ReadOnly).await
}

fn message(view: &View, folder: &str, uid: Uid) -> Result<MessageRow, StoreError> {
    let row = view.row(uid).ok_or(StoreError::Expunged)?;
    let named = [
        (Flags::SEEN, "\\Seen"),
        (Flags::ANSWERED, "\\Answered"),
        (Flags::FLAGGED, "\\Flagged"),
        (Flags::DELETED, "\\Deleted"),
        (Flags::DRAFT, "\\Draft"),
    ];
    let flags = named.iter().filter(|(flag, _)| row.flags.contains(*flag));
    let keywords = row.keywords.iter().map(|keyword| keyword.to_string());
    Ok(MessageRow {
        folder: folder.to_owned(),
        uid: uid.0,
        flags: flags
            .map(|(_, name)| (*name).to_owned())
            .chain(keywords)
            .collect(),
        modseq: row.modseq.0,
        internal_date: row.internal_date.0,
        saved: row.saved.0,
        bytes: row.size,
        email_id: format!("M{}", HEXLOWER.encode(&row.email_id)),
    })
}

/// Where the header ends, without the empty line. Files of other programs have bare LFs.
fn header_end(bytes: &[u8]) -> usize {
    let mut ends = memchr::memchr_iter(b'\n', bytes);
    let is_last = |end: &usize| {
        let rest = &bytes[end + 1..];
        rest.starts_with(b"\n") || rest.starts_with(b"\r\n")
    };
    ends.find(is_last).map_or(bytes.len(), |end| end + 1)
}

async fn piece(
    view: &View,
    uid: Uid,
    headers: bool,
    from: u64,
    most: u64,
) -> Result<Piece, StoreError> {
    let body = view.body(uid).await?;
    let bytes = if headers {
        let mut bytes = body.read(0..HEADER_BYTES_MAX.min(body.len())).await?;
        // RFC 5322 2.1: the header ends with an empty line.
        bytes.truncate(header_end(&bytes));
        bytes
    } else {
        body.read(from..from.saturating_add(most).min(body.len()))
            .await?
    };
    let total = if headers {
        bytes.len() as u64
    } else {
        body.len()
    };
    Ok(Piece {
        total,
        data: BASE64.encode(&bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_ends_at_the_first_empty_line() {
        for (text, end) in [
            ("A: b\r\nC: d\r\n\r\nE: f\r\n", 12),
            ("A: b\nC: d\n\nE: f\n\r\n\r\n", 10),
            ("A: b\r\n\nx", 6),
            ("A: b\r\nC: d", 10),
            ("", 0),
        ] {
            assert_eq!(header_end(text.as_bytes()), end, "{text:?}");
        }
    }
}
