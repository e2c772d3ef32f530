//! Accepting on one shard: count, refuse, read the PROXY header, hand over to the protocol.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use futures_lite::future::or;

use super::counts::AddressCounts;
use super::error::NetError;
use super::listen::{ListenerSpec, Opened};
use super::peer::Peer;
use super::proxy::{self, ProxyError};
use super::stream::Conn;
use crate::base::Deadline;
use crate::runtime::{self, Gate};

/// A proxy sends its header at once; whoever lets us wait is none.
const PROXY_HEADER_SPAN: Duration = Duration::from_secs(5);
/// Refused connections that are being told so, on one shard. Beyond, they are dropped unheard.
const REFUSALS_MAX: usize = 64;

/// Why a connection is not served.
#[derive(Debug)]
pub enum Refusal {
    /// Its address has `connections_per_address_max` (SMTP: 421 4.7.0).
    AddressFull,
    /// The listener has `connections_max` (SMTP: 421 4.3.2).
    ListenerFull,
    /// It came without the PROXY header that this listener requires, or not from a proxy. There is
    /// nobody to tell; it is to be logged and dropped.
    Proxy(NetError),
}

/// What one listener has seen, over all shards.
#[derive(Debug, Default)]
pub struct ListenerCounters {
    pub accepted: AtomicU64,
    pub refused_address: AtomicU64,
    pub refused_listener: AtomicU64,
    pub refused_proxy: AtomicU64,
    /// Refused, and not even told.
    pub dropped: AtomicU64,
}

/// What the shards of one listener share.
#[derive(Default)]
pub(super) struct Shared {
    connections: AtomicU32,
    counters: Arc<ListenerCounters>,
}

/// A connection's place among those of its listener; dropping it leaves. Moves with the connection.
pub(super) struct ListenerPass(Arc<Shared>);

impl Opened {
    /// For the metrics; the same on every shard.
    #[must_use]
    pub fn counters(&self) -> Arc<ListenerCounters> {
        self.shared.counters.clone()
    }

    /// The bare listener, for what counts and refuses by itself (metrics, the admin socket).
    pub fn into_listener(self) -> io::Result<runtime::Listener> {
        self.socket.into_runtime()
    }
}

/// Serves `opened` on this shard until `gate` closes. `Err` if the socket broke.
///
/// Each connection is handled by `handler` in a task of its own behind `gate`, where a panic harms
/// nobody else. With a [`Refusal`] the handler says what its protocol has for it, and ends soon.
/// The TLS handshake is the handler's affair, so that it counts among what the protocol waits for.
pub async fn accept_loop<H, F>(
    opened: Opened,
    counts: AddressCounts,
    gate: Gate,
    handler: H,
) -> io::Result<()>
where
    H: Fn(Conn, Arc<ListenerSpec>, Option<Refusal>) -> F + 'static,
    F: Future<Output = ()> + 'static,
{
    let Opened {
        spec,
        socket,
        shared,
        ..
    } = opened;
    let listener = socket.into_runtime()?;
    let porter = Rc::new(Porter {
        spec,
        shared,
        counts,
        handler,
        refusals: Cell::new(0),
    });
    while !gate.is_closed() {
        let accepted = async { Some(listener.accept().await) };
        let closed = async {
            gate.closing().await;
            None
        };
        let Some(accepted) = or(accepted, closed).await else {
            break;
        };
        let (stream, peer) = accepted?;
        let conn = Conn::new(stream, Peer::from(peer));
        porter
            .shared
            .counters
            .accepted
            .fetch_add(1, Ordering::Relaxed);
        let porter = porter.clone();
        let name = porter.spec.protocol;
        runtime::spawn_in(&gate, name, async move { porter.admit(conn).await });
        runtime::yield_if_needed().await;
    }
    Ok(())
}

struct Porter<H> {
    spec: Arc<ListenerSpec>,
    shared: Arc<Shared>,
    counts: AddressCounts,
    handler: H,
    refusals: Cell<usize>,
}

impl<H, F> Porter<H>
where
    H: Fn(Conn, Arc<ListenerSpec>, Option<Refusal>) -> F,
    F: Future<Output = ()>,
{
    async fn admit(&self, mut conn: Conn) {
        // Not held across the handler: its future is the one that lives long.
        let refusal = Box::pin(self.judge(&mut conn)).await;
        let Some(refusal) = refusal else {
            return (self.handler)(conn, self.spec.clone(), None).await;
        };
        let counters = &self.shared.counters;
        let counter = match &refusal {
            Refusal::AddressFull => &counters.refused_address,
            Refusal::ListenerFull => &counters.refused_listener,
            Refusal::Proxy(_) => &counters.refused_proxy,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if self.refusals.get() >= REFUSALS_MAX {
            counters.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let _told = Telling::new(&self.refusals);
        (self.handler)(conn, self.spec.clone(), Some(refusal)).await;
    }

    async fn judge(&self, conn: &mut Conn) -> Option<Refusal> {
        let limits = &self.spec.limits;
        match self.shared.enter(limits.connections_max) {
            Some(pass) => conn.set_listener_pass(pass),
            None => return Some(Refusal::ListenerFull),
        }
        if self.spec.proxy_protocol {
            if !conn.peer().is_in(&self.spec.proxy_networks) {
                return Some(Refusal::Proxy(NetError::Proxy(ProxyError::NotAProxy)));
            }
            let until = Deadline::after(runtime::now(), PROXY_HEADER_SPAN);
            if let Err(error) = proxy::read_header(conn, until).await {
                return Some(Refusal::Proxy(error));
            }
        }
        if let Some(address) = conn.peer().address() {
            match self
                .counts
                .enter(address, limits.connections_per_address_max)
            {
                Some(pass) => conn.set_address_pass(pass),
                None => return Some(Refusal::AddressFull),
            }
        }
        None
    }
}

/// One refusal being told.
struct Telling<'a>(&'a Cell<usize>);

impl<'a> Telling<'a> {
    fn new(refusals: &'a Cell<usize>) -> Self {
        refusals.set(refusals.get() + 1);
        Telling(refusals)
    }
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Shared {
    fn enter(self: &Arc<Self>, connections_max: u32) -> Option<ListenerPass> {
        let enter = |inside| (inside < connections_max).then_some(inside + 1);
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        self.connections.fetch_update(set, fetch, enter).ok()?;
        Some(ListenerPass(self.clone()))
    }
}

impl Drop for ListenerPass {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
