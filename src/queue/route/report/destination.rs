//! Whom a domain wants its reports sent to (RFC 8460 3).

use crate::wire::address::Mailbox;

/// Destinations of one domain that are heeded.
const DESTINATIONS_MAX: usize = 8;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rua {
    Mail(String),
    /// An `https:` address to post to.
    Https(String),
}

/// What the TXT records of `_smtp._tls` say; empty where the domain wants no reports, or its record
/// cannot be read. What is neither `mailto:` nor `https:` is passed over.
#[must_use]
pub fn report_destinations<'t>(texts: impl Iterator<Item = &'t str>) -> Vec<Rua> {
    let mut ours = texts.filter_map(|text| {
        let (version, rest) = text.split_once(';')?;
        (version.trim_ascii_end() == "v=TLSRPTv1").then_some(rest)
    });
    // RFC 8460 3: of several none counts.
    let (Some(fields), None) = (ours.next(), ours.next()) else {
        return Vec::new();
    };
    let mut fields = fields.split(';').map(str::trim_ascii);
    let rua = fields.find_map(|field| field.strip_prefix("rua="));
    let each = rua.unwrap_or_default().split(',').map(str::trim_ascii);
    each.filter_map(destination)
        .take(DESTINATIONS_MAX)
        .collect()
}

fn destination(uri: &str) -> Option<Rua> {
    let (scheme, rest) = uri.split_once(':')?;
    if scheme.eq_ignore_ascii_case("https") && rest.starts_with("//") {
        let is_plain = uri.bytes().all(|b| b.is_ascii_graphic());
        return is_plain.then(|| Rua::Https(uri.to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("mailto") {
        return None;
    }
    // RFC 6068 2: header fields that a link may set are not ours to heed.
    let address = decoded(rest.split('?').next().unwrap_or_default())?;
    Mailbox::parse(&address).ok().map(|_| Rua::Mail(address))
}

/// RFC 3986 2.1.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        match first {
            b'%' => {
                let (digits, behind) = rest.split_at_checked(2)?;
                bytes.push(data_encoding::HEXUPPER_PERMISSIVE.decode(digits).ok()?[0]);
                rest = behind;
            }
            byte => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations() {
        let check = |texts: &[&str], want: &[Rua]| {
            assert_eq!(
                report_destinations(texts.iter().copied()),
                want,
                "{texts:?}"
            );
        };
        let mail = |address: &str| Rua::Mail(address.to_owned());
        let https = |uri: &str| Rua::Https(uri.to_owned());
        check(&["v=TLSRPTv1;rua=mailto:r@a.test"], &[mail("r@a.test")]);
        check(
            &[
                "v=spf1",
                "v=TLSRPTv1; rua=https://a.test/v1?x , mailto:r%2Bt@a.test?subject=x;",
            ],
            &[https("https://a.test/v1?x"), mail("r+t@a.test")],
        );
        check(
            &["v=TLSRPTv1;rua=mailto:a@b.c", "v=TLSRPTv1;rua=mailto:a@b.c"],
            &[],
        );
        check(
            &["v=TLSRPTv1; rua=http://a.test, mailto:nobody, mailto:%zz@a.test"],
            &[],
        );
        check(&["v=TLSRPTv1"], &[]);
        check(&["v=TLSRPTv2;rua=mailto:a@b.c"], &[]);
        check(&[], &[]);
    }
}
