//! PROXY headers from bytes. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::ProxyError;
use crate::base::{crc32c, crc32c_append};

/// Longest header that is taken. Version 1 ends at 107 bytes; version 2 with addresses, a host
/// name and the TLS facts of the client stays well below.
pub const HEADER_BYTES_MAX: usize = 4096;

const V1_BYTES_MAX: usize = 107;
const V1_PREFIX: &[u8] = b"PROXY ";
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED_BYTES: usize = 16;
const TLV_CRC32C: u8 = 0x03;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// The proxy relays a client.
    Client {
        source: SocketAddr,
        destination: SocketAddr,
    },
    /// The proxy speaks for itself (LOCAL), or does not know for whom (UNKNOWN, UNSPEC).
    Own,
}

/// How far `bytes` go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Right so far; more is needed.
    Incomplete,
    /// The header takes so many bytes; what follows is the client's.
    Complete { header: Header, bytes: usize },
}

/// Reads the header at the start of `bytes`.
pub fn parse(bytes: &[u8]) -> Result<Parsed, ProxyError> {
    let begins = |signature: &[u8]| bytes.iter().zip(signature).all(|(a, b)| a == b);
    if begins(V1_PREFIX) {
        v1(bytes)
    } else if begins(V2_SIGNATURE) {
        v2(bytes)
    } else {
        Err(ProxyError::Missing)
    }
}

/// 2.1: one line of text.
fn v1(bytes: &[u8]) -> Result<Parsed, ProxyError> {
    let window = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    let Some(end) = memchr::memchr(b'\n', window) else {
        let full = window.len() == V1_BYTES_MAX;
        return if full {
            Err(ProxyError::TooLong)
        } else {
            Ok(Parsed::Incomplete)
        };
    };
    let line = window[..end]
        .strip_suffix(b"\r")
        .ok_or(ProxyError::Malformed)?;
    let line = std::str::from_utf8(line).map_err(|_| ProxyError::Malformed)?;
    let mut words = line.split(' ').skip(1);
    let header = match words.next() {
        Some("TCP4") => v1_client::<Ipv4Addr>(words)?,
        Some("TCP6") => v1_client::<Ipv6Addr>(words)?,
        // "the receiver must ignore anything presented before the CRLF"
        Some("UNKNOWN") => Header::Own,
        _ => return Err(ProxyError::Malformed),
    };
    Ok(Parsed::Complete {
        header,
        bytes: end + 1,
    })
}

fn v1_client<'a, A>(mut words: impl Iterator<Item = &'a str>) -> Result<Header, ProxyError>
where
    A: std::str::FromStr + Into<IpAddr>,
{
    let mut address = || Some(words.next()?.parse::<A>().ok()?.into());
    let hosts = address().zip(address());
    let mut port = || {
        let word = words.next()?;
        let digits = word.bytes().all(|b| b.is_ascii_digit());
        let strict = digits && (word.len() == 1 || !word.starts_with('0'));
        word.parse::<u16>().ok().filter(|_| strict)
    };
    let ports = port().zip(port());
    match (hosts, ports, words.next()) {
        (Some(hosts), Some(ports), None) => Ok(Header::Client {
            source: SocketAddr::new(hosts.0, ports.0),
            destination: SocketAddr::new(hosts.1, ports.1),
        }),
        _ => Err(ProxyError::Malformed),
    }
}

/// 2.2: binary.
fn v2(bytes: &[u8]) -> Result<Parsed, ProxyError> {
    let Some(fixed) = bytes.first_chunk::<V2_FIXED_BYTES>() else {
        return Ok(Parsed::Incomplete);
    };
    let whole = V2_FIXED_BYTES + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if whole > HEADER_BYTES_MAX {
        return Err(ProxyError::TooLong);
    }
    let own_or = |family| match (fixed[12], family) {
        // LOCAL: the block is skipped, family and all. UNSPEC likewise.
        (0x20, _) | (0x21, 0x00) => Ok(None),
        (0x21, 0x11) => Ok(Some(4)),
        (0x21, 0x21) => Ok(Some(16)),
        _ => Err(ProxyError::Unsupported),
    };
    let host_bytes = own_or(fixed[13])?;
    let Some(header) = bytes.get(..whole) else {
        return Ok(Parsed::Incomplete);
    };
    let Some(host_bytes) = host_bytes else {
        return Ok(Parsed::Complete {
            header: Header::Own,
            bytes: whole,
        });
    };
    let address_bytes = 2 * host_bytes + 4;
    let (addresses, tlvs) = header[V2_FIXED_BYTES..]
        .split_at_checked(address_bytes)
        .ok_or(ProxyError::Malformed)?;
    check_tlvs(header, tlvs)?;
    let (hosts, ports) = addresses.split_at(2 * host_bytes);
    let address = |n: usize| {
        let port = u16::from_be_bytes([ports[2 * n], ports[2 * n + 1]]);
        SocketAddr::new(host(&hosts[n * host_bytes..(n + 1) * host_bytes]), port)
    };
    let header = Header::Client {
        source: address(0),
        destination: address(1),
    };
    Ok(Parsed::Complete {
        header,
        bytes: whole,
    })
}

/// Skips all TLVs but the checksum (2.2.4), which covers the header with itself as zeros.
fn check_tlvs(header: &[u8], mut tlvs: &[u8]) -> Result<(), ProxyError> {
    while !tlvs.is_empty() {
        let (&[kind, high, low], rest) = tlvs.split_first_chunk().ok_or(ProxyError::Malformed)?;
        let (value, rest) = rest
            .split_at_checked(usize::from(u16::from_be_bytes([high, low])))
            .ok_or(ProxyError::Malformed)?;
        if kind == TLV_CRC32C {
            let sum: [u8; 4] = value.try_into().map_err(|_| ProxyError::Malformed)?;
            let behind = rest.len();
            let before = header.len() - behind - value.len();
            let crc = crc32c_append(crc32c(&header[..before]), &[0; 4]);
            let crc = crc32c_append(crc, &header[header.len() - behind..]);
            if crc.0 != u32::from_be_bytes(sum) {
                return Err(ProxyError::BadChecksum);
            }
        }
        tlvs = rest;
    }
    Ok(())
}

fn host(bytes: &[u8]) -> IpAddr {
    match (bytes.first_chunk::<4>(), bytes.first_chunk::<16>()) {
        (_, Some(v6)) => IpAddr::from(*v6),
        (Some(v4), None) => IpAddr::from(*v4),
        (None, None) => unreachable!("hosts are 4 or 16 bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v2_header(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let len = (body.len() as u16).to_be_bytes();
        [V2_SIGNATURE, &[command, family], &len, body].concat()
    }

    fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
        [&[kind][..], &(value.len() as u16).to_be_bytes(), value].concat()
    }

    const V4_BODY: &[u8] = &[192, 0, 2, 1, 198, 51, 100, 2, 0x12, 0x34, 0, 25];

    /// `want` is source and destination, `own`, `more`, or the error. Every cut is incomplete.
    #[track_caller]
    fn check(bytes: &[u8], want: &str) {
        let shown = String::from_utf8_lossy(bytes);
        let with_more = [bytes, b"EHLO x\r\n"].concat();
        let got = match parse(&with_more) {
            Ok(Parsed::Complete {
                header,
                bytes: used,
            }) => {
                assert_eq!(used, bytes.len(), "{shown:?}");
                for cut in 0..bytes.len() {
                    assert_eq!(
                        parse(&bytes[..cut]),
                        Ok(Parsed::Incomplete),
                        "{shown:?} to {cut}"
                    );
                }
                match header {
                    Header::Client {
                        source,
                        destination,
                    } => format!("{source} {destination}"),
                    Header::Own => "own".to_owned(),
                }
            }
            Ok(Parsed::Incomplete) => "more".to_owned(),
            Err(error) => format!("{error:?}"),
        };
        assert_eq!(got, want, "{shown:?}");
    }

    #[test]
    fn version_1() {
        check(
            b"PROXY TCP4 192.0.2.1 198.51.100.2 4660 25\r\n",
            "192.0.2.1:4660 198.51.100.2:25",
        );
        check(
            b"PROXY TCP6 2001:db8::1 ::1 0 65535\r\n",
            "[2001:db8::1]:0 [::1]:65535",
        );
        check(b"PROXY UNKNOWN\r\n", "own");
        check(b"PROXY UNKNOWN ffff:f...f:ffff what ever\r\n", "own");
        check(b"PROXY TCP4 192.0.2.1 198.51.100.2 4660 25\n", "Malformed");
        check(
            b"PROXY TCP4 192.0.2.1 198.51.100.2 4660 025\r\n",
            "Malformed",
        );
        check(
            b"PROXY TCP4 192.0.2.1 198.51.100.2 +466 25\r\n",
            "Malformed",
        );
        check(
            b"PROXY TCP4 192.0.2.1 198.51.100.2 70000 25\r\n",
            "Malformed",
        );
        check(b"PROXY TCP4 192.0.2.1  198.51.100.2 1 25\r\n", "Malformed");
        check(b"PROXY TCP4 ::1 ::1 1 25\r\n", "Malformed");
        check(b"PROXY TCP4 192.0.2.1 198.51.100.2 1 25 \r\n", "Malformed");
        check(b"PROXY UDP4 192.0.2.1 198.51.100.2 1 25\r\n", "Malformed");
        check(
            &[b"PROXY UNKNOWN ", &[b'x'; 100][..], b"\r\n"].concat(),
            "TooLong",
        );
        check(b"EHLO mail.example.org\r\n", "Missing");
        check(b"PROXI", "Missing");
    }

    #[test]
    fn version_2() {
        check(
            &v2_header(0x21, 0x11, V4_BODY),
            "192.0.2.1:4660 198.51.100.2:25",
        );
        let v6 = [&[0; 15][..], &[1], &[0; 15], &[2], &[0, 7, 0, 25]].concat();
        check(&v2_header(0x21, 0x21, &v6), "[::1]:7 [::2]:25");
        check(&v2_header(0x20, 0x00, b""), "own");
        check(&v2_header(0x20, 0x11, V4_BODY), "own");
        check(&v2_header(0x20, 0x77, b"anything"), "own");
        check(&v2_header(0x21, 0x00, b"anything"), "own");
        check(&v2_header(0x21, 0x11, &V4_BODY[..11]), "Malformed");
        check(&v2_header(0x21, 0x12, V4_BODY), "Unsupported");
        check(&v2_header(0x21, 0x31, &[0; 216]), "Unsupported");
        check(&v2_header(0x22, 0x11, V4_BODY), "Unsupported");
        check(&v2_header(0x11, 0x11, V4_BODY), "Unsupported");
        check(&v2_header(0x21, 0x11, &[0; 4081]), "TooLong");
    }

    #[test]
    fn version_2_with_tlvs() {
        let client = "192.0.2.1:4660 198.51.100.2:25";
        let authority = tlv(0x02, b"mail.example.org");
        check(
            &v2_header(0x21, 0x11, &[V4_BODY, &authority].concat()),
            client,
        );
        check(
            &v2_header(0x21, 0x11, &[V4_BODY, &authority[..5]].concat()),
            "Malformed",
        );
        check(
            &v2_header(0x21, 0x11, &[V4_BODY, &tlv(TLV_CRC32C, b"no")].concat()),
            "Malformed",
        );
        let body = [V4_BODY, &tlv(TLV_CRC32C, &[0; 4]), &authority].concat();
        let mut header = v2_header(0x21, 0x11, &body);
        let sum = crc32c(&header).0.to_be_bytes();
        let at = V2_FIXED_BYTES + V4_BODY.len() + 3;
        header[at..at + 4].copy_from_slice(&sum);
        check(&header, client);
        header[at] ^= 1;
        check(&header, "BadChecksum");
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            command: u8,
            family: u8,
        ) {
            let _ = parse(&bytes);
            let _ = parse(&[V1_PREFIX, &bytes].concat());
            let _ = parse(&[V1_PREFIX, b"TCP4 ", &bytes, b"\r\n"].concat());
            let _ = parse(&[V2_SIGNATURE, &bytes].concat());
            let _ = parse(&v2_header(command, family, &bytes));
            let _ = parse(&v2_header(0x21, 0x11, &bytes));
        }
    }
}
