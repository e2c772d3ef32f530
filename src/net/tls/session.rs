//! One TLS session, without IO: records in, plaintext and records out. The caller owns all buffers,
//! so that an idle session holds only what rustls needs for its keys.

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, ReadTraffic, UnbufferedStatus,
    WriteTraffic,
};
use rustls::{CommonState, Error, HandshakeKind, ProtocolVersion};

use super::TlsConfig;
use super::error::TlsFault;
use super::hello::{self, Hello, Offered};

/// Plaintext of one record (RFC 8446 5.1).
const FRAGMENT_BYTES_MAX: usize = 16 << 10;
/// Room for the header, tag and padding of a record, and for a key update before it.
const OVERHEAD_BYTES: usize = 512;
/// Steps of one drive. A scratch of bytes cannot hold as many records; beyond, it is a bug.
const STEPS_MAX: usize = 100_000;

/// One side of one TLS connection.
pub struct Session {
    side: Side,
    hello_wanted: bool,
    offered: Option<Box<Offered>>,
    server_name: Option<Box<str>>,
    /// Broken for good: rustls must not be asked again, or it would raise its alert twice.
    broken: bool,
}

/// Which side we are. Most are servers, so the client's, which is larger, has a place of its own.
#[expect(
    clippy::large_enum_variant,
    reason = "a session is boxed, and nearly all are the large one"
)]
enum Side {
    Server(UnbufferedServerConnection),
    Client(Box<UnbufferedClientConnection>),
}

/// What both sides of rustls can do, each by a method of its own.
trait Records {
    type Data;

    fn process<'c, 'i>(&'c mut self, records: &'i mut [u8])
    -> UnbufferedStatus<'c, 'i, Self::Data>;

    fn state(&self) -> &CommonState;
}

/// What is put into records.
#[derive(Clone, Copy)]
enum Sealed<'a> {
    Data(&'a [u8]),
    CloseNotify,
}

/// What came of driving a session over some bytes.
pub struct Driven {
    /// Bytes that are done with, from the front. The others must be shown again, with more.
    pub used: usize,
    /// The peer said close_notify: no plaintext follows.
    pub peer_closed: bool,
    /// On an error the alert that tells the peer stands in the output.
    pub result: Result<(), TlsFault>,
}

/// What was agreed on, for log lines and Received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    pub version: &'static str,
    pub cipher: &'static str,
    /// The name asked for by SNI.
    pub server_name: Option<Box<str>>,
    /// With a ticket, so no certificate was shown.
    pub resumed: bool,
}

impl Session {
    pub fn new(config: &TlsConfig) -> Result<Box<Self>, TlsFault> {
        Ok(Box::new(Session {
            side: Side::Server(UnbufferedServerConnection::new(config.0.clone())?),
            hello_wanted: true,
            offered: None,
            server_name: None,
            broken: false,
        }))
    }

    /// A client's side, which asks for `server_name`. Its first drive makes the ClientHello.
    pub fn client(rustls: UnbufferedClientConnection, server_name: Option<&str>) -> Box<Self> {
        Box::new(Session {
            side: Side::Client(Box::new(rustls)),
            hello_wanted: false,
            offered: None,
            server_name: server_name.map(Into::into),
            broken: false,
        })
    }

    fn state(&self) -> &CommonState {
        match &self.side {
            Side::Server(rustls) => rustls.state(),
            Side::Client(rustls) => rustls.state(),
        }
    }

    pub fn is_handshaking(&self) -> bool {
        self.state().is_handshaking()
    }

    /// The certificates that the peer showed, its own first (DER).
    pub fn peer_chain(&self) -> Vec<Vec<u8>> {
        let chain = self.state().peer_certificates().unwrap_or_default();
        chain.iter().map(|one| one.as_ref().to_vec()).collect()
    }

    pub fn facts(&self) -> TlsFacts {
        let state = self.state();
        let version = match state.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "-",
        };
        let cipher = state.negotiated_cipher_suite();
        TlsFacts {
            version,
            cipher: cipher
                .and_then(|suite| suite.suite().as_str())
                .unwrap_or("-"),
            server_name: self.server_name.clone(),
            resumed: state.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }

    /// Takes in `records`, which it decrypts in place; appends plaintext to `plain` and what is to
    /// be sent to `out`.
    pub fn drive(&mut self, records: &mut [u8], plain: &mut Vec<u8>, out: &mut Vec<u8>) -> Driven {
        if self.broken {
            let result = Err(Error::HandshakeNotComplete.into());
            return Driven {
                used: records.len(),
                peer_closed: true,
                result,
            };
        }
        if self.hello_wanted {
            self.note_hello(records);
        }
        let mut driven = match &mut self.side {
            Side::Server(rustls) => drive(rustls, records, plain, out),
            Side::Client(rustls) => drive(&mut **rustls, records, plain, out),
        };
        if let Err(fault) = &mut driven.result {
            fault.offered = self.offered.take();
            self.last_words(plain, out);
        } else if !self.is_handshaking()
            && let Some(offered) = self.offered.take()
        {
            self.server_name = offered.server_name;
        }
        driven
    }

    /// After an error: what came before it, and the alert. Shown no bytes, rustls does not stumble
    /// over the bad ones again.
    fn last_words(&mut self, plain: &mut Vec<u8>, out: &mut Vec<u8>) {
        self.broken = true;
        match &mut self.side {
            Side::Server(rustls) => last_words(rustls, plain, out),
            Side::Client(rustls) => last_words(&mut **rustls, plain, out),
        }
    }

    /// Appends `data` to `out` as records. `rest` are the bytes that an earlier drive left over.
    pub fn seal(
        &mut self,
        rest: &mut Vec<u8>,
        data: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), TlsFault> {
        self.with_traffic(rest, Sealed::Data(data), out)
    }

    /// Appends close_notify (RFC 8446 6.1) to `out`.
    pub fn seal_close(&mut self, rest: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<(), TlsFault> {
        self.with_traffic(rest, Sealed::CloseNotify, out)
    }

    fn with_traffic(
        &mut self,
        rest: &mut Vec<u8>,
        what: Sealed<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), TlsFault> {
        if self.broken {
            return Err(Error::HandshakeNotComplete.into());
        }
        let result = match &mut self.side {
            Side::Server(rustls) => with_traffic(rustls, rest, what, out),
            Side::Client(rustls) => with_traffic(&mut **rustls, rest, what, out),
        };
        self.broken = result.is_err();
        result.map_err(TlsFault::from)
    }

    fn note_hello(&mut self, records: &[u8]) {
        match hello::read(records) {
            Hello::Incomplete => {}
            Hello::Complete(offered) => {
                self.hello_wanted = false;
                self.offered = Some(Box::new(offered));
            }
            Hello::Other => self.hello_wanted = false,
        }
    }
}

impl Records for UnbufferedServerConnection {
    type Data = rustls::server::ServerConnectionData;

    fn process<'c, 'i>(
        &'c mut self,
        records: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(records)
    }

    fn state(&self) -> &CommonState {
        self
    }
}

impl Records for UnbufferedClientConnection {
    type Data = rustls::client::ClientConnectionData;

    fn process<'c, 'i>(
        &'c mut self,
        records: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(records)
    }

    fn state(&self) -> &CommonState {
        self
    }
}

fn drive<R: Records>(
    rustls: &mut R,
    records: &mut [u8],
    plain: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Driven {
    let mut driven = Driven {
        used: 0,
        peer_closed: false,
        result: Ok(()),
    };
    for _ in 0..STEPS_MAX {
        let rest = &mut records[driven.used..];
        let UnbufferedStatus { mut discard, state } = rustls.process(rest);
        let mut waits = false;
        match state {
            Ok(ConnectionState::ReadTraffic(traffic)) => discard += take(traffic, plain),
            Ok(ConnectionState::EncodeTlsData(data)) => encode(data, out),
            // What was encoded stands in `out`, in order, and leaves before anything else.
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::PeerClosed) => driven.peer_closed = true,
            Ok(
                ConnectionState::WriteTraffic(_)
                | ConnectionState::BlockedHandshake
                | ConnectionState::Closed,
            ) => waits = true,
            // Early data is switched off, and rustls names no other state.
            Ok(_) => driven.result = Err(Error::General("unexpected state".into()).into()),
            Err(error) => driven.result = Err(error.into()),
        }
        driven.used += discard;
        if waits || driven.result.is_err() {
            break;
        }
    }
    driven
}

fn last_words<R: Records>(rustls: &mut R, plain: &mut Vec<u8>, out: &mut Vec<u8>) {
    while rustls.state().wants_write() {
        match rustls.process(&mut []).state {
            Ok(ConnectionState::ReadTraffic(traffic)) => _ = take(traffic, plain),
            Ok(ConnectionState::EncodeTlsData(data)) => encode(data, out),
            _ => break,
        }
    }
}

fn with_traffic<R: Records>(
    rustls: &mut R,
    rest: &mut Vec<u8>,
    what: Sealed<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let mut used = 0;
    let result = loop {
        let status = rustls.process(&mut rest[used..]);
        used += status.discard;
        match status.state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => break write(&mut traffic, what, out),
            Ok(ConnectionState::EncodeTlsData(data)) => encode(data, out),
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::PeerClosed) => {}
            Ok(_) => break Err(Error::HandshakeNotComplete),
            Err(error) => break Err(error),
        }
    };
    rest.drain(..used);
    result
}

fn write<D>(
    traffic: &mut WriteTraffic<'_, D>,
    what: Sealed<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    match what {
        Sealed::Data(data) => data.chunks(FRAGMENT_BYTES_MAX).try_for_each(|fragment| {
            append(out, fragment.len() + OVERHEAD_BYTES, |room| {
                traffic.encrypt(fragment, room)
            })
        }),
        Sealed::CloseNotify => append(out, OVERHEAD_BYTES, |room| traffic.queue_close_notify(room)),
    }
}

/// Moves decrypted records to `plain`; returns how many more bytes are done with.
fn take<D>(mut traffic: ReadTraffic<'_, '_, D>, plain: &mut Vec<u8>) -> usize {
    let mut discard = 0;
    // `Err` is for decryption on demand, which rustls does not do yet.
    while let Some(Ok(record)) = traffic.next_record() {
        discard += record.discard;
        plain.extend_from_slice(record.payload);
    }
    discard
}

fn encode<D>(mut data: EncodeTlsData<'_, D>, out: &mut Vec<u8>) {
    let at = out.len();
    if let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) {
        out.resize(at + size.required_size, 0);
        // It just told the size it needs, so this cannot fail.
        let written = data.encode(&mut out[at..]).unwrap_or(0);
        out.truncate(at + written);
    }
}

fn append(
    out: &mut Vec<u8>,
    guess_bytes: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
) -> Result<(), Error> {
    let at = out.len();
    out.resize(at + guess_bytes, 0);
    let written = match write(&mut out[at..]) {
        Err(EncryptError::InsufficientSize(size)) => {
            out.resize(at + size.required_size, 0);
            write(&mut out[at..])
        }
        result => result,
    };
    out.truncate(at + *written.as_ref().unwrap_or(&0));
    written.map(drop).map_err(|_| Error::EncryptError)
}
