//! The lines to paste, and how answers are judged.

use std::net::IpAddr;
use std::path::Path;

use super::dns::{Want, judge, records, reverse_name};
use super::tls;
use super::{Finding, Mark, to_text};
use crate::base::UnixMs;
use crate::config::Config;
use crate::dns::Rdata;
use crate::net::CertFacts;

fn config(more: &str) -> Config {
    let text = format!("hostname = \"mail.example.org\"\ndomains = [\"example.org\"]\n{more}");
    Config::parse(&text, "test").unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[track_caller]
fn check_lines(config: &Config, own: &[&str], want: &[&str]) {
    let own: Vec<IpAddr> = own.iter().map(|text| ip(text)).collect();
    let lines = records(config, &["example.org".to_owned()], &own);
    let squeezed = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let lines: Vec<String> = lines.iter().map(|record| squeezed(&record.line)).collect();
    assert_eq!(lines, want);
}

#[test]
fn lines_follow_from_names_addresses_and_listeners() {
    check_lines(
        &config(""),
        &["192.0.2.7", "2001:db8::7"],
        &[
            "mail.example.org. IN A 192.0.2.7",
            "mail.example.org. IN AAAA 2001:db8::7",
            "7.2.0.192.in-addr.arpa. IN PTR mail.example.org.",
            "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. IN PTR \
             mail.example.org.",
            "example.org. IN MX 10 mail.example.org.",
            "example.org. IN TXT \"v=spf1 mx -all\"",
            "_submissions._tcp.example.org. IN SRV 0 1 465 mail.example.org.",
            "_imaps._tcp.example.org. IN SRV 0 1 993 mail.example.org.",
            "_submission._tcp.example.org. IN SRV 10 1 587 mail.example.org.",
            "_pop3s._tcp.example.org. IN SRV 20 1 995 mail.example.org.",
        ],
    );
    // What only loopback can reach is announced to nobody.
    check_lines(
        &config("[[listener]]\nprotocol = \"imaps\"\naddress = \"127.0.0.1:993\"\n"),
        &[],
        &[
            "example.org. IN MX 10 mail.example.org.",
            "example.org. IN TXT \"v=spf1 mx -all\"",
        ],
    );
    assert_eq!(
        reverse_name(ip("198.51.100.9")),
        "9.100.51.198.in-addr.arpa"
    );
}

#[track_caller]
fn check_judged(want: &Want, answers: &[Rdata], mark: Mark) {
    assert_eq!(judge(want, answers).0, mark, "{want:?} {answers:?}");
}

#[test]
fn answers_are_ticked_or_crossed() {
    let mx = Want::Mx {
        domain: "example.org".to_owned(),
        host: "mail.example.org".to_owned(),
    };
    let answer = |host: &str| Rdata::Mx {
        preference: 5,
        host: host.to_owned(),
    };
    check_judged(&mx, &[answer("mail.example.org")], Mark::Good);
    check_judged(&mx, &[answer("other.example.org")], Mark::Warning);
    check_judged(&mx, &[], Mark::Bad);
    let spf = Want::Spf {
        domain: "example.org".to_owned(),
    };
    let text = |text: &str| Rdata::Text(text.to_owned());
    check_judged(&spf, &[text("v=spf1 a -all"), text("other")], Mark::Good);
    check_judged(&spf, &[text("v=spf1 a -all"), text("v=spf1 mx")], Mark::Bad);
    let ptr = Want::Ptr {
        ip: ip("192.0.2.7"),
        host: "mail.example.org".to_owned(),
    };
    check_judged(
        &ptr,
        &[Rdata::Name("host-7.isp.test".to_owned())],
        Mark::Bad,
    );
    check_judged(
        &ptr,
        &[Rdata::Name("mail.example.org".to_owned())],
        Mark::Good,
    );
}

#[test]
fn a_certificate_is_judged_by_name_and_time() {
    const DAY: i64 = 86_400_000;
    let check = |names: &[&str], until: i64, now: i64, want: Mark| {
        let facts = CertFacts {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            valid: UnixMs(0)..=UnixMs(until),
        };
        let wanted = ["mail.example.org".to_owned()];
        let finding = tls::judge(Path::new("cert.pem"), &facts, &wanted, UnixMs(now));
        assert_eq!(finding.mark, want, "{finding:?}");
    };
    check(&["mail.example.org"], 90 * DAY, DAY, Mark::Good);
    check(&["*.example.org"], 90 * DAY, DAY, Mark::Good);
    check(&["*.org"], 90 * DAY, DAY, Mark::Warning);
    check(&["mail.example.org"], 90 * DAY, 80 * DAY, Mark::Warning);
    check(&["mail.example.org"], 90 * DAY, 91 * DAY, Mark::Bad);
    check(&["mail.example.org"], 90 * DAY, -DAY, Mark::Bad);
}

#[test]
fn a_finding_shows_its_remedy() {
    let findings = [
        Finding::good("clock", "right"),
        Finding::bad("port", "taken", "take another"),
    ];
    let text = to_text(&findings, false);
    assert_eq!(
        text,
        "✓ clock        right\n✗ port         taken\n               -> take another\n"
    );
}
