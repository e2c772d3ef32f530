//! The few fields of an X.509 certificate that choosing and checking need (RFC 5280 4.1): validity
//! and DNS names of the operator's own files; key and issuer of a peer's, for DANE to compare.
//! Whether a peer's certificate is good is for rustls to say.

use std::ops::RangeInclusive;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::base::UnixMs;

/// Validity and names of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    pub valid: RangeInclusive<UnixMs>,
    /// DNS names in lower case, wildcards as they stand.
    pub names: Vec<String>,
}

/// What of a certificate is compared with other data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts<'c> {
    /// The contents of the issuer's name, without tag and length.
    pub issuer: &'c [u8],
    /// SubjectPublicKeyInfo, with tag and length.
    pub key: &'c [u8],
}

const SEQUENCE: u8 = 0x30;
const OID: u8 = 0x06;
const BOOLEAN: u8 = 0x01;
const OCTET_STRING: u8 = 0x04;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const DNS_NAME: u8 = 0x82;
/// id-ce-subjectAltName, 2.5.29.17.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// Takes `certificate` (DER) apart; `None` if it is none.
#[must_use]
pub fn parts(certificate: &[u8]) -> Option<Parts<'_>> {
    let mut certificate = Der(certificate).expect(SEQUENCE)?;
    let mut tbs = certificate.expect(SEQUENCE)?;
    tbs.optional(VERSION);
    tbs.next()?; // serialNumber
    tbs.expect(SEQUENCE)?; // signature
    let issuer = tbs.expect(SEQUENCE)?.0;
    tbs.expect(SEQUENCE)?; // validity
    tbs.expect(SEQUENCE)?; // subject
    let key = tbs.0;
    tbs.expect(SEQUENCE)?; // subjectPublicKeyInfo
    let key = &key[..key.len() - tbs.0.len()];
    Some(Parts { issuer, key })
}

/// The contents of one element that is a SEQUENCE and nothing else.
#[must_use]
pub fn sequence(der: &[u8]) -> Option<&[u8]> {
    let mut der = Der(der);
    let body = der.expect(SEQUENCE)?;
    der.0.is_empty().then_some(body.0)
}

/// Reads `certificate` (DER); `None` if it is none.
#[must_use]
pub fn summary(certificate: &[u8]) -> Option<Summary> {
    let mut certificate = Der(certificate).expect(SEQUENCE)?;
    let mut tbs = certificate.expect(SEQUENCE)?;
    tbs.optional(VERSION);
    tbs.next()?; // serialNumber
    tbs.expect(SEQUENCE)?; // signature
    tbs.expect(SEQUENCE)?; // issuer
    let mut validity = tbs.expect(SEQUENCE)?;
    let valid = validity.time()?..=validity.time()?;
    tbs.expect(SEQUENCE)?; // subject
    tbs.expect(SEQUENCE)?; // subjectPublicKeyInfo
    let mut names = Vec::new();
    while let Some((tag, body)) = tbs.next() {
        if tag == EXTENSIONS {
            names = dns_names(body)?;
        }
    }
    Some(Summary { valid, names })
}

fn dns_names(mut extensions: Der<'_>) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut extensions = extensions.expect(SEQUENCE)?;
    while let Some((SEQUENCE, mut extension)) = extensions.next() {
        let oid = extension.expect(OID)?;
        extension.optional(BOOLEAN); // critical
        let mut value = extension.expect(OCTET_STRING)?;
        if oid.0 != SUBJECT_ALT_NAME {
            continue;
        }
        let mut general_names = value.expect(SEQUENCE)?;
        while let Some((tag, name)) = general_names.next() {
            if tag == DNS_NAME {
                names.push(std::str::from_utf8(name.0).ok()?.to_ascii_lowercase());
            }
        }
    }
    Some(names)
}

struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next element: its tag and its contents.
    fn next(&mut self) -> Option<(u8, Der<'a>)> {
        let (&[tag, first], rest) = self.0.split_first_chunk()?;
        let (len, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x83 => {
                let (len, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (
                    len.iter().fold(0, |n, byte| n << 8 | usize::from(*byte)),
                    rest,
                )
            }
            _ => return None,
        };
        let (body, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some((tag, Der(body)))
    }

    fn expect(&mut self, tag: u8) -> Option<Der<'a>> {
        self.next()
            .filter(|(found, _)| *found == tag)
            .map(|(_, body)| body)
    }

    fn optional(&mut self, tag: u8) {
        if self.0.first() == Some(&tag) {
            self.next();
        }
    }

    /// RFC 5280 4.1.2.5: UTCTime to 2049, GeneralizedTime from 2050, both in UTC with seconds.
    fn time(&mut self) -> Option<UnixMs> {
        let (tag, text) = self.next()?;
        let text = std::str::from_utf8(text.0).ok()?.strip_suffix('Z')?;
        let (year, rest) = text.split_at_checked(if tag == UTC_TIME { 2 } else { 4 })?;
        if !matches!(tag, UTC_TIME | GENERALIZED_TIME) || rest.len() != 10 {
            return None;
        }
        let year: i16 = year.parse().ok()?;
        let year = match (tag, year) {
            (UTC_TIME, 50..) => 1900 + year,
            (UTC_TIME, _) => 2000 + year,
            _ => year,
        };
        let field = |at: usize| rest.get(at..at + 2)?.parse::<i8>().ok();
        let civil = DateTime::new(
            year,
            field(0)?,
            field(2)?,
            field(4)?,
            field(6)?,
            field(8)?,
            0,
        )
        .ok()?;
        let time = civil.to_zoned(TimeZone::UTC).ok()?;
        Some(UnixMs(time.timestamp().as_millisecond()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn certificate(until_year: i32) -> Vec<u8> {
        let names = ["Mail.example.org".to_owned(), "*.example.net".to_owned()];
        let mut params = rcgen::CertificateParams::new(names).expect("names");
        params.not_before = rcgen::date_time_ymd(2020, 2, 29);
        params.not_after = rcgen::date_time_ymd(until_year, 12, 31);
        let key = rcgen::KeyPair::generate().expect("a key");
        params
            .self_signed(&key)
            .expect("a certificate")
            .der()
            .to_vec()
    }

    #[test]
    fn the_key_is_the_whole_element() {
        let params = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).expect("a name");
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let parts = parts(certificate.der()).expect("parts");
        assert_eq!(
            parts.key,
            rcgen::PublicKeyData::subject_public_key_info(&key)
        );
        assert_eq!(
            sequence(parts.key).map(<[u8]>::len),
            Some(parts.key.len() - 2)
        );
        assert_eq!(sequence(parts.issuer), None);
    }

    #[test]
    fn names_and_both_kinds_of_time() {
        for (year, until) in [(2049, 2_524_521_600_000), (2050, 2_556_057_600_000)] {
            let summary = summary(&certificate(year)).expect("a summary");
            assert_eq!(summary.valid, UnixMs(1_582_934_400_000)..=UnixMs(until));
            assert_eq!(summary.names, ["mail.example.org", "*.example.net"]);
        }
    }

    proptest! {
        #[test]
        fn damaged_certificates_never_panic(at in 0usize..400, with: u8, cut in 0usize..400) {
            let mut der = certificate(2049);
            let at = at % der.len();
            der[at] = with;
            let _ = summary(&der);
            let _ = summary(&der[..cut.min(der.len())]);
            let _ = parts(&der);
            let _ = parts(&der[..cut.min(der.len())]);
        }
    }
}
