//! The one wait of an idle session. It holds no buffer and no timer beyond one deadline.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use super::roster::Presence;
use crate::base::Deadline;
use crate::net::{Conn, Filled, NetError};
use crate::runtime::{self, Stop};

/// Why a session woke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Bytes were appended to `conn.unread()`.
    Input,
    /// The peer closed; what is unread is all there will be.
    Eof,
    /// Nothing came until the deadline.
    TimedOut,
    /// An administrator ended the session.
    Kicked,
    /// The server drains.
    Stopping,
    /// What the caller also waits for happened (a mailbox changed).
    News,
}

/// Waits for input, the deadline, a kick, the drain, or `news`, whichever is first. `unread_max`
/// bounds what may pile up unread. All parts may be dropped at any moment without loss.
pub async fn wait(
    conn: &mut Conn,
    unread_max: usize,
    until: Deadline,
    presence: &Presence,
    stop: &Stop,
    news: impl Future<Output = ()>,
) -> Result<Wake, NetError> {
    let mut kicked = pin!(presence.kicked());
    let mut stopping = pin!(stop.raised());
    let mut news = pin!(news);
    let woken = poll_fn(|cx| {
        if let Poll::Ready(filled) = conn.poll_fill(cx, unread_max) {
            return Poll::Ready(filled.map(|filled| match filled {
                Filled::Bytes(_) => Wake::Input,
                Filled::Eof => Wake::Eof,
            }));
        }
        if kicked.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(Wake::Kicked));
        }
        if stopping.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(Wake::Stopping));
        }
        if news.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(Wake::News));
        }
        Poll::Pending
    });
    runtime::deadline(until, woken)
        .await
        .unwrap_or(Ok(Wake::TimedOut))
}
