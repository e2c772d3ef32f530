//! What a host is asked of TLS: the site's word, DANE, MTA-STS, or as much as there is. Pure.

use std::fmt;
use std::rc::Rc;

use super::dane::{Dane, Tlsa};
use super::sts::{Kept, Mode};
use crate::config::HopTls;
use crate::dns::DnsError;
use crate::queue::client::Security;

/// All that counts for one host.
#[derive(Clone, Copy, Debug)]
pub struct Case<'c> {
    pub host: &'c str,
    /// What the site asks, whatever the domain does.
    pub site: Option<HopTls>,
    /// What the zone of the host asks; absent where nothing is signed.
    pub tlsa: &'c Result<Tlsa, DnsError>,
    /// What the domain asks.
    pub sts: Option<&'c Rc<Kept>>,
    /// The host is the right one for sure: the site names it, or a signed zone does.
    pub is_authentic: bool,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    pub security: Security,
    pub proof: Proof,
    pub policy: Applied,
    /// The host is the right one for sure, not only as whoever answered for the DNS has it.
    pub is_authentic: bool,
}

/// What proves a host, once there is TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Nothing is asked.
    Nothing,
    /// An authority that we trust; the client sees to it before it says anything.
    Authority,
    /// A signed zone; judged after TLS, before anything that matters is said.
    Dane(Rc<Dane>),
}

/// The policy that this comes from, for those who are told (RFC 8460 4.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The site's own.
    Site(HopTls),
    /// There is none: what the host offers is taken.
    Nothing,
    Sts(Rc<Kept>),
    /// Usable records.
    Dane(Rc<Dane>),
    /// Records that cannot be used.
    DaneUnusable,
}

/// Why a host is left out. Each is for now, not for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeftOut {
    /// The domain's policy does not name it (RFC 8461 5).
    NotNamed,
    /// Whether its zone asks for something is not known (RFC 7672 2.1.2).
    Tlsa(DnsError),
}

impl Case<'_> {
    /// DANE comes before MTA-STS (RFC 8461 2), the site before both.
    pub fn decide(&self) -> Result<Demand, LeftOut> {
        let site = match self.site {
            Some(asked @ HopTls::None) => return Ok(self.demand(Security::Never, asked)),
            Some(asked @ HopTls::Opportunistic) => {
                return Ok(self.demand(Security::Opportunistic, asked));
            }
            site => site,
        };
        let tlsa = self.tlsa.as_ref();
        let tlsa = tlsa.map_err(|error| LeftOut::Tlsa(error.clone()))?;
        if let Tlsa::Usable(dane) = tlsa {
            let dane = Rc::new(dane.clone());
            return Ok(Demand {
                security: Security::Encrypted,
                proof: Proof::Dane(dane.clone()),
                policy: Applied::Dane(dane),
                is_authentic: self.is_authentic,
            });
        }
        let mode = self.sts.map(|kept| kept.policy.mode);
        if let (Some(kept), Some(Mode::Enforce)) = (self.sts, mode) {
            if !kept.policy.names(self.host) {
                return Err(LeftOut::NotNamed);
            }
            return Ok(Demand {
                security: Security::Verified,
                proof: Proof::Authority,
                policy: Applied::Sts(kept.clone()),
                is_authentic: true,
            });
        }
        if let Some(asked) = site {
            return Ok(Demand {
                proof: Proof::Authority,
                ..self.demand(Security::Verified, asked)
            });
        }
        let (security, policy) = match (tlsa, self.sts) {
            (Tlsa::Unusable, _) => (Security::Encrypted, Applied::DaneUnusable),
            (_, Some(kept)) => (Security::Opportunistic, Applied::Sts(kept.clone())),
            _ => (Security::Opportunistic, Applied::Nothing),
        };
        Ok(Demand {
            security,
            proof: Proof::Nothing,
            policy,
            is_authentic: self.is_authentic,
        })
    }

    fn demand(&self, security: Security, asked: HopTls) -> Demand {
        Demand {
            security,
            proof: Proof::Nothing,
            policy: Applied::Site(asked),
            is_authentic: self.is_authentic,
        }
    }
}

impl fmt::Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asked = match (self.security, &self.proof) {
            (Security::Never, _) => "no TLS",
            (Security::Opportunistic, _) => "TLS if offered",
            (_, Proof::Dane(_)) => "TLS verified by DANE",
            (Security::Encrypted, _) => "TLS with anybody",
            (Security::Verified, _) => "TLS verified by an authority",
        };
        write!(f, "{asked} ({})", self.policy)
    }
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Applied::Site(tls) => write!(f, "this site: {tls}"),
            Applied::Nothing => f.write_str("no policy"),
            Applied::Sts(kept) => write!(f, "MTA-STS: {}, id {}", kept.policy.mode, kept.id),
            Applied::Dane(dane) => write!(f, "DANE: {} TLSA records", dane.strings().count()),
            Applied::DaneUnusable => f.write_str("DANE: no TLSA record that can be used"),
        }
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LeftOut::NotNamed => f.write_str("the domain's MTA-STS policy does not name it"),
            LeftOut::Tlsa(error) => write!(f, "its TLSA records are not known: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::UnixMs;
    use crate::dns::Rdata;
    use crate::queue::route::sts::Policy;

    fn sts(mode: &str) -> Rc<Kept> {
        let text = format!("version: STSv1\nmode: {mode}\nmx: good.mx\nmax_age: 1000");
        Rc::new(Kept {
            id: "1".to_owned(),
            fetched: UnixMs(0),
            policy: Policy::parse(text.as_bytes()).expect("a policy"),
        })
    }

    fn tlsa(usage: u8) -> Result<Tlsa, DnsError> {
        let record = Rdata::Tlsa {
            usage,
            selector: 1,
            matching: 1,
            data: vec![7; 32],
        };
        Ok(Tlsa::read(&[record], Vec::new()))
    }

    #[test]
    fn who_comes_first() {
        let absent = Ok(Tlsa::Absent);
        let check = |site, tlsa: &Result<Tlsa, DnsError>, mode: &str, host: &str, want: &str| {
            let kept = (!mode.is_empty()).then(|| sts(mode));
            let case = Case {
                host,
                site,
                tlsa,
                sts: kept.as_ref(),
                is_authentic: false,
            };
            let got = match case.decide() {
                Ok(demand) => {
                    let sure = if demand.is_authentic {
                        ", for sure"
                    } else {
                        ""
                    };
                    format!("{demand}{sure}")
                }
                Err(why) => why.to_string(),
            };
            assert_eq!(got, want, "{site:?} {tlsa:?} {mode} {host}");
        };
        let dane = "TLS verified by DANE (DANE: 1 TLSA records)";
        let enforced = "TLS verified by an authority (MTA-STS: enforce, id 1), for sure";
        let not_named = "the domain's MTA-STS policy does not name it";
        let unknown = "its TLSA records are not known: no server answered in time";
        let testing = "TLS if offered (MTA-STS: testing, id 1)";
        check(None, &absent, "", "good.mx", "TLS if offered (no policy)");
        check(None, &absent, "enforce", "good.mx", enforced);
        check(None, &absent, "enforce", "bad.mx", not_named);
        check(None, &absent, "testing", "good.mx", testing);
        check(None, &absent, "testing", "bad.mx", testing);
        check(None, &tlsa(3), "", "good.mx", dane);
        check(None, &tlsa(3), "enforce", "bad.mx", dane);
        let anybody = "TLS with anybody (DANE: no TLSA record that can be used)";
        check(None, &tlsa(1), "", "good.mx", anybody);
        check(None, &tlsa(1), "testing", "good.mx", anybody);
        check(None, &tlsa(1), "enforce", "good.mx", enforced);
        check(None, &Err(DnsError::Timeout), "", "good.mx", unknown);
        check(None, &Err(DnsError::Timeout), "enforce", "good.mx", unknown);
        let verified = "TLS verified by an authority (this site: verified)";
        check(Some(HopTls::Verified), &absent, "", "good.mx", verified);
        check(
            Some(HopTls::Verified),
            &absent,
            "testing",
            "bad.mx",
            verified,
        );
        check(
            Some(HopTls::Verified),
            &absent,
            "enforce",
            "good.mx",
            enforced,
        );
        check(
            Some(HopTls::Verified),
            &absent,
            "enforce",
            "bad.mx",
            not_named,
        );
        check(Some(HopTls::Verified), &tlsa(2), "", "good.mx", dane);
        check(Some(HopTls::Verified), &tlsa(1), "", "good.mx", verified);
        let never = "no TLS (this site: none)";
        check(Some(HopTls::None), &tlsa(2), "enforce", "bad.mx", never);
        let anyhow = "TLS if offered (this site: opportunistic)";
        check(
            Some(HopTls::Opportunistic),
            &Err(DnsError::Timeout),
            "enforce",
            "bad.mx",
            anyhow,
        );
    }
}
