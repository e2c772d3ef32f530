//! The socket for programs on this host: who they are, and how many at a time.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use hashbrown::HashMap;

use super::build;
use super::shard::Shared;
use crate::base::Deadline;
use crate::config::Config;
use crate::delivery::LocalUser;
use crate::net::{self, Conn, Opened, Peer, Refusal, accept_loop};
use crate::observe::{event, log_event};
use crate::runtime::{self, Gate, Pool};
use crate::session::smtp;

/// Connections of one user: he is not to take all that there are.
const CONNECTIONS_PER_USER_MAX: usize = 64;

/// Looking up a name. Who has none by then is trusted with nothing.
const NAME_SPAN: Duration = Duration::from_secs(10);

/// Connections by user.
type Counts = Rc<RefCell<HashMap<u32, usize>>>;

/// Serves it on this shard until the gate closes.
pub fn serve(one: Opened, shared: &Shared, service: Rc<smtp::Service>, gate: Gate) {
    let door = build::local_door(&shared.config);
    let (users, pool) = (Counts::default(), shared.pool.clone());
    let handler = move |conn: Conn, _, refusal: Option<Refusal>| {
        let (service, door) = (service.clone(), door.clone());
        let (users, pool) = (users.clone(), pool.clone());
        async move {
            // Whom the kernel does not name has no business here.
            let Peer::Unix { uid: Some(uid) } = *conn.peer() else {
                return;
            };
            let pass = Pass::new(users, uid);
            let refusal = refusal.or_else(|| pass.is_none().then_some(Refusal::AddressFull));
            let user = user(uid, &door.config(), &pool).await;
            service.serve_local(conn, door, refusal, user).await;
        }
    };
    let (address, counts) = (one.address.clone(), shared.counts.clone());
    runtime::spawn("server.sendmail", async move {
        if let Err(error) = accept_loop(one, counts, gate, handler).await {
            log_event!(ERROR, event::LISTENER_FAILED, %address, why = %error);
        }
    });
}

async fn user(uid: u32, config: &Config, pool: &Pool) -> LocalUser {
    let until = Deadline::after(runtime::now(), NAME_SPAN);
    let names = pool.run_queued(until, move || net::user_names(uid)).await;
    let names = names.ok().flatten();
    let is_known = names.is_some();
    let login = names.map_or_else(|| format!("uid{uid}"), |(login, _)| login);
    let is_trusted = uid == 0 || (is_known && config.sendmail.trusted.contains(&login));
    LocalUser {
        uid,
        login,
        is_trusted,
    }
}

/// One connection among those of its user; dropping it leaves.
struct Pass {
    users: Counts,
    uid: u32,
}

impl Pass {
    fn new(users: Counts, uid: u32) -> Option<Self> {
        let mut all = users.borrow_mut();
        let count = all.entry(uid).or_default();
        if *count >= CONNECTIONS_PER_USER_MAX {
            return None;
        }
        *count += 1;
        drop(all);
        Some(Pass { users, uid })
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut all = self.users.borrow_mut();
        if let Some(count) = all.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.uid);
            }
        }
    }
}
