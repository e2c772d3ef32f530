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

/// The recipient whom `address` is about, if it is `sender` with one.
#[must_use]
pub fn decode(sender: &str, address: &str) -> Option<String> {
    let (local, domain) = split(sender)?;
    let (found, found_domain) = split(address)?;
    let head = found.get(..local.len())?;
    let is_ours = head.eq_ignore_ascii_case(local) && found_domain.eq_ignore_ascii_case(domain);
    let rest = found[local.len()..].strip_prefix(SEPARATOR)?;
    // A domain has no `=`, so the last one is ours.
    let (to_local, to_domain) = rest.rsplit_once('=')?;
    let whole = !to_local.is_empty() && !to_domain.is_empty();
    (is_ours && whole).then(|| format!("{to_local}@{to_domain}"))
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
    fn recipients_are_named_and_read_back() {
        #[track_caller]
        fn check(recipient: &str, want: Option<&str>) {
            let there = encode(NEWS, recipient);
            assert_eq!(there.as_deref(), want);
            if let Some(there) = there {
                assert_eq!(decode(NEWS, &there).as_deref(), Some(recipient));
            }
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

    #[test]
    fn other_addresses_name_nobody() {
        for address in [
            NEWS,
            "news+@lists.example",
            "news+ana@lists.example",
            "news+=a.example@lists.example",
            "news+ana=@lists.example",
            "other+ana=a.example@lists.example",
            "news+ana=a.example@other.example",
            "newsx+ana=a.example@lists.example",
        ] {
            assert_eq!(decode(NEWS, address), None, "{address}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_named_comes_back(
            local in "[A-Za-z0-9.+=_é-]{1,60}", domain in "[a-z0-9.-]{1,60}"
        ) {
            let recipient = format!("{local}@{domain}");
            let there = encode(NEWS, &recipient).unwrap();
            prop_assert_eq!(decode(NEWS, &there), Some(recipient));
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,60}") {
            let _ = (encode(&text, &text), decode(&text, &text), decode(NEWS, &text));
        }
    }
}
