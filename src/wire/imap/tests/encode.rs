//! Responses: written, and read back.

use proptest::prelude::*;

use crate::base::UnixMs;
use crate::wire::imap::cursor::Cursor;
use crate::wire::imap::date::date_time;
use crate::wire::imap::{self, Coding, DateTime, Day, Flag};

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    out.escape_ascii().to_string()
}

#[track_caller]
fn check(write: impl FnOnce(&mut Vec<u8>), want: &str) {
    assert_eq!(written(write), want);
}

#[test]
fn texts_take_the_form_that_holds_them() {
    use Coding::{Ascii, Utf8};
    check(|out| imap::string(out, b"plain", Ascii), r#"\"plain\""#);
    check(
        |out| imap::string(out, br#"a"\b"#, Ascii),
        r#"\"a\\\"\\\\b\""#,
    );
    check(|out| imap::string(out, b"a\nb", Utf8), r"{3}\r\na\nb");
    check(
        |out| imap::string(out, "é".as_bytes(), Ascii),
        r"{2}\r\n\xc3\xa9",
    );
    check(
        |out| imap::string(out, "é".as_bytes(), Utf8),
        r#"\"\xc3\xa9\""#,
    );
    check(|out| imap::string(out, b"\xff", Utf8), r"{1}\r\n\xff");
    check(|out| imap::nstring(out, None, Ascii), "NIL");
    check(|out| imap::nstring(out, Some(b""), Ascii), r#"\"\""#);
    check(|out| imap::astring(out, b"INBOX", Ascii), "INBOX");
    check(|out| imap::astring(out, b"a b", Ascii), r#"\"a b\""#);
    check(|out| imap::astring(out, b"nil", Ascii), r#"\"nil\""#);
    check(|out| imap::mailbox(out, "Entwürfe", Ascii), "Entw&APw-rfe");
    // No atom may hold list-wildcards (RFC 9051 9).
    check(|out| imap::mailbox(out, "50%", Ascii), r#"\"50%\""#);
    check(|out| imap::mailbox(out, "a*b", Utf8), r#"\"a*b\""#);
    check(
        |out| imap::mailbox(out, "Entwürfe", Utf8),
        r#"\"Entw\xc3\xbcrfe\""#,
    );
    check(
        |out| {
            imap::list_response(
                out,
                "LIST",
                &["\\Sent", "\\HasNoChildren"],
                Some(b'/'),
                "é",
                Ascii,
            )
        },
        r#"* LIST (\\Sent \\HasNoChildren) \"/\" &AOk-"#,
    );
    check(
        |out| imap::list_response(out, "LSUB", &[], None, "INBOX", Utf8),
        "* LSUB () NIL INBOX",
    );
    check(|out| imap::literal8_head(out, 7), r"~{7}\r\n");
}

#[test]
fn numbers_and_lists() {
    check(|out| imap::number(out, 0), "0");
    check(|out| imap::number(out, u64::MAX), "18446744073709551615");
    check(|out| imap::sequence_set(out, []), "");
    check(|out| imap::sequence_set(out, [7]), "7");
    check(
        |out| imap::sequence_set(out, [1, 2, 3, 4, 7, 9, 10]),
        "1:4,7,9:10",
    );
    check(
        |out| imap::sequence_set(out, [u32::MAX - 1, u32::MAX]),
        "4294967294:4294967295",
    );
    check(|out| imap::flag_list(out, []), "()");
    let flags = [
        Flag::Seen,
        Flag::Keyword("$Junk"),
        Flag::Extension("X"),
        Flag::Recent,
    ];
    check(
        |out| imap::flag_list(out, flags),
        r"(\\Seen $Junk \\X \\Recent)",
    );
}

#[track_caller]
fn check_time(seconds: i64, zone_minutes: i16, want: &str) {
    let time = DateTime {
        at: UnixMs::from_seconds(seconds),
        zone_minutes,
    };
    let mut out = Vec::new();
    imap::write_date_time(&mut out, time);
    assert_eq!(String::from_utf8_lossy(&out), format!("\"{want}\""));
    assert_eq!(date_time(&mut Cursor::new(&out)), Ok(time));
}

#[test]
fn internal_dates() {
    check_time(0, 0, "01-Jan-1970 00:00:00 +0000");
    check_time(837_588_265, -420, "17-Jul-1996 00:24:25 -0700");
    check_time(1_709_164_800, 60, "29-Feb-2024 01:00:00 +0100");
    check_time(-1, 0, "31-Dec-1969 23:59:59 +0000");
    check_time(4_107_542_400, 330, "01-Mar-2100 05:30:00 +0530");
}

#[test]
fn days() {
    assert_eq!(Day::from_civil(1970, 1, 1), Some(Day(0)));
    assert_eq!(Day::from_civil(2000, 2, 29), Some(Day(11_016)));
    assert_eq!(Day::from_civil(1900, 2, 29), None);
    assert_eq!(Day::from_civil(2026, 4, 31), None);
    assert_eq!(Day::of(UnixMs(-1), 0), Day(-1));
    assert_eq!(Day::of(UnixMs(0), -60), Day(-1));
}

proptest! {
    #[test]
    fn strings_come_back(text: Vec<u8>, utf8: bool) {
        // NUL has no form but literal8.
        let text: Vec<u8> = text.into_iter().filter(|b| *b != 0).collect();
        let coding = if utf8 { Coding::Utf8 } else { Coding::Ascii };
        for write in [imap::string, imap::astring] {
            let mut out = Vec::new();
            write(&mut out, &text, coding);
            let mut c = Cursor::new(&out);
            let back = c.astring().unwrap();
            prop_assert_eq!(&back[..], &text[..]);
            prop_assert_eq!(c.end(), Ok(()));
        }
    }

    #[test]
    fn times_come_back(seconds in -62_000_000_000i64..253_000_000_000, zone in -1439i16..1440) {
        let time = DateTime { at: UnixMs::from_seconds(seconds), zone_minutes: zone };
        let mut out = Vec::new();
        imap::write_date_time(&mut out, time);
        prop_assert_eq!(date_time(&mut Cursor::new(&out)), Ok(time));
    }

    #[test]
    fn no_time_panics(seconds: i64, zone: i16) {
        let time = DateTime { at: UnixMs(seconds), zone_minutes: zone };
        imap::write_date_time(&mut Vec::new(), time);
        let _ = Day::of(time.at, zone);
    }

    #[test]
    fn days_come_back(n in -719_528i32..2_932_896) {
        let (year, month, day) = Day(n).civil();
        prop_assert_eq!(Day::from_civil(year, month, day), Some(Day(n)));
    }

    #[test]
    fn sets_come_back(numbers in proptest::collection::btree_set(1u32..60, 1..40)) {
        let mut command = b"a UID EXPUNGE ".to_vec();
        imap::sequence_set(&mut command, numbers.iter().copied());
        let Ok(imap::Command { body: imap::Body::Expunge(Some(set)), .. }) =
            imap::parse(&command) else { panic!("no set") };
        let back: Vec<u32> = set.resolve(99).flat_map(|(low, high)| low..=high).collect();
        prop_assert_eq!(back, numbers.into_iter().collect::<Vec<_>>());
    }
}
