//! SRS: the sender of a forwarded message, rewritten so that SPF holds at the next host and a
//! bounce finds its way back (the scheme of Mengwong and Evans, "Sender Rewriting Scheme").
//!
//! `ana@a.example`, forwarded by us, becomes `SRS0=HASH=TT=a.example=ana@ours`; what another
//! forwarder made so already becomes `SRS1=HASH=b.example==HASH=TT=a.example=ana@ours`, which
//! names the first forwarder and comes back through it. The hash is ours alone, so nobody can make
//! us a relay for bounces; the day says when it ends. All of it survives a host that changes case.

use aws_lc_rs::hmac;
use data_encoding::BASE32_NOPAD;
use subtle::ConstantTimeEq as _;

use crate::base::UnixMs;

/// Bounces that come later are for nobody.
pub const DAYS_MAX: u16 = 21;

/// Characters of a hash: 40 bits, at five each.
const HASH_CHARS: usize = 8;
/// Days are counted round: two characters of five bits.
const DAYS_ROUND: u16 = 1024;
const DAY_MS: i64 = 86_400_000;
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Longest local part that is made; hosts in the wild take more than the 64 octets of
/// RFC 5321 4.5.3.1.1, and our own does.
const LOCAL_BYTES_MAX: usize = 255;

/// Rewrites senders, and reads back what it rewrote.
pub struct Srs {
    secret: hmac::Key,
}

/// Why an address is not rewritten, or not read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SrsError {
    /// It is no address, or none that SRS made.
    NotSrs,
    /// The result would be too long for an address.
    TooLong,
    /// It is not from here, or somebody has changed it.
    Forged,
    /// It is older than [`DAYS_MAX`].
    Expired,
}

impl Srs {
    /// `secret` is the site's: who knows it can send bounces through here.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Srs {
            secret: hmac::Key::new(hmac::HMAC_SHA256, secret),
        }
    }

    /// The sender to forward `sender` with, in our domain. The null sender stays what it is, and
    /// must not come here.
    pub fn forward(&self, sender: &str, ours: &str, now: UnixMs) -> Result<String, SrsError> {
        let (local, domain) = split(sender)?;
        let rewritten = if let Some(rest) = tagged(local, "SRS1") {
            // Another forwarder's: the first one stays, we take its place.
            let (_, rest) = rest.split_once('=').ok_or(SrsError::NotSrs)?;
            let (first, opaque) = rest.split_once('=').ok_or(SrsError::NotSrs)?;
            self.srs1(first, opaque)
        } else if local.len() > 4 && tagged(local, "SRS0").is_some() {
            // Its separator stays, so that its maker reads what it wrote.
            self.srs1(domain, &local[4..])
        } else {
            let day = day_word(today(now));
            let hash = self.hash(&[&day, domain, local]);
            format!("SRS0={hash}={day}={domain}={local}")
        };
        if rewritten.len() > LOCAL_BYTES_MAX {
            return Err(SrsError::TooLong);
        }
        Ok(format!("{rewritten}@{ours}"))
    }

    /// Whom a bounce to `address`, one of ours, is for: the sender before we rewrote it.
    pub fn back(&self, address: &str, now: UnixMs) -> Result<String, SrsError> {
        let (local, _) = split(address)?;
        if let Some(rest) = tagged(local, "SRS1") {
            let (hash, rest) = rest.split_once('=').ok_or(SrsError::NotSrs)?;
            let (first, opaque) = rest.split_once('=').ok_or(SrsError::NotSrs)?;
            self.verify(hash, &[first, opaque])?;
            return Ok(format!("SRS0{opaque}@{first}"));
        }
        let rest = tagged(local, "SRS0").ok_or(SrsError::NotSrs)?;
        let mut parts = rest.splitn(4, '=');
        let mut part = || parts.next().filter(|part| !part.is_empty());
        let (hash, day) = (part(), part());
        let (domain, user) = (part(), part());
        let (Some(hash), Some(day), Some(domain), Some(user)) = (hash, day, domain, user) else {
            return Err(SrsError::NotSrs);
        };
        self.verify(hash, &[day, domain, user])?;
        let made = word_day(day).ok_or(SrsError::NotSrs)?;
        let age = (today(now) + DAYS_ROUND - made) % DAYS_ROUND;
        // A clock that was a day ahead is no reason to lose a bounce.
        if age > DAYS_MAX && age != DAYS_ROUND - 1 {
            return Err(SrsError::Expired);
        }
        Ok(format!("{user}@{domain}"))
    }

    fn srs1(&self, first: &str, opaque: &str) -> String {
        let hash = self.hash(&[first, opaque]);
        format!("SRS1={hash}={first}={opaque}")
    }

    fn hash(&self, parts: &[&str]) -> String {
        let mut context = hmac::Context::with_key(&self.secret);
        for part in parts {
            // Hosts on the way may change case.
            context.update(part.to_lowercase().as_bytes());
            context.update(b"\0");
        }
        let mut text = BASE32_NOPAD.encode(context.sign().as_ref());
        text.truncate(HASH_CHARS);
        text
    }

    fn verify(&self, hash: &str, parts: &[&str]) -> Result<(), SrsError> {
        let want = self.hash(parts);
        let same = want.as_bytes().ct_eq(hash.to_ascii_uppercase().as_bytes());
        bool::from(same).then_some(()).ok_or(SrsError::Forged)
    }
}

/// True where the local part says that SRS made it, here or elsewhere.
#[must_use]
pub fn is_srs(local: &str) -> bool {
    tagged(local, "SRS0").is_some() || tagged(local, "SRS1").is_some()
}

/// What follows the tag and its separator; any of three is in use.
fn tagged<'a>(local: &'a str, tag: &str) -> Option<&'a str> {
    let head = local.get(..tag.len())?;
    let rest = &local[tag.len()..];
    let separated = rest.starts_with(['=', '+', '-']);
    (head.eq_ignore_ascii_case(tag) && separated).then(|| &rest[1..])
}

fn split(address: &str) -> Result<(&str, &str), SrsError> {
    let (local, domain) = address.rsplit_once('@').ok_or(SrsError::NotSrs)?;
    // What needs quotes cannot stand inside another local part.
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !"\"\\<>()[],;:@".contains(c);
    let fits = !local.is_empty() && local.chars().all(plain) && !domain.is_empty();
    fits.then_some((local, domain)).ok_or(SrsError::NotSrs)
}

fn today(now: UnixMs) -> u16 {
    let day = now.0.div_euclid(DAY_MS).rem_euclid(i64::from(DAYS_ROUND));
    u16::try_from(day).expect("below 1024")
}

fn day_word(day: u16) -> String {
    let char_of = |bits: u16| char::from(BASE32[usize::from(bits & 31)]);
    [char_of(day >> 5), char_of(day)].iter().collect()
}

fn word_day(word: &str) -> Option<u16> {
    let word = word.to_ascii_uppercase();
    let mut day = 0;
    for octet in word.bytes() {
        let bits = BASE32.iter().position(|&b| b == octet)?;
        day = day << 5 | u16::try_from(bits).ok()?;
    }
    (word.len() == 2).then_some(day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: UnixMs = UnixMs(1_790_000_000_000);

    fn srs() -> Srs {
        Srs::new(b"the site's secret")
    }

    fn later(days: i64) -> UnixMs {
        UnixMs(NOW.0 + days * DAY_MS)
    }

    #[test]
    fn a_bounce_comes_back_within_its_days() {
        #[track_caller]
        fn check(days: i64, want: Result<&str, SrsError>) {
            let there = srs()
                .forward("Ana.D+x@a.example", "ours.example", NOW)
                .unwrap();
            assert!(
                there.starts_with("SRS0=") && there.ends_with("=a.example=Ana.D+x@ours.example")
            );
            let back = srs().back(&there, later(days));
            assert_eq!(back, want.map(str::to_owned), "{days}");
        }
        check(0, Ok("Ana.D+x@a.example"));
        check(21, Ok("Ana.D+x@a.example"));
        check(22, Err(SrsError::Expired));
        check(-1, Ok("Ana.D+x@a.example"));
        check(-2, Err(SrsError::Expired));
        check(1000, Err(SrsError::Expired));
    }

    #[test]
    fn three_forwarders_come_back_through_the_first() {
        let (first, second, third) = (srs(), Srs::new(b"second"), Srs::new(b"third"));
        let one = first.forward("ana@a.example", "one.example", NOW).unwrap();
        let two = second.forward(&one, "two.example", NOW).unwrap();
        let three = third.forward(&two, "three.example", NOW).unwrap();
        assert!(
            two.starts_with("SRS1=") && two.contains("=one.example=="),
            "{two}"
        );
        assert!(
            three.ends_with("@three.example") && !three.contains("two.example"),
            "{three}"
        );
        for (who, address) in [(&second, &two), (&third, &three)] {
            assert_eq!(who.back(address, NOW).unwrap(), one);
        }
        assert_eq!(first.back(&one, NOW).unwrap(), "ana@a.example");
        assert_eq!(second.back(&three, NOW), Err(SrsError::Forged));
        // What others wrote with another separator keeps it.
        let plus = second.forward("SRS0+abc=DE=a.example=ana@one.example", "two.example", NOW);
        assert_eq!(
            second.back(&plus.unwrap(), NOW).unwrap(),
            "SRS0+abc=DE=a.example=ana@one.example"
        );
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        #[track_caller]
        fn check(address: &str, want: SrsError) {
            assert_eq!(srs().back(address, NOW), Err(want), "{address}");
        }
        check("ana@ours.example", SrsError::NotSrs);
        check("SRS0=ours.example", SrsError::NotSrs);
        check("SRS0=A=B@ours.example", SrsError::NotSrs);
        check("SRS1=A@ours.example", SrsError::NotSrs);
        check(
            "SRS0=AAAAAAAA=AA=a.example=ana@ours.example",
            SrsError::Forged,
        );
        check("SRS0=A=AA=a.example=ana@ours.example", SrsError::Forged);
        check("SRS1=AAAAAAAA=a.example==x@ours.example", SrsError::Forged);
        for sender in [
            "ana",
            "@a.example",
            "\"a b\"@a.example",
            "SRS1=x@a.example",
            "",
        ] {
            let there = srs().forward(sender, "ours.example", NOW);
            assert_eq!(there, Err(SrsError::NotSrs), "{sender}");
        }
        let long = format!("{}@a.example", "x".repeat(250));
        assert_eq!(
            srs().forward(&long, "o.example", NOW),
            Err(SrsError::TooLong)
        );
        assert!(is_srs("srs0=x") && is_srs("SRS1+y") && !is_srs("SRS0") && !is_srs("srs2=x"));
    }

    proptest! {
        #[test]
        fn any_sender_comes_back_in_any_case(
            local in "[A-Za-z0-9.+=_é-]{1,40}", domain in "[a-z0-9.-]{1,40}", flip in any::<bool>()
        ) {
            let sender = format!("{local}@{domain}");
            prop_assume!(!is_srs(&local));
            let there = srs().forward(&sender, "ours.example", NOW).unwrap();
            let there = if flip { there.to_lowercase() } else { there };
            let back = srs().back(&there, NOW).unwrap();
            prop_assert_eq!(back.to_lowercase(), sender.to_lowercase());
        }

        #[test]
        fn nothing_panics_and_nothing_else_is_taken(text in "\\PC{0,60}") {
            prop_assert!(srs().back(&text, NOW).is_err());
            let _ = srs().forward(&text, "ours.example", NOW);
        }
    }
}
