//! Addresses against tables; round trips; any bytes.

use proptest::prelude::*;

use super::*;

#[track_caller]
fn check_path(text: &str, want: Result<(&str, &str), AddressError>) {
    let got = parse_path(text.as_bytes());
    let got =
        got.map(|(path, rest)| (path.to_string(), String::from_utf8_lossy(rest).into_owned()));
    assert_eq!(
        got,
        want.map(|(path, rest)| (path.to_owned(), rest.to_owned())),
        "{text}"
    );
}

#[test]
fn paths_are_read() {
    use AddressError::*;
    check_path("<>", Ok(("<>", "")));
    check_path("<> BODY=7BIT", Ok(("<>", " BODY=7BIT")));
    check_path("<Postmaster>", Ok(("<Postmaster>", "")));
    check_path("<a.b+c@Demo.test> X", Ok(("<a.b+c@Demo.test>", " X")));
    check_path(
        "<@one.test,@two.test:a@demo.test>",
        Ok(("<a@demo.test>", "")),
    );
    check_path(
        r#"<"a b>\"c"@demo.test>"#,
        Ok((r#"<"a b>\"c"@demo.test>"#, "")),
    );
    check_path(r#"<"ab"@demo.test>"#, Ok(("<ab@demo.test>", "")));
    check_path("<a@[192.0.2.1]>", Ok(("<a@[192.0.2.1]>", "")));
    check_path("<a@[IPv6:2001:db8::1]>", Ok(("<a@[IPv6:2001:db8::1]>", "")));
    check_path("<josé@café.test>", Ok(("<josé@café.test>", "")));
    check_path("a@demo.test", Err(NoBrackets));
    check_path("<a@demo.test", Err(NoBrackets));
    check_path("<a>", Err(NoDomain));
    check_path("<@demo.test>", Err(NoDomain));
    check_path("<a..b@demo.test>", Err(LocalPart));
    check_path("<a b@demo.test>", Err(LocalPart));
    check_path("<a@demo..test>", Err(Domain));
    check_path("<a@-demo.test>", Err(Domain));
    check_path("<a@demo.test.>", Err(Domain));
    check_path("<a@[300.0.2.1]>", Err(Literal));
    check_path(r#"<"a@demo.test>"#, Err(NoBrackets));
    check_path(r#"<""@demo.test>"#, Err(LocalPart));
    check_path(&format!("<{}@demo.test>", "a".repeat(300)), Err(TooLong));
    assert_eq!(parse_path(b"<\xff@demo.test>"), Err(NotUtf8));
}

#[track_caller]
fn check_key(text: &str, want: Option<&str>) {
    let mailbox = Mailbox::parse(text).expect(text);
    assert_eq!(
        mailbox.key().map(|key| key.to_string()).as_deref(),
        want,
        "{text}"
    );
}

#[test]
fn keys_make_spellings_one() {
    check_key("Ana.B@DEMO.Test", Some("ana.b@demo.test"));
    check_key("ANA@Café.test", Some("ana@xn--caf-dma.test"));
    check_key("ANA@XN--CAF-dma.test", Some("ana@xn--caf-dma.test"));
    check_key("JOSE\u{301}@demo.test", Some("jos\u{e9}@demo.test"));
    check_key("ana@[192.0.2.1]", None);
    assert_eq!(domain_key("a_b.test").as_deref(), Some("a_b.test"));
    assert_eq!(domain_key(""), None);
    assert_eq!(domain_key("a b"), None);
}

#[test]
fn details_are_split() {
    assert_eq!(split_detail("ana+x+y", '+'), ("ana", Some("x+y")));
    assert_eq!(split_detail("ana+", '+'), ("ana", Some("")));
    assert_eq!(split_detail("+ana", '+'), ("+ana", None));
    assert_eq!(split_detail("ana", '+'), ("ana", None));
}

/// Entries as `name|route|local|domain`, groups as `name:` and `;`.
#[track_caller]
fn check_list(value: &str, want: &[&str]) {
    let show = |entry: &ListEntry| {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let maybe = |bytes: &Option<Vec<u8>>| bytes.as_deref().map_or("-".to_owned(), text);
        match entry {
            ListEntry::GroupStart(name) => format!("{}:", text(name)),
            ListEntry::GroupEnd => ";".to_owned(),
            ListEntry::Mailbox {
                name,
                route,
                local,
                domain,
            } => {
                format!(
                    "{}|{}|{}|{}",
                    maybe(name),
                    maybe(route),
                    text(local),
                    maybe(domain)
                )
            }
        }
    };
    let got: Vec<String> = parse_address_list(value.as_bytes())
        .iter()
        .map(show)
        .collect();
    assert_eq!(got, want, "{value}");
}

#[test]
fn lists_are_read() {
    check_list("", &[]);
    check_list("a@b", &["-|-|a|b"]);
    check_list(
        "Ana B <a@b>, \"C, D\"\r\n <c@d>",
        &["Ana B|-|a|b", "C, D|-|c|d"],
    );
    check_list("a@b (Ana)", &["Ana|-|a|b"]);
    check_list(
        "Team: a@b, c@d; e@f",
        &["Team:", "-|-|a|b", "-|-|c|d", ";", "-|-|e|f"],
    );
    check_list("none:;", &["none:", ";"]);
    check_list("open: a@b", &["open:", "-|-|a|b", ";"]);
    check_list("<@x,@y:a@b>", &["-|@x,@y|a|b"]);
    check_list("john . doe @ b . c", &["-|-|john.doe|b.c"]);
    check_list("\"a b\"@[1.2.3.4]", &["-|-|a b|[1.2.3.4]"]);
    check_list("=?utf-8?q?x?= <a@b>", &["=?utf-8?q?x?=|-|a|b"]);
    check_list("just words", &["-|-|just words|-"]);
    check_list("<a@b", &["-|-|a|b"]);
    check_list("Ana <>, ,, b@c", &["Ana|-||-", "-|-|b|c"]);
    check_list("a@b <c@d>, e@f", &["-|-|a|b", "-|-|e|f"]);
}

proptest! {
    #[test]
    fn any_bytes_are_read(
        bytes in prop::collection::vec(any::<u8>(), 0..80),
        text in "[<>@:;,.\"\\\\()\\[\\]a-c \r\n\u{e9}]{0,60}",
    ) {
        for bytes in [&bytes[..], text.as_bytes()] {
            let _ = parse_address_list(bytes);
            let _ = parse_path(bytes);
        }
        // What is read can be written and read again.
        if let Ok(mailbox) = Mailbox::parse(&text) {
            prop_assert_eq!(Mailbox::parse(&mailbox.to_string()), Ok(mailbox));
        }
        let _ = domain_key(&text);
    }

    #[test]
    fn keys_are_their_own_keys(local in "\\PC{1,12}", domain in "[a-zA-Zäß0-9.-]{1,12}") {
        prop_assert_eq!(local_key(&local_key(&local)), local_key(&local));
        if let Some(key) = domain_key(&domain) {
            prop_assert_eq!(domain_key(&key), Some(key));
        }
    }
}
