//! The report of one domain and one day (RFC 8460 4.4), and the mail that carries it (5.3).

use std::io::{self, Write as _};

use data_encoding::BASE64;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::tally::{Day, Failure, PolicyTally};
use crate::base::{TraceId, UnixMs};
use crate::wire::dates::{DateTime, format_date};

/// Octets of base64 on one line (RFC 2045 6.8).
const LINE_BYTES: usize = 76;

/// A report: what was counted for `domain` on `day`.
#[derive(Clone, Debug)]
pub struct Report<'r> {
    pub id: TraceId,
    /// Who reports, such as the name of the site.
    pub organization: &'r str,
    /// Our domain.
    pub submitter: &'r str,
    /// An address of ours that answers.
    pub contact: &'r str,
    /// Whom it is for.
    pub domain: &'r str,
    pub day: Day,
    pub tallies: &'r [PolicyTally],
}

/// A mail that carries a report.
#[derive(Clone, Debug)]
pub struct ReportMail<'r> {
    pub from: &'r str,
    pub to: &'r str,
    pub now: UnixMs,
}

impl Report<'_> {
    /// RFC 8460 4.4.
    #[must_use]
    pub fn json(&self) -> Value {
        let policies: Vec<Value> = self.tallies.iter().map(policy).collect();
        json!({
            "organization-name": self.organization,
            "date-range": {
                "start-datetime": rfc3339(self.day.begin()),
                "end-datetime": rfc3339(self.day.end()),
            },
            "contact-info": self.contact,
            "report-id": self.report_id(),
            "policies": policies,
        })
    }

    /// The report as it is sent, by mail or posted as `application/tlsrpt+gzip`.
    pub fn gzipped(&self) -> io::Result<Vec<u8>> {
        let mut out = GzEncoder::new(Vec::new(), Compression::default());
        out.write_all(self.json().to_string().as_bytes())?;
        out.finish()
    }

    /// RFC 8460 5.1.
    #[must_use]
    pub fn file_name(&self) -> String {
        let (begin, end) = (self.day.begin().seconds(), self.day.end().seconds());
        let (from, of, id) = (self.submitter, self.domain, self.id);
        format!("{from}!{of}!{begin}!{end}!{id}.json.gz")
    }

    /// The message (RFC 8460 5.3), with CRLF line ends; who sends it signs it.
    pub fn compose(&self, mail: &ReportMail<'_>) -> io::Result<Vec<u8>> {
        let boundary = format!("{}.tlsrpt", self.id);
        let (domain, submitter) = (self.domain, self.submitter);
        let date = format_date(DateTime {
            at: mail.now,
            zone_minutes: 0,
        });
        let head = format!(
            "From: <{from}>\r\nTo: <{to}>\r\nDate: {date}\r\n\
             Subject: Report Domain: {domain}\r\n\tSubmitter: {submitter}\r\n\
             \tReport-ID: <{id}>\r\n\
             Message-ID: <{id}>\r\nAuto-Submitted: auto-generated\r\n\
             TLS-Report-Domain: {domain}\r\nTLS-Report-Submitter: {submitter}\r\n\
             MIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=\"tlsrpt\";\r\n\
             \tboundary=\"{boundary}\"\r\n\r\n",
            from = mail.from,
            to = mail.to,
            id = self.report_id(),
        );
        let words = format!(
            "--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\
             This is a report about TLS in connections from {submitter} to the mail\r\n\
             servers of {domain}, made by a program for a program (RFC 8460).\r\n\
             Questions: {contact}\r\n",
            contact = self.contact,
        );
        let name = self.file_name();
        let file = format!(
            "--{boundary}\r\nContent-Type: application/tlsrpt+gzip\r\n\
             Content-Transfer-Encoding: base64\r\n\
             Content-Disposition: attachment;\r\n\tfilename=\"{name}\"\r\n\r\n"
        );
        let mut out = [head, words, file].concat().into_bytes();
        let base64 = BASE64.encode(&self.gzipped()?);
        for line in base64.as_bytes().chunks(LINE_BYTES) {
            out.extend_from_slice(line);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        Ok(out)
    }

    fn report_id(&self) -> String {
        format!("{}.tlsrpt@{}", self.id, self.submitter)
    }
}

/// RFC 3339 5.6, in UTC.
fn rfc3339(at: UnixMs) -> String {
    let time = jiff::Timestamp::from_second(at.seconds());
    time.unwrap_or_default().to_string()
}

fn policy(tally: &PolicyTally) -> Value {
    let (key, counts) = (&tally.policy, &tally.counts);
    let mut policy = json!({
        "policy-type": key.kind.name(),
        "policy-string": key.strings,
        "policy-domain": key.domain,
    });
    if !key.mx.is_empty() {
        policy["mx-host"] = json!(key.mx);
    }
    let details: Vec<Value> = counts.details.iter().map(detail).collect();
    let mut told = json!({
        "policy": policy,
        "summary": {
            "total-successful-session-count": counts.successes,
            "total-failure-session-count": counts.failures,
        },
    });
    if !details.is_empty() {
        told["failure-details"] = json!(details);
    }
    told
}

fn detail((failure, count): (&Failure, &u64)) -> Value {
    let mut told = json!({
        "result-type": failure.kind.name(),
        "failed-session-count": count,
    });
    let fields = [
        ("sending-mta-ip", failure.ours.map(|ip| ip.to_string())),
        ("receiving-mx-hostname", failure.mx.clone()),
        ("receiving-ip", failure.theirs.map(|ip| ip.to_string())),
        ("failure-reason-code", Some(failure.words.clone())),
    ];
    for (name, text) in fields {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            told[name] = json!(text);
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;
    use crate::queue::route::report::{Counts, FailureKind, PolicyKey, PolicyKind, Tally};

    fn tallies() -> Vec<PolicyTally> {
        let failure = Failure {
            kind: FailureKind::CertificateExpired,
            ours: Some("192.0.2.9".parse().expect("an address")),
            mx: Some("a.mx".to_owned()),
            theirs: Some("2001:db8::1".parse().expect("an address")),
            words: "certificate expired".to_owned(),
        };
        let sts = PolicyKey {
            kind: PolicyKind::Sts,
            strings: vec!["version: STSv1".to_owned(), "mode: testing".to_owned()],
            mx: vec!["*.mx".to_owned()],
            ..PolicyKey::none("d.test")
        };
        let mut tally = Tally::default();
        for session in [Ok(()), Ok(()), Err(failure.clone()), Err(failure)] {
            tally.count(DAY, sts.clone(), session);
        }
        let mut tallies = tally.before(Day::of(UnixMs(i64::MAX)));
        let mut tallies = tallies.pop().expect("a day").1;
        tallies[0].counts.merge(Counts {
            successes: 1,
            ..Counts::default()
        });
        tallies
    }

    /// 2016-04-01, as in the example of RFC 8460.
    const DAY: Day = Day::of_days(16_892);

    fn report(tallies: &[PolicyTally]) -> Report<'_> {
        Report {
            id: TraceId::new(UnixMs(0), 7),
            organization: "Test University",
            submitter: "me.test",
            contact: "postmaster@me.test",
            domain: "d.test",
            day: DAY,
            tallies,
        }
    }

    #[test]
    fn a_report_is_what_the_rfc_shows() {
        let tallies = tallies();
        let got = serde_json::to_string_pretty(&report(&tallies).json()).expect("plain values");
        insta::assert_snapshot!(got, @r#"
    {
      "contact-info": "postmaster@me.test",
      "date-range": {
        "end-datetime": "2016-04-01T23:59:59Z",
        "start-datetime": "2016-04-01T00:00:00Z"
      },
      "organization-name": "Test University",
      "policies": [
        {
          "failure-details": [
            {
              "failed-session-count": 2,
              "failure-reason-code": "certificate expired",
              "receiving-ip": "2001:db8::1",
              "receiving-mx-hostname": "a.mx",
              "result-type": "certificate-expired",
              "sending-mta-ip": "192.0.2.9"
            }
          ],
          "policy": {
            "mx-host": [
              "*.mx"
            ],
            "policy-domain": "d.test",
            "policy-string": [
              "version: STSv1",
              "mode: testing"
            ],
            "policy-type": "sts"
          },
          "summary": {
            "total-failure-session-count": 2,
            "total-successful-session-count": 3
          }
        }
      ],
      "report-id": "aaaaaaaaaaaaaaah.tlsrpt@me.test"
    }
    "#);
    }

    #[test]
    fn a_mail_carries_the_report() {
        let tallies = tallies();
        let report = report(&tallies);
        let mail = ReportMail {
            from: "postmaster@me.test",
            to: "tls@d.test",
            now: UnixMs(1_790_000_000_000),
        };
        let whole = String::from_utf8(report.compose(&mail).expect("memory")).expect("ASCII");
        assert!(
            whole.lines().all(|line| line.len() <= 998)
                && !whole.replace("\r\n", "").contains('\n')
        );
        for want in [
            "TLS-Report-Domain: d.test\r\n",
            "TLS-Report-Submitter: me.test\r\n",
            "report-type=\"tlsrpt\"",
            "Content-Type: application/tlsrpt+gzip\r\n",
            "me.test!d.test!1459468800!1459555199!",
        ] {
            assert!(whole.contains(want), "{want} is not in {whole}");
        }
        let file = whole.split(".json.gz\"\r\n\r\n").nth(1).expect("a file");
        let base64: String = file
            .lines()
            .take_while(|line| !line.starts_with("--"))
            .collect();
        let gzipped = BASE64.decode(base64.as_bytes()).expect("base64");
        let mut text = String::new();
        let read = GzDecoder::new(&gzipped[..]).read_to_string(&mut text);
        read.expect("gzip");
        assert_eq!(
            serde_json::from_str::<Value>(&text).expect("JSON"),
            report.json()
        );
    }
}
