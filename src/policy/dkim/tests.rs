//! Canonical forms, signatures and records, beside the examples of the RFCs.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::encoding::Pkcs8V1Der;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ED25519, RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY as RSA_OLD, UnparsedPublicKey,
    VerificationAlgorithm,
};
use data_encoding::BASE64;
use proptest::prelude::*;

use super::fields::{covered, relax};
use super::*;
use crate::base::UnixMs;
use crate::wire::mime::{Fields, find};

/// RFC 8463 A.3, without its signatures.
const HEAD: &str = "From: Joe SixPack <joe@football.example.com>\r\n\
    To: Suzie Q <suzie@shopping.example.net>\r\n\
    Subject: Is dinner ready?\r\n\
    Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n\
    Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n";
const BODY: &str = "Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n";
/// RFC 8463 A.1 and A.2.
const SEED: &str = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
const PUBLIC: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

fn decode(text: &str) -> Vec<u8> {
    let text: String = text.split_whitespace().collect();
    BASE64.decode(text.as_bytes()).unwrap()
}

fn hash(body: &str) -> BodyDigest {
    let mut hash = BodyHash::default();
    hash.update(body.as_bytes());
    hash.finish()
}

fn ed25519() -> Signer {
    Signer {
        domain: "football.example.com".into(),
        selector: "brisbane".into(),
        key: Arc::new(SigningKey::from_seed(&decode(SEED))),
    }
}

fn rsa_key(size: rsa::KeySize) -> SigningKey {
    let pair = rsa::KeyPair::generate(size).unwrap();
    let der: Pkcs8V1Der = pair.as_der().unwrap();
    SigningKey::from_pkcs8(Algorithm::Rsa, der.as_ref()).unwrap()
}

#[test]
fn bodies_in_their_relaxed_form() {
    #[track_caller]
    fn check(body: &str, canonical: &str) {
        let want = digest(&SHA256, canonical.as_bytes());
        assert_eq!(&hash(body).0[..], want.as_ref(), "{body:?}");
    }
    // RFC 6376 3.4.5.
    check(" C \r\nD \t E\r\n\r\n\r\n", " C\r\nD E\r\n");
    // RFC 6376 3.4.4: a body of empty lines is no body.
    for empty in ["", "\r\n", "\r\n\r\n", " \r\n\t\r\n", " "] {
        check(empty, "");
    }
    check("a", "a\r\n");
    check("a  ", "a\r\n");
    check("a\r\n\r\n \r\nb\r\n", "a\r\n\r\n\r\nb\r\n");
    check("\r\n\r\na", "\r\n\r\na\r\n");
    // What ends no line is an octet.
    check("a\nb\rc\r\r\n\r", "a\nb\rc\r\r\n\r\r\n");
    let long = format!("{}\r\n", "x y ".repeat(5_000));
    check(&long, &format!("{}\r\n", long.trim_end()));
}

#[test]
fn fields_in_their_relaxed_form() {
    #[track_caller]
    fn check(name: &str, value: &str, want: &str) {
        let mut out = Vec::new();
        relax(name.as_bytes(), value.as_bytes(), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }
    // RFC 6376 3.4.5.
    check("A", " X", "a:X");
    check("B", " Y\t\r\n\tZ  ", "b:Y Z");
    check("Subject", "", "subject:");
    check("Subject", " \r\n \t", "subject:");
    check("To", "a,\r\n b", "to:a, b");
}

#[test]
fn what_is_signed_and_what_is_sealed() {
    #[track_caller]
    fn check(head: &str, want: Option<&str>) {
        let names = covered(head.as_bytes()).map(|covered| covered.names.join(" "));
        assert_eq!(names.as_deref(), want, "{head:?}");
    }
    let sealed = "From From Reply-To Subject To Cc MIME-Version Content-Type \
                  Content-Transfer-Encoding";
    check("Subject: x\r\n", None);
    check("From: a\r\n", Some(sealed));
    check(
        "Received: x\r\nfrom : a\r\nX-Y: z\r\n\r\nTo: body\r\n",
        Some(sealed),
    );
    check(
        "From: a\r\nDate: d\r\nList-Id: l\r\nResent-To: r\r\nTo: b\r\nTo: c\r\n",
        Some(
            "From From Reply-To Subject To To To Cc MIME-Version Content-Type \
             Content-Transfer-Encoding Date Date List-Id List-Id Resent-To",
        ),
    );
    // Several of one name from the last one up (RFC 6376 5.4.2).
    let two = covered(b"From: a\r\nTo: 1\r\nTo: 2\r\n").unwrap().canonical;
    assert_eq!(two, b"from:a\r\nto:2\r\nto:1\r\n");
    let many = format!("From: a\r\n{}", "To: x\r\n".repeat(1_000));
    assert_eq!(covered(many.as_bytes()).unwrap().names.len(), 2 + 16 + 6);
}

#[test]
fn the_first_address_says_who_it_is_from() {
    #[track_caller]
    fn check(head: &str, want: Option<&str>) {
        assert_eq!(from_domain(head.as_bytes()).as_deref(), want, "{head:?}");
    }
    check(HEAD, Some("football.example.com"));
    check("From: a@B.Example, c@d.example\r\n", Some("b.example"));
    check(
        "From: =?utf-8?q?=C3=A9?=\r\n <a@b\u{fc}cher.example>\r\n",
        Some("xn--bcher-kva.example"),
    );
    check("From: list: a@b.example;\r\n", Some("b.example"));
    check("From: nobody\r\n", None);
    check("To: a@b.example\r\n", None);
}

/// The signed octets of RFC 8463 A.3: the fields that `h=` names, then the field itself.
fn example_input(field: &str) -> Vec<u8> {
    let mut input = Vec::new();
    for name in ["From", "To", "Subject", "Date", "Message-ID"] {
        let value = find(HEAD.as_bytes(), name.as_bytes()).unwrap();
        relax(name.as_bytes(), value, &mut input);
        input.extend_from_slice(b"\r\n");
    }
    relax(b"DKIM-Signature", field.as_bytes(), &mut input);
    input
}

#[test]
fn the_example_of_rfc_8463_comes_out_to_the_octet() {
    let bh = "2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=";
    assert_eq!(BASE64.encode(&hash(BODY).0), bh);
    let key = ed25519().key;
    assert_eq!(key.public().unwrap(), decode(PUBLIC));
    let field = format!(
        " v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n d=football.example.com; \
         i=@football.example.com;\r\n q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n \
         subject : date : message-id : from : subject : date;\r\n bh={bh};\r\n b="
    );
    let signature = key.sign(&example_input(&field)).unwrap();
    let want = "/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11BusF\
                a3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==";
    assert_eq!(BASE64.encode(&signature), want);
}

#[test]
fn the_rsa_signature_of_rfc_8463_verifies_over_our_canonical_form() {
    let bh = BASE64.encode(&hash(BODY).0);
    let field = format!(
        " v=1; a=rsa-sha256; c=relaxed/relaxed;\r\n d=football.example.com; \
         i=@football.example.com;\r\n q=dns/txt; s=test; t=1528637909; h=from : to : subject :\r\n \
         date : message-id : from : subject : date;\r\n bh={bh};\r\n b="
    );
    let public = decode(
        "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08\
         a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR\
         +yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l\
         /K4w3QIDAQAB",
    );
    let signature = decode(
        "F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3\
         DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz\
         dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=",
    );
    let key = UnparsedPublicKey::new(&RSA_OLD, public);
    assert!(key.verify(&example_input(&field), &signature).is_ok());
}

/// Takes a signature apart and checks it, with nothing of what made it but `relax`.
#[track_caller]
fn verify(fields: &[u8], head: &str, public: &[u8], algorithm: &'static dyn VerificationAlgorithm) {
    let text = std::str::from_utf8(fields).unwrap();
    for line in text.lines() {
        assert!(line.len() <= 78, "{line}");
    }
    let tag = |name: &str| {
        let at = text
            .find(&format!(" {name}="))
            .unwrap_or_else(|| panic!("{name} in {text}"));
        let value = &text[at + name.len() + 2..];
        let end = value.find(';').unwrap_or(value.len());
        value[..end].split_whitespace().collect::<String>()
    };
    assert_eq!(tag("bh"), BASE64.encode(&hash(BODY).0));
    let mut left: Vec<_> = Fields::new(head.as_bytes()).collect();
    let mut input = Vec::new();
    for name in tag("h").split(':') {
        if let Some(at) = left.iter().rposition(|field| field.is(name.as_bytes())) {
            relax(name.as_bytes(), left.remove(at).value, &mut input);
            input.extend_from_slice(b"\r\n");
        }
    }
    let end = text.rfind(" b=").unwrap() + 3;
    relax(
        b"DKIM-Signature",
        &text.as_bytes()["DKIM-Signature:".len()..end],
        &mut input,
    );
    let signature = decode(&tag("b"));
    let key = UnparsedPublicKey::new(algorithm, public);
    let good = match tag("a").as_str() {
        "ed25519-sha256" => key.verify(digest(&SHA256, &input).as_ref(), &signature),
        _ => key.verify(&input, &signature),
    };
    assert!(good.is_ok(), "{text}");
}

const TIMES: Times = Times {
    now: UnixMs(1_790_000_000_123),
    lifetime: None,
};

#[test]
fn both_kinds_of_keys_sign_what_can_be_verified() {
    let digest = hash(BODY);
    let signer = ed25519();
    let field = signer.sign(HEAD.as_bytes(), &digest, TIMES).unwrap();
    verify(&field, HEAD, &decode(PUBLIC), &ED25519);
    let text = String::from_utf8(field).unwrap();
    assert!(
        text.contains(" t=1790000000;") && !text.contains(" x="),
        "{text}"
    );
    let times = Times {
        lifetime: Some(Duration::from_secs(600)),
        ..TIMES
    };
    let field = signer.sign(HEAD.as_bytes(), &digest, times).unwrap();
    assert!(String::from_utf8_lossy(&field).contains(" x=1790000600;"));
    verify(&field, HEAD, &decode(PUBLIC), &ED25519);

    for size in [rsa::KeySize::Rsa2048, rsa::KeySize::Rsa4096] {
        let key = Arc::new(rsa_key(size));
        let public = key.public().unwrap();
        assert_eq!(key.bits(), size.len() * 8);
        let signer = Signer {
            domain: "football.example.com".into(),
            selector: "test".into(),
            key,
        };
        let field = signer.sign(HEAD.as_bytes(), &digest, TIMES).unwrap();
        verify(&field, HEAD, &public, &RSA_OLD);
    }
    assert_eq!(signer.sign(b"To: a\r\n", &digest, TIMES), None);
}

#[test]
fn keys_sign_for_their_domain_and_those_below() {
    let mut signers = Signers::default();
    signers.add(ed25519());
    signers.add(Signer {
        domain: "football.example.com".into(),
        selector: "test".into(),
        key: Arc::new(rsa_key(rsa::KeySize::Rsa2048)),
    });
    signers.add(Signer {
        domain: "example.com".into(),
        selector: "up".into(),
        key: ed25519().key,
    });
    let check = |domain: &str, want: &[&str]| {
        let found: Vec<&str> = signers
            .of(domain)
            .iter()
            .map(|s| s.selector.as_str())
            .collect();
        assert_eq!(found, want, "{domain}");
        let fields = signers.sign(domain, HEAD.as_bytes(), &hash(BODY), TIMES);
        assert_eq!(Fields::new(&fields).count(), want.len());
    };
    check("football.example.com", &["test", "brisbane"]);
    check("a.b.football.example.com", &["test", "brisbane"]);
    check("other.example.com", &["up"]);
    check("notexample.com", &[]);
    check("com", &[]);
    check("", &[]);
}

#[test]
fn records_are_printed_and_compared() {
    let record = KeyRecord::new("example.org", "s1", Algorithm::Ed25519, &decode(PUBLIC));
    assert_eq!(record.name, "s1._domainkey.example.org");
    let line = format!("s1._domainkey.example.org. IN TXT \"v=DKIM1; k=ed25519; p={PUBLIC}\"");
    assert_eq!(record.zone_line(), line);
    let check = |found: &str, want: Result<(), KeyFault>| {
        assert_eq!(record.judge(found), want, "{found}");
    };
    check(&record.text, Ok(()));
    check(
        &format!("k=ed25519;p= {} {} ; n=x", &PUBLIC[..9], &PUBLIC[9..]),
        Ok(()),
    );
    check(&format!("p={PUBLIC}"), Err(KeyFault::OtherAlgorithm));
    check(
        &format!("k=ed25519; h=sha1; p={PUBLIC}"),
        Err(KeyFault::OtherAlgorithm),
    );
    check(
        &format!("k=ed25519; h=sha1:sha256; s=email; p={PUBLIC}"),
        Ok(()),
    );
    check(
        &format!("k=ed25519; s=tlsrpt; p={PUBLIC}"),
        Err(KeyFault::NotForMail),
    );
    check(
        &format!("k=ed25519; t=s:y; p={PUBLIC}"),
        Err(KeyFault::Testing),
    );
    check(&format!("k=ed25519; p={SEED}"), Err(KeyFault::OtherKey));
    check("v=DKIM1; k=ed25519; p=", Err(KeyFault::Revoked));
    check("v=DKIM1; k=ed25519", Err(KeyFault::Unreadable));
    check("k=ed25519; v=DKIM1; p=AA==", Err(KeyFault::Unreadable));
    check("k=ed25519; p=*", Err(KeyFault::Unreadable));
    check("v=spf1 -all", Err(KeyFault::Unreadable));

    let key = rsa_key(rsa::KeySize::Rsa2048);
    let record = KeyRecord::new("example.org", "s2", Algorithm::Rsa, &key.public().unwrap());
    let line = record.zone_line();
    let strings: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
    assert!(
        strings.len() == 2 && strings.iter().all(|s| s.len() <= 255),
        "{line}"
    );
    assert_eq!(strings.concat(), record.text);
    assert_eq!(record.judge(&record.text), Ok(()));
}

#[test]
fn weak_and_foreign_keys_are_refused() {
    #[track_caller]
    fn check(algorithm: Algorithm, pkcs8: &[u8]) {
        assert_eq!(SigningKey::from_pkcs8(algorithm, pkcs8).err(), Some(BadKey));
    }
    let pair = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der = pair.as_der().unwrap();
    check(Algorithm::Ed25519, der.as_ref());
    check(Algorithm::Rsa, &der.as_ref()[..100]);
    check(Algorithm::Rsa, b"");
    let shown = format!("{:?}", rsa_key(rsa::KeySize::Rsa2048));
    assert_eq!(shown, "SigningKey { algorithm: Rsa, .. }");
}

#[test]
fn selectors_are_labels() {
    for (text, want) in [
        ("s1", true),
        ("2026.mail", true),
        ("a-b", true),
        ("", false),
        ("a..b", false),
        ("-a", false),
        ("A", false),
        ("a_b", false),
    ] {
        assert_eq!(is_selector(text), want, "{text}");
    }
    assert!(!is_selector(&"x".repeat(64)));
}

/// RFC 6376 3.4.4 word by word, on a whole body.
fn reference(body: &[u8]) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = vec![Vec::new()];
    let mut at = 0;
    while at < body.len() {
        if body[at..].starts_with(b"\r\n") {
            lines.push(Vec::new());
            at += 2;
            continue;
        }
        lines.last_mut().unwrap().push(body[at]);
        at += 1;
    }
    for line in &mut lines {
        let mut short: Vec<u8> = Vec::new();
        for &octet in line.iter() {
            let octet = if octet == b'\t' { b' ' } else { octet };
            if octet != b' ' || short.last() != Some(&b' ') {
                short.push(octet);
            }
        }
        if short.last() == Some(&b' ') {
            short.pop();
        }
        *line = short;
    }
    while lines.last().is_some_and(Vec::is_empty) {
        lines.pop();
    }
    lines
        .iter()
        .flat_map(|line| [line, &b"\r\n"[..]].concat())
        .collect()
}

proptest! {
    #[test]
    fn a_body_hashes_the_same_however_it_is_cut(
        body in "[ \t\r\nab]{0,60}", cuts in proptest::collection::vec(0usize..60, 0..8)
    ) {
        let body = body.replace('b', "\r\n").into_bytes();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(body.len())).collect();
        cuts.extend([0, body.len()]);
        cuts.sort_unstable();
        let mut hash = BodyHash::default();
        for pair in cuts.windows(2) {
            hash.update(&body[pair[0]..pair[1]]);
        }
        let want = digest(&SHA256, &reference(&body));
        prop_assert_eq!(&hash.finish().0[..], want.as_ref());
    }

    #[test]
    fn any_header_can_be_signed(head in proptest::collection::vec(any::<u8>(), 0..200)) {
        let head = [b"From: a\r\n", &head[..]].concat();
        prop_assert!(ed25519().sign(&head, &hash(""), TIMES).is_some());
    }

    #[test]
    fn any_record_can_be_judged(text in "\\PC{0,80}") {
        let record = KeyRecord::new("a.example", "s", Algorithm::Ed25519, &[0; 32]);
        prop_assert!(record.judge(&text).is_err());
    }
}
