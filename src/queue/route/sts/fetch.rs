//! One file from a web server (RFC 9110, RFC 9112): over verified TLS, without redirects, and of
//! bounded size. What a policy needs and no more.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::base::Deadline;
use crate::dns::{DnsError, Resolver};
use crate::net::{self, Conn, Distrust, Filled, NetError, OutgoingTls};
use crate::queue::route::settings::Settings;
use crate::queue::route::{ask, order};
use crate::runtime;

/// RFC 8461 3.3 suggests this.
const BODY_BYTES_MAX: usize = 64 << 10;
const HEAD_BYTES_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 64;
/// One address may take no more of it than this.
const ADDRESS_SPAN: Duration = Duration::from_secs(20);
const ADDRESSES_MAX: usize = 4;

/// What asks web servers.
#[derive(Clone)]
pub struct Web {
    pub resolver: Resolver,
    pub tls: OutgoingTls,
    pub settings: Arc<Settings>,
}

/// Why there is no file.
#[derive(Debug)]
pub enum FetchFault {
    Dns(DnsError),
    /// The server has no address, or none that is public.
    NoAddress,
    Net(NetError),
    /// Whoever is there is not the server.
    Distrusted(Distrust),
    /// Not 200. A redirect is not followed (RFC 8461 3.3).
    Status(u16),
    /// Not `text/plain`.
    NotText,
    TooLong,
    /// Not HTTP, or not all of it.
    Malformed,
    /// All of it took too long.
    Late,
}

/// The head of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    bytes: usize,
    length: Length,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Known(usize),
    Chunked,
}

impl Web {
    #[must_use]
    pub fn new(resolver: Resolver, tls: OutgoingTls, settings: Arc<Settings>) -> Self {
        Web {
            resolver,
            tls,
            settings,
        }
    }

    /// `https://HOST/PATH`, from the first of its addresses that answers.
    pub async fn get(
        &self,
        host: &str,
        path: &str,
        until: Deadline,
    ) -> Result<Vec<u8>, FetchFault> {
        let got = runtime::deadline(until, self.get_any(host, path, until)).await;
        got.unwrap_or(Err(FetchFault::Late))
    }

    async fn get_any(
        &self,
        host: &str,
        path: &str,
        whole: Deadline,
    ) -> Result<Vec<u8>, FetchFault> {
        let found = ask::addresses(&self.resolver, host).await;
        if let (true, Some(error)) = (found.addresses.is_empty(), found.error) {
            return Err(FetchFault::Dns(error));
        }
        let may_try = |address: &IpAddr| self.settings.may_try(*address);
        let addresses = found.addresses.into_iter().filter(may_try).collect();
        let mut fault = FetchFault::NoAddress;
        for address in order::in_turns(addresses, order::Family::V6).take(ADDRESSES_MAX) {
            let until = Deadline::after(runtime::now(), ADDRESS_SPAN).earlier(whole);
            let address = SocketAddr::new(address, self.settings.https_port);
            match self.get_from(address, host, path, until).await {
                Err(FetchFault::Net(error)) if runtime::now() < whole.0 => {
                    fault = FetchFault::Net(error);
                }
                answered => return answered,
            }
        }
        Err(fault)
    }

    async fn get_from(
        &self,
        address: SocketAddr,
        host: &str,
        path: &str,
        until: Deadline,
    ) -> Result<Vec<u8>, FetchFault> {
        let source = self.settings.source(address.ip());
        let mut conn = net::connect(address, source, until).await?;
        let peer = conn.start_tls_client(&self.tls, host, until).await?;
        peer.verified.map_err(FetchFault::Distrusted)?;
        // RFC 8461 3.3: no HTTP cache may answer.
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/plain\r\n\
             Cache-Control: no-cache\r\nUser-Agent: Palomar\r\nConnection: close\r\n\r\n"
        );
        conn.write(request.as_bytes(), until).await?;
        let body = read(&mut conn, until).await?;
        // What it still has to say is of no interest.
        drop(conn);
        Ok(body)
    }
}

/// One answer: its body.
async fn read(conn: &mut Conn, until: Deadline) -> Result<Vec<u8>, FetchFault> {
    loop {
        if let Some(head) = head(conn.unread())? {
            conn.consume(head.bytes);
            return match head.length {
                Length::Known(bytes) => read_known(conn, bytes, until).await,
                Length::Chunked => read_chunks(conn, until).await,
            };
        }
        more(conn, HEAD_BYTES_MAX, until).await?;
    }
}

async fn read_known(conn: &mut Conn, bytes: usize, until: Deadline) -> Result<Vec<u8>, FetchFault> {
    while conn.unread().len() < bytes {
        more(conn, BODY_BYTES_MAX, until).await?;
    }
    Ok(conn.unread()[..bytes].to_vec())
}

/// RFC 9112 7.1.
async fn read_chunks(conn: &mut Conn, until: Deadline) -> Result<Vec<u8>, FetchFault> {
    let mut body = Vec::new();
    loop {
        let size = httparse::parse_chunk_size(conn.unread());
        let (line, size) = match size.map_err(|_| FetchFault::Malformed)? {
            httparse::Status::Complete(found) => found,
            httparse::Status::Partial => {
                more(conn, HEAD_BYTES_MAX, until).await?;
                continue;
            }
        };
        if size == 0 {
            // Trailers are not for us.
            return Ok(body);
        }
        let size = usize::try_from(size).map_err(|_| FetchFault::TooLong)?;
        if size > BODY_BYTES_MAX - body.len() {
            return Err(FetchFault::TooLong);
        }
        while conn.unread().len() < line + size + 2 {
            more(conn, HEAD_BYTES_MAX + BODY_BYTES_MAX, until).await?;
        }
        let chunk = &conn.unread()[line..][..size + 2];
        let data = chunk.strip_suffix(b"\r\n").ok_or(FetchFault::Malformed)?;
        body.extend_from_slice(data);
        conn.consume(line + size + 2);
    }
}

async fn more(conn: &mut Conn, bytes_max: usize, until: Deadline) -> Result<(), FetchFault> {
    match conn.fill(bytes_max, until).await {
        Ok(Filled::Bytes(_)) => Ok(()),
        Ok(Filled::Eof) => Err(FetchFault::Malformed),
        Err(NetError::UnreadFull { .. }) => Err(FetchFault::TooLong),
        Err(error) => Err(FetchFault::Net(error)),
    }
}

/// The head of what was read, if it is whole and its body is one that we want.
fn head(bytes: &[u8]) -> Result<Option<Head>, FetchFault> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut headers);
    let parsed = answer.parse(bytes).map_err(|_| FetchFault::Malformed)?;
    let httparse::Status::Complete(head_bytes) = parsed else {
        return Ok(None);
    };
    match answer.code {
        Some(200) => {}
        code => return Err(FetchFault::Status(code.unwrap_or_default())),
    }
    let values = |name: &'static str| {
        let named = answer.headers.iter();
        let named = named.filter(move |header| header.name.eq_ignore_ascii_case(name));
        named.map(|header| header.value.trim_ascii())
    };
    // RFC 8461 3.2: the media type is text/plain, with whatever parameters.
    let is_plain = |value: &[u8]| {
        let mut parts = value.split(|byte| *byte == b';');
        let media = parts.next().unwrap_or_default().trim_ascii();
        media.eq_ignore_ascii_case(b"text/plain")
    };
    if !values("content-type").next().is_some_and(is_plain) {
        return Err(FetchFault::NotText);
    }
    let mut codings = values("transfer-encoding");
    let length = match (codings.next(), codings.next()) {
        (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => Length::Chunked,
        (Some(_), _) => return Err(FetchFault::Malformed),
        // A body that ends with the connection may be a part of one.
        (None, _) => Length::Known(content_length(values("content-length"))?),
    };
    let bytes = head_bytes;
    Ok(Some(Head { bytes, length }))
}

/// RFC 9112 6.3: several values must agree, and here one must be there.
fn content_length<'v>(mut values: impl Iterator<Item = &'v [u8]>) -> Result<usize, FetchFault> {
    let first = values.next().ok_or(FetchFault::Malformed)?;
    let text = str::from_utf8(first).map_err(|_| FetchFault::Malformed)?;
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !is_number || values.any(|other| other != first) {
        return Err(FetchFault::Malformed);
    }
    let length = text.parse().map_err(|_| FetchFault::TooLong)?;
    match length <= BODY_BYTES_MAX {
        true => Ok(length),
        false => Err(FetchFault::TooLong),
    }
}

impl From<NetError> for FetchFault {
    fn from(error: NetError) -> Self {
        FetchFault::Net(error)
    }
}

impl fmt::Display for FetchFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FetchFault::Dns(error) => write!(f, "the web server was not found: {error}"),
            FetchFault::NoAddress => f.write_str("the web server has no public address"),
            FetchFault::Net(error) => write!(f, "the web server cannot be reached: {error}"),
            FetchFault::Distrusted(why) => write!(f, "the web server is not verified: {why}"),
            FetchFault::Status(code) => write!(f, "the web server answered {code}"),
            FetchFault::NotText => f.write_str("the web server sent no text/plain"),
            FetchFault::TooLong => f.write_str("the web server sent more than a policy has"),
            FetchFault::Malformed => f.write_str("the web server sent no whole answer"),
            FetchFault::Late => f.write_str("the web server took too long"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        let check = |fields: &str, want: &str| {
            let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
            let got = match head(text.as_bytes()) {
                Ok(Some(head)) => {
                    assert_eq!(head.bytes, text.len());
                    format!("{:?}", head.length)
                }
                Ok(None) => "more".to_owned(),
                Err(fault) => fault.to_string(),
            };
            assert!(got.contains(want), "{fields:?}: {got}");
        };
        let plain = |rest: &str| format!("Content-Type: text/plain; charset=utf-8\r\n{rest}");
        check(&plain("Content-Length: 12\r\n"), "Known(12)");
        check(
            &plain("Content-Length: 12\r\ncontent-length: 12\r\n"),
            "Known(12)",
        );
        check(
            &plain("Content-Length: 12\r\nContent-Length: 13\r\n"),
            "no whole answer",
        );
        check(&plain("Content-Length: +12\r\n"), "no whole answer");
        check(
            &plain("Content-Length: 65537\r\n"),
            "more than a policy has",
        );
        check(
            &plain("Content-Length: 99999999999999999999999\r\n"),
            "more than a policy has",
        );
        check(
            &plain("Transfer-Encoding: chunked\r\nContent-Length: 12\r\n"),
            "Chunked",
        );
        check(
            &plain("Transfer-Encoding: gzip, chunked\r\n"),
            "no whole answer",
        );
        check(&plain(""), "no whole answer");
        check(
            "Content-Type: text/html\r\nContent-Length: 1\r\n",
            "no text/plain",
        );
        check("Content-Length: 1\r\n", "no text/plain");
        let cut = b"HTTP/1.1 200 OK\r\nContent-Ty";
        assert_eq!(head(cut).expect("so far good"), None);
        assert!(matches!(
            head(b"HTTP/1.1 301 M\r\n\r\n"),
            Err(FetchFault::Status(301))
        ));
        assert!(matches!(
            head(b"220 mx ESMTP\r\n"),
            Err(FetchFault::Malformed)
        ));
    }
}
