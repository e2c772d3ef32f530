//! Fetching and keeping, against web servers that say what they are told to.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::keeper::Found;
use super::*;
use crate::base::{Deadline, UnixMs};
use crate::config::Config;
use crate::dns::{Kind, Resolver, Script};
use crate::net::OutgoingTls;
use crate::queue::route::ask::all;
use crate::queue::route::settings::Settings;
use crate::queue::route::tests::peers::{Certificate, Peer};
use crate::runtime::{block_on, now, unix_now};

const DNS: &str = "_mta-sts.d.test TXT v=STSv1; id=1;\nmta-sts.d.test A 127.0.0.1";
const POLICY: &str = "version: STSv1\nmode: enforce\nmx: a.mx\nmax_age: 86400\n";

/// A store that forgets only with the test.
#[derive(Default)]
struct Shelf(RefCell<HashMap<String, Vec<u8>>>);

impl PolicyStore for Shelf {
    fn get<'s>(&'s self, domain: &'s str) -> Stored<'s, Option<Vec<u8>>> {
        Box::pin(async { self.0.borrow().get(domain).cloned() })
    }

    fn put<'s>(&'s self, domain: &'s str, value: Vec<u8>) -> Stored<'s, ()> {
        Box::pin(async move { _ = self.0.borrow_mut().insert(domain.to_owned(), value) })
    }
}

fn answer(status: &str, kind: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn ok(body: &str) -> String {
    answer("200 OK", "text/plain", body)
}

fn keeper(
    script: &Script,
    certificate: &Certificate,
    port: u16,
    store: Rc<dyn PolicyStore>,
) -> Keeper {
    let text = "hostname = \"me.test\"\ndomains = [\"test\"]\n[smtp.relay]\nlocal_addresses = true";
    let config = Config::parse(text, "test").expect("a good file");
    let settings = Settings::load(&config, &[])
        .expect("no passwords")
        .with_ports(25, port);
    let tls = OutgoingTls::load(Some(&certificate.file())).expect("a good file");
    let resolver = Resolver::scripted(script.clone());
    Keeper::new(Web::new(resolver, tls, Arc::new(settings)), store)
}

fn soon() -> Deadline {
    Deadline::after(now(), Duration::from_secs(60))
}

fn told(found: &Found) -> String {
    let policy = match &found.policy {
        Some(kept) => format!("{} {}", kept.id, kept.policy.mode),
        None => "none".to_owned(),
    };
    match &found.fault {
        Some(fault) => format!("{policy}; {fault}"),
        None => policy,
    }
}

fn kept(id: &str, age_seconds: i64, mode: &str) -> Vec<u8> {
    let text = POLICY.replace("enforce", mode);
    let kept = Kept {
        id: id.to_owned(),
        fetched: UnixMs(unix_now().0 - 1000 * age_seconds),
        policy: Policy::parse(text.as_bytes()).expect("a policy"),
    };
    kept.to_bytes()
}

/// With these answers, and this in the store, what is found the first and the second time.
#[track_caller]
fn check(dns: &str, stored: Option<Vec<u8>>, answers: &[&str], want: &[&str]) {
    let certificate = Certificate::new("mta-sts.d.test");
    let web = Peer::web(&certificate, answers);
    let (dns, port) = (dns.to_owned(), web.port);
    let count = want.len();
    let got = block_on(async move {
        let shelf = Rc::new(Shelf::default());
        if let Some(stored) = stored {
            shelf.put("d.test", stored).await;
        }
        let keeper = keeper(&Script::new(&dns), &certificate, port, shelf);
        let mut got = Vec::new();
        for _ in 0..count {
            got.push(told(&keeper.find("d.test", soon()).await));
        }
        got
    });
    for (got, want) in got.expect("a shard").iter().zip(want) {
        // Where a fault is wanted, its beginning is enough; where none is, there was none.
        let is_it = match want.contains(';') {
            true => got.starts_with(want),
            false => got == want,
        };
        assert!(is_it, "{got}, and not {want}");
    }
    web.join();
}

#[test]
fn a_policy_is_fetched_once() {
    check(DNS, None, &[&ok(POLICY)], &["1 enforce", "1 enforce"]);
    let chunked = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n\
                   f;x=y\r\nversion: STSv1\n\r\n1E\r\nmode: testing\nmx: b\nmax_age: 9\r\n0\r\n\r\n";
    check(DNS, None, &[chunked], &["1 testing"]);
    check(
        DNS,
        None,
        &[&ok(&POLICY.replace("enforce", "none"))],
        &["none", "none"],
    );
    check("d.test A 127.0.0.1", None, &[], &["none"]);
    check("_mta-sts.d.test TXT timeout", None, &[], &["none"]);
}

#[test]
fn what_is_no_policy_is_told_and_not_asked_for_again_at_once() {
    let long = "x: y\n".repeat(20_000);
    let why = "none; its MTA-STS policy was not fetched: ";
    for (answer, fault) in [
        (
            answer("404 Not Found", "text/plain", ""),
            "the web server answered 404",
        ),
        // RFC 8461 3.3: not followed.
        (
            answer("301 Moved", "text/plain", POLICY),
            "the web server answered 301",
        ),
        (
            answer("200 OK", "text/html", POLICY),
            "the web server sent no text/plain",
        ),
        (ok(&long), "the web server sent more than a policy has"),
        (
            ok(POLICY).replace("Length: ", "Length: 9"),
            "the web server sent no whole answer",
        ),
        (
            "220 mx ESMTP\r\n".to_owned(),
            "the web server sent no whole answer",
        ),
        (String::new(), "the web server sent no whole answer"),
    ] {
        let want = format!("{why}{fault}");
        check(DNS, None, &[&answer], &[&want, &want]);
    }
    let none = "none; its MTA-STS policy is none: it has no version";
    check(DNS, None, &[&ok("mode: enforce")], &[none, none]);
    let lost = format!("{why}the web server was not found");
    check(
        "_mta-sts.d.test TXT v=STSv1; id=1;\nmta-sts.d.test A servfail",
        None,
        &[],
        &[&lost],
    );
    let nowhere = format!("{why}the web server has no public address");
    check("_mta-sts.d.test TXT v=STSv1; id=1;", None, &[], &[&nowhere]);
}

#[test]
fn only_the_right_server_is_heard() {
    let certificate = Certificate::new("other.test");
    let web = Peer::web(&certificate, &[&ok(POLICY)]);
    let port = web.port;
    let found = block_on(async move {
        let keeper = keeper(&Script::new(DNS), &certificate, port, Rc::new(Unkept));
        keeper.find("d.test", soon()).await
    });
    let found = found.expect("a shard");
    assert_eq!(found.policy, None);
    assert!(
        matches!(
            found.fault,
            Some(StsFault::Fetch {
                is_distrust: true,
                ..
            })
        ),
        "{found:?}"
    );
    web.join();
}

/// RFC 8461 5.1: who stands between us and the domain cannot take a policy away.
#[test]
fn what_is_kept_counts_until_it_is_over() {
    let silent = "d.test A 127.0.0.1";
    let gone = answer("404 Gone", "text/plain", "");
    let kept_on = "1 enforce; its MTA-STS policy was not fetched";
    let newer = DNS.replace("id=1", "id=2");
    check(silent, Some(kept("1", 60, "enforce")), &[], &["1 enforce"]);
    check(
        "_mta-sts.d.test TXT servfail",
        Some(kept("1", 60, "enforce")),
        &[],
        &["1 enforce"],
    );
    check(silent, Some(kept("1", 86_400, "enforce")), &[], &["none"]);
    check(silent, Some(kept("1", -60, "enforce")), &[], &["none"]);
    check(silent, Some(kept("1", 60, "none")), &[], &["none"]);
    check(silent, Some(b"no policy".to_vec()), &[], &["none"]);
    check(DNS, Some(kept("1", 60, "enforce")), &[], &["1 enforce"]);
    check(
        &newer,
        Some(kept("1", 60, "enforce")),
        &[&gone],
        &[kept_on, kept_on],
    );
    check(
        &newer,
        Some(kept("1", 60, "enforce")),
        &[&ok(POLICY)],
        &["2 enforce", "2 enforce"],
    );
    // After half its life it is renewed with the same id.
    check(
        DNS,
        Some(kept("1", 60_000, "testing")),
        &[&ok(POLICY)],
        &["1 enforce", "1 enforce"],
    );
    check(
        DNS,
        Some(kept("1", 60_000, "enforce")),
        &[&gone],
        &[kept_on],
    );
}

#[test]
fn what_was_fetched_outlives_the_process() {
    let certificate = Certificate::new("mta-sts.d.test");
    let web = Peer::web(&certificate, &[&ok(POLICY)]);
    let port = web.port;
    let got = block_on(async move {
        let shelf: Rc<Shelf> = Rc::default();
        let script = Script::new(DNS);
        let first = keeper(&script, &certificate, port, shelf.clone());
        let first = told(&first.find("d.test", soon()).await);
        script.forget("_mta-sts.d.test", Kind::Txt);
        let second = keeper(&script, &certificate, port, shelf);
        (first, told(&second.find("d.test", soon()).await))
    });
    assert_eq!(
        got.expect("a shard"),
        ("1 enforce".to_owned(), "1 enforce".to_owned())
    );
    web.join();
}

#[test]
fn several_who_ask_at_the_same_time_fetch_once() {
    let certificate = Certificate::new("mta-sts.d.test");
    let web = Peer::web(&certificate, &[&ok(POLICY)]);
    let port = web.port;
    let got = block_on(async move {
        let keeper = keeper(&Script::new(DNS), &certificate, port, Rc::new(Unkept));
        let finds = (0..20).map(|_| keeper.find("d.test", soon()));
        all(finds).await.iter().map(told).collect::<Vec<_>>()
    });
    assert!(got.expect("a shard").iter().all(|told| told == "1 enforce"));
    web.join();
}

/// A web server that says nothing holds nobody's mail up: not now, and not the next time at all.
#[test]
fn a_silent_server_is_given_up() {
    let certificate = Certificate::new("mta-sts.d.test");
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let (first, second, late) = block_on(async move {
        let keeper = keeper(&Script::new(DNS), &certificate, port, Rc::new(Unkept));
        let until = Deadline::after(now(), Duration::from_millis(400));
        let first = told(&keeper.find("d.test", until).await);
        let is_late = now() >= until.0;
        (first, told(&keeper.find("d.test", soon()).await), is_late)
    })
    .expect("a shard");
    let want = "none; its MTA-STS policy was not fetched: the web server ";
    assert!(
        first.starts_with(want) && second == first && !late,
        "{first}; {second}"
    );
}
