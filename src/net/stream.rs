//! One connection: plain or TLS, the same to whoever reads lines from it.
//!
//! IO goes through two scratch buffers per shard that are never held across a wait; TLS is driven
//! by hand over them. A connection that waits owns its socket, its TLS keys and whatever bytes have
//! no other place: ciphertext of a record that is not complete, plaintext that the caller has not
//! consumed, and output that the socket refused. For an idle one all three are empty.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::accept::ListenerPass;
use super::counts::AddressPass;
use super::error::{Doing, NetError};
use super::peer::Peer;
use super::tls::{Driven, OutgoingTls, Session, TlsConfig, TlsFacts, TlsFault, TlsPeer};
use crate::base::Deadline;
use crate::runtime::{self, Stream};

/// One read takes at most this; two full TLS records and a half.
const SCRATCH_BYTES: usize = 40 << 10;
/// The least room to read TLS into: one whole record with its overhead (RFC 8446 5.2).
const RECORD_BYTES_MAX: usize = (16 << 10) + 256 + 5;
/// Ciphertext that waits for its record or handshake message to be complete. rustls takes no
/// handshake message above 64 KB.
const REST_BYTES_MAX: usize = 96 << 10;
/// Refused output beyond which no more input is taken: the peer asks and does not listen.
const UNSENT_BYTES_MAX: usize = 64 << 10;
/// Plaintext that is sealed at once: what the peer does not take of it goes to the heap.
const SEAL_BYTES: usize = 32 << 10;
/// Turns without a wait after which other tasks get theirs.
const TURNS_MAX: usize = 16;
/// What is read ahead while nobody reads.
const READ_AHEAD_BYTES: usize = 4 << 10;
/// Input that is thrown away after a close, so that it does not turn the close into a reset and
/// our last words with it (RFC 1122 4.2.2.13).
const LINGER_BYTES_MAX: usize = 256 << 10;
const LINGER: Duration = Duration::from_secs(1);

const _: () = assert!(SCRATCH_BYTES >= 2 * RECORD_BYTES_MAX);

struct Scratch {
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        incoming: vec![0; SCRATCH_BYTES],
        outgoing: Vec::with_capacity(SCRATCH_BYTES),
    });
}

/// A connection. Stays on its shard; [`Conn::detach`] makes it movable.
///
/// Dropping it closes the socket at once; [`Conn::close`] says good-bye first.
pub struct Conn(pub(super) Box<Inner>);

pub(super) struct Inner {
    pub stream: Stream,
    pub state: State,
}

/// All of a connection but its socket.
pub(super) struct State {
    pub tls: Option<Box<Session>>,
    /// Ciphertext that is not done with.
    pub rest: Vec<u8>,
    /// `rest` has not been shown to TLS as it is.
    pub rest_is_new: bool,
    /// Plaintext; the part before `consumed` is done with.
    pub unread: Vec<u8>,
    pub consumed: usize,
    /// Output that the socket refused; the part before `sent` has left.
    pub unsent: Vec<u8>,
    pub sent: usize,
    pub peer_closed: bool,
    pub peer: Peer,
    /// The connection's places in the counts of its listener and its address.
    pub listener_pass: Option<ListenerPass>,
    pub address_pass: Option<AddressPass>,
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// So many bytes were appended to `unread`; never 0.
    Bytes(usize),
    /// The peer closed; what is in `unread` is all there will be.
    Eof,
}

impl Conn {
    /// A plain connection.
    #[must_use]
    pub fn new(stream: Stream, peer: Peer) -> Self {
        let state = State {
            tls: None,
            rest: Vec::new(),
            rest_is_new: false,
            unread: Vec::new(),
            consumed: 0,
            unsent: Vec::new(),
            sent: 0,
            peer_closed: false,
            peer,
            listener_pass: None,
            address_pass: None,
        };
        Conn(Box::new(Inner { stream, state }))
    }

    /// What was read and not consumed.
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        &self.0.state.unread[self.0.state.consumed..]
    }

    /// The first `bytes` of [`Conn::unread`] are done with.
    pub fn consume(&mut self, bytes: usize) {
        assert!(bytes <= self.unread().len(), "consumed more than there was");
        let state = &mut self.0.state;
        state.consumed += bytes;
        if state.consumed == state.unread.len() {
            state.unread.clear();
            state.consumed = 0;
        }
    }

    /// Reads once more into [`Conn::unread`].
    ///
    /// `unread_bytes_max` bounds what the caller lets pile up: where as much is unread already the
    /// answer is [`NetError::UnreadFull`], else one read of at most 40 KB is appended. May be
    /// dropped at any moment without loss.
    pub async fn fill(
        &mut self,
        unread_bytes_max: usize,
        until: Deadline,
    ) -> Result<Filled, NetError> {
        runtime::deadline(until, poll_fn(|cx| self.poll_fill(cx, unread_bytes_max)))
            .await
            .map_err(NetError::late(Doing::Read))?
    }

    /// Waits until [`Conn::unread`] is not empty, or the peer has closed. For sessions that wait
    /// for more than their peer (IDLE). May be dropped at any moment without loss.
    pub async fn readable(&mut self, until: Deadline) -> Result<(), NetError> {
        if self.unread().is_empty() {
            self.fill(READ_AHEAD_BYTES, until).await?;
        }
        Ok(())
    }

    /// [`Conn::fill`] as a poll, to be composed with other waits of the same task.
    pub fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        unread_bytes_max: usize,
    ) -> Poll<Result<Filled, NetError>> {
        let before = self.unread().len();
        for _ in 0..TURNS_MAX {
            if self.0.state.peer_closed {
                return Poll::Ready(Ok(Filled::Eof));
            }
            if before >= unread_bytes_max {
                return Poll::Ready(Err(NetError::UnreadFull { unread_bytes_max }));
            }
            ready!(self.0.poll_turn(cx, Doing::Read, unread_bytes_max - before))?;
            let bytes = self.unread().len() - before;
            if bytes > 0 {
                return Poll::Ready(Ok(Filled::Bytes(bytes)));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Sends `data`: returns when the socket has taken all of it. If the future is dropped or late,
    /// an unknown part of `data` has left and the connection is good for nothing but dropping.
    pub async fn write(&mut self, data: &[u8], until: Deadline) -> Result<(), NetError> {
        let mut at = 0;
        runtime::deadline(
            until,
            poll_fn(|cx| self.0.poll_write_all(cx, data, &mut at)),
        )
        .await
        .map_err(NetError::late(Doing::Write))?
    }

    /// [`Conn::write`] of all of `buffer`, which is then empty and ready for the next reply.
    pub async fn write_all_of(
        &mut self,
        buffer: &mut Vec<u8>,
        until: Deadline,
    ) -> Result<(), NetError> {
        let written = self.write(buffer, until).await;
        if buffer.capacity() > SCRATCH_BYTES {
            *buffer = Vec::new();
        }
        buffer.clear();
        written
    }

    /// The TLS handshake after STARTTLS or STLS. All plaintext that came after the command is
    /// dropped (RFC 3207 4.2, RFC 9051 6.2.1); returned is how much that was: more than nothing is
    /// a client that does not know the protocol, or an attacker (CVE-2011-0411).
    pub async fn start_tls(
        &mut self,
        config: &TlsConfig,
        until: Deadline,
    ) -> Result<usize, NetError> {
        let dropped = self.unread().len();
        self.0.state.unread = Vec::new();
        self.0.state.consumed = 0;
        self.handshake(config, until).await?;
        Ok(dropped)
    }

    /// The TLS handshake that opens a connection on a port that is TLS from the first byte
    /// (RFC 8314 3). Bytes that were read behind a PROXY header are its beginning.
    pub async fn accept_tls(
        &mut self,
        config: &TlsConfig,
        until: Deadline,
    ) -> Result<(), NetError> {
        let state = &mut self.0.state;
        state.rest = state.unread.split_off(state.consumed);
        state.rest_is_new = !state.rest.is_empty();
        state.unread = Vec::new();
        state.consumed = 0;
        self.handshake(config, until).await
    }

    /// The client's handshake with a server that is called `host`: at once, or after its answer to
    /// STARTTLS. All plaintext that was not consumed is dropped (RFC 3207 4.2). Whoever is there is
    /// taken; whether it is `host` is told.
    pub async fn start_tls_client(
        &mut self,
        tls: &OutgoingTls,
        host: &str,
        until: Deadline,
    ) -> Result<TlsPeer, NetError> {
        let session = tls.session(host, self.peer().address());
        let session = session.map_err(|fault| NetError::Tls(Doing::Handshake, Box::new(fault)))?;
        let state = &mut self.0.state;
        state.unread = Vec::new();
        state.consumed = 0;
        // Nothing was read, and yet there is something to do: our side speaks first.
        state.rest_is_new = true;
        self.shake_hands(session, until).await?;
        let session = self.0.state.tls.as_ref();
        Ok(tls.judge(session.expect("a TLS connection"), host))
    }

    async fn handshake(&mut self, config: &TlsConfig, until: Deadline) -> Result<(), NetError> {
        let session = Session::new(config)
            .map_err(|fault| NetError::Tls(Doing::Handshake, Box::new(fault)))?;
        self.shake_hands(session, until).await
    }

    async fn shake_hands(
        &mut self,
        session: Box<Session>,
        until: Deadline,
    ) -> Result<(), NetError> {
        assert!(self.0.state.tls.is_none(), "TLS within TLS");
        self.0.state.tls = Some(session);
        runtime::deadline(until, poll_fn(|cx| self.0.poll_handshake(cx)))
            .await
            .map_err(NetError::late(Doing::Handshake))?
    }

    /// Says good-bye: close_notify, then the end of our stream, then for a moment an ear for what
    /// the peer still sends.
    pub async fn close(mut self, until: Deadline) {
        let inner = &mut self.0;
        let said = runtime::deadline(until, poll_fn(|cx| inner.poll_close_notify(cx))).await;
        inner.stream.shutdown();
        if inner.state.peer_closed || !matches!(said, Ok(Ok(()))) {
            return;
        }
        let until = until.earlier(Deadline::after(runtime::now(), LINGER));
        let mut left = LINGER_BYTES_MAX;
        // Either way the socket is closed when `self` goes.
        let _ = runtime::deadline(until, poll_fn(|cx| inner.poll_discard(cx, &mut left))).await;
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.0.state.peer
    }

    pub(super) fn set_peer(&mut self, peer: Peer) {
        self.0.state.peer = peer;
    }

    pub(super) fn set_listener_pass(&mut self, pass: ListenerPass) {
        self.0.state.listener_pass = Some(pass);
    }

    pub(super) fn set_address_pass(&mut self, pass: AddressPass) {
        self.0.state.address_pass = Some(pass);
    }

    /// True once the TLS handshake is done.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.0
            .state
            .tls
            .as_ref()
            .is_some_and(|tls| !tls.is_handshaking())
    }

    /// What TLS agreed on; `None` for a plain connection.
    #[must_use]
    pub fn tls(&self) -> Option<TlsFacts> {
        self.0.state.tls.as_ref().map(|tls| tls.facts())
    }
}

impl Inner {
    /// One read from the socket, or of what is left over, through TLS into `unread`. Ready also
    /// when it brought no plaintext.
    fn poll_turn(
        &mut self,
        cx: &mut Context<'_>,
        doing: Doing,
        want_bytes: usize,
    ) -> Poll<Result<(), NetError>> {
        if let Poll::Ready(result) = self.poll_flush(cx) {
            result.map_err(NetError::io(doing))?;
        } else if self.state.unsent.len() > UNSENT_BYTES_MAX {
            return Poll::Pending;
        }
        let Inner { stream, state } = self;
        state.unread.drain(..state.consumed);
        state.consumed = 0;
        let turned = SCRATCH.with_borrow_mut(|Scratch { incoming, outgoing }| {
            if let Some(tls) = &mut state.tls {
                let rest_bytes = state.rest.len();
                if incoming.len() < rest_bytes + RECORD_BYTES_MAX {
                    if rest_bytes > REST_BYTES_MAX {
                        let fault = Box::new(TlsFault::too_long());
                        return Poll::Ready(Err(NetError::Tls(doing, fault)));
                    }
                    incoming.resize(rest_bytes + SCRATCH_BYTES, 0);
                }
                let read = if std::mem::take(&mut state.rest_is_new) {
                    0
                } else {
                    let room = &mut incoming[rest_bytes..];
                    match ready!(stream.poll_read(cx, room)).map_err(NetError::io(doing))? {
                        0 => {
                            state.peer_closed = true;
                            return Poll::Ready(Ok(()));
                        }
                        read => read,
                    }
                };
                incoming[..rest_bytes].copy_from_slice(&state.rest);
                let records = &mut incoming[..rest_bytes + read];
                outgoing.clear();
                let Driven {
                    used,
                    peer_closed,
                    result,
                } = tls.drive(records, &mut state.unread, outgoing);
                // Exactly what is left, and no capacity beyond.
                state.rest = records[used..].to_vec();
                state.peer_closed |= peer_closed;
                let sent = send(stream, cx, outgoing, state);
                result.map_err(|fault| NetError::Tls(doing, Box::new(fault)))?;
                Poll::Ready(sent.map_err(NetError::io(doing)))
            } else {
                let room = &mut incoming[..want_bytes.min(SCRATCH_BYTES)];
                let read = ready!(stream.poll_read(cx, room)).map_err(NetError::io(doing))?;
                state.peer_closed = read == 0;
                state.unread.extend_from_slice(&incoming[..read]);
                Poll::Ready(Ok(()))
            }
        });
        if turned.is_pending() && state.unread.is_empty() {
            state.unread = Vec::new();
        }
        turned
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), NetError>> {
        for _ in 0..TURNS_MAX {
            if !self
                .state
                .tls
                .as_ref()
                .is_some_and(|tls| tls.is_handshaking())
            {
                let flushed = self.poll_flush(cx);
                return flushed.map_err(NetError::io(Doing::Handshake));
            }
            if self.state.peer_closed {
                return Poll::Ready(Err(NetError::Gone(Doing::Handshake)));
            }
            ready!(self.poll_turn(cx, Doing::Handshake, SCRATCH_BYTES))?;
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_write_all(
        &mut self,
        cx: &mut Context<'_>,
        data: &[u8],
        at: &mut usize,
    ) -> Poll<Result<(), NetError>> {
        for _ in 0..TURNS_MAX {
            ready!(self.poll_flush(cx)).map_err(NetError::io(Doing::Write))?;
            if *at == data.len() {
                return Poll::Ready(Ok(()));
            }
            let Inner { stream, state } = self;
            if state.tls.is_none() {
                let written = ready!(stream.poll_write(cx, &data[*at..]));
                *at += nonzero(written).map_err(NetError::io(Doing::Write))?;
                continue;
            }
            let part = &data[*at..data.len().min(*at + SEAL_BYTES)];
            *at += part.len();
            self.seal_and_send(cx, |tls, rest, out| tls.seal(rest, part, out))?;
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_close_notify(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), NetError>> {
        ready!(self.poll_flush(cx)).map_err(NetError::io(Doing::Write))?;
        // Once: a connection that is closing has no TLS any more.
        if self
            .state
            .tls
            .as_ref()
            .is_some_and(|tls| !tls.is_handshaking())
        {
            self.seal_and_send(cx, |tls, rest, out| tls.seal_close(rest, out))?;
            self.state.tls = None;
        }
        self.poll_flush(cx).map_err(NetError::io(Doing::Write))
    }

    fn seal_and_send(
        &mut self,
        cx: &mut Context<'_>,
        seal: impl FnOnce(&mut Session, &mut Vec<u8>, &mut Vec<u8>) -> Result<(), TlsFault>,
    ) -> Result<(), NetError> {
        let Inner { stream, state } = self;
        SCRATCH.with_borrow_mut(|Scratch { outgoing, .. }| {
            outgoing.clear();
            let tls = state.tls.as_mut().expect("a TLS connection");
            seal(tls, &mut state.rest, outgoing)
                .map_err(|fault| NetError::Tls(Doing::Write, Box::new(fault)))?;
            send(stream, cx, outgoing, state).map_err(NetError::io(Doing::Write))
        })
    }

    /// Ready when nothing is unsent.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Inner { stream, state } = self;
        while state.sent < state.unsent.len() {
            let written = ready!(stream.poll_write(cx, &state.unsent[state.sent..]));
            state.sent += nonzero(written)?;
        }
        if state.unsent.capacity() > 0 {
            state.unsent = Vec::new();
            state.sent = 0;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>, left: &mut usize) -> Poll<()> {
        SCRATCH.with_borrow_mut(|Scratch { incoming, .. }| {
            while *left > 0 {
                match ready!(self.stream.poll_read(cx, incoming)) {
                    Ok(read @ 1..) => *left = left.saturating_sub(read),
                    Ok(0) | Err(_) => break,
                }
            }
            Poll::Ready(())
        })
    }
}

/// Sends `out` behind what is unsent; keeps what the socket refuses.
fn send(
    stream: &mut Stream,
    cx: &mut Context<'_>,
    out: &[u8],
    state: &mut State,
) -> io::Result<()> {
    let mut at = 0;
    while state.unsent.is_empty() && at < out.len() {
        match stream.poll_write(cx, &out[at..]) {
            Poll::Ready(written) => at += nonzero(written)?,
            Poll::Pending => break,
        }
    }
    state.unsent.extend_from_slice(&out[at..]);
    Ok(())
}

fn nonzero(written: io::Result<usize>) -> io::Result<usize> {
    match written {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        written => written,
    }
}
