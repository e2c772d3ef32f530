//! What a client offered, read from its ClientHello (RFC 8446 4.1.2) for two log facts that rustls
//! keeps to itself: why a handshake found nothing in common, and the name asked for by SNI.

use std::fmt;

use rustls::{CipherSuite, ProtocolVersion, SignatureScheme};

/// Values of one kind that are kept; a real client offers fewer.
const OFFERED_MAX: usize = 64;
/// Longest ClientHello that is read here. Longer ones are judged by rustls alone.
const HELLO_BYTES_MAX: usize = 16 << 10;

const CONTENT_HANDSHAKE: u8 = 22;
const TYPE_CLIENT_HELLO: u8 = 1;
const EXTENSION_SERVER_NAME: u16 = 0;
const EXTENSION_SIGNATURE_ALGORITHMS: u16 = 13;
const EXTENSION_SUPPORTED_VERSIONS: u16 = 43;

/// What the client offered. Displays as logfmt fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offered {
    pub versions: Vec<u16>,
    pub suites: Vec<u16>,
    pub schemes: Vec<u16>,
    pub server_name: Option<Box<str>>,
}

/// What the first bytes of a TLS connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// A ClientHello has begun; more bytes are needed.
    Incomplete,
    /// It is complete.
    Complete(Offered),
    /// These bytes are no ClientHello (plain text on a TLS port, a scanner).
    Other,
}

/// Reads the ClientHello at the start of `bytes`, gathered from as many records as it takes.
#[must_use]
pub fn read(bytes: &[u8]) -> Hello {
    let mut message = Vec::new();
    let mut rest = Reader(bytes);
    loop {
        if let Some(&kind) = rest.0.first()
            && kind != CONTENT_HANDSHAKE
        {
            return Hello::Other;
        }
        let Some(fragment) = rest.record() else {
            return Hello::Incomplete;
        };
        message.extend_from_slice(fragment);
        if message
            .first()
            .is_some_and(|kind| *kind != TYPE_CLIENT_HELLO)
        {
            return Hello::Other;
        }
        let mut reader = Reader(&message);
        let _kind = reader.number(1);
        let Some(len) = reader.number(3) else {
            continue;
        };
        if len > HELLO_BYTES_MAX {
            return Hello::Other;
        }
        if let Some(body) = reader.take(len) {
            return offered(Reader(body)).map_or(Hello::Other, Hello::Complete);
        }
    }
}

fn offered(mut hello: Reader<'_>) -> Option<Offered> {
    let legacy_version = hello.number(2)? as u16;
    hello.take(32)?; // random
    hello.vector(1)?; // legacy_session_id
    let suites = hello.vector(2)?.numbers();
    hello.vector(1)?; // legacy_compression_methods
    let mut offered = Offered {
        versions: vec![legacy_version],
        suites,
        ..Offered::default()
    };
    // RFC 5246 7.4.1.4: a hello may end here, without extensions.
    let mut extensions = hello.vector(2).unwrap_or(Reader(&[]));
    while let Some(kind) = extensions.number(2) {
        let mut body = extensions.vector(2)?;
        match kind as u16 {
            EXTENSION_SUPPORTED_VERSIONS => offered.versions = body.vector(1)?.numbers(),
            EXTENSION_SIGNATURE_ALGORITHMS => offered.schemes = body.vector(2)?.numbers(),
            EXTENSION_SERVER_NAME => offered.server_name = server_name(body),
            _ => {}
        }
    }
    Some(offered)
}

/// RFC 6066 3. A name with bytes that could forge a log line is dropped.
fn server_name(mut body: Reader<'_>) -> Option<Box<str>> {
    let mut names = body.vector(2)?;
    let host_name = names.number(1)? == 0;
    let name = std::str::from_utf8(names.vector(2)?.0).ok()?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    (host_name && name.len() <= 253 && name.bytes().all(plain)).then(|| name.into())
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    fn number(&mut self, len: usize) -> Option<usize> {
        Some(
            self.take(len)?
                .iter()
                .fold(0, |n, byte| n << 8 | usize::from(*byte)),
        )
    }

    /// A vector with a length of `len_bytes` before it (RFC 8446 3.4).
    fn vector(&mut self, len_bytes: usize) -> Option<Reader<'a>> {
        let len = self.number(len_bytes)?;
        self.take(len).map(Reader)
    }

    /// The fragment of one record (RFC 8446 5.1).
    fn record(&mut self) -> Option<&'a [u8]> {
        self.take(3)?;
        self.vector(2).map(|fragment| fragment.0)
    }

    fn numbers(&self) -> Vec<u16> {
        let pairs = self.0.chunks_exact(2).take(OFFERED_MAX);
        pairs
            .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
            .collect()
    }
}

/// RFC 8701: values that clients offer only to keep servers tolerant.
fn is_grease(value: u16) -> bool {
    value & 0x0f0f == 0x0a0a && value >> 8 == value & 0xff
}

impl fmt::Display for Offered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Names where rustls has one; what it cannot speak is looked up by number.
        fn list(values: &[u16], name: impl Fn(u16) -> Option<&'static str>) -> String {
            let real = values.iter().copied().filter(|value| !is_grease(*value));
            let named = |value| name(value).map_or_else(|| format!("{value:#06x}"), str::to_owned);
            real.map(named).collect::<Vec<_>>().join(",")
        }
        let versions = list(&self.versions, |value| {
            ProtocolVersion::from(value).as_str()
        });
        let suites = list(&self.suites, |value| CipherSuite::from(value).as_str());
        let schemes = list(&self.schemes, |value| SignatureScheme::from(value).as_str());
        write!(
            f,
            "versions={versions} suites={suites} schemes={schemes} sni="
        )?;
        f.write_str(self.server_name.as_deref().unwrap_or("-"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn vector(len_bytes: usize, body: &[u8]) -> Vec<u8> {
        let mut bytes = body.len().to_be_bytes()[8 - len_bytes..].to_vec();
        bytes.extend_from_slice(body);
        bytes
    }

    fn hello_body(extensions: &[u8]) -> Vec<u8> {
        let suites = vector(2, &[0x0a, 0x0a, 0x00, 0x2f, 0xc0, 0x2f]);
        [
            &[3, 3][..],
            &[7; 32],
            &vector(1, &[]),
            &suites,
            &vector(1, &[0]),
            extensions,
        ]
        .concat()
    }

    fn records(body: &[u8], fragment_bytes: usize) -> Vec<u8> {
        let message = [&[TYPE_CLIENT_HELLO][..], &vector(3, body)].concat();
        let fragments = message.chunks(fragment_bytes);
        fragments
            .flat_map(|f| [&[CONTENT_HANDSHAKE, 3, 1][..], &vector(2, f)].concat())
            .collect()
    }

    fn with_extensions() -> Vec<u8> {
        let name = [&[0][..], &vector(2, b"mail.example.org")].concat();
        let extensions = [
            [&[0, 0][..], &vector(2, &vector(2, &name))].concat(),
            [&[0, 13][..], &vector(2, &vector(2, &[4, 1]))].concat(),
            [&[0, 43][..], &vector(2, &vector(1, &[3, 4, 3, 1]))].concat(),
        ];
        hello_body(&vector(2, &extensions.concat()))
    }

    #[test]
    fn offers_are_read_across_records() {
        let want = "versions=TLSv1_3,TLSv1_0 suites=TLS_RSA_WITH_AES_128_CBC_SHA,\
            TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 schemes=RSA_PKCS1_SHA256 sni=mail.example.org";
        for fragment_bytes in [1, 5, 40, 9000] {
            let bytes = records(&with_extensions(), fragment_bytes);
            let Hello::Complete(offered) = read(&bytes) else {
                panic!("not read")
            };
            assert_eq!(offered.to_string(), want);
            for cut in 0..bytes.len() {
                assert_eq!(read(&bytes[..cut]), Hello::Incomplete, "cut at {cut}");
            }
        }
    }

    #[test]
    fn old_and_odd_clients() {
        let Hello::Complete(offered) = read(&records(&hello_body(&[]), 100)) else {
            panic!("not read")
        };
        assert_eq!(
            (offered.versions, offered.server_name),
            (vec![0x0303], None)
        );
        assert_eq!(read(b"EHLO mail.example.org\r\n"), Hello::Other);
        assert_eq!(read(&[22, 3, 1, 0, 1, 2]), Hello::Other);
        assert_eq!(read(&records(&[0; 17 << 10], 16384)), Hello::Other);
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = read(&bytes);
            let _ = read(&records(&bytes, 7));
            let _ = read(&records(&hello_body(&bytes), 200));
        }
    }
}
