//! Seeds against a reviewed snapshot; properties over any bytes and any cuts; the small parts.

use std::fmt::Write;
use std::ops::Range;

use proptest::prelude::*;

use super::*;

fn walk(message: &[u8]) -> Digest {
    let mut walker = Walker::new(Limits::default());
    walker.feed(message);
    walker.finish()
}

fn encoded(digest: &Digest) -> Vec<u8> {
    let mut bytes = Vec::new();
    digest.encode(&mut bytes);
    bytes
}

fn seeds() -> Vec<(String, Vec<u8>)> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/mime");
    let mut seeds: Vec<_> = std::fs::read_dir(dir)
        .expect("the corpus is part of the source")
        .map(|entry| entry.expect("readable").path())
        .map(|path| {
            let name = path
                .file_stem()
                .expect("a file")
                .to_string_lossy()
                .into_owned();
            (name, std::fs::read(path).expect("readable"))
        })
        .collect();
    seeds.sort();
    seeds
}

/// What a reader of the snapshot needs to judge a message: each part's header and body.
fn describe(message: &[u8]) -> String {
    let bytes = encoded(&walk(message));
    let view = DigestView::parse(&bytes).expect("our own digest");
    let mut out = String::new();
    for text in [view.envelope(), view.bodystructure()] {
        writeln!(out, "{}", text.escape_ascii()).expect("a String takes all");
    }
    for part in view.parts() {
        let cut = |range: Range<u64>| &message[range.start as usize..range.end as usize];
        let header = cut(part.header()).escape_ascii();
        let body = cut(part.body()).escape_ascii();
        writeln!(out, "  {:?} [{header}] [{body}]", part.kind).expect("a String takes all");
    }
    out
}

#[test]
fn seeds_are_described_as_reviewed() {
    let mut all = String::new();
    for (name, message) in seeds() {
        write!(all, "{name}\n{}\n", describe(&message)).expect("a String takes all");
    }
    insta::assert_snapshot!(all);
}

/// Everything that must hold whatever the message is.
fn check_invariants(message: &[u8]) {
    let digest = walk(message);
    let bytes = encoded(&digest);
    let view = DigestView::parse(&bytes).expect("our own digest");
    assert_eq!(view.bytes(), message.len() as u64);
    let mut crlf = Vec::new();
    CrlfWriter::default().feed(message, &mut crlf);
    assert_eq!(view.crlf_bytes(), crlf.len() as u64);
    let section = |path: &[u32], kind| view.section(path, kind);
    let header = section(&[], SectionKind::Header).expect("every message has one");
    let text = section(&[], SectionKind::Text).expect("every message has one");
    assert_eq!(
        (header.start, header.end, text.end),
        (0, text.start, view.bytes())
    );
    check_below(message, &view, &mut Vec::new(), 0..view.bytes(), 0);
    check_hot(message, &view, header);
    check_wire_text(view.envelope());
    check_wire_text(view.bodystructure());
    check_wire_text(view.body());
}

fn check_below(
    message: &[u8],
    view: &DigestView<'_>,
    path: &mut Vec<u32>,
    within: Range<u64>,
    depth: usize,
) {
    assert!(depth <= 2 * crate::base::MIME_DEPTH_MAX);
    let mut from = within.start;
    for number in 1.. {
        path.push(number);
        let Some(body) = view.section(path, SectionKind::All) else {
            path.pop();
            assert!(number > 1 || depth > 0, "a message has a part 1");
            return;
        };
        let mime = view
            .section(path, SectionKind::Mime)
            .expect("a part has a header");
        assert!(
            from <= mime.start && mime.end == body.start,
            "{path:?}: {mime:?} {body:?}"
        );
        assert!(body.end <= within.end, "{path:?} {body:?} in {within:?}");
        let mut crlf = Vec::new();
        let stored = &message[body.start as usize..body.end as usize];
        CrlfWriter::default().feed(stored, &mut crlf);
        let size = view.section_crlf_bytes(path, SectionKind::All);
        assert_eq!(size, Some(crlf.len() as u64), "{path:?}");
        from = body.end;
        let part = view.part(path).expect("it has a body");
        if part.kind == PartKind::Message {
            let header = view.section(path, SectionKind::Header).expect("a message");
            let text = view.section(path, SectionKind::Text).expect("a message");
            assert!(body.start <= header.start && header.end == text.start);
            assert!(text.end <= body.end);
        }
        check_below(message, view, path, body, depth + 1);
        path.pop();
    }
}

/// Hot fields answered from the digest are what the message itself answers.
fn check_hot(message: &[u8], view: &DigestView<'_>, header: Range<u64>) {
    let block = &message[header.start as usize..header.end as usize];
    let names: Vec<&[u8]> = HOT_HEADERS.iter().map(|name| name.as_bytes()).collect();
    for names in [&names[..], &names[..2], &names[6..7]] {
        let (mut from_digest, mut from_message) = (Vec::new(), Vec::new());
        header_fields(view.hot_headers(), names, false, &mut from_digest);
        header_fields(block, names, false, &mut from_message);
        assert_eq!(from_digest, from_message);
    }
    assert_eq!(view.header("subject"), find(block, b"Subject"));
}

/// One balanced list; literals have the length they say; no line end outside literals.
fn check_wire_text(text: &[u8]) {
    let (mut at, mut depth) = (0, 0i32);
    while at < text.len() {
        match text[at] {
            b'(' => depth += 1,
            b')' => depth -= 1,
            b'"' => {
                at += 1;
                while text[at] != b'"' {
                    assert!(!matches!(text[at], b'\r' | b'\n' | 0 | 128..));
                    at += if text[at] == b'\\' { 2 } else { 1 };
                }
            }
            b'{' => {
                let close = at + text[at..].iter().position(|&b| b == b'}').expect("closed");
                let digits = str::from_utf8(&text[at + 1..close]).expect("digits");
                assert_eq!(&text[close + 1..close + 3], b"\r\n");
                at = close + 2 + digits.parse::<usize>().expect("a number");
                assert!(at < text.len());
            }
            byte => assert!(byte == b' ' || byte.is_ascii_alphanumeric(), "{byte}"),
        }
        at += 1;
        assert!(depth > 0 || at == text.len());
    }
    assert_eq!(depth, 0);
}

fn check_cuts(message: &[u8], sizes: &[usize]) {
    let mut walker = Walker::new(Limits::default());
    let mut rest = message;
    for &size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (chunk, tail) = rest.split_at(size.clamp(1, rest.len()));
        walker.feed(chunk);
        rest = tail;
    }
    assert_eq!(walker.finish(), walk(message));
}

#[test]
fn seeds_keep_the_invariants_however_cut() {
    for (name, message) in seeds() {
        println!("{name}");
        check_invariants(&message);
        for sizes in [&[1][..], &[2], &[3], &[7, 1], &[13, 2, 1]] {
            check_cuts(&message, sizes);
        }
        for end in 0..message.len() {
            check_invariants(&message[..end]);
        }
    }
}

/// Lines that make trouble, so that random messages have structure.
fn piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "\r\n",
        "\n",
        "\r",
        "--b\r\n",
        "--b--\r\n",
        "--b-1\r\n",
        "--b-1--\n",
        "--",
        "-",
        "text",
        "a\r\n",
        " \r\n",
        "Content-Type: multipart/mixed; boundary=b\r\n",
        "\0",
        "\u{e9}",
        "Content-Type: multipart/digest; boundary=\"b-1\"\r\n",
        "From: a@b (c), d:e;\r\n",
        "Content-Type: message/rfc822\r\n",
        "Subject: x\r\n y\r\n",
        "\r\n\r\n",
        "--b\n\n",
        "Content-Type: text/plain; a=\"\\\r\n\"; b={3}\r\n",
        "Date: Mon, 1 Jan 2024\r\n",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_are_walked(message in prop::collection::vec(any::<u8>(), 0..400)) {
        check_invariants(&message);
    }

    #[test]
    fn any_structure_is_walked(
        pieces in prop::collection::vec(piece(), 0..60),
        sizes in prop::collection::vec(1usize..40, 1..8),
    ) {
        let message = pieces.concat().into_bytes();
        check_invariants(&message);
        check_cuts(&message, &sizes);
    }

    #[test]
    fn small_limits_hold(
        pieces in prop::collection::vec(piece(), 0..80),
        sizes in prop::collection::vec(1usize..40, 1..8),
    ) {
        let limits = Limits {
            header_bytes_max: 60, depth_max: 3, parts_max: 4, structure_bytes_max: 200,
        };
        let message = pieces.concat().into_bytes();
        let mut whole = Walker::new(limits);
        whole.feed(&message);
        let mut cut = Walker::new(limits);
        let mut rest = &message[..];
        for &size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, tail) = rest.split_at(size.min(rest.len()));
            cut.feed(chunk);
            rest = tail;
        }
        let whole = whole.finish();
        prop_assert_eq!(&whole, &cut.finish());
        let bytes = encoded(&whole);
        let view = DigestView::parse(&bytes).expect("our own digest");
        check_wire_text(view.bodystructure());
        check_below(&message, &view, &mut Vec::new(), 0..view.bytes(), 0);
    }

    #[test]
    fn any_digest_bytes_are_read(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
        path in prop::collection::vec(0u32..4, 0..4),
        flip in any::<(prop::sample::Index, u8)>(),
    ) {
        let look = |bytes: &[u8]| {
            if let Ok(view) = DigestView::parse(bytes) {
                let _ = view.section(&path, SectionKind::All);
                let _ = view.section_crlf_bytes(&path, SectionKind::Text);
                let _ = view.sent_day();
                view.parts().count();
            }
        };
        look(&bytes);
        bytes.splice(0..0, [super::digest::MAGIC, super::digest::VERSION]);
        look(&bytes);
        let mut real = encoded(&walk(&seeds()[flip.1 as usize % 30].1));
        let at = flip.0.index(real.len());
        real[at] ^= flip.1 | 1;
        look(&real);
        look(&real[..at]);
    }

    #[test]
    fn decoding_does_not_depend_on_cuts(
        body in prop::collection::vec(prop::sample::select(b"=AF3 \t\r\n_?z\xe9".to_vec()), 0..120),
        size in 1usize..20,
    ) {
        for encoding in [Encoding::Base64, Encoding::QuotedPrintable, Encoding::Identity] {
            let (mut whole, mut cut) = (Vec::new(), Vec::new());
            let mut decoder = TransferDecoder::new(encoding);
            decoder.feed(&body, &mut whole);
            decoder.finish(&mut whole);
            let mut decoder = TransferDecoder::new(encoding);
            for chunk in body.chunks(size) {
                decoder.feed(chunk, &mut cut);
            }
            decoder.finish(&mut cut);
            prop_assert_eq!(&whole, &cut);
        }
        let _ = decode_words(&body);
    }
}

#[test]
fn depth_and_parts_are_bounded() {
    let mut deep = Vec::new();
    for level in 0..300 {
        let head = format!("Content-Type: multipart/mixed; boundary=b{level}x\r\n\r\n");
        deep.extend_from_slice(format!("{head}--b{level}x\r\n").as_bytes());
    }
    check_invariants(&deep);
    check_invariants(&b"Content-Type: message/rfc822\r\n\r\n".repeat(300));
    let head = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n";
    let many = [&head[..], &b"--b\r\n".repeat(20_000)].concat();
    assert_eq!(walk(&many).parts.len(), Limits::default().parts_max);
    check_cuts(&many, &[977]);
}

#[test]
fn a_header_without_end_becomes_body() {
    let long = [
        b"Subject: x\r\nX: ",
        &vec![b'a'; 3 << 20][..],
        b"\r\n\r\nbody",
    ]
    .concat();
    check_invariants(&long);
    check_cuts(&long, &[100_000, 7]);
}

#[track_caller]
fn check_fields(names: &[&str], not: bool, want: &str) {
    let block = b"A: 1\r\nB: 2\n folded\r\nno field\r\na : 3\r\n\r\nB: body";
    let names: Vec<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
    let mut out = Vec::new();
    header_fields(block, &names, not, &mut out);
    assert_eq!(String::from_utf8_lossy(&out), want);
}

#[test]
fn header_fields_are_selected() {
    check_fields(&["a"], false, "A: 1\r\na : 3\r\n\r\n");
    check_fields(&["b", "x"], false, "B: 2\r\n folded\r\n\r\n");
    check_fields(&["A"], true, "B: 2\r\n folded\r\nno field\r\n\r\n");
    check_fields(&[], false, "\r\n");
}

#[track_caller]
fn check_params(value: &str, want: &[(&str, &str)]) {
    let media = parse_media_type(value.as_bytes()).expect("a type");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let got: Vec<_> = media
        .params
        .iter()
        .map(|(n, v)| (text(n), text(v)))
        .collect();
    let want: Vec<_> = want
        .iter()
        .map(|(n, v)| (n.to_string(), v.to_string()))
        .collect();
    assert_eq!(got, want, "{value}");
}

#[test]
fn continuations_are_joined() {
    check_params("a/b; X=1; y=\"2\"", &[("X", "1"), ("y", "2")]);
    check_params("a/b; t*1=b; t*0=a; u=c", &[("u", "c"), ("t", "ab")]);
    check_params(
        "a/b; T*0*=utf-8''a%20; t*1=\"5%\"",
        &[("t*", "utf-8''a%205%25")],
    );
    check_params("a/b; t*0=a; t*2=c", &[("t", "a")]);
    check_params(
        "a/b; t*=utf-8''a; *0=x; t*x=y",
        &[("t*", "utf-8''a"), ("*0", "x"), ("t*x", "y")],
    );
}

#[track_caller]
fn check_words(value: &str, want: &str) {
    assert_eq!(decode_words(value.as_bytes()), want, "{value}");
}

#[test]
fn encoded_words_become_text() {
    check_words("plain", "plain");
    check_words("=?utf-8?Q?caf=C3=A9_x?=", "café x");
    check_words("a =?ISO-8859-1?B?6Q==?= b", "a é b");
    check_words(
        "=?utf-8?B?w6k=?= \r\n =?utf-8?Q?=C3?= =?utf-8?Q?=A9?= z",
        "éé z",
    );
    check_words("=?utf-8*en?q?x?=", "x");
    check_words(
        "=?no-such?q?x?= =?utf-8?z?x?=",
        "=?no-such?q?x?= =?utf-8?z?x?=",
    );
    check_words("=?koi8-r?B?89DJ08/L?=", "Список");
    check_words("=?utf-8?q?a?=b", "ab");
    // A header made of word beginnings only once took time by the square of its length.
    let beginnings = "=?utf-8?q?a".repeat(50_000);
    assert!(decode_words(beginnings.as_bytes()) == beginnings);
}

#[track_caller]
fn check_transfer(encoding: Encoding, body: &str, want: &[u8]) {
    let mut out = Vec::new();
    let mut decoder = TransferDecoder::new(encoding);
    decoder.feed(body.as_bytes(), &mut out);
    decoder.finish(&mut out);
    assert_eq!(out, want, "{body:?}");
}

#[test]
fn transfer_encodings_are_undone() {
    use Encoding::{Base64, QuotedPrintable as Quoted};
    check_transfer(Base64, "YWJj\r\nZGU=\r\n", b"abcde");
    check_transfer(Base64, "YQ==YmM=", b"abc");
    check_transfer(Base64, "YW!Jj*Z", b"abc");
    check_transfer(Quoted, "a=3Db =\r\n c  \r\nd=\r\n", b"a=b  c\r\nd");
    check_transfer(Quoted, "=ZZ =4 =", b"=ZZ =4 ");
    check_transfer(Quoted, "a\tb\nc=e9", b"a\tb\nc\xe9");
}

fn text_of(encoding: Encoding, charset: &str, body: &[u8]) -> String {
    let mut text = String::new();
    let mut sink = |piece: &str| text.push_str(piece);
    let mut decoder = TextDecoder::new(encoding, charset.as_bytes());
    for chunk in body.chunks(3) {
        decoder.feed(chunk, &mut sink);
    }
    decoder.finish(&mut sink);
    text
}

#[test]
fn text_becomes_utf8() {
    assert_eq!(text_of(Encoding::Identity, "", "café".as_bytes()), "café");
    assert_eq!(
        text_of(Encoding::QuotedPrintable, "iso-8859-15", b"=A4"),
        "€"
    );
    assert_eq!(text_of(Encoding::Base64, "utf-16le", b"YQDpAA=="), "aé");
    assert_eq!(
        text_of(Encoding::Identity, "us-ascii", b"a\xff"),
        "a\u{fffd}"
    );
    assert_eq!(
        text_of(Encoding::Identity, "", &b"x".repeat(100_000)).len(),
        100_000
    );
}

#[track_caller]
fn check_search(needle: &str, text: &str, want: bool) {
    let needle = Needle::new(needle);
    assert_eq!(needle.is_in(text), want, "{text}");
    let mut search = needle.search();
    for c in text.chars() {
        search.feed(c.encode_utf8(&mut [0; 4]));
    }
    assert_eq!(search.found(), want, "{text} in pieces");
}

#[test]
fn search_is_caseless() {
    check_search("hello", "Say HELLO there", true);
    check_search("hello", "Say HELO there", false);
    check_search("CAFÉ", "un café", true);
    check_search("Ὀδυσσεύς", "ὈΔΥΣΣΕΎΣ", true);
    check_search("", "", true);
    check_search("x", "", false);
}
