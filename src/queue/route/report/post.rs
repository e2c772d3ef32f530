//! A report to a web server (RFC 8460 5.4): one POST over verified TLS, without redirects.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::base::Deadline;
use crate::dns::DnsError;
use crate::net::{self, Conn, Distrust, Filled, NetError};
use crate::queue::route::sts::Web;
use crate::queue::route::{ask, order};
use crate::runtime;
use crate::wire::address::domain_key;

/// All of it.
const POST_SPAN: Duration = Duration::from_secs(60);
/// One address may take no more of it than this.
const ADDRESS_SPAN: Duration = Duration::from_secs(20);
const ADDRESSES_MAX: usize = 4;
const HEAD_BYTES_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 64;

/// Why a web server did not take a report.
#[derive(Debug)]
pub enum PostFault {
    /// Not an address that we post to.
    Uri,
    Dns(DnsError),
    /// The server has no address, or none that is public.
    NoAddress,
    Net(NetError),
    /// Whoever is there is not the server.
    Distrusted(Distrust),
    /// Not 2xx. A redirect is not followed.
    Status(u16),
    /// Not HTTP.
    Malformed,
    /// All of it took too long.
    Late,
}

/// Where to, of `https://HOST:PORT/PATH`.
#[derive(Debug, PartialEq, Eq)]
struct Place<'u> {
    host: String,
    port: Option<u16>,
    /// With what the host is told.
    authority: &'u str,
    path: &'u str,
}

/// Gives `gzipped` to the first address of the server that answers.
pub async fn post(web: &Web, uri: &str, gzipped: &[u8]) -> Result<(), PostFault> {
    let place = Place::of(uri).ok_or(PostFault::Uri)?;
    let whole = Deadline::after(runtime::now(), POST_SPAN);
    let posted = runtime::deadline(whole, post_any(web, &place, gzipped, whole)).await;
    posted.unwrap_or(Err(PostFault::Late))
}

async fn post_any(
    web: &Web,
    place: &Place<'_>,
    gzipped: &[u8],
    whole: Deadline,
) -> Result<(), PostFault> {
    let found = ask::addresses(&web.resolver, &place.host).await;
    if let (true, Some(error)) = (found.addresses.is_empty(), found.error) {
        return Err(PostFault::Dns(error));
    }
    let addresses = found.addresses.into_iter();
    let addresses = addresses.filter(|address| web.settings.may_try(*address));
    let mut fault = PostFault::NoAddress;
    let addresses = order::in_turns(addresses.collect(), order::Family::V6);
    for address in addresses.take(ADDRESSES_MAX) {
        let until = Deadline::after(runtime::now(), ADDRESS_SPAN).earlier(whole);
        let port = place.port.unwrap_or(web.settings.https_port);
        let address = SocketAddr::new(address, port);
        match post_to(web, address, place, gzipped, until).await {
            Err(PostFault::Net(error)) if runtime::now() < whole.0 => {
                fault = PostFault::Net(error);
            }
            answered => return answered,
        }
    }
    Err(fault)
}

async fn post_to(
    web: &Web,
    address: SocketAddr,
    place: &Place<'_>,
    gzipped: &[u8],
    until: Deadline,
) -> Result<(), PostFault> {
    let source = web.settings.source(address.ip());
    let mut conn = net::connect(address, source, until).await?;
    let peer = conn.start_tls_client(&web.tls, &place.host, until).await?;
    peer.verified.map_err(PostFault::Distrusted)?;
    let (path, authority, bytes) = (place.path, place.authority, gzipped.len());
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {authority}\r\nContent-Type: application/tlsrpt+gzip\r\n\
         Content-Length: {bytes}\r\nUser-Agent: Palomar\r\nConnection: close\r\n\r\n"
    );
    conn.write(head.as_bytes(), until).await?;
    conn.write(gzipped, until).await?;
    match status(&mut conn, until).await? {
        200..300 => Ok(()),
        code => Err(PostFault::Status(code)),
    }
}

/// What the server answers in the end.
async fn status(conn: &mut Conn, until: Deadline) -> Result<u16, PostFault> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut answer = httparse::Response::new(&mut headers);
        let parsed = answer.parse(conn.unread());
        match (parsed.map_err(|_| PostFault::Malformed)?, answer.code) {
            // RFC 9110 15.2: what is said meanwhile.
            (httparse::Status::Complete(bytes), Some(100..200)) => conn.consume(bytes),
            (httparse::Status::Complete(_), Some(code)) => return Ok(code),
            (httparse::Status::Complete(_), None) => return Err(PostFault::Malformed),
            (httparse::Status::Partial, _) => match conn.fill(HEAD_BYTES_MAX, until).await {
                Ok(Filled::Bytes(_)) => {}
                Ok(Filled::Eof) => return Err(PostFault::Malformed),
                Err(NetError::UnreadFull { .. }) => return Err(PostFault::Malformed),
                Err(error) => return Err(PostFault::Net(error)),
            },
        }
    }
}

impl<'u> Place<'u> {
    /// RFC 3986 3.2; neither user nor address in the place of the host.
    fn of(uri: &'u str) -> Option<Self> {
        let (scheme, rest) = uri.split_once("://")?;
        let is_plain = rest.bytes().all(|b| b.is_ascii_graphic()) && !rest.contains('#');
        if !scheme.eq_ignore_ascii_case("https") || !is_plain {
            return None;
        }
        let end = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok().filter(|port| *port > 0)?)),
            None => (authority, None),
        };
        let is_address = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let is_name = !is_address && !host.contains(['@', '?', '[']);
        Some(Place {
            host: domain_key(host).filter(|_| is_name)?,
            port,
            authority,
            path: if path.is_empty() { "/" } else { path },
        })
    }
}

impl From<NetError> for PostFault {
    fn from(error: NetError) -> Self {
        PostFault::Net(error)
    }
}

impl fmt::Display for PostFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PostFault::Uri => f.write_str("it is no address that reports are posted to"),
            PostFault::Dns(error) => write!(f, "the web server was not found: {error}"),
            PostFault::NoAddress => f.write_str("the web server has no public address"),
            PostFault::Net(error) => write!(f, "the web server cannot be reached: {error}"),
            PostFault::Distrusted(why) => write!(f, "the web server is not verified: {why}"),
            PostFault::Status(code) => write!(f, "the web server answered {code}"),
            PostFault::Malformed => f.write_str("the web server sent no answer of HTTP"),
            PostFault::Late => f.write_str("the web server took too long"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let check = |uri: &str, want: Option<(&str, Option<u16>, &str)>| {
            let got = Place::of(uri);
            let got = got
                .as_ref()
                .map(|place| (place.host.as_str(), place.port, place.path));
            assert_eq!(got, want, "{uri}");
        };
        check("https://A.test/v1?x=y", Some(("a.test", None, "/v1?x=y")));
        check("HTTPS://a.test:8443", Some(("a.test", Some(8443), "/")));
        check("https://a.test:0/", None);
        check("https://a.test:x/", None);
        check("https://me@a.test/", None);
        check("https://192.0.2.1/", None);
        check("https://[2001:db8::1]/", None);
        check("https://a.test/#there", None);
        check("https://a.test/\r\nHost: b.test", None);
        check("https:///v1", None);
        check("http://a.test/", None);
    }
}
