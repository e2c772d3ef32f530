//! MTA-STS: the record that says there is a policy (RFC 8461 3.1).

use super::tags::{NotTags, Tags};

/// Where the record of a domain stands.
#[must_use]
pub fn record_name(domain: &str) -> String {
    format!("_mta-sts.{domain}")
}

/// True for a text that means to be such a record.
#[must_use]
pub fn is_record(text: &str) -> bool {
    text.starts_with("v=STSv1")
}

/// The policy's id.
pub fn parse(text: &str) -> Result<String, NotTags> {
    const ID_CHARS_MAX: usize = 32;
    let tags = Tags::parse(text)?;
    let id = tags.get("id").ok_or(NotTags)?;
    let plain = (1..=ID_CHARS_MAX).contains(&id.len())
        && id.bytes().all(|octet| octet.is_ascii_alphanumeric());
    match tags.first() == ("v", "STSv1") && plain {
        true => Ok(id.to_owned()),
        false => Err(NotTags),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_an_id() {
        #[track_caller]
        fn check(text: &str, want: Option<&str>) {
            assert_eq!(parse(text).ok().as_deref(), want, "{text}");
        }
        check("v=STSv1; id=20260301T000000;", Some("20260301T000000"));
        check("v=STSv1;id=1", Some("1"));
        check("v=STSv1;", None);
        check("id=1; v=STSv1", None);
        check("v=STSv2; id=1", None);
        check("v=STSv1; id=2026-03-01", None);
    }
}
