//! SASL exchanges.

use super::*;

const B64: data_encoding::Encoding = data_encoding::BASE64;

/// Plays `answers` and tells how it ends: `authzid|login|password`, or the failure.
#[track_caller]
fn check(name: &str, initial: Option<&str>, answers: &[&str], want: &str) {
    let mut step = Mechanism::start(name, initial.map(str::as_bytes));
    for answer in answers {
        step = match step {
            Step::Challenge { next, .. } => next.answer(answer.as_bytes()),
            other => panic!("{name} ended before {answer:?}: {other:?}"),
        };
    }
    let got = match step {
        Step::Challenge { text, .. } => format!("challenge {text}"),
        Step::Fail(failure) => format!("{failure:?}"),
        Step::Done(c) => format!(
            "{}|{}|{}",
            c.authzid.unwrap_or_default(),
            c.login,
            String::from_utf8_lossy(c.password.expose())
        ),
    };
    assert_eq!(got, want, "{name} {initial:?} {answers:?}");
}

fn b64(text: &str) -> String {
    B64.encode(text.as_bytes())
}

#[test]
fn plain() {
    let good = b64("\0ana@example.org\0pass word");
    check("PLAIN", None, &[], "challenge ");
    check("plain", Some(&good), &[], "|ana@example.org|pass word");
    check("PLAIN", None, &[&good], "|ana@example.org|pass word");
    check(
        "PLAIN",
        Some(&b64("bob\0ana\0p\u{e9}")),
        &[],
        "bob|ana|p\u{e9}",
    );
    check("PLAIN", Some(&b64("ana\0pw")), &[], "Malformed");
    check("PLAIN", Some(&b64("\0ana\0pw\0more")), &[], "Malformed");
    check("PLAIN", Some(&b64("\0\0pw")), &[], "Malformed");
    check("PLAIN", Some(&b64("\0ana\0")), &[], "Malformed");
    check("PLAIN", Some(&B64.encode(b"\0ana\0\xff")), &[], "Malformed");
    check("PLAIN", Some("="), &[], "Malformed");
    check("PLAIN", None, &["*"], "Cancelled");
    check("PLAIN", None, &["AGFuYQBwdw"], "BadBase64");
    check("PLAIN", None, &["AGFuYQBwdx=="], "BadBase64");
    check("PLAIN", None, &["AGFu YQBwdw=="], "BadBase64");
    check("PLAIN", None, &[""], "Malformed");
}

#[test]
fn login() {
    let (name, password) = (b64("ana"), b64("secret"));
    check("LOGIN", None, &[], "challenge VXNlcm5hbWU6");
    check("LOGIN", Some("="), &[], "challenge VXNlcm5hbWU6");
    check("LOGIN", Some(&name), &[], "challenge UGFzc3dvcmQ6");
    check("LOGIN", Some(&name), &[&password], "|ana|secret");
    check("login", None, &[&name, &password], "|ana|secret");
    check("LOGIN", None, &[&name, "*"], "Cancelled");
    check("LOGIN", None, &[&name, ""], "Malformed");
    check("LOGIN", None, &[""], "Malformed");
    check("CRAM-MD5", None, &[], "UnknownMechanism");
}

#[test]
fn a_password_is_not_printed() {
    let step = Mechanism::start("PLAIN", Some(b64("\0ana\0hunter2").as_bytes()));
    let printed = format!("{step:?}");
    assert!(
        printed.contains("ana") && !printed.contains("hunter2"),
        "{printed}"
    );
}
