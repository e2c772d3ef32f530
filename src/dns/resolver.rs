//! One question, one answer: over UDP with EDNS0, over TCP where that was cut (RFC 7766 5).

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};

use crate::base::Deadline;
use crate::runtime::{self, Stream, Udp};

/// How long one server has for one try.
const TRY_SPAN: Duration = Duration::from_secs(2);
/// How often the list of servers is gone through.
const ROUNDS: usize = 2;
/// What fits through any path without fragments (DNS Flag Day 2020).
const PAYLOAD_BYTES: u16 = 1232;
/// CNAMEs that are followed within an answer.
const CNAMES_MAX: usize = 8;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    A,
    Aaaa,
    Mx,
    Ptr,
    Srv,
    Txt,
}

/// One record of an answer. Names are lower case without the final dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    Address(IpAddr),
    Mx { preference: u16, host: String },
    Name(String),
    Srv { port: u16, target: String },
    Text(String),
}

/// Why there is no answer. No such name, and no such record, are an empty answer instead.
#[derive(Debug)]
pub enum DnsError {
    /// The name is none (too long, empty label).
    BadName,
    /// Nobody answered in time.
    Timeout,
    /// A server answered that it could not find out (SERVFAIL, REFUSED).
    Refused(String),
    /// No server could be reached.
    Unreachable(io::Error),
}

/// Asks a fixed list of servers in order.
#[derive(Clone, Debug)]
pub struct Resolver {
    servers: Vec<SocketAddr>,
}

impl Resolver {
    #[must_use]
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        Resolver { servers }
    }

    /// The records of `name`, sorted. Empty where there are none.
    pub async fn ask(&self, name: &str, kind: Kind) -> Result<Vec<Answer>, DnsError> {
        let name = Name::from_utf8(format!("{}.", name.trim_end_matches('.')))
            .map_err(|_| DnsError::BadName)?;
        let mut last = DnsError::Timeout;
        for _ in 0..ROUNDS {
            for server in &self.servers {
                let until = Deadline::after(runtime::now(), TRY_SPAN);
                match exchange(*server, &name, kind, until).await {
                    Ok(message) => match message.metadata.response_code {
                        ResponseCode::NoError | ResponseCode::NXDomain => {
                            return Ok(collect(&message, &name, kind));
                        }
                        code => last = DnsError::Refused(code.to_string()),
                    },
                    Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
                    Err(error) => last = DnsError::Unreachable(error),
                }
            }
        }
        Err(last)
    }

    /// The names that an address points to (RFC 1035 3.5, RFC 3596 2.5).
    pub async fn reverse(&self, address: IpAddr) -> Result<Vec<String>, DnsError> {
        let answers = self.ask(&Name::from(address).to_ascii(), Kind::Ptr).await?;
        let names = answers.into_iter().filter_map(|answer| match answer {
            Answer::Name(name) => Some(name),
            _ => None,
        });
        Ok(names.collect())
    }
}

impl Kind {
    fn record_type(self) -> RecordType {
        match self {
            Kind::A => RecordType::A,
            Kind::Aaaa => RecordType::AAAA,
            Kind::Mx => RecordType::MX,
            Kind::Ptr => RecordType::PTR,
            Kind::Srv => RecordType::SRV,
            Kind::Txt => RecordType::TXT,
        }
    }
}

async fn exchange(
    server: SocketAddr,
    name: &Name,
    kind: Kind,
    until: Deadline,
) -> io::Result<Message> {
    let query = Query::query(name.clone(), kind.record_type());
    let id = u16::from_ne_bytes(random()?);
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(query.clone());
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD_BYTES);
    message.set_edns(edns);
    let bytes = message.to_vec().map_err(io::Error::other)?;
    let fits = |answer: &Message| {
        answer.metadata.id == id
            && answer.metadata.message_type == MessageType::Response
            && answer.queries.first() == Some(&query)
    };
    let mut udp = Udp::connect(server)?;
    udp.send(&bytes, until).await?;
    let mut buffer = vec![0; usize::from(PAYLOAD_BYTES)];
    let answer = loop {
        let len = udp.receive(&mut buffer, until).await?;
        // What is not an answer to this very question is passed over (RFC 5452 9.1).
        match Message::from_vec(&buffer[..len]) {
            Ok(answer) if fits(&answer) => break answer,
            _ => {}
        }
    };
    if !answer.metadata.truncation {
        return Ok(answer);
    }
    let answer = over_tcp(server, &bytes, until).await?;
    match Message::from_vec(&answer) {
        Ok(answer) if fits(&answer) => Ok(answer),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Two octets of length before each message (RFC 7766 8).
async fn over_tcp(server: SocketAddr, query: &[u8], until: Deadline) -> io::Result<Vec<u8>> {
    let exchange = async {
        let mut stream = Stream::connect(server, until).await?;
        let len = u16::try_from(query.len()).map_err(io::Error::other)?;
        let mut framed = len.to_be_bytes().to_vec();
        framed.extend_from_slice(query);
        stream.write_all(&framed).await?;
        let mut len = [0; 2];
        read_exact(&mut stream, &mut len).await?;
        let mut answer = vec![0; usize::from(u16::from_be_bytes(len))];
        read_exact(&mut stream, &mut answer).await?;
        Ok(answer)
    };
    runtime::deadline(until, exchange)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn read_exact(stream: &mut Stream, mut into: &mut [u8]) -> io::Result<()> {
    while !into.is_empty() {
        match stream.read(into).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => into = &mut into[read..],
        }
    }
    Ok(())
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

/// The records of `name`, and of what it is an alias of.
fn collect(message: &Message, name: &Name, kind: Kind) -> Vec<Answer> {
    let mut name = name.clone();
    for _ in 0..CNAMES_MAX {
        let alias = message
            .answers
            .iter()
            .find_map(|record| match &record.data {
                RData::CNAME(target) if record.name == name => Some(target.0.clone()),
                _ => None,
            });
        match alias {
            Some(target) => name = target,
            None => break,
        }
    }
    let of_name = message.answers.iter().filter(|record| record.name == name);
    let mut answers: Vec<Answer> = of_name
        .filter_map(|record| answer_of(&record.data, kind))
        .collect();
    answers.sort();
    answers
}

fn answer_of(data: &RData, kind: Kind) -> Option<Answer> {
    match (data, kind) {
        (RData::A(a), Kind::A) => Some(Answer::Address(a.0.into())),
        (RData::AAAA(a), Kind::Aaaa) => Some(Answer::Address(a.0.into())),
        (RData::MX(mx), Kind::Mx) => Some(Answer::Mx {
            preference: mx.preference,
            host: plain(&mx.exchange),
        }),
        (RData::PTR(ptr), Kind::Ptr) => Some(Answer::Name(plain(&ptr.0))),
        (RData::SRV(srv), Kind::Srv) => Some(Answer::Srv {
            port: srv.port,
            target: plain(&srv.target),
        }),
        (RData::TXT(txt), Kind::Txt) => {
            let text = txt.txt_data.concat();
            Some(Answer::Text(String::from_utf8_lossy(&text).into_owned()))
        }
        _ => None,
    }
}

fn plain(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}

impl fmt::Display for DnsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DnsError::BadName => f.write_str("not a domain name"),
            DnsError::Timeout => f.write_str("no server answered in time"),
            DnsError::Refused(code) => write!(f, "the server answered {code}"),
            DnsError::Unreachable(error) => write!(f, "no server could be reached: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, UdpSocket};
    use std::thread;

    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::{A, CNAME, MX};

    use super::*;

    /// Answers one question: over UDP, or with a cut answer there and the whole one over TCP.
    fn serve(cut: bool, fill: impl Fn(&mut Message) + Send + 'static) -> SocketAddr {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = udp.local_addr().unwrap();
        let tcp = TcpListener::bind(address).unwrap();
        thread::spawn(move || {
            let mut buffer = [0; 2000];
            let (len, peer) = udp.recv_from(&mut buffer).unwrap();
            let mut answer = Message::from_vec(&buffer[..len]).unwrap().into_response();
            if !cut {
                fill(&mut answer);
                udp.send_to(&answer.to_vec().unwrap(), peer).unwrap();
                return;
            }
            let mut short = answer.clone();
            short.metadata.truncation = true;
            udp.send_to(&short.to_vec().unwrap(), peer).unwrap();
            fill(&mut answer);
            let (mut stream, _) = tcp.accept().unwrap();
            let mut query = vec![0; len + 2];
            io::Read::read_exact(&mut stream, &mut query).unwrap();
            let bytes = answer.to_vec().unwrap();
            let mut framed = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
            framed.extend_from_slice(&bytes);
            io::Write::write_all(&mut stream, &framed).unwrap();
        });
        address
    }

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    #[track_caller]
    fn check(server: SocketAddr, asked: &'static str, kind: Kind, want: Vec<Answer>) {
        let got = runtime::block_on(async move {
            Resolver::new(vec![server])
                .ask(asked, kind)
                .await
                .map_err(|error| error.to_string())
        });
        assert_eq!(got.unwrap(), Ok(want));
    }

    #[test]
    fn an_alias_is_followed() {
        let server = serve(false, |answer| {
            let alias = RData::CNAME(CNAME(name("real.example.")));
            answer.add_answer(Record::from_rdata(name("www.example."), 60, alias));
            let address = RData::A(A(Ipv4Addr::new(192, 0, 2, 7)));
            answer.add_answer(Record::from_rdata(name("real.example."), 60, address));
        });
        let want = Answer::Address(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)));
        check(server, "www.example", Kind::A, vec![want]);
    }

    #[test]
    fn a_cut_answer_is_asked_for_again_over_tcp() {
        let server = serve(true, |answer| {
            for preference in [20, 10] {
                let mx = RData::MX(MX::new(preference, name("Mail.Example.")));
                answer.add_answer(Record::from_rdata(name("example."), 60, mx));
            }
        });
        let mx = |preference| Answer::Mx {
            preference,
            host: "mail.example".to_owned(),
        };
        check(server, "example", Kind::Mx, vec![mx(10), mx(20)]);
    }
}
