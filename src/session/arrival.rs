//! A logged-in connection moves once, to the shard that owns its account (DESIGN 1, "Hand-over").

use std::sync::Arc;
use std::time::Duration;

use crate::base::{Deadline, PartitionId, ShardId, TraceId, UnixMs};
use crate::directory::Account;
use crate::net::{Conn, Parcel};
use crate::runtime::{self, Mesh};

/// A target shard that does not take a connection in this time is too busy for it.
const POST_SPAN: Duration = Duration::from_secs(2);

/// What a shard is asked to go on with.
pub struct Arrival {
    pub parcel: Parcel,
    /// Which listener it came in by ([`super::Door::number`]).
    pub door: usize,
    pub session: TraceId,
    pub account: Arc<Account>,
    /// As typed at log-in, for log lines.
    pub login: String,
    pub since: UnixMs,
    pub errand: Errand,
}

/// What the protocol carries along.
pub enum Errand {
    /// The answer to LOGIN or AUTHENTICATE is still owed to this tag.
    Imap(super::imap::Carried),
    /// The answer to PASS or AUTH is still owed.
    Pop3(super::pop3::Carried),
}

/// Sends connections to other shards, from this one.
#[derive(Clone)]
pub struct Arrivals {
    mesh: Mesh<Box<Arrival>>,
    shard: ShardId,
}

impl Arrivals {
    #[must_use]
    pub fn new(mesh: Mesh<Box<Arrival>>, shard: ShardId) -> Self {
        Arrivals { mesh, shard }
    }

    /// The shard to move to, `None` where the account is this shard's own.
    #[must_use]
    pub fn elsewhere(&self, partition: PartitionId) -> Option<ShardId> {
        let owner = partition.owner(self.mesh.shards());
        (owner != self.shard).then_some(owner)
    }

    /// Moves `conn`: no operation may be in flight and nothing unanswered but the log-in. Where
    /// the target is full or late, or no descriptor is left, the connection comes back, to be
    /// told `NO [UNAVAILABLE]` or `-ERR [SYS/TEMP]`.
    pub async fn send(
        &self,
        to: ShardId,
        conn: Conn,
        build: impl FnOnce(Parcel) -> Arrival,
    ) -> Result<(), Conn> {
        let parcel = conn.detach().map_err(|(conn, _)| conn)?;
        let until = Deadline::after(runtime::now(), POST_SPAN);
        match self.mesh.post(to, Box::new(build(parcel)), until).await {
            Ok(()) => Ok(()),
            Err(refused) => Err(refused.message.parcel.attach()),
        }
    }
}
