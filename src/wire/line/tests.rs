//! Lines, strict and lenient.

use super::*;

#[track_caller]
fn check(buffer: &[u8], ending: Ending, want: Result<Option<(usize, usize)>, LineError>) {
    let got = next_line(buffer, 16, ending).map(|l| l.map(|l| (l.text, l.used)));
    assert_eq!(got, want, "{:?}", buffer.escape_ascii().to_string());
}

fn stray(stray: Stray, at: usize, used: usize) -> Result<Option<(usize, usize)>, LineError> {
    Err(LineError::Stray { stray, at, used })
}

#[test]
fn lines_end_where_the_protocol_says() {
    use Ending::{Crlf, CrlfOrLf};
    check(b"", Crlf, Ok(None));
    check(b"NOOP\r", Crlf, Ok(None));
    check(b"NOOP\r\nQUIT\r\n", Crlf, Ok(Some((4, 6))));
    check(b"NOOP\nQUIT\r\n", Crlf, stray(Stray::BareLf, 4, 11));
    check(b"NOOP\nQUIT\r\n", CrlfOrLf, Ok(Some((4, 5))));
    check(b"NO\rOP\r\n", Crlf, stray(Stray::BareCr, 2, 7));
    check(b"NOOP\r\r\n", Crlf, stray(Stray::BareCr, 4, 7));
    check(b"NO\0OP\r\n", CrlfOrLf, stray(Stray::Nul, 2, 7));
    check(b"\r\n", Crlf, Ok(Some((0, 2))));
    check(b"\n", Crlf, Ok(None));
    check(b"12345678901234\r\n", Crlf, Ok(Some((14, 16))));
    check(b"123456789012345\r\n", Crlf, Err(LineError::TooLong));
    check(b"1234567890123456", Crlf, Err(LineError::TooLong));
    check(b"123456789012345", Crlf, Ok(None));
}

#[test]
fn a_skip_ends_at_the_same_byte_in_any_chunking() {
    let text = b"too\nlong\rline\r\nQUIT\r\n";
    for (ending, want) in [(Ending::Crlf, 15), (Ending::CrlfOrLf, 4)] {
        for size in 1..=text.len() {
            let mut skip = Skip::new(ending);
            let mut dropped = 0;
            for chunk in text.chunks(size) {
                let (bytes, done) = skip.drop_from(chunk);
                dropped += bytes;
                if done {
                    break;
                }
            }
            assert_eq!(dropped, want, "{ending:?} in chunks of {size}");
        }
    }
}
