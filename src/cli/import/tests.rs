//! Trees and names against tables, and the comparison.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::report::{Expected, Report};
use super::{below, files, maildir, mbox};
use crate::base::UnixMs;
use crate::web::import::Head;

fn make(root: &Path, dirs: &[&str], files: &[(&str, &str)]) {
    for dir in dirs {
        fs::create_dir_all(root.join(dir)).expect("a directory");
    }
    for (file, text) in files {
        let path = root.join(file);
        fs::create_dir_all(path.parent().expect("a file's directory")).expect("a directory");
        fs::write(path, text).expect("a file");
    }
}

#[test]
fn maildir_trees_become_folders() {
    let root = tempfile::tempdir().expect("a directory");
    let dirs = [
        "cur",
        "new",
        "tmp",
        ".Sent/cur",
        ".Work.Entw&APw-rfe/cur",
        ".a\\2eb/cur",
        ".nothing",
        "fs/inner/cur",
        ".Odd*/cur",
    ];
    make(root.path(), &dirs, &[]);
    std::os::unix::fs::symlink(root.path().join(".Sent"), root.path().join(".Linked"))
        .expect("a link");
    let odd = std::ffi::OsStr::from_bytes(b".Entw\xfcrfe/cur");
    fs::create_dir_all(root.path().join(odd)).expect("a directory");
    let (found, skipped) = maildir::folders_of(root.path());
    // What is left out is told.
    assert_eq!(skipped.len(), 2, "{skipped:?}");
    let told = skipped.join("\n");
    assert!(told.contains(".Entw") && told.contains(".Linked"), "{told}");
    let want = ["", "Odd_", "Sent", "Work/Entwürfe", "a.b", "fs/inner"];
    let mut sorted = found.clone();
    sorted.sort();
    assert_eq!(sorted, want);
}

#[test]
fn mbox_trees_become_folders() {
    let root = tempfile::tempdir().expect("a directory");
    let one = "From a Mon Jan  5 10:11:12 2026\nA: 1\n\nx\n";
    let files = [
        ("Inbox", one),
        ("Inbox.msf", "<!-- mork -->"),
        ("Inbox.sbd/2026", one),
        ("Empty", ""),
        ("lists/rust.mbox", one),
        ("notes.txt", "From here on it is text\n"),
        (".imap/x", one),
    ];
    make(root.path(), &[], &files);
    let found = mbox::folders_of(root.path());
    assert_eq!(found, ["Empty", "INBOX", "INBOX/2026", "lists/rust"]);
}

#[test]
fn names_are_made_fit() {
    let check = |above: &str, name: &str, want: &str| assert_eq!(below(above, name), want);
    check("", "inbox", "INBOX");
    check("Old", "inbox", "Old/inbox");
    check("", " a/b*\u{1} ", "a_b__");
}

#[test]
fn maildir_letters_are_flags() {
    let known = [('a', "Work".to_owned()), ('b', "$Forwarded".to_owned())];
    let check = |name: &str, flags: u8, keywords: &[&str]| {
        let got = maildir::marks_of(name, &known);
        assert_eq!(
            (got.0, got.1),
            (flags, keywords.iter().map(|k| (*k).to_owned()).collect())
        );
    };
    check("1.x", 0, &[]);
    check("1.x:2,", 0, &[]);
    check("1.x,S=3:2,DFRST", 31, &[]);
    check("1.x:2,PSabz", 1, &["$Forwarded", "Work"]);
}

fn one(id: u8, flags: u8, seconds: i64) -> Expected {
    let head = Head {
        flags,
        keywords: Vec::new(),
        date: UnixMs::from_seconds(seconds),
    };
    Expected::new([id; 16], &head)
}

#[track_caller]
fn check(expected: &[Expected], there: &[Expected], want: (u64, u64, u64)) {
    let mut report = Report::new("ana", "INBOX");
    report.compare(&mut expected.to_vec(), &mut there.to_vec());
    let got = (report.missing, report.flags_differ, report.dates_differ);
    assert_eq!(got, want, "{expected:?} against {there:?}");
    assert_eq!(report.is_equal(), want == (0, 0, 0));
}

#[test]
fn what_differs_is_told() {
    check(&[], &[], (0, 0, 0));
    // More than the source has is no difference.
    check(
        &[one(1, 1, 5)],
        &[one(2, 0, 0), one(1, 1, 5), one(1, 0, 9)],
        (0, 0, 0),
    );
    check(&[one(1, 1, 5), one(1, 1, 5)], &[one(1, 1, 5)], (1, 0, 0));
    check(&[one(1, 1, 5)], &[one(1, 0, 5)], (0, 1, 0));
    check(&[one(1, 1, 5)], &[one(1, 1, 6)], (0, 0, 1));
    check(
        &[one(1, 1, 5), one(1, 0, 6)],
        &[one(1, 2, 7), one(1, 0, 6)],
        (0, 1, 1),
    );
    check(&[one(3, 1, 5)], &[one(1, 1, 5), one(4, 1, 5)], (1, 0, 0));
}

#[test]
fn keywords_compare_without_case_and_order() {
    let head = |keywords: &[&str]| Head {
        flags: 0,
        keywords: keywords.iter().map(|k| (*k).to_owned()).collect(),
        date: UnixMs(0),
    };
    let one = Expected::new([1; 16], &head(&["$Junk", "work"]));
    assert_eq!(one, Expected::new([1; 16], &head(&["Work", "$junk"])));
}

/// `cur/x -> /etc/shadow`, imported by root, was a user's way to read it.
#[test]
fn only_regular_files_are_opened() {
    let root = tempfile::tempdir().expect("a directory");
    let (file, link) = (root.path().join("file"), root.path().join("link"));
    fs::write(&file, "text").expect("a file");
    std::os::unix::fs::symlink(&file, &link).expect("a link");
    assert!(files::open(&file).is_ok());
    let error = files::open(&link).expect_err("a link");
    assert!(error.to_string().contains("symbolic link"), "{error}");
    assert!(files::open(root.path()).is_err());
}

/// What Dovecot had compressed came in as garbage.
#[test]
fn compressed_messages_are_unpacked() {
    const LETTER: &[u8] = b"Subject: x\n\nbody\nbody\nbody\n";
    let root = tempfile::tempdir().expect("a directory");
    let path = root.path().join("file");
    let check = |bytes: &[u8], said: Option<u64>, want: Option<&[u8]>| {
        fs::write(&path, bytes).expect("a file");
        let opened = files::open(&path).expect("opens");
        let content = files::unpacked(opened, said).ok();
        let content = content.map(|mut content| {
            let mut all = Vec::new();
            content.read_to_end(&mut all).expect("reads");
            all
        });
        assert_eq!(content.as_deref(), want, "{said:?}");
    };
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(LETTER).expect("packed");
    let gzip = gzip.finish().expect("packed");
    let zstd = zstd::encode_all(LETTER, 3).expect("packed");
    check(LETTER, Some(17), Some(LETTER));
    for packed in [&gzip, &zstd] {
        let len = LETTER.len() as u64;
        check(packed, Some(len), Some(LETTER));
        check(packed, None, Some(LETTER));
        check(packed, Some(packed.len() as u64), Some(packed));
        let cut = &packed[..packed.len() - 2];
        check(cut, None, Some(cut));
        check(cut, Some(len), None);
    }
}

/// One truncated file ended the whole import.
#[test]
fn a_truncated_mbox_is_read_as_far_as_it_goes() {
    let root = tempfile::tempdir().expect("a directory");
    let path = root.path().join("Old.gz");
    let mut text = String::new();
    for n in 0..2_000 {
        let salt = blake3::hash(format!("{n}").as_bytes());
        text += &format!("From a Mon Jan  5 10:11:12 2026\nSubject: {n}\n\n{salt}\n\n");
    }
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(text.as_bytes()).expect("packed");
    let gzip = gzip.finish().expect("packed");
    let zstd = zstd::encode_all(text.as_bytes(), 3).expect("packed");
    for packed in [gzip, zstd] {
        fs::write(&path, &packed).expect("a file");
        assert_eq!(mbox::held_of(&path), (true, text.len(), None));
        fs::write(&path, &packed[..packed.len() - 5]).expect("a file");
        let (is_one, held, why) = mbox::held_of(&path);
        assert!(is_one && held > text.len() / 4, "{held}");
        assert_eq!(why, Some(std::io::ErrorKind::UnexpectedEof));
    }
}
