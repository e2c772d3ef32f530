//! Messages: a question into octets, octets into what they say. Pure.
//!
//! What does not answer the very question that was asked is passed over (RFC 5452 9.1): the id,
//! the name letter by letter, and type and class must be those of the question. The letters are
//! upper and lower case at random (draft-vixie-dnsext-dns0x20), which a forger has to guess too.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::answer::{DnsError, Kind, Rdata};

/// What fits through any path without fragments (DNS Flag Day 2020).
pub const PAYLOAD_BYTES: u16 = 1232;
/// RFC 1035 4.1.1.
const HEADER_BYTES: usize = 12;
/// A record is kept for a day at most, whatever its zone says.
const TTL_MAX: u32 = 86_400;
/// RFC 2308 5: an absence is kept for three hours at most.
const ABSENCE_TTL_MAX: u32 = 10_800;

/// A name in lower case, and the type that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    pub name: Name,
    pub rtype: RecordType,
}

/// What is sent, and what must come back.
pub struct Sent {
    pub id: u16,
    /// As it was sent, letter by letter.
    pub query: Query,
}

/// What came back.
pub enum Reading {
    /// Not an answer to this question: wait on.
    Other,
    /// The answer, but for the case of the letters.
    CaseLost,
    /// Cut: to be asked for over TCP.
    Cut,
    /// An answer that cannot be read.
    Malformed,
    Fits(Box<Message>),
}

/// What the records say about one name, without following it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Alias(Name),
    Records(Vec<Rdata>),
    NoData,
    NoName,
}

/// The name of `text`: IDNA to A-labels, lower case, fully qualified.
pub fn parse_name(text: &str) -> Result<Name, DnsError> {
    let text = text.strip_suffix('.').unwrap_or(text);
    if text.is_empty() {
        return Ok(Name::root());
    }
    let ascii = match text.is_ascii() {
        true => text.to_ascii_lowercase(),
        false => idna::domain_to_ascii(text).map_err(|_| DnsError::BadName)?,
    };
    let name = Name::from_ascii(format!("{ascii}.")).map_err(|_| DnsError::BadName)?;
    // A backslash at the end would take the dot that ends the name into the last label.
    match !name.is_fqdn() || name.iter().any(<[u8]>::is_empty) {
        true => Err(DnsError::BadName),
        false => Ok(name),
    }
}

/// In lower case without the final dot; the root is the empty text.
pub fn plain(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}

/// The octets of a question. `dnssec` asks for signatures, and for data that the server could not
/// validate too: we judge ourselves (RFC 6840 5.9). Only with `edns`.
pub fn encode(sent: &Sent, edns: bool, dnssec: bool) -> Result<Vec<u8>, DnsError> {
    let mut message = Message::new(sent.id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(sent.query.clone());
    if edns {
        let mut options = Edns::new();
        options.set_max_payload(PAYLOAD_BYTES);
        options.set_dnssec_ok(dnssec);
        message.set_edns(options);
        message.metadata.checking_disabled = dnssec;
    }
    message.to_vec().map_err(|_| DnsError::BadName)
}

/// Reads what came over TCP: nobody else could have sent it, whatever the case of its letters.
pub fn read_stream(bytes: &[u8], sent: &Sent) -> Reading {
    parse(bytes, sent, false)
}

/// Reads what came from the server that `sent` went to.
pub fn read(bytes: &[u8], sent: &Sent) -> Reading {
    parse(bytes, sent, true)
}

fn parse(bytes: &[u8], sent: &Sent, by_letter: bool) -> Reading {
    if bytes.len() < HEADER_BYTES || bytes[..2] != sent.id.to_be_bytes() {
        return Reading::Other;
    }
    let is_answer = bytes[2] & 0x80 != 0 && bytes[2] & 0x78 == 0;
    if !is_answer {
        return Reading::Other;
    }
    let is_cut = bytes[2] & 0x02 != 0;
    let Ok(mut message) = Message::from_vec(bytes) else {
        // What is cut in the middle of a record cannot be read, and need not be.
        return match is_cut {
            true => Reading::Cut,
            false => Reading::Malformed,
        };
    };
    let asked = match message.queries.as_slice() {
        [query] => query,
        // A server that did not understand the question may leave it out.
        [] if is_refusal(message.metadata.response_code) => {
            return Reading::Fits(Box::new(message));
        }
        _ => return Reading::Other,
    };
    if *asked != sent.query {
        return Reading::Other;
    }
    if by_letter && !asked.name.eq_case(&sent.query.name) {
        return Reading::CaseLost;
    }
    if is_cut {
        return Reading::Cut;
    }
    message.queries[0].name = sent.query.name.to_lowercase();
    for record in &mut message.answers {
        record.name = record.name.to_lowercase();
    }
    let ours = |record: &Record| record.dns_class == DNSClass::IN;
    message.answers.retain(ours);
    message.authorities.retain(ours);
    // Nothing in there is asked for, and nothing of it is used.
    message.additionals.clear();
    Reading::Fits(Box::new(message))
}

fn is_refusal(code: ResponseCode) -> bool {
    !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain)
}

/// RFC 3225 3: who understands DNSSEC copies the DO bit.
pub fn speaks_dnssec(message: &Message) -> bool {
    let edns = message.edns.as_ref();
    edns.is_some_and(|edns| edns.flags().dnssec_ok)
}

/// RFC 1034 4.3.1: neither an answer nor an absence but a hint to ask elsewhere, from somebody who
/// does not ask for us.
pub fn is_lame(message: &Message) -> bool {
    let is_ns = |record: &Record| record.record_type() == RecordType::NS;
    let is_soa = |record: &Record| record.record_type() == RecordType::SOA;
    message.metadata.response_code == ResponseCode::NoError
        && message.answers.is_empty()
        && !message.metadata.authoritative
        && !message.metadata.recursion_available
        && message.authorities.iter().any(is_ns)
        && !message.authorities.iter().any(is_soa)
}

/// Leaves what speaks of the name itself: what a CNAME leads to is asked for by itself, so that
/// each name is judged alone.
pub fn keep_first_step(message: &mut Message, question: &Question) {
    let is_alias =
        |record: &Record| record.record_type() == RecordType::CNAME && record.name == question.name;
    let aliased = question.rtype != RecordType::CNAME && message.answers.iter().any(is_alias);
    let wanted = match aliased {
        true => RecordType::CNAME,
        false => question.rtype,
    };
    if aliased {
        // RFC 6604 3: the code is that of the end of the chain.
        message.metadata.response_code = ResponseCode::NoError;
    }
    let of_step = |record: &Record| {
        record.name == question.name && (record.record_type() == wanted || signs(record, wanted))
    };
    message.answers.retain(of_step);
    let expanded = message.answers.iter().any(is_expanded);
    let found = !message.answers.is_empty();
    message.authorities.retain(|record| {
        let denies = [RecordType::NSEC, RecordType::NSEC3]
            .iter()
            .any(|rtype| record.record_type() == *rtype || signs(record, *rtype));
        // The SOA of another zone says nothing of this name.
        let is_soa = (record.record_type() == RecordType::SOA || signs(record, RecordType::SOA))
            && record.name.zone_of(&question.name);
        match found {
            // RFC 4035 5.3.4: a wildcard needs proof that there is nothing nearer.
            true => denies && expanded,
            false => denies || is_soa,
        }
    });
}

/// A signature over records of this type.
fn signs(record: &Record, rtype: RecordType) -> bool {
    signature(record).is_some_and(|(covered, _)| covered == rtype)
}

/// RFC 4035 5.3.1: fewer labels in the signature than in the name mean a wildcard.
fn is_expanded(record: &Record) -> bool {
    signature(record).is_some_and(|(_, labels)| labels < record.name.num_labels())
}

fn signature(record: &Record) -> Option<(RecordType, u8)> {
    use hickory_proto::dnssec::rdata::DNSSECRData;
    match &record.data {
        RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) => {
            let input = rrsig.input();
            Some((input.type_covered, input.num_labels))
        }
        _ => None,
    }
}

/// What a message says about the name, and for how many seconds. 0: for this once.
pub fn step(message: &Message, question: &Question, kind: Kind) -> Result<(Step, u32), DnsError> {
    let of_name = |record: &&Record| record.name == question.name;
    let answers = message.answers.iter().filter(of_name);
    let wanted = answers
        .clone()
        .filter(|record| record.record_type() == question.rtype);
    let ttl = wanted.clone().map(ttl).min();
    if let Some(ttl) = ttl {
        let mut records: Vec<Rdata> = wanted
            .filter_map(|record| rdata(&record.data, kind))
            .collect();
        if records.is_empty() {
            return Err(DnsError::Malformed);
        }
        records.sort();
        records.dedup();
        return Ok((Step::Records(records), ttl));
    }
    let mut aliases = answers.filter_map(|record| match &record.data {
        RData::CNAME(target) => Some((target.0.to_lowercase(), ttl_of(record.ttl))),
        _ => None,
    });
    if let Some((target, ttl)) = aliases.next() {
        // RFC 2181 10.1: there is one or none.
        return match aliases.any(|(other, _)| other != target) {
            true => Err(DnsError::Malformed),
            false => Ok((Step::Alias(target), ttl)),
        };
    }
    let step = match message.metadata.response_code {
        ResponseCode::NXDomain => Step::NoName,
        ResponseCode::NoError => Step::NoData,
        _ => return Err(DnsError::ServFail),
    };
    Ok((step, absence_ttl(message, &question.name)))
}

fn ttl(record: &Record) -> u32 {
    ttl_of(record.ttl)
}

/// RFC 2181 8: with the top bit set it is 0.
fn ttl_of(ttl: u32) -> u32 {
    match ttl > i32::MAX as u32 {
        true => 0,
        false => ttl.min(TTL_MAX),
    }
}

/// RFC 2308 5: the lesser of the SOA's TTL and its minimum; without a SOA it is not kept.
fn absence_ttl(message: &Message, name: &Name) -> u32 {
    let soa = message
        .authorities
        .iter()
        .find_map(|record| match &record.data {
            RData::SOA(soa) if record.name.zone_of(name) => {
                Some(ttl_of(record.ttl).min(ttl_of(soa.minimum)))
            }
            _ => None,
        });
    soa.unwrap_or(0).min(ABSENCE_TTL_MAX)
}

/// For how many seconds a message that serves validation is kept.
pub fn message_ttl(message: &Message, question: &Question) -> u32 {
    let answered = message.answers.iter().map(ttl).min();
    answered.unwrap_or_else(|| absence_ttl(message, &question.name))
}

fn rdata(data: &RData, kind: Kind) -> Option<Rdata> {
    Some(match (data, kind) {
        (RData::A(a), Kind::A) => Rdata::Address(a.0.into()),
        (RData::AAAA(a), Kind::Aaaa) => Rdata::Address(a.0.into()),
        (RData::CNAME(name), Kind::Cname) => Rdata::Name(plain(&name.0)),
        (RData::PTR(name), Kind::Ptr) => Rdata::Name(plain(&name.0)),
        (RData::MX(mx), Kind::Mx) => Rdata::Mx {
            preference: mx.preference,
            host: plain(&mx.exchange),
        },
        (RData::SOA(soa), Kind::Soa) => Rdata::Soa {
            primary: plain(&soa.mname),
            serial: soa.serial,
            minimum: soa.minimum,
        },
        (RData::SRV(srv), Kind::Srv) => Rdata::Srv {
            port: srv.port,
            target: plain(&srv.target),
        },
        (RData::TLSA(tlsa), Kind::Tlsa) => Rdata::Tlsa {
            usage: tlsa.cert_usage.into(),
            selector: tlsa.selector.into(),
            matching: tlsa.matching.into(),
            data: tlsa.cert_data.clone(),
        },
        (RData::TXT(txt), Kind::Txt) => {
            let text = txt.txt_data.concat();
            Rdata::Text(String::from_utf8_lossy(&text).into_owned())
        }
        _ => return None,
    })
}
