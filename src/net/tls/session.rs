//! One TLS session, without IO: records in, plaintext and records out. The caller owns all buffers,
//! so that an idle session holds only what rustls needs for its keys.

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, ReadTraffic, UnbufferedStatus,
    WriteTraffic,
};
use rustls::{Error, HandshakeKind, ProtocolVersion};

use super::TlsConfig;
use super::error::TlsFault;
use super::hello::{self, Hello, Offered};

/// Plaintext of one record (RFC 8446 5.1).
const FRAGMENT_BYTES_MAX: usize = 16 << 10;
/// Room for the header, tag and padding of a record, and for a key update before it.
const OVERHEAD_BYTES: usize = 512;
/// Steps of one drive. A scratch of bytes cannot hold as many records; beyond, it is a bug.
const STEPS_MAX: usize = 100_000;

/// A server's side of one TLS connection.
pub struct Session {
    rustls: UnbufferedServerConnection,
    hello_wanted: bool,
    offered: Option<Box<Offered>>,
    server_name: Option<Box<str>>,
    /// Broken for good: rustls must not be asked again, or it would raise its alert twice.
    broken: bool,
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
    /// The name the client asked for by SNI.
    pub server_name: Option<Box<str>>,
    /// With a ticket, so no certificate was shown.
    pub resumed: bool,
}

impl Session {
    pub fn new(config: &TlsConfig) -> Result<Box<Self>, TlsFault> {
        Ok(Box::new(Session {
            rustls: UnbufferedServerConnection::new(config.0.clone())?,
            hello_wanted: true,
            offered: None,
            server_name: None,
            broken: false,
        }))
    }

    pub fn is_handshaking(&self) -> bool {
        self.rustls.is_handshaking()
    }

    pub fn facts(&self) -> TlsFacts {
        let version = match self.rustls.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "-",
        };
        let cipher = self.rustls.negotiated_cipher_suite();
        TlsFacts {
            version,
            cipher: cipher
                .and_then(|suite| suite.suite().as_str())
                .unwrap_or("-"),
            server_name: self.server_name.clone(),
            resumed: self.rustls.handshake_kind() == Some(HandshakeKind::Resumed),
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
        let mut driven = Driven {
            used: 0,
            peer_closed: false,
            result: Ok(()),
        };
        for _ in 0..STEPS_MAX {
            let rest = &mut records[driven.used..];
            let UnbufferedStatus { mut discard, state } = self.rustls.process_tls_records(rest);
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
        if let Err(fault) = &mut driven.result {
            fault.offered = self.offered.take();
            self.last_words(plain, out);
        } else if !self.rustls.is_handshaking()
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
        while self.rustls.wants_write() {
            match self.rustls.process_tls_records(&mut []).state {
                Ok(ConnectionState::ReadTraffic(traffic)) => _ = take(traffic, plain),
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, out),
                _ => break,
            }
        }
    }

    /// Appends `data` to `out` as records. `rest` are the bytes that an earlier drive left over.
    pub fn seal(
        &mut self,
        rest: &mut Vec<u8>,
        data: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), TlsFault> {
        self.with_traffic(rest, out, |traffic, out| {
            data.chunks(FRAGMENT_BYTES_MAX).try_for_each(|fragment| {
                append(out, fragment.len() + OVERHEAD_BYTES, |room| {
                    traffic.encrypt(fragment, room)
                })
            })
        })
    }

    /// Appends close_notify (RFC 8446 6.1) to `out`.
    pub fn seal_close(&mut self, rest: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<(), TlsFault> {
        self.with_traffic(rest, out, |traffic, out| {
            append(out, OVERHEAD_BYTES, |room| traffic.queue_close_notify(room))
        })
    }

    fn with_traffic(
        &mut self,
        rest: &mut Vec<u8>,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut WriteTraffic<'_, ServerData>, &mut Vec<u8>) -> Result<(), Error>,
    ) -> Result<(), TlsFault> {
        if self.broken {
            return Err(Error::HandshakeNotComplete.into());
        }
        let mut used = 0;
        let result = loop {
            let status = self.rustls.process_tls_records(&mut rest[used..]);
            used += status.discard;
            match status.state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => break write(&mut traffic, out),
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, out),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => {}
                Ok(_) => break Err(Error::HandshakeNotComplete),
                Err(error) => break Err(error),
            }
        };
        rest.drain(..used);
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

type ServerData = rustls::server::ServerConnectionData;

/// Moves decrypted records to `plain`; returns how many more bytes are done with.
fn take(mut traffic: ReadTraffic<'_, '_, ServerData>, plain: &mut Vec<u8>) -> usize {
    let mut discard = 0;
    // `Err` is for decryption on demand, which rustls does not do yet.
    while let Some(Ok(record)) = traffic.next_record() {
        discard += record.discard;
        plain.extend_from_slice(record.payload);
    }
    discard
}

fn encode(mut data: EncodeTlsData<'_, ServerData>, out: &mut Vec<u8>) {
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
