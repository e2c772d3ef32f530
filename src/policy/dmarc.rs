//! DMARC: what a domain wants done with mail that nobody vouches for (RFC 7489 6.3).

use std::fmt;

use super::tags::Tags;

/// A record, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub policy: Request,
    /// `sp=`: for domains below.
    pub below: Option<Request>,
    /// DKIM and SPF must name the very domain.
    pub strict_dkim: bool,
    pub strict_spf: bool,
    /// Percent of failing mail that the policy is for.
    pub percent: u8,
    /// Where summaries go.
    pub reports_to: Vec<String>,
}

/// What is asked for mail that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    None,
    Quarantine,
    Reject,
}

/// Why a text is no DMARC record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DmarcFault {
    /// No list of tags, or it does not begin with `v=DMARC1`.
    NotDmarc,
    /// `p=` is missing or none of its words.
    NoPolicy,
    /// This tag has a value that it cannot have.
    BadTag(&'static str),
}

/// Where the record of a domain stands.
#[must_use]
pub fn record_name(domain: &str) -> String {
    format!("_dmarc.{domain}")
}

/// True for a text that means to be such a record.
#[must_use]
pub fn is_record(text: &str) -> bool {
    text.starts_with("v=DMARC1")
}

/// Reads a record.
pub fn parse(text: &str) -> Result<Record, DmarcFault> {
    let tags = Tags::parse(text).map_err(|_| DmarcFault::NotDmarc)?;
    if tags.first() != ("v", "DMARC1") {
        return Err(DmarcFault::NotDmarc);
    }
    let policy = tags.get("p").and_then(Request::read);
    let below = tags.get("sp");
    let below = below.map(|word| Request::read(word).ok_or(DmarcFault::BadTag("sp")));
    let strict = |name| match tags.get(name).map(str::to_ascii_lowercase).as_deref() {
        None | Some("r") => Ok(false),
        Some("s") => Ok(true),
        Some(_) => Err(DmarcFault::BadTag(name)),
    };
    let percent = tags.get("pct").map_or(Ok(100), str::parse);
    let percent = percent.ok().filter(|percent| *percent <= 100);
    uris(tags.get("ruf")).ok_or(DmarcFault::BadTag("ruf"))?;
    Ok(Record {
        policy: policy.ok_or(DmarcFault::NoPolicy)?,
        below: below.transpose()?,
        strict_dkim: strict("adkim")?,
        strict_spf: strict("aspf")?,
        percent: percent.ok_or(DmarcFault::BadTag("pct"))?,
        reports_to: uris(tags.get("rua")).ok_or(DmarcFault::BadTag("rua"))?,
    })
}

fn uris(list: Option<&str>) -> Option<Vec<String>> {
    let Some(list) = list else {
        return Some(Vec::new());
    };
    let uri = |text: &str| {
        let text = text.trim();
        let (scheme, rest) = text.split_once(':')?;
        let named = !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric());
        (named && !rest.is_empty()).then(|| text.to_owned())
    };
    list.split(',').map(uri).collect()
}

impl Request {
    fn read(word: &str) -> Option<Request> {
        let all = [Request::None, Request::Quarantine, Request::Reject];
        all.into_iter()
            .find(|one| one.word().eq_ignore_ascii_case(word))
    }

    /// As it stands in `p=`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Request::None => "none",
            Request::Quarantine => "quarantine",
            Request::Reject => "reject",
        }
    }
}

impl fmt::Display for DmarcFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DmarcFault::NotDmarc => f.write_str("it is no list of tags that begins with v=DMARC1"),
            DmarcFault::NoPolicy => f.write_str("p= must be none, quarantine or reject"),
            DmarcFault::BadTag(name) => write!(f, "{name}= has a value that it cannot have"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_whole() {
        let text = "v=DMARC1; p=Reject; sp=none; adkim=s; aspf=r; pct=50; \
                    rua=mailto:a@x.example,mailto:b@x.example!10m; ruf=mailto:f@x.example; fo=1";
        let want = Record {
            policy: Request::Reject,
            below: Some(Request::None),
            strict_dkim: true,
            strict_spf: false,
            percent: 50,
            reports_to: vec!["mailto:a@x.example".into(), "mailto:b@x.example!10m".into()],
        };
        assert_eq!(parse(text), Ok(want));
    }

    #[test]
    fn what_receivers_would_not_read_is_told() {
        #[track_caller]
        fn check(text: &str, want: Option<DmarcFault>) {
            assert_eq!(parse(text).err(), want, "{text}");
        }
        check("v=DMARC1; p=none", None);
        check("v=DMARC1;p=none;", None);
        check("p=none; v=DMARC1", Some(DmarcFault::NotDmarc));
        check("v=DMARC1", Some(DmarcFault::NoPolicy));
        check("v=DMARC1; p=all", Some(DmarcFault::NoPolicy));
        check("v=DMARC1 p=none", Some(DmarcFault::NotDmarc));
        check("v=DMARC1; p=none; sp=x", Some(DmarcFault::BadTag("sp")));
        check("v=DMARC1; p=none; pct=101", Some(DmarcFault::BadTag("pct")));
        check(
            "v=DMARC1; p=none; rua=a@x.example",
            Some(DmarcFault::BadTag("rua")),
        );
        check("v=DMARC1; p=none; aspf=x", Some(DmarcFault::BadTag("aspf")));
    }
}
