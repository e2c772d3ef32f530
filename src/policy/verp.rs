//! VERP: a sender address that names its recipient, so that a bounce says by itself whom it is
//! about (D. J. Bernstein, "Variable Envelope Return Paths").
//!
//! Mail of `news@lists.example` to `ana@a.example` leaves as `news+ana=a.example@lists.example`.

/// Longest local part that is made; see RFC 5321 4.5.3.1.1, which hosts go beyond.
const LOCAL_BYTES_MAX: usize = 255;

/// Between the sender and the recipient, as with user and detail (RFC 5233).
const SEPARATOR: char = '+';

/// The sender for one recipient; `None` where one of the addresses needs quotes, or the result
/// would be too long.
#[must_use]
pub fn encode(sender: &str, recipient: &str) -> Option<String> {
    let (local, domain) = split(sender)?;
    let (to_local, to_domain) = split(recipient)?;
    let local = format!("{local}{SEPARATOR}{to_local}={to_domain}");
    (local.len() <= LOCAL_BYTES_MAX).then(|| format!("{local}@{domain}"))
}

fn split(address: &str) -> Option<(&str, &str)> {
    let (local, domain) = address.rsplit_once('@')?;
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !"\"\\<>()[],;:@".contains(c);
    let fits = !local.is_empty() && local.chars().all(plain);
    let named = !domain.is_empty() && !domain.contains('=') && domain.chars().all(plain);
    (fits && named).then_some((local, domain))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NEWS: &str = "news@lists.example";

    #[test]
    fn recipients_are_named() {
        #[track_caller]
        fn check(recipient: &str, want: Option<&str>) {
            assert_eq!(encode(NEWS, recipient).as_deref(), want);
        }
        check("ana@a.example", Some("news+ana=a.example@lists.example"));
        check(
            "a+b=c@d.example",
            Some("news+a+b=c=d.example@lists.example"),
        );
        check("\"a b\"@d.example", None);
        check("ana@[192.0.2.1]", None);
        check("ana", None);
        check(&format!("{}@d.example", "x".repeat(250)), None);
    }

    proptest! {
        #[test]
        fn whoever_is_named_can_be_read_back(
            local in "[A-Za-z0-9.+=_é-]{1,60}", domain in "[a-z0-9.-]{1,60}"
        ) {
            let there = encode(NEWS, &format!("{local}@{domain}")).unwrap();
            let named = there.strip_prefix("news+").and_then(|t| t.strip_suffix("@lists.example"));
            // A domain has no `=`, so the last one is ours.
            prop_assert_eq!(named.and_then(|n| n.rsplit_once('=')), Some((&*local, &*domain)));
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,60}") {
            let _ = (encode(&text, &text), encode(NEWS, &text));
        }
    }
}
