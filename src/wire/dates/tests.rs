//! Dates against tables, and round trips.

use proptest::prelude::*;

use super::*;
use crate::base::UnixMs;

#[track_caller]
fn check_date(text: &str, want: Option<(i64, i16)>) {
    let got = parse_date(text.as_bytes()).map(|d| (d.at.seconds(), d.zone_minutes));
    assert_eq!(got, want, "{text}");
}

#[test]
fn date_fields_are_read() {
    check_date("Thu, 01 Jan 1970 00:00:00 +0000", Some((0, 0)));
    check_date("Mon, 6 Feb 2023 10:11:12 +0100", Some((1_675_674_672, 60)));
    check_date(
        "6 Feb 2023 10:11 -0130 (comment (nested))",
        Some((1_675_683_660, -90)),
    );
    check_date(
        "Mon,\r\n 6 (six) Feb\r\n\t2023 10:11:12 EST",
        Some((1_675_696_272, -300)),
    );
    check_date("6 Feb 23 10:11:12 Z", Some((1_675_678_272, 0)));
    check_date("6 Feb 98 10:11:12 GMT", Some((886_759_872, 0)));
    check_date("6 Feb 098 10:11:12 UT", Some((886_759_872, 0)));
    check_date("6-Feb-1998 10:11:12 -0000", Some((886_759_872, 0)));
    check_date("Fri Feb  6 10:11:12 1998", Some((886_759_872, 0)));
    check_date("Fri Feb  6 10:11:12 PST 1998", Some((886_788_672, -480)));
    check_date("29 Feb 2024 23:59:60 +0000", Some((1_709_251_200, 0)));
    check_date("6 February 2023 10:11:12 +0000", Some((1_675_678_272, 0)));
    check_date("29 Feb 2023 00:00:00 +0000", None);
    check_date("6 Feb 2023 25:00 +0000", None);
    check_date("6 Foo 2023 10:00 +0000", None);
    check_date("6 Feb 20233 10:00 +0000", None);
    check_date("6 Feb 2023", None);
    check_date("", None);
    check_date("(", None);
}

#[track_caller]
fn check_imap(text: &str, want: Option<(i64, i16)>) {
    let got = parse_imap_date_time(text.as_bytes()).map(|d| (d.at.seconds(), d.zone_minutes));
    assert_eq!(got, want, "{text}");
}

#[test]
fn imap_date_times_are_read() {
    check_imap("17-Jul-1996 02:44:25 -0700", Some((837_596_665, -420)));
    check_imap(" 7-Jul-1996 02:44:25 +0000", Some((836_707_465, 0)));
    check_imap("7-jul-1996 02:44:25 +0000", Some((836_707_465, 0)));
    check_imap("17-Jul-1996 2:44:25 -0700", None);
    check_imap("17-Jul-1996 02:44:25", None);
    check_imap("17-Jul-1996 02:44:25 -0700 x", None);
    check_imap("31-Jun-1996 02:44:25 -0700", None);
}

#[test]
fn days_compare() {
    assert_eq!(parse_imap_date(b"1-Jan-1970"), Some(0));
    assert_eq!(parse_imap_date(b"01-Feb-1994"), Some(8797));
    assert_eq!(parse_imap_date(b"1-Feb-94"), None);
    let late = parse_date(b"1 Feb 1994 23:30:00 -0800").expect("valid");
    assert_eq!(late.local_day(), 8797);
}

#[test]
fn dates_are_written() {
    let date = DateTime {
        at: UnixMs(1_675_674_672_500),
        zone_minutes: -90,
    };
    assert_eq!(format_date(date), "Mon, 06 Feb 2023 07:41:12 -0130");
    assert_eq!(format_imap_date_time(date), " 6-Feb-2023 07:41:12 -0130");
}

proptest! {
    #[test]
    fn any_date_survives(seconds in -62_000_000_000i64..253_000_000_000, zone in -840i16..840) {
        let date = DateTime { at: UnixMs::from_seconds(seconds), zone_minutes: zone };
        prop_assert_eq!(parse_date(format_date(date).as_bytes()), Some(date));
        let imap = format_imap_date_time(date);
        prop_assert_eq!(imap.len(), 26);
        prop_assert_eq!(parse_imap_date_time(imap.as_bytes()), Some(date));
    }

    #[test]
    fn any_time_is_written(at: i64, zone_minutes: i16) {
        let date = DateTime { at: UnixMs(at), zone_minutes };
        prop_assert!(format_date(date).len() == 31);
        prop_assert!(format_imap_date_time(date).len() == 26);
    }

    #[test]
    fn any_bytes_are_read(
        bytes in prop::collection::vec(any::<u8>(), 0..60),
        text in "[-+0-9A-Za-z:, ().]{0,40}",
    ) {
        for bytes in [&bytes[..], text.as_bytes()] {
            let _ = (parse_date(bytes), parse_imap_date(bytes), parse_imap_date_time(bytes));
        }
    }
}
