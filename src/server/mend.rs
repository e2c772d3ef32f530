//! Scrub and repair, as an administrator asks for them: on a running server and on a stopped one.

use super::admin::{done, failed, silence};
use super::control::{self, Control, Repaired};
use crate::directory::Directory;
use crate::runtime::Mesh;
use crate::store::{AccountRef, MailboxRepair, RepairOrder, ScrubOrder, Store, StoreError};
use crate::web::AdminReply;

/// The account that a name belongs to.
fn account(directory: &Directory, user: &str) -> Result<AccountRef, AdminReply> {
    let snapshot = directory.snapshot();
    match snapshot.login(user) {
        Some(account) => Ok(snapshot.reference(account)),
        None => Err(failed(&format!("there is no user {user}"), false)),
    }
}

fn order(directory: &Directory, user: Option<&str>, rate: u64) -> Result<ScrubOrder, AdminReply> {
    let account = user.map(|user| account(directory, user)).transpose()?;
    Ok(ScrubOrder {
        account: account.map(|account| account.account),
        rate,
    })
}

/// Begins a scrub on every shard.
pub async fn scrub(
    directory: &Directory,
    mesh: &Mesh<Control>,
    user: Option<String>,
    rate: u64,
) -> AdminReply {
    let order = match order(directory, user.as_deref(), rate) {
        Ok(order) => order,
        Err(reply) => return reply,
    };
    match control::ask_all(mesh, |reply| Control::Scrub(order, reply)).await {
        Ok(begun) if begun.iter().all(|begun| *begun) => {}
        Ok(_) => {
            return failed(
                "a scrub runs; palomar scrub --status tells how far it is",
                true,
            );
        }
        Err(silent) => return silence(&silent),
    }
    match control::ask_all(mesh, Control::ScrubStatus).await {
        Ok(shards) => done(&shards),
        Err(silent) => silence(&silent),
    }
}

/// Scrubs to the end.
pub async fn scrub_here(
    directory: &Directory,
    store: &Store,
    user: Option<String>,
    rate: u64,
) -> AdminReply {
    let order = match order(directory, user.as_deref(), rate) {
        Ok(order) => order,
        Err(reply) => return reply,
    };
    match store.scrub(order).await {
        Ok(()) => done(&[store.scrub_status()]),
        Err(why) => refused(&why),
    }
}

pub async fn repair(
    directory: &Directory,
    mesh: &Mesh<Control>,
    user: &str,
    order: RepairOrder,
) -> AdminReply {
    let account = match account(directory, user) {
        Ok(account) => account,
        Err(reply) => return reply,
    };
    let of_all = order.folder.is_none();
    match control::repair(mesh, account, order).await {
        Some(repaired) => told(repaired, of_all),
        None => failed(
            "it takes long and goes on; ask again for what is left",
            true,
        ),
    }
}

pub async fn repair_here(
    directory: &Directory,
    store: &Store,
    user: &str,
    order: &RepairOrder,
) -> AdminReply {
    match account(directory, user) {
        Ok(account) => told(store.repair(account, order).await, order.folder.is_none()),
        Err(reply) => reply,
    }
}

fn told(repaired: Repaired, of_all: bool) -> AdminReply {
    match repaired {
        // An account that never had mail has no mailbox, and nothing that could be damaged.
        Err(StoreError::NoMailbox) if of_all => done(&Vec::<MailboxRepair>::new()),
        Ok(mailboxes) => done(&mailboxes),
        Err(why) => refused(&why),
    }
}

fn refused(why: &StoreError) -> AdminReply {
    match why {
        StoreError::NoMailbox => failed("there is no such mailbox", false),
        StoreError::Busy | StoreError::Late => failed("busy; try again", true),
        StoreError::Full => failed("there is no room for changes; try later", true),
        why => failed(&format!("the store says: {why:?}; see the log"), false),
    }
}
