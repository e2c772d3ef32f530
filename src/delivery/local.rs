//! Mail of programs on this host: whose it is. They prove nothing but the user that they run as.

use std::sync::Arc;

use super::Intake;
use crate::directory::{Account, Snapshot};
use crate::wire::address::{Mailbox, Path};

/// Who is at the other end of the local socket, by the kernel's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalUser {
    pub uid: u32,
    /// The name of /etc/passwd; `uid` and the number where it has none.
    pub login: String,
    /// May send in anybody's name.
    pub is_trusted: bool,
}

impl Intake {
    /// The account of the same name in the first of our domains, unless it is disabled.
    #[must_use]
    pub fn local_account(&self, user: &LocalUser) -> Option<Arc<Account>> {
        let snapshot = self.directory.snapshot();
        let account = snapshot.login(&user.login).filter(|a| !a.disabled);
        account.cloned()
    }

    /// Whom a message of this user is from, where he says `given`: his own address, or one that
    /// leads to him alone. Who is trusted may say anything.
    #[must_use]
    pub fn local_sender(&self, user: &LocalUser, account: Option<&Account>, given: Path) -> Path {
        if user.is_trusted {
            return given;
        }
        let snapshot = self.directory.snapshot();
        match (&given, account) {
            (Path::Mailbox(address), Some(account)) if is_his(&snapshot, address, account) => given,
            (_, Some(account)) => own(&account.address).unwrap_or(Path::Postmaster),
            (_, None) => named(&snapshot, user).unwrap_or(Path::Postmaster),
        }
    }
}

/// Mail for `address` goes to this account, and to nobody else.
fn is_his(snapshot: &Snapshot, address: &Mailbox, account: &Account) -> bool {
    let found = snapshot.resolve(address);
    let is_him = |recipient: &crate::directory::Recipient| recipient.account.id == account.id;
    let leads_on = !found.outside.is_empty() || !found.refused.is_empty();
    !leads_on && found.local.len() == 1 && found.local.iter().all(is_him)
}

fn own(address: &str) -> Option<Path> {
    Mailbox::parse(address).ok().map(Path::Mailbox)
}

fn named(snapshot: &Snapshot, user: &LocalUser) -> Option<Path> {
    let domain = snapshot.site().domains.first()?;
    own(&format!("{}@{domain}", user.login)).or_else(|| own(&format!("uid{}@{domain}", user.uid)))
}
