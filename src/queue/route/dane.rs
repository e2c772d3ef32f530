//! DANE for SMTP (RFC 7672, RFC 7671): what TLSA records ask, and whether certificates answer it.
//! Pure; that the records come from a signed zone is for who asked to know.

use std::fmt;

use aws_lc_rs::digest;

use crate::base::UnixMs;
use crate::dns::Rdata;
use crate::net::{Anchor, Distrust, leads_to, public_key};
use crate::wire::smtp::Enhanced;

/// Records that are looked at; zones have two or four.
const RECORDS_MAX: usize = 32;
/// Certificates of a chain that are looked at.
const CHAIN_MAX: usize = 10;

/// What the TLSA records of a host ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tlsa {
    /// There are none: nothing is asked.
    Absent,
    /// None that we could check: TLS, with whoever is there (RFC 7672 2.2).
    Unusable,
    /// One of these must fit.
    Usable(Dane),
}

/// Usable records, and what the host may be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dane {
    records: Vec<Record>,
    /// For DANE-TA (RFC 7672 3.2.2).
    names: Vec<String>,
}

/// Why certificates are not those that the records ask for.
#[derive(Clone, Debug, PartialEq)]
pub enum Misfit {
    /// No record fits any of them.
    NoMatch,
    /// An authority that a record names is among them or signed them, and yet they are not good.
    Distrusted(Distrust),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    usage: Usage,
    selector: Selector,
    matching: Matching,
    data: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Usage {
    /// DANE-TA(2): who signed.
    Authority,
    /// DANE-EE(3): the host's own.
    Own,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Selector {
    Certificate,
    Key,
}

/// In order of strength.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Matching {
    Whole,
    Sha256,
    Sha512,
}

impl Tlsa {
    /// Reads what a look-up brought. `names`: the host, and the domain whose mail it takes.
    #[must_use]
    pub fn read(records: &[Rdata], names: Vec<String>) -> Self {
        if records.is_empty() {
            return Tlsa::Absent;
        }
        let records = records.iter().take(RECORDS_MAX);
        let usable: Vec<Record> = records.filter_map(Record::read).collect();
        // RFC 7671 9: of digests of the same thing only the strongest counts.
        let strongest = |of: &Record| {
            let same = |r: &&Record| (r.usage, r.selector) == (of.usage, of.selector);
            usable.iter().filter(same).map(|r| r.matching).max()
        };
        let counts =
            |r: &&Record| r.matching == Matching::Whole || Some(r.matching) == strongest(r);
        let records: Vec<Record> = usable.iter().filter(counts).cloned().collect();
        match records.is_empty() {
            true => Tlsa::Unusable,
            false => Tlsa::Usable(Dane { records, names }),
        }
    }
}

impl Record {
    /// `None` where we cannot use it: RFC 7672 3.1.3 leaves PKIX-TA(0) and PKIX-EE(1) out.
    fn read(record: &Rdata) -> Option<Self> {
        let Rdata::Tlsa {
            usage,
            selector,
            matching,
            data,
        } = record
        else {
            return None;
        };
        let usage = match usage {
            2 => Usage::Authority,
            3 => Usage::Own,
            _ => return None,
        };
        let selector = match selector {
            0 => Selector::Certificate,
            1 => Selector::Key,
            _ => return None,
        };
        let (matching, is_whole) = match matching {
            0 => (Matching::Whole, !data.is_empty()),
            1 => (Matching::Sha256, data.len() == digest::SHA256_OUTPUT_LEN),
            2 => (Matching::Sha512, data.len() == digest::SHA512_OUTPUT_LEN),
            _ => return None,
        };
        // A whole certificate must be one (RFC 7671 4.1); a key that is none fits nothing.
        let is_one =
            selector == Selector::Key || matching != Matching::Whole || public_key(data).is_some();
        (is_whole && is_one).then(|| Record {
            usage,
            selector,
            matching,
            data: data.clone(),
        })
    }

    fn fits(&self, certificate: &[u8]) -> bool {
        let selected = match self.selector {
            Selector::Certificate => Some(certificate),
            Selector::Key => public_key(certificate),
        };
        let Some(selected) = selected else {
            return false;
        };
        let hash = |algorithm| digest::digest(algorithm, selected).as_ref() == self.data;
        match self.matching {
            Matching::Whole => selected == self.data,
            Matching::Sha256 => hash(&digest::SHA256),
            Matching::Sha512 => hash(&digest::SHA512),
        }
    }

    /// An anchor that need not be in the chain, since the record has all of it (RFC 7671 5.2.2).
    fn anchor(&self) -> Option<Anchor<'_>> {
        match (self.usage, self.matching, self.selector) {
            (Usage::Authority, Matching::Whole, Selector::Certificate) => {
                Some(Anchor::Certificate(&self.data))
            }
            (Usage::Authority, Matching::Whole, Selector::Key) => Some(Anchor::Key(&self.data)),
            _ => None,
        }
    }
}

impl Dane {
    /// Whether the certificates that a host showed (DER, its own first) are those it should have.
    pub fn judge(&self, chain: &[Vec<u8>], now: UnixMs) -> Result<(), Misfit> {
        let chain = &chain[..chain.len().min(CHAIN_MAX)];
        let Some((own, others)) = chain.split_first() else {
            return Err(Misfit::NoMatch);
        };
        let of = |usage: Usage| self.records.iter().filter(move |r| r.usage == usage);
        // RFC 7671 5.1: neither its name nor its time matters.
        if of(Usage::Own).any(|record| record.fits(own)) {
            return Ok(());
        }
        let mut misfit = Misfit::NoMatch;
        for record in of(Usage::Authority) {
            let shown = others.iter().filter(|one| record.fits(one));
            let shown = shown.map(|one| Anchor::Certificate(one));
            for anchor in shown.chain(record.anchor()) {
                match leads_to(chain, anchor, &self.names, now) {
                    Ok(()) => return Ok(()),
                    Err(distrust) => misfit = Misfit::Distrusted(distrust),
                }
            }
        }
        Err(misfit)
    }

    /// The records, as TLS reports show them (RFC 8460 4.4).
    pub fn strings(&self) -> impl Iterator<Item = String> {
        self.records.iter().map(ToString::to_string)
    }
}

impl Misfit {
    /// The status of what could not be sent for it: cryptographic failure (RFC 3463 3.8).
    #[must_use]
    pub fn enhanced(&self) -> Enhanced {
        Enhanced {
            class: 4,
            subject: 7,
            detail: 5,
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usage = match self.usage {
            Usage::Authority => 2,
            Usage::Own => 3,
        };
        let (selector, matching) = (self.selector as u8, self.matching as u8);
        let data = data_encoding::HEXLOWER.encode(&self.data);
        write!(f, "{usage} {selector} {matching} {data}")
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Misfit::NoMatch => f.write_str("none of its certificates is one that DNSSEC names"),
            Misfit::Distrusted(why) => {
                write!(
                    f,
                    "its certificate does not lead to what DNSSEC names: {why}"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

    use super::*;

    const NOW: UnixMs = UnixMs(1_790_000_000_000);

    /// An authority, and a host's certificate that it signed.
    struct Chain {
        der: Vec<Vec<u8>>,
    }

    fn params(name: &str, until_year: i32) -> CertificateParams {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(until_year, 1, 1);
        params
    }

    impl Chain {
        fn new(host: &str, until_year: i32, root_until_year: i32) -> Self {
            let mut root = params("root.test", root_until_year);
            root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            root.distinguished_name
                .push(rcgen::DnType::CommonName, "root");
            let key = KeyPair::generate().expect("a key");
            let root = CertifiedIssuer::self_signed(root, key).expect("a root");
            let key = KeyPair::generate().expect("a key");
            let own = params(host, until_year)
                .signed_by(&key, &root)
                .expect("a certificate");
            Chain {
                der: vec![own.der().to_vec(), root.der().to_vec()],
            }
        }

        /// The record of this usage, selector and matching for the certificate at `at`.
        fn tlsa(&self, at: usize, usage: u8, selector: u8, matching: u8) -> Rdata {
            let whole = &self.der[at];
            let selected = match selector {
                0 => whole.as_slice(),
                _ => public_key(whole).expect("a key"),
            };
            let data = match matching {
                0 => selected.to_vec(),
                1 => digest::digest(&digest::SHA256, selected).as_ref().to_vec(),
                _ => digest::digest(&digest::SHA512, selected).as_ref().to_vec(),
            };
            Rdata::Tlsa {
                usage,
                selector,
                matching,
                data,
            }
        }
    }

    fn read(records: &[Rdata]) -> Tlsa {
        let names = vec!["mx.a.test".to_owned(), "example.test".to_owned()];
        Tlsa::read(records, names)
    }

    #[track_caller]
    fn check(records: &[Rdata], chain: &[Vec<u8>], want: &str) {
        let got = match read(records) {
            Tlsa::Absent => "absent".to_owned(),
            Tlsa::Unusable => "unusable".to_owned(),
            Tlsa::Usable(dane) => match dane.judge(chain, NOW) {
                Ok(()) => "good".to_owned(),
                Err(misfit) => misfit.to_string(),
            },
        };
        assert!(got.contains(want), "{got}, and not {want}");
    }

    const NO_MATCH: &str = "none of its certificates is one";
    const FORMS: [(u8, u8); 6] = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)];

    #[test]
    fn each_form_of_record() {
        let (chain, other) = (
            Chain::new("mx.a.test", 2040, 2040),
            Chain::new("mx.a.test", 2040, 2040),
        );
        for (selector, matching) in FORMS {
            let own = chain.tlsa(0, 3, selector, matching);
            check(std::slice::from_ref(&own), &chain.der, "good");
            check(std::slice::from_ref(&own), &chain.der[..1], "good");
            check(std::slice::from_ref(&own), &other.der, NO_MATCH);
            check(&[own], &[], NO_MATCH);
            let root = chain.tlsa(1, 2, selector, matching);
            check(std::slice::from_ref(&root), &chain.der, "good");
            let without = match matching {
                // The record has the root, so the chain need not.
                0 => "good",
                _ => NO_MATCH,
            };
            check(std::slice::from_ref(&root), &chain.der[..1], without);
            let wrong = match matching {
                0 => "does not lead to what DNSSEC names",
                _ => NO_MATCH,
            };
            check(std::slice::from_ref(&root), &other.der, wrong);
            // The right root beside a certificate that it did not sign.
            let mixed = [other.der[0].clone(), chain.der[1].clone()];
            check(&[root], &mixed, "does not lead to what DNSSEC names");
            // Of the other usage.
            check(
                &[chain.tlsa(1, 3, selector, matching)],
                &chain.der,
                NO_MATCH,
            );
            check(&[chain.tlsa(0, 2, selector, 1)], &chain.der, NO_MATCH);
        }
    }

    #[test]
    fn names_and_times_matter_to_who_is_signed_for() {
        let good = Chain::new("mx.a.test", 2040, 2040);
        let named = Chain::new("example.test", 2040, 2040);
        let wild = Chain::new("*.a.test", 2040, 2040);
        let stranger = Chain::new("other.test", 2040, 2040);
        let old = Chain::new("mx.a.test", 2024, 2040);
        let old_root = Chain::new("mx.a.test", 2040, 2024);
        for (chain, want) in [
            (&good, "good"),
            (&named, "good"),
            (&wild, "good"),
            (&stranger, "not valid for name"),
            (&old, "xpired"),
            (&old_root, "xpired"),
        ] {
            check(&[chain.tlsa(1, 2, 0, 1)], &chain.der, want);
            check(&[chain.tlsa(0, 3, 1, 1)], &chain.der, "good");
        }
    }

    #[test]
    fn what_cannot_be_used() {
        let chain = Chain::new("mx.a.test", 2040, 2040);
        let mut bad = Vec::new();
        for (usage, selector, matching) in [(0, 1, 1), (1, 1, 1), (4, 1, 1), (255, 1, 1)] {
            bad.push(chain.tlsa(0, usage, selector, matching));
        }
        let raw = |selector, matching, data: &[u8]| Rdata::Tlsa {
            usage: 3,
            selector,
            matching,
            data: data.to_vec(),
        };
        bad.push(raw(2, 1, &[7; 32]));
        bad.push(raw(1, 3, &[7; 32]));
        bad.push(raw(1, 1, &[7; 31]));
        bad.push(raw(1, 2, &[7; 32]));
        bad.push(raw(0, 0, b"no certificate"));
        bad.push(raw(0, 0, b""));
        check(&[], &chain.der, "absent");
        for record in &bad {
            check(std::slice::from_ref(record), &chain.der, "unusable");
        }
        check(&bad, &chain.der, "unusable");
        // One that can be used is enough to ask for it.
        bad.push(raw(1, 1, &[7; 32]));
        check(&bad, &chain.der, NO_MATCH);
        bad.push(chain.tlsa(0, 3, 1, 1));
        check(&bad, &chain.der, "good");
    }

    /// RFC 7671 9: who publishes both means the stronger one.
    #[test]
    fn the_strongest_digest_counts() {
        let (chain, other) = (
            Chain::new("mx.a.test", 2040, 2040),
            Chain::new("mx.a.test", 2040, 2040),
        );
        let weak = chain.tlsa(0, 3, 1, 1);
        let strong = other.tlsa(0, 3, 1, 2);
        check(&[weak.clone(), strong.clone()], &chain.der, NO_MATCH);
        check(&[weak.clone(), strong.clone()], &other.der, "good");
        check(&[weak, chain.tlsa(0, 3, 0, 2), strong], &chain.der, "good");
    }

    proptest! {
        /// Whatever a host shows is judged without a panic, and nothing but the right is good.
        #[test]
        fn damaged_certificates_fit_nothing(at in 0usize..900, change in 1u8.., cut in 0usize..900) {
            let chain = Chain::new("mx.a.test", 2040, 2040);
            let records = [chain.tlsa(0, 3, 0, 1), chain.tlsa(1, 2, 0, 1), chain.tlsa(1, 2, 1, 0)];
            let Tlsa::Usable(dane) = read(&records) else {
                panic!("usable");
            };
            let mut own = chain.der[0].clone();
            let at = at % own.len();
            own[at] ^= change;
            let damaged = [own.clone(), chain.der[1].clone()];
            prop_assert!(dane.judge(&damaged, NOW).is_err());
            own.truncate(cut.min(own.len() - 1));
            prop_assert!(dane.judge(&[own], NOW).is_err());
        }
    }
}
