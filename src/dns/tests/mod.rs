//! Look-ups on simulated servers and a simulated clock: what each server says or does not, and
//! what comes of it.

mod signed;

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, MX, NS, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use proptest::prelude::*;

use super::answer::{Answer, DnsError, Kind, Outcome, Rdata, Security};
use super::cache::{Cache, Found, Key, Known, SharedCache, Where};
use super::message::{self, Question, Sent, Step, parse_name};
use super::resolver::{Resolver, Settings};
use super::sim::{By, Packets, SimNet};
use super::transport::Transport;
use super::validate::Anchors;
use crate::base::{Deadline, UnixMs};
use crate::config::DnssecMode;
use crate::runtime::{self, simulate};

const BEGIN: UnixMs = UnixMs(1_790_000_000_000);

fn server(n: u8) -> SocketAddr {
    SocketAddr::new([192, 0, 2, n].into(), 53)
}

fn settings(servers: u8, dnssec: DnssecMode) -> Settings {
    Settings {
        servers: (1..=servers).map(server).collect(),
        cache_bytes_max: 64 << 10,
        dnssec,
        anchors: Anchors::built_in(),
        insecure_domains: Vec::new(),
    }
}

fn resolver(net: &SimNet, servers: u8) -> Resolver {
    let settings = settings(servers, DnssecMode::Off);
    Resolver::over(Transport::Sim(net.clone()), &settings, Arc::default())
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn record(owner: &str, ttl: u32, data: RData) -> Record {
    Record::from_rdata(name(owner), ttl, data)
}

fn a(owner: &str, ttl: u32, last: u8) -> Record {
    record(owner, ttl, RData::A(A::new(198, 51, 100, last)))
}

fn alias(owner: &str, target: &str) -> Record {
    record(owner, 60, RData::CNAME(CNAME(name(target))))
}

fn soa(owner: &str, ttl: u32, minimum: u32) -> Record {
    let data = SOA::new(name("ns.test."), name("host.test."), 1, 2, 3, 4, minimum);
    record(owner, ttl, RData::SOA(data))
}

/// The answer as the server would begin it.
fn answer(query: &Message) -> Message {
    let mut answer = query.clone().into_response();
    answer.metadata.recursion_available = true;
    answer
}

fn at_once(message: &Message) -> io::Result<Packets> {
    after(1, message)
}

fn after(ms: u64, message: &Message) -> io::Result<Packets> {
    Ok(vec![(Duration::from_millis(ms), message.to_vec().unwrap())])
}

/// A server that gives those of `records` that have the name and type, or its alias.
fn zone(records: Vec<Record>) -> impl FnMut(&Message, By) -> io::Result<Packets> {
    move |query, _| {
        let asked = &query.queries[0];
        let mut message = answer(query);
        let fits = |record: &&Record| {
            let rtype = record.record_type();
            record.name == asked.name && (rtype == asked.query_type || rtype == RecordType::CNAME)
        };
        message.add_answers(records.iter().filter(fits).cloned());
        at_once(&message)
    }
}

type Outcomes = Result<Answer, DnsError>;

/// One look-up of `name` A, with one server.
fn ask_one(
    asked: &'static str,
    serve: impl FnMut(&Message, By) -> io::Result<Packets> + 'static,
) -> (Outcomes, Vec<By>) {
    simulate(7, BEGIN, async move {
        let net = SimNet::default();
        net.serve(server(1), serve);
        let outcome = resolver(&net, 1).lookup(asked, Kind::A).await;
        (outcome, net.asked().iter().map(|(_, by, _)| *by).collect())
    })
}

#[track_caller]
fn check_found(outcome: &Outcomes, last: u8) {
    let want = vec![Rdata::Address([198, 51, 100, last].into())];
    let answer = outcome.as_ref().expect("an answer");
    assert_eq!((answer.outcome, &answer.records), (Outcome::Records, &want));
}

#[test]
fn what_answers_another_question_is_passed_over() {
    type Change = fn(&mut Message);
    let changes: [(&str, Change); 5] = [
        ("another id", |m| m.metadata.id ^= 1),
        ("another name", |m| m.queries[0].name = name("evil.test.")),
        ("another type", |m| {
            m.queries[0].query_type = RecordType::AAAA
        }),
        ("no question", |m| m.queries.clear()),
        ("a question", |m| {
            m.metadata.message_type = MessageType::Query
        }),
    ];
    for (what, change) in changes {
        let (outcome, by) = ask_one("long-enough.example", move |query, _| {
            let mut forged = answer(query);
            forged.add_answer(a("long-enough.example.", 60, 66));
            change(&mut forged);
            let mut right = answer(query);
            right.add_answer(a("long-enough.example.", 60, 1));
            let mut packets = at_once(&forged)?;
            packets.extend(at_once(&right)?);
            Ok(packets)
        });
        check_found(&outcome, 1);
        assert_eq!(by, [By::Udp], "{what}");
    }
}

#[test]
fn a_server_that_loses_the_case_is_asked_over_tcp() {
    const NAME: &str = "a-name-with-so-many-letters-that-some-are-capitals.example";
    simulate(7, BEGIN, async {
        let net = SimNet::default();
        net.serve(server(1), |query, by| {
            let mut message = answer(query);
            message.queries[0].name = message.queries[0].name.to_lowercase();
            // Over TCP nobody can forge, so what is said there counts.
            message.add_answer(a(
                &format!("{NAME}."),
                0,
                if by == By::Tcp { 1 } else { 66 },
            ));
            at_once(&message)
        });
        let resolver = resolver(&net, 1);
        for _ in 0..2 {
            check_found(&resolver.lookup(NAME, Kind::A).await, 1);
        }
        let by: Vec<By> = net.asked().iter().map(|(_, by, _)| *by).collect();
        assert_eq!(
            by,
            [By::Udp, By::Tcp, By::Tcp],
            "noted after the first time"
        );
    });
}

#[test]
fn a_cut_answer_is_asked_for_again_over_tcp() {
    for within_a_record in [false, true] {
        let (outcome, by) = ask_one("example", move |query, by| {
            let mut message = answer(query);
            message.add_answer(a("example.", 60, 1));
            message.metadata.truncation = by == By::Udp;
            let mut packets = at_once(&message)?;
            if within_a_record && by == By::Udp {
                let bytes = &mut packets[0].1;
                bytes.truncate(bytes.len() - 9);
            }
            Ok(packets)
        });
        check_found(&outcome, 1);
        assert_eq!(by, [By::Udp, By::Tcp]);
    }
}

#[test]
fn who_does_not_know_edns_is_asked_without() {
    let (outcome, by) = ask_one("example", |query, _| {
        let mut message = answer(query);
        match query.edns.is_some() {
            true => {
                message.metadata.response_code = ResponseCode::FormErr;
                message.queries.clear();
            }
            false => {
                message.add_answer(a("example.", 60, 1));
            }
        }
        message.edns = None;
        at_once(&message)
    });
    check_found(&outcome, 1);
    assert_eq!(by, [By::Udp, By::Tcp]);
}

#[test]
fn each_failure_has_its_name() {
    let code = |code: ResponseCode| {
        move |query: &Message, _: By| {
            let mut message = answer(query);
            message.metadata.response_code = code;
            at_once(&message)
        }
    };
    let check = |outcome: Outcomes, want: DnsError| assert_eq!(outcome, Err(want));
    check(
        ask_one("a.test", code(ResponseCode::ServFail)).0,
        DnsError::ServFail,
    );
    check(
        ask_one("a.test", code(ResponseCode::Refused)).0,
        DnsError::Refused,
    );
    check(
        ask_one("a.test", |_, _| Ok(Vec::new())).0,
        DnsError::Timeout,
    );
    check(
        ask_one(
            "a.test",
            |_, _| Err(io::ErrorKind::ConnectionRefused.into()),
        )
        .0,
        DnsError::Unreachable(io::ErrorKind::ConnectionRefused),
    );
    let broken = |query: &Message, _: By| {
        let mut packets = after(1, &answer(query))?;
        // More records are announced than come.
        packets[0].1[7] = 9;
        Ok(packets)
    };
    check(ask_one("a.test", broken).0, DnsError::Malformed);
    let lame = |query: &Message, _: By| {
        let mut message = answer(query);
        message.metadata.recursion_available = false;
        let elsewhere = RData::NS(NS(name("ns.elsewhere.test.")));
        message.add_authority(record("test.", 60, elsewhere));
        at_once(&message)
    };
    check(ask_one("a.test", lame).0, DnsError::Refused);
    for bad in ["a..test", &"x".repeat(64), &"abcdefg.".repeat(40)] {
        assert_eq!(parse_name(bad), Err(DnsError::BadName), "{bad}");
    }
}

#[test]
fn lost_packets_are_sent_again_and_slow_answers_waited_for() {
    let mut sent = 0;
    let (outcome, by) = ask_one("example", move |query, _| {
        sent += 1;
        let mut message = answer(query);
        message.add_answer(a("example.", 60, 1));
        match sent {
            1 => Ok(Vec::new()),
            // Slower than the first try waits, and than the second.
            2 => after(2_500, &message),
            _ => after(3_000, &message),
        }
    });
    check_found(&outcome, 1);
    assert_eq!(by.len(), 3);
}

#[test]
fn a_dead_server_is_left_alone_then_tried_again() {
    simulate(7, BEGIN, async {
        let net = SimNet::default();
        let began = runtime::now();
        let is_late = move || runtime::now() - began > Duration::from_secs(60);
        let first_alone = Rc::new(std::cell::Cell::new(false));
        let (alone, mut answer_as) = (first_alone.clone(), zone(vec![a("example.", 0, 1)]));
        net.serve(server(1), move |query, by| match is_late() {
            true => answer_as(query, by),
            false => Ok(Vec::new()),
        });
        let mut answer_as = zone(vec![a("example.", 0, 1)]);
        net.serve(server(2), move |query, by| match alone.get() {
            true => Ok(Vec::new()),
            false => answer_as(query, by),
        });
        let resolver = resolver(&net, 2);
        let asked_first = || {
            let asked = net.asked();
            asked.iter().filter(|(to, _, _)| *to == server(1)).count()
        };
        for _ in 0..20 {
            check_found(&resolver.lookup("example", Kind::A).await, 1);
        }
        let spent = runtime::now() - began;
        assert!(spent < Duration::from_secs(2), "once: {spent:?}");
        assert_eq!(asked_first(), 1);
        // While it is dead a look-up waits for it no more; one question sees whether it is back.
        for (wait, asked) in [(20, 2), (20, 2), (70, 3)] {
            runtime::sleep(Duration::from_secs(wait)).await;
            let began = runtime::now();
            check_found(&resolver.lookup("example", Kind::A).await, 1);
            assert!(runtime::now() - began < Duration::from_millis(100));
            runtime::sleep(Duration::from_secs(2)).await;
            assert_eq!(asked_first(), asked, "after {wait} s");
        }
        assert_eq!(net.asked().last().unwrap().2, ". NS");
        first_alone.set(true);
        check_found(&resolver.lookup("example", Kind::A).await, 1);
        assert_eq!(asked_first(), 4, "it is back");
    });
}

#[test]
fn the_next_server_is_asked_where_one_cannot_tell() {
    for code in [ResponseCode::ServFail, ResponseCode::Refused] {
        simulate(7, BEGIN, async move {
            let net = SimNet::default();
            net.serve(server(1), move |query, _| {
                let mut message = answer(query);
                message.metadata.response_code = code;
                at_once(&message)
            });
            net.serve(server(2), zone(vec![a("example.", 0, 1)]));
            check_found(&resolver(&net, 2).lookup("example", Kind::A).await, 1);
            assert_eq!(net.asked().len(), 2);
        });
    }
}

#[track_caller]
fn check_chain(records: Vec<Record>, want: Result<(u8, &str, usize), DnsError>) {
    let (outcome, _) = ask_one("start.test", zone(records));
    match want {
        Ok((last, end, aliases)) => {
            check_found(&outcome, last);
            let answer = outcome.unwrap();
            assert_eq!((answer.name.as_str(), answer.aliases), (end, aliases));
        }
        Err(error) => assert_eq!(outcome, Err(error)),
    }
}

#[test]
fn aliases_are_followed_so_far() {
    let one = vec![alias("start.test.", "End.Test."), a("end.test.", 60, 1)];
    check_chain(one, Ok((1, "end.test", 1)));
    let circle = vec![
        alias("start.test.", "b.test."),
        alias("b.test.", "c.test."),
        alias("c.test.", "b.test."),
    ];
    check_chain(circle, Err(DnsError::Loop("b.test".to_owned())));
    let itself = vec![alias("start.test.", "start.test.")];
    check_chain(itself, Err(DnsError::Loop("start.test".to_owned())));
    let two = vec![
        alias("start.test.", "b.test."),
        alias("start.test.", "c.test."),
    ];
    check_chain(two, Err(DnsError::Malformed));
    let chain = |links: usize| {
        let owner = |n: usize| match n {
            0 => "start.test.".to_owned(),
            n => format!("n{n}.test."),
        };
        let mut records: Vec<Record> = (0..links)
            .map(|n| alias(&owner(n), &owner(n + 1)))
            .collect();
        records.push(a(&owner(links), 60, 1));
        records
    };
    check_chain(chain(8), Ok((1, "n8.test", 8)));
    check_chain(chain(9), Err(DnsError::Chain));
}

/// Looks up at each of `seconds` and tells how often the server was asked.
fn ask_at(
    seconds: &'static [u64],
    serve: impl FnMut(&Message, By) -> io::Result<Packets> + 'static,
) -> (usize, Vec<Outcome>) {
    simulate(7, BEGIN, async move {
        let net = SimNet::default();
        net.serve(server(1), serve);
        let resolver = resolver(&net, 1);
        let (began, mut outcomes) = (runtime::now(), Vec::new());
        for second in seconds {
            let at = began + Duration::from_secs(*second);
            runtime::sleep(at.saturating_duration_since(runtime::now())).await;
            let answer = resolver.lookup("example", Kind::A).await.unwrap();
            outcomes.push(answer.outcome);
        }
        (net.asked().len(), outcomes)
    })
}

#[test]
fn what_is_known_is_used_for_its_time_and_no_longer() {
    let with_ttl = |ttl: u32| zone(vec![a("example.", ttl, 1)]);
    assert_eq!(ask_at(&[0, 30, 59], with_ttl(60)).0, 1);
    assert_eq!(ask_at(&[0, 30, 61], with_ttl(60)).0, 2);
    assert_eq!(ask_at(&[0, 0, 0], with_ttl(0)).0, 3, "TTL 0 is used once");
    assert_eq!(ask_at(&[0, 0], with_ttl(u32::MAX)).0, 2, "RFC 2181 8");
    let long = ask_one("example", with_ttl(600_000)).0.unwrap();
    assert_eq!(long.ttl, 86_400, "a day");
}

#[test]
fn an_absence_is_kept_as_long_as_the_zone_says() {
    let absent = |code: ResponseCode, soas: Vec<Record>| {
        move |query: &Message, _: By| {
            let mut message = answer(query);
            message.metadata.response_code = code;
            message.add_authorities(soas.clone());
            at_once(&message)
        }
    };
    let check = |code, soas: Vec<Record>, seconds, asked, outcome| {
        let (count, outcomes) = ask_at(seconds, absent(code, soas));
        assert_eq!(count, asked);
        assert!(outcomes.iter().all(|o| *o == outcome), "{outcomes:?}");
    };
    use ResponseCode::{NXDomain, NoError};
    let minimum = vec![soa("example.", 3600, 30)];
    check(NXDomain, minimum.clone(), &[0, 29, 31], 2, Outcome::NoName);
    check(NoError, minimum, &[0, 29, 31], 2, Outcome::NoData);
    let by_ttl = vec![soa("example.", 30, 3600)];
    check(NoError, by_ttl, &[0, 29, 31], 2, Outcome::NoData);
    check(NXDomain, Vec::new(), &[0, 0], 2, Outcome::NoName);
    let of_another = vec![soa("other.", 3600, 3600)];
    check(NXDomain, of_another, &[0, 0], 2, Outcome::NoName);
}

#[test]
fn a_failure_is_remembered_for_a_moment() {
    simulate(7, BEGIN, async {
        let net = SimNet::default();
        net.serve(server(1), |query, _| {
            let mut message = answer(query);
            message.metadata.response_code = ResponseCode::ServFail;
            at_once(&message)
        });
        let resolver = resolver(&net, 1);
        for (wait, asked) in [(0, 1), (1, 1), (6, 2)] {
            runtime::sleep(Duration::from_secs(wait)).await;
            let outcome = resolver.lookup("example", Kind::A).await;
            assert_eq!(outcome, Err(DnsError::ServFail));
            assert_eq!(net.asked().len(), asked);
        }
    });
}

#[test]
fn equal_questions_under_way_are_one() {
    simulate(7, BEGIN, async {
        let net = SimNet::default();
        net.serve(server(1), |query, _| {
            let mut message = answer(query);
            message.add_answer(a("example.", 0, 1));
            after(500, &message)
        });
        let resolver = resolver(&net, 1);
        let answers = Rc::new(std::cell::Cell::new(0));
        for _ in 0..50 {
            let (resolver, answers) = (resolver.clone(), answers.clone());
            runtime::spawn("asker", async move {
                check_found(&resolver.lookup("EXAMPLE.", Kind::A).await, 1);
                answers.set(answers.get() + 1);
            });
        }
        // Who asked first goes away: the others get their answer all the same.
        let until = Deadline::after(runtime::now(), Duration::from_millis(10));
        let first = runtime::deadline(until, resolver.lookup("example", Kind::A));
        assert!(first.await.is_err());
        runtime::sleep(Duration::from_secs(1)).await;
        assert_eq!((answers.get(), net.asked().len()), (50, 1));
        let until = Deadline::after(runtime::now(), Duration::from_secs(1));
        assert_eq!(resolver.close(until).await, Ok(()));
        let closed = resolver.lookup("other", Kind::A).await;
        assert_eq!(closed, Err(DnsError::Busy));
    });
}

#[test]
fn questions_under_way_are_bounded() {
    simulate(7, BEGIN, async {
        let net = SimNet::default();
        net.serve(server(1), |_, _| Ok(Vec::new()));
        let resolver = resolver(&net, 1);
        let busy = Rc::new(std::cell::Cell::new(0));
        for n in 0..1100 {
            let (resolver, busy) = (resolver.clone(), busy.clone());
            runtime::spawn("asker", async move {
                let outcome = resolver.lookup(&format!("n{n}.test"), Kind::A).await;
                if outcome == Err(DnsError::Busy) {
                    busy.set(busy.get() + 1);
                }
            });
        }
        runtime::sleep(Duration::from_millis(500)).await;
        assert_eq!(busy.get(), 1100 - 1024);
        assert_eq!(net.asked().len(), 128, "on the wire");
    });
}

fn known(records: usize) -> Known {
    let record = |n: usize| Rdata::Text(format!("{n:0100}"));
    Known::Step(Arc::new(Found {
        step: Step::Records((0..records).map(record).collect()),
        security: Security::Insecure,
        server: server(1),
    }))
}

fn key(n: usize) -> Key {
    Key {
        question: Question {
            name: name(&format!("n{n}.test.")),
            rtype: RecordType::TXT,
        },
        whole: false,
    }
}

#[test]
fn the_cache_is_bounded_and_keeps_what_is_used() {
    simulate(7, BEGIN, async {
        const BYTES_MAX: usize = 64 << 10;
        let cache = Cache::new(BYTES_MAX, Arc::default());
        let now = runtime::now();
        for n in 0..2000 {
            cache.put(key(n), known(1), 3600, now);
            assert!(cache.get(&key(0), now).is_some(), "used all the time, {n}");
        }
        let kept = (0..2000).filter(|n| {
            let found = cache.get(&key(*n), now);
            found.is_some_and(|(_, _, place)| place == Where::Local)
        });
        let kept = kept.count();
        assert!((60..200).contains(&kept), "{kept}");
        cache.put(key(9999), known(5000), 3600, now);
        assert!(
            cache.get(&key(9999), now).is_none(),
            "larger than the cache"
        );
    });
}

#[test]
fn shards_share_what_they_learn() {
    simulate(7, BEGIN, async {
        let shared = Arc::new(SharedCache::default());
        let caches = [1, 2].map(|_| Cache::new(1 << 20, shared.clone()));
        let now = runtime::now();
        let later = now + Duration::from_secs(2);
        caches[0].put(key(1), known(1), 60, now);
        caches[0].put(key(2), known(1), 60, now);
        let place = |n: usize, at| caches[1].get(&key(n), at).map(|(_, ttl, at)| (ttl, at));
        assert_eq!(place(1, now), Some((60, Where::Shared)));
        assert_eq!(place(1, now), Some((60, Where::Local)), "taken over");
        assert_eq!(
            place(2, now),
            None,
            "published with the next, a second later"
        );
        caches[0].put(key(3), known(1), 60, later);
        assert_eq!(place(2, later), Some((58, Where::Shared)));
        assert_eq!(place(3, later), Some((60, Where::Shared)));
        assert_eq!(
            place(3, later + Duration::from_secs(60)),
            None,
            "its time is over"
        );
    });
}

#[test]
fn names_are_asked_for_as_a_labels() {
    for (text, want) in [
        ("Bücher.Example", "xn--bcher-kva.example."),
        ("_25._TCP.Mail.Example.", "_25._tcp.mail.example."),
        (".", "."),
        ("7.2.0.192.in-addr.arpa", "7.2.0.192.in-addr.arpa."),
    ] {
        assert_eq!(parse_name(text).unwrap().to_ascii(), want);
    }
}

#[test]
fn a_null_mx_has_no_host() {
    let mx = |preference, host| record("example.", 60, RData::MX(MX::new(preference, name(host))));
    for (records, want) in [
        (vec![mx(0, ".")], vec![(0, "")]),
        (
            vec![mx(20, "B.Example."), mx(10, "a.example.")],
            vec![(10, "a.example"), (20, "b.example")],
        ),
    ] {
        let outcome = simulate(7, BEGIN, async move {
            let net = SimNet::default();
            net.serve(server(1), zone(records));
            resolver(&net, 1).lookup("example", Kind::Mx).await
        });
        let want: Vec<Rdata> = want
            .into_iter()
            .map(|(preference, host)| Rdata::Mx {
                preference,
                host: host.to_owned(),
            })
            .collect();
        assert_eq!(outcome.unwrap().records, want);
    }
}

/// Who cannot speak DNSSEC proves nothing, and who could is not believed when it suddenly cannot.
#[test]
fn a_server_without_dnssec_proves_nothing() {
    let serve = |with_do: bool| {
        move |query: &Message, _: By| {
            let mut message = answer(query);
            message.add_answer(a("example.", 0, 1));
            let mut edns = Edns::new();
            edns.set_dnssec_ok(with_do);
            message.set_edns(edns);
            at_once(&message)
        }
    };
    let ask = |mode: DnssecMode, with_do: bool| {
        simulate(7, BEGIN, async move {
            let net = SimNet::default();
            net.serve(server(1), serve(with_do));
            let settings = settings(1, mode);
            let transport = Transport::Sim(net.clone());
            let resolver = Resolver::over(transport, &settings, Arc::default());
            let outcome = resolver.lookup("example", Kind::A).await;
            outcome.map(|answer| answer.security)
        })
    };
    assert_eq!(ask(DnssecMode::Off, true), Ok(Security::Indeterminate));
    assert_eq!(ask(DnssecMode::Auto, false), Ok(Security::Indeterminate));
    let bogus = |outcome| matches!(outcome, Err(DnsError::Bogus(_)));
    assert!(bogus(ask(DnssecMode::On, false)));
    assert!(
        bogus(ask(DnssecMode::Auto, true)),
        "no signature up to the root"
    );
}

fn sent(asked: &str) -> Sent {
    Sent {
        id: 7,
        query: Query::query(name(asked), RecordType::TXT),
    }
}

proptest! {
    /// Whatever comes is read without a panic, and only a true answer fits.
    #[test]
    fn any_octets_are_read(mut bytes in prop::collection::vec(any::<u8>(), 0..600), fix: bool) {
        let sent = sent("example.");
        if fix && bytes.len() > 12 {
            bytes[..4].copy_from_slice(&[0, 7, 0x80, 0x80]);
        }
        if let message::Reading::Fits(mut message) = message::read(&bytes, &sent) {
            prop_assert_eq!(message.metadata.id, 7);
            let question = Question { name: name("example."), rtype: RecordType::TXT };
            message::keep_first_step(&mut message, &question);
            let _ = message::step(&message, &question, Kind::Txt);
            let _ = message::message_ttl(&message, &question);
        }
    }

    /// The same with a true answer in which some octets are changed.
    #[test]
    fn a_changed_answer_is_read(
        changes in prop::collection::vec((any::<u16>(), any::<u8>()), 0..8),
    ) {
        let sent = sent("example.");
        let mut message = Message::from_vec(&message::encode(&sent, true, true).unwrap()).unwrap();
        message = answer(&message);
        message.add_answer(alias("example.", "other.example."));
        message.add_authority(soa("example.", 60, 60));
        let mut bytes = message.to_vec().unwrap();
        for (at, value) in changes {
            let at = usize::from(at) % bytes.len();
            bytes[at] = value;
        }
        if let message::Reading::Fits(mut message) = message::read(&bytes, &sent) {
            let question = Question { name: name("example."), rtype: RecordType::TXT };
            message::keep_first_step(&mut message, &question);
            let _ = message::step(&message, &question, Kind::Txt);
        }
    }

    /// What may stand in a command line is a name or is not, and never a panic.
    #[test]
    fn any_text_is_a_name_or_not(text in ".{0,80}") {
        if let Ok(name) = parse_name(&text) {
            prop_assert!(name.is_fqdn());
        }
    }
}
