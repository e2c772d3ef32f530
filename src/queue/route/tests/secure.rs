//! Policies for TLS, from the DNS to a connection.

use std::rc::Rc;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;

use super::peers::{Certificate, Peer};
use super::*;
use crate::net::public_key;
use crate::queue::client::Client;
use crate::queue::route::report::PolicyTally;
use crate::runtime::{block_on, unix_now};

/// Hops with what each is asked, or why there are none.
#[track_caller]
fn check(config: &str, dns: &str, destination: &'static str, want: &str) {
    let router = World::new(config, dns).router();
    let got = simulate(1, BEGIN, async move {
        match router.plan(destination, soon()).await {
            Ok(plan) => {
                let each = plan.hops.iter().map(ToString::to_string);
                each.collect::<Vec<_>>().join("; ")
            }
            failed => told(&failed),
        }
    });
    assert!(got.starts_with(want), "{got}\nand not {want}");
}

const TLSA: &str = "3 1 1 0707070707070707070707070707070707070707070707070707070707070707";

/// RFC 7672 2.2: all that leads to the records must be signed.
#[test]
fn dane_is_for_signed_zones() {
    let dane = "a.mx at 192.0.2.1:25: TLS verified by DANE (DANE: 1 TLSA records)";
    let plain = "a.mx at 192.0.2.1:25: TLS if offered (no policy)";
    let tlsa = format!("secure _25._tcp.a.mx TLSA {TLSA}");
    let signed = "secure d.test MX 1 a.mx\nsecure a.mx A 192.0.2.1\nsecure a.mx AAAA none\n";
    check("", &format!("{signed}{tlsa}"), "d.test", dane);
    check(
        "",
        &format!("{signed}{}", tlsa.replace("secure ", "")),
        "d.test",
        plain,
    );
    check(
        "",
        &format!("{}{tlsa}", signed.replace("secure d", "d")),
        "d.test",
        plain,
    );
    check(
        "",
        &format!("{}{tlsa}", signed.replace("secure a.mx A ", "a.mx A ")),
        "d.test",
        plain,
    );
    check(
        "",
        &format!("{signed}secure _25._tcp.a.mx TLSA none"),
        "d.test",
        plain,
    );
    let unusable = format!("{signed}{}", tlsa.replace("3 1 1", "1 1 1"));
    check(
        "",
        &unusable,
        "d.test",
        "a.mx at 192.0.2.1:25: TLS with anybody (DANE: no TLSA record",
    );
    let unknown = "4.4.3 no host may have it: a.mx: its TLSA records are not known";
    for failure in ["servfail", "bogus", "timeout"] {
        check(
            "",
            &format!("{signed}_25._tcp.a.mx TLSA {failure}"),
            "d.test",
            unknown,
        );
    }
    // The next host is not held up by one whose records are not known.
    let second = "secure d.test MX 2 b.mx\nsecure b.mx A 192.0.2.2\nsecure b.mx AAAA none";
    check(
        "",
        &format!("{signed}_25._tcp.a.mx TLSA bogus\n{second}"),
        "d.test",
        "b.mx at 192.0.2.2:25: TLS if offered",
    );
    // Without MX the domain is the host.
    let implicit = format!(
        "secure d.test MX none\nsecure d.test A 192.0.2.1\nsecure d.test AAAA none\n\
         secure _25._tcp.d.test TLSA {TLSA}"
    );
    check(
        "",
        &implicit,
        "d.test",
        "d.test at 192.0.2.1:25: TLS verified by DANE",
    );
    // RFC 7672 2.2.2: an alias is looked for under its own name first.
    let alias = "secure d.test MX 1 a.mx\nsecure a.mx CNAME real.mx\nsecure real.mx A 192.0.2.1\n\
                 secure real.mx AAAA none\n";
    let real = format!("{alias}secure _25._tcp.real.mx TLSA {TLSA}\n{tlsa}");
    check(
        "",
        &real,
        "d.test",
        "real.mx at 192.0.2.1:25: TLS verified by DANE",
    );
    check("", &format!("{alias}{tlsa}"), "d.test", dane);
}

#[test]
fn the_site_has_its_own_idea() {
    let tlsa = format!("secure _25._tcp.a.mx TLSA {TLSA}\nsecure _2525._tcp.a.mx TLSA {TLSA}");
    let dns = format!(
        "secure d.test MX 1 a.mx\nsecure a.mx A 192.0.2.1\nsecure a.mx AAAA none\n{tlsa}\n\
         e.test MX 1 a.mx"
    );
    let route = |rest: &str| format!("[[route]]\ndomain = \"*\"\n{rest}");
    let check = |config: &str, to: &'static str, want: &str| check(config, &dns, to, want);
    let at = "a.mx at 192.0.2.1:25: ";
    let (never, dane) = (format!("{at}no TLS"), format!("{at}TLS verified by DANE"));
    check(&route("tls = \"none\""), "d.test", never.as_str());
    check(
        &route("tls = \"opportunistic\""),
        "d.test",
        &format!("{at}TLS if offered (this site"),
    );
    check(&route("tls = \"verified\""), "d.test", &dane);
    check(
        &route("tls = \"verified\""),
        "e.test",
        &format!("{at}TLS verified by an authority"),
    );
    let hop = "hop = \"a.mx:2525\"";
    check(
        &route(hop),
        "e.test",
        "a.mx at 192.0.2.1:2525: TLS verified by DANE",
    );
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("password");
    std::fs::write(&file, "secret").expect("a file");
    let login = format!(
        "{hop}\nuser = \"me\"\npassword_file = \"{}\"",
        file.display()
    );
    check(
        &route(&login),
        "e.test",
        "a.mx at 192.0.2.1:2525: TLS verified by an authority (this site: verified), with log-in",
    );
}

/// REQUIRETLS wants somebody to vouch for the way, and the host to be proven.
#[test]
fn who_may_have_what_asks_for_tls() {
    let check = |config: &str, dns: &str, want: &str| {
        let router = World::new(config, dns).router();
        let got = simulate(1, BEGIN, async move {
            let plan = router.plan("d.test", soon()).await.expect("a plan");
            match plan.with_required_tls() {
                Ok(hops) => hops[0].to_string(),
                Err(why) => format!("{} {why}", why.enhanced()),
            }
        });
        assert!(got.starts_with(want), "{got}\nand not {want}");
    };
    let signed = "secure d.test MX 1 a.mx\nsecure a.mx A 192.0.2.1\nsecure a.mx AAAA none\n";
    let authority = "a.mx at 192.0.2.1:25: TLS verified by an authority (no policy)";
    check("", signed, authority);
    let tlsa = format!("{signed}secure _25._tcp.a.mx TLSA {TLSA}");
    check("", &tlsa, "a.mx at 192.0.2.1:25: TLS verified by DANE");
    check(
        "",
        &signed.replace("secure ", ""),
        "5.7.30 the sender asked for verified TLS",
    );
    check(
        "[[route]]\ndomain = \"*\"\ntls = \"none\"",
        signed,
        "5.7.30 ",
    );
    let smarthost = "[smtp.relay]\nsmarthost = \"a.mx:25\"";
    check(
        smarthost,
        "a.mx A 192.0.2.1",
        "a.mx at 192.0.2.1:25: TLS verified by an authority",
    );
}

/// What a connection comes to: the judgement, what it is worth, and what is counted.
fn connect(
    dns: &str,
    certificate: &Certificate,
    (mx_port, https_port): (u16, u16),
) -> (String, Vec<PolicyTally>) {
    let config = "[smtp.relay]\nlocal_addresses = true\n";
    let world = World::new(config, dns);
    let file = certificate.file();
    let walk = async move {
        let settings = world.settings_with(|settings| settings.with_ports(mx_port, https_port));
        let resolver = Resolver::scripted(world.script.clone());
        let tls = OutgoingTls::load(Some(&file)).expect("a good file");
        let router = Router::new(settings, resolver, tls.clone(), Rc::new(Unkept), 7);
        let plan = router.plan("d.test", soon()).await.expect("a plan");
        let hop = &plan.hops[0];
        let terms = Rc::new(hop.terms(&ours()));
        let told = match Client::open(hop.address, hop.source, terms, &tls).await {
            Err(unopened) => {
                let end = SessionEnd::Unopened(&unopened.trouble);
                router.count("d.test", hop, &unopened.facts, end);
                unopened.trouble.to_string()
            }
            Ok(mut client) => {
                let judged = hop.judge(client.facts(), unix_now());
                let end = match &judged {
                    Ok(_) => SessionEnd::Used,
                    Err(misfit) => SessionEnd::Misfit(misfit),
                };
                router.count("d.test", hop, client.facts(), end);
                if let Ok(standing) = judged {
                    client.judged(standing.is_verified);
                }
                client.quit().await;
                match judged {
                    Ok(standing) => format!("{standing:?}"),
                    Err(misfit) => misfit.to_string(),
                }
            }
        };
        let tomorrow = report::Day::of(UnixMs(unix_now().0 + 2 * 86_400_000));
        let mut days = router.with_tally(|tally| tally.before(tomorrow));
        (told, days.pop().expect("a day").1)
    };
    block_on(walk).expect("a shard")
}

/// RFC 8460 5.4: to who is there for sure, and taken only where the server says so.
#[test]
fn reports_are_posted() {
    const BODY: &[u8] = b"as if it were packed";
    let check = |names: &str, answer: &str, want: &str| {
        let certificate = Certificate::new(names);
        let web = Peer::reports(&certificate, BODY, &[answer]);
        let world = World::new(
            "[smtp.relay]\nlocal_addresses = true\n",
            "reports.d.test A 127.0.0.1",
        );
        let (file, port) = (certificate.file(), web.port);
        let posted = async move {
            let settings = world.settings_with(|settings| settings.with_ports(1, port));
            let resolver = Resolver::scripted(world.script.clone());
            let tls = OutgoingTls::load(Some(&file)).expect("a good file");
            let router = Router::new(settings, resolver, tls, Rc::new(Unkept), 7);
            let uri = "https://reports.d.test/v1?of=d";
            match router.post_report(uri, BODY).await {
                Ok(()) => "taken".to_owned(),
                Err(why) => why.to_string(),
            }
        };
        let got = block_on(posted).expect("a shard");
        assert!(got.contains(want), "{got}\nand not {want}");
        web.join();
    };
    let reports = "reports.d.test";
    check(reports, "HTTP/1.1 201 Created\r\n\r\n", "taken");
    let meanwhile = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
    check(reports, meanwhile, "taken");
    let moved = "HTTP/1.1 301 Moved\r\nLocation: https://b.test/\r\n\r\n";
    check(reports, moved, "answered 301");
    check(reports, "220 mx\r\n\r\n", "no answer of HTTP");
    check("other.test", "HTTP/1.1 200 OK\r\n\r\n", "not verified");
}

/// RFC 8461 4.2: a certificate that is not the host's is as good as none.
#[test]
fn a_policy_of_a_domain_wants_the_right_certificate() {
    let check = |names: &str, mode: &str, want: &str, failure: &str| {
        let certificate = Certificate::new(names);
        let mail = Peer::mail(&certificate, 1);
        let body = format!("version: STSv1\nmode: {mode}\nmx: a.mx\nmax_age: 86400\n");
        let web = Peer::web(&certificate, &[&text_plain(&body)]);
        let dns = "_mta-sts.d.test TXT v=STSv1; id=7;\nmta-sts.d.test A 127.0.0.1\n\
                   d.test MX 1 a.mx\na.mx A 127.0.0.1";
        let (told, tallies) = connect(dns, &certificate, (mail.port, web.port));
        assert!(told.contains(want), "{told}\nand not {want}");
        let [tally] = &tallies[..] else {
            panic!("{tallies:?}");
        };
        assert_eq!(tally.policy.kind.name(), "sts");
        let failures: Vec<&str> = tally.counts.details.keys().map(|f| f.kind.name()).collect();
        assert_eq!(failures.join(" "), failure);
        mail.join();
        web.join();
    };
    let both = "mta-sts.d.test a.mx";
    check(both, "enforce", "is_verified: true", "");
    check(both, "testing", "is_verified: false", "");
    let alone = "mta-sts.d.test";
    let mismatch = "certificate-host-mismatch";
    check(alone, "enforce", "the host is not verified: ", mismatch);
    check(alone, "testing", "is_verified: false", mismatch);
}

fn text_plain(body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{body}")
}

#[test]
fn a_host_is_judged_by_its_zone() {
    let check = |name: &str, dns: &str, want: &str, kind: &str, counts: (u64, u64)| {
        let certificate = Certificate::new(name);
        let key = public_key(&certificate.der).expect("a key");
        let right = HEXLOWER.encode(digest(&SHA256, key).as_ref());
        let peer = Peer::mail(&certificate, 1);
        let dns = dns
            .replace("PORT", &peer.port.to_string())
            .replace("RIGHT", &right);
        let (told, tallies) = connect(&dns, &certificate, (peer.port, 443));
        assert!(told.contains(want), "{told}\nand not {want}");
        let [tally] = &tallies[..] else {
            panic!("{tallies:?}");
        };
        assert_eq!(tally.policy.kind.name(), kind);
        assert_eq!((tally.counts.successes, tally.counts.failures), counts);
        peer.join();
    };
    let signed = "secure d.test MX 1 a.mx\nsecure a.mx A 127.0.0.1\nsecure a.mx AAAA none\n";
    let tlsa = |data: &str| format!("{signed}secure _PORT._tcp.a.mx TLSA 3 1 1 {data}");
    check(
        "other.mx",
        &tlsa("RIGHT"),
        "is_verified: true",
        "tlsa",
        (1, 0),
    );
    check(
        "a.mx",
        &tlsa(&"07".repeat(32)),
        "none of its certificates is one",
        "tlsa",
        (0, 1),
    );
    check(
        "a.mx",
        signed,
        "is_verified: true",
        "no-policy-found",
        (1, 0),
    );
    check(
        "other.mx",
        signed,
        "is_verified: false",
        "no-policy-found",
        (1, 0),
    );
    let plain = &signed.replace("secure ", "");
    check(
        "a.mx",
        plain,
        "is_verified: false",
        "no-policy-found",
        (1, 0),
    );
}

/// RFC 8461 5: hosts that the policy does not name get nothing; in testing they are told of.
#[test]
fn policies_of_domains() {
    let certificate = Certificate::new("mta-sts.d.test");
    let plan = |policy: &str| {
        let body = format!("version: STSv1\n{policy}\nmax_age: 86400\n");
        let web = Peer::web(&certificate, &[&text_plain(&body)]);
        let dns = "_mta-sts.d.test TXT v=STSv1; id=7;\nmta-sts.d.test A 127.0.0.1\n\
                   d.test MX 1 a.mx\nd.test MX 2 b.mx\na.mx A 192.0.2.1\nb.mx A 192.0.2.2";
        let world = World::new("[smtp.relay]\nlocal_addresses = true\n", dns);
        let (port, file) = (web.port, certificate.file());
        let got = block_on(async move {
            let settings = world.settings_with(|settings| settings.with_ports(25, port));
            let resolver = Resolver::scripted(world.script.clone());
            let tls = OutgoingTls::load(Some(&file)).expect("a good file");
            let router = Router::new(settings, resolver, tls, Rc::new(Unkept), 7);
            match router.plan("d.test", soon()).await {
                Ok(plan) => {
                    let hops = plan.hops.iter().map(ToString::to_string);
                    let told = hops.chain(plan.notes.iter().cloned());
                    told.collect::<Vec<_>>().join("; ")
                }
                failed => told(&failed),
            }
        });
        web.join();
        got.expect("a shard")
    };
    assert_eq!(
        plan("mode: enforce\nmx: b.mx"),
        "b.mx at 192.0.2.2:25: TLS verified by an authority (MTA-STS: enforce, id 7); \
         a.mx: the domain's MTA-STS policy does not name it"
    );
    assert_eq!(
        plan("mode: enforce\nmx: c.mx"),
        "4.7.5 no host may have it: b.mx: the domain's MTA-STS policy does not name it"
    );
    assert_eq!(
        plan("mode: testing\nmx: b.mx"),
        "a.mx at 192.0.2.1:25: TLS if offered (MTA-STS: testing, id 7); \
         b.mx at 192.0.2.2:25: TLS if offered (MTA-STS: testing, id 7)"
    );
    assert!(plan("mode: none").starts_with("a.mx at 192.0.2.1:25: TLS if offered (no policy)"));
}
