//! When, from where and with what somebody logged in last, for each protocol.
//!
//! Kept in the account's own partition, namespace [`LAST_LOGIN`], key the protocol. Written
//! behind the session's back, a few seconds later so that the client's name is there too, and at
//! most once a minute for an account and protocol: a crash may lose the last minute of it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_lite::future;
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::account::Account;
use super::authenticate::Service;
use crate::base::{AccountId, Deadline, PartitionId, UnixMs};
use crate::runtime::local::Notify;
use crate::runtime::{self, Gate, spawn_in};
use crate::store::{Remote, ValueChange};

/// Namespace of last log-ins among the values of an account.
pub const LAST_LOGIN: &str = "last-login";

/// Between two writes for one account and protocol.
const WRITE_EVERY: Duration = Duration::from_secs(60);
/// Between two looks at what is due.
const LOOK_EVERY: Duration = Duration::from_secs(3);
const WRITE_WAIT: Duration = Duration::from_secs(10);
/// Log-ins that are remembered for writing; more are left out until there is room.
const PENDING_MAX: usize = 50_000;
const CLIENT_BYTES_MAX: usize = 200;

/// One last log-in, as JSON in the value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastLogin {
    pub time: UnixMs,
    pub address: IpAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
}

impl LastLogin {
    /// Reads a value of [`LAST_LOGIN`].
    #[must_use]
    pub fn read(value: &[u8]) -> Option<LastLogin> {
        serde_json::from_slice(value).ok()
    }
}

/// Collects the last log-ins of one shard. Clones are handles to the same one.
#[derive(Clone)]
pub struct LastLogins {
    shared: Rc<Shared>,
}

#[derive(Default)]
struct Shared {
    pending: RefCell<Pending>,
    noted: Notify,
}

impl LastLogins {
    /// Starts the writer of this shard; it writes what is left when `gate` closes.
    #[must_use]
    pub fn start(remote: Remote, gate: &Gate) -> Self {
        let shared = Rc::<Shared>::default();
        spawn_in(
            gate,
            "last log-ins",
            write(Rc::clone(&shared), remote, gate.clone()),
        );
        LastLogins { shared }
    }

    /// One that nobody writes.
    #[cfg(test)]
    pub(super) fn unwritten() -> Self {
        LastLogins {
            shared: Rc::default(),
        }
    }

    pub(super) fn note(
        &self,
        account: &Account,
        service: Service,
        address: IpAddr,
        client: Option<&str>,
        now: Instant,
        time: UnixMs,
    ) {
        let login = LastLogin {
            time,
            address,
            client: client.map(tidy),
        };
        let key = (account.id, service.word());
        self.shared
            .pending
            .borrow_mut()
            .note(key, account.partition, login, now);
        self.shared.noted.notify_all();
    }
}

/// A client may call itself anything.
fn tidy(client: &str) -> String {
    let mut text: String = client.chars().filter(|c| !c.is_control()).collect();
    text.truncate(text.floor_char_boundary(CLIENT_BYTES_MAX));
    text
}

async fn write(shared: Rc<Shared>, remote: Remote, gate: Gate) {
    loop {
        let noted = shared.noted.notified();
        if shared.pending.borrow().entries.is_empty() {
            future::or(noted, gate.closing()).await;
        }
        future::or(runtime::sleep(LOOK_EVERY), gate.closing()).await;
        let due = shared
            .pending
            .borrow_mut()
            .take_due(runtime::now(), gate.is_closed());
        for (partition, values) in due {
            let until = Deadline::after(runtime::now(), WRITE_WAIT);
            if let Err(error) = remote.set_values(partition, values, until).await {
                // The next log-in writes it again.
                tracing::warn!(%partition, ?error, "last log-ins not written");
            }
        }
        if gate.is_closed() {
            return;
        }
    }
}

type Slot = (AccountId, &'static str);

#[derive(Default)]
struct Pending {
    entries: HashMap<Slot, Entry>,
}

struct Entry {
    partition: PartitionId,
    login: LastLogin,
    /// Not yet written.
    news: bool,
    written: Option<Instant>,
}

impl Pending {
    fn note(&mut self, slot: Slot, partition: PartitionId, mut login: LastLogin, now: Instant) {
        let full = self.entries.len() >= PENDING_MAX;
        match self.entries.get_mut(&slot) {
            Some(entry) => {
                // A log-in does not know the client's name yet; the one of before will do.
                if login.client.is_none() && entry.login.address == login.address {
                    login.client = entry.login.client.take();
                }
                entry.login = login;
                entry.news = true;
            }
            None if full => tracing::debug!(?now, "last log-in left out"),
            None => {
                let entry = Entry {
                    partition,
                    login,
                    news: true,
                    written: None,
                };
                self.entries.insert(slot, entry);
            }
        }
    }

    /// What is to be written now, by partition; forgets what is long written.
    fn take_due(&mut self, now: Instant, all: bool) -> BTreeMap<PartitionId, Vec<ValueChange>> {
        let mut due: BTreeMap<PartitionId, Vec<ValueChange>> = BTreeMap::new();
        self.entries.retain(|(account, protocol), entry| {
            let recent = entry
                .written
                .is_some_and(|at| now.saturating_duration_since(at) < WRITE_EVERY);
            if entry.news && (all || !recent) {
                entry.news = false;
                entry.written = Some(now);
                let value = serde_json::to_vec(&entry.login).expect("plain data has a JSON form");
                due.entry(entry.partition).or_default().push(ValueChange {
                    account: Some(*account),
                    namespace: LAST_LOGIN.into(),
                    key: protocol.as_bytes().to_vec(),
                    value: Some(value),
                });
                return true;
            }
            entry.news || recent
        });
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(second: i64, client: Option<&str>) -> LastLogin {
        LastLogin {
            time: UnixMs::from_seconds(second),
            address: "192.0.2.1".parse().expect("an address"),
            client: client.map(str::to_owned),
        }
    }

    #[test]
    fn one_write_a_minute_with_the_last_client_name() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let slot = (AccountId(7), "imap");
        let mut pending = Pending::default();
        let note = |pending: &mut Pending, s, client| {
            pending.note(slot, PartitionId(3), login(s, client), start);
        };
        note(&mut pending, 0, None);
        note(&mut pending, 1, Some("Thunderbird 140"));
        note(&mut pending, 2, None);
        let due = pending.take_due(at(3), false);
        let written = &due[&PartitionId(3)][0];
        let value = LastLogin::read(written.value.as_deref().expect("a value"));
        assert_eq!(value, Some(login(2, Some("Thunderbird 140"))));
        assert_eq!(written.account, Some(AccountId(7)));

        note(&mut pending, 10, None);
        assert!(pending.take_due(at(12), false).is_empty(), "too soon");
        assert_eq!(pending.take_due(at(63), false).len(), 1, "a minute later");
        note(&mut pending, 64, None);
        assert_eq!(pending.take_due(at(65), true).len(), 1, "the server stops");
        assert!(pending.take_due(at(200), false).is_empty());
        assert!(pending.entries.is_empty(), "forgotten once written");
    }

    #[test]
    fn a_client_name_is_short_and_printable() {
        assert_eq!(tidy("a\r\nb"), "ab");
        assert_eq!(tidy(&"é".repeat(300)).len(), CLIENT_BYTES_MAX);
    }
}
