//! TLS-RPT: the record that says who wants reports (RFC 8460 3).

use super::tags::{NotTags, Tags};

/// Where the record of a domain stands.
#[must_use]
pub fn record_name(domain: &str) -> String {
    format!("_smtp._tls.{domain}")
}

/// True for a text that means to be such a record.
#[must_use]
pub fn is_record(text: &str) -> bool {
    text.starts_with("v=TLSRPTv1")
}

/// Where reports go.
pub fn parse(text: &str) -> Result<Vec<String>, NotTags> {
    let tags = Tags::parse(text)?;
    let rua = tags.get("rua").ok_or(NotTags)?;
    let uris: Vec<String> = rua.split(',').map(|uri| uri.trim().to_owned()).collect();
    let known = |uri: &String| uri.starts_with("mailto:") || uri.starts_with("https:");
    match tags.first() == ("v", "TLSRPTv1") && uris.iter().all(known) {
        true => Ok(uris),
        false => Err(NotTags),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_say_where_reports_go() {
        #[track_caller]
        fn check(text: &str, want: Option<&[&str]>) {
            let got = parse(text).ok();
            let got: Option<Vec<&str>> =
                got.as_ref().map(|g| g.iter().map(String::as_str).collect());
            assert_eq!(got.as_deref(), want, "{text}");
        }
        check(
            "v=TLSRPTv1; rua=mailto:t@a.example",
            Some(&["mailto:t@a.example"]),
        );
        check(
            "v=TLSRPTv1;rua=mailto:t@a.example , https://r.example/t",
            Some(&["mailto:t@a.example", "https://r.example/t"]),
        );
        check("v=TLSRPTv1;", None);
        check("v=TLSRPTv1; rua=t@a.example", None);
        check("rua=mailto:t@a.example", None);
    }
}
