//! Trees and names against tables, and the comparison.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::link::Link;
use super::report::{Expected, Report};
use super::send::Sender;
use super::{below, files, maildir, mbox};
use crate::base::UnixMs;
use crate::cli::conversation::Conversation;
use crate::cli::error::CliError;
use crate::config::Config;
use crate::server::OfflineJob;
use crate::store::KeywordLetters;
use crate::web::import::{END, Head, ImportRow, ImportRows, MESSAGE, PIECE};
use crate::web::{AdminError, AdminReply};

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
    let want = ["", "Odd*", "Sent", "Work/Entwürfe", "a.b", "fs/inner"];
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
    check("", " a/50%*\u{1} ", "a_50%*_");
}

/// A name that is no atom was told in FETCH as it was, and a letter without a name was not told of.
#[test]
fn names_say_flags_and_keywords() {
    let list = b"0 Work\n1 $Forwarded\n3 x) UID 7 FLAGS (\\Deleted\n4 {5}\n";
    let known = KeywordLetters::of(list);
    let check = |name: &str, flags: u8, keywords: &[&str], nameless: &[char]| {
        let got = maildir::marks(name, &known.names);
        assert_eq!(got.flags.0, flags, "{name}");
        assert_eq!(got.keywords, keywords, "{name}");
        assert_eq!(got.nameless, nameless, "{name}");
    };
    check("1.x", 0, &[], &[]);
    check("1.x:2,", 0, &[], &[]);
    check("1.x,S=3:2,DFRST", 31, &[], &[]);
    check("1.x:2,PSab", 1, &["$Forwarded", "Work"], &[]);
    check("1.x:2,ade", 0, &["Work"], &['d', 'e']);
    check("1.x:2,Sz,ab", 1, &[], &['z']);
    let odd: Vec<char> = known.odd.iter().map(|(letter, _)| *letter).collect();
    assert_eq!(odd, ['d', 'e']);
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

/// What a server has that takes all of a batch at its end, or nothing.
#[derive(Default)]
struct Fake {
    rows: Vec<ImportRow>,
    /// So many batches are taken, and who sent them is told that nobody knows.
    late: u32,
}

impl Fake {
    fn take(&mut self, batch: &[u8]) -> AdminReply {
        let (mut rows, mut at, mut is_whole) = (Vec::new(), 0, false);
        while let Some(head) = batch[at..].first_chunk::<5>() {
            let len = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
            let content = &batch[at + 5..at + 5 + len];
            at += 5 + len;
            match head[0] {
                MESSAGE => rows.push((serde_json::from_slice(content).expect("a head"), vec![])),
                PIECE => rows
                    .last_mut()
                    .expect("a message")
                    .1
                    .extend_from_slice(content),
                END => is_whole = true,
                _ => {}
            }
        }
        if !is_whole {
            return self.failed("the batch broke off");
        }
        for (head, text) in rows {
            let row = ImportRow {
                uid: self.rows.len() as u32 + 1,
                hash: data_encoding::HEXLOWER.encode(&blake3::hash(&text).as_bytes()[..16]),
                head,
            };
            self.rows.push(row);
        }
        if self.late > 0 {
            self.late -= 1;
            return self.failed("the server did not answer in time");
        }
        AdminReply::Done(serde_json::json!({}))
    }

    fn failed(&self, message: &str) -> AdminReply {
        AdminReply::Failed(AdminError {
            message: message.to_owned(),
            temporary: false,
        })
    }

    fn rows(&self) -> AdminReply {
        let rows = ImportRows {
            rows: self.rows.clone(),
            more: false,
        };
        AdminReply::Done(serde_json::to_value(rows).expect("JSON"))
    }
}

/// Imports what is in the directories, one run each; answers how each ended, and what is there.
fn imported(late: u32, runs: &[&Path]) -> (Vec<Result<Report, CliError>>, usize) {
    let text = "hostname = \"mx.example.org\"\ndomains = [\"example.org\"]\n\
                [limits]\nmessage_bytes_max = \"64KB\"\n";
    let config = Config::parse(text, "test").expect("a configuration");
    let (jobs, work) = flume::bounded(1);
    let (count, counted) = flume::bounded(1);
    let thread = std::thread::spawn(move || {
        let mut fake = Fake {
            late,
            ..Fake::default()
        };
        while let Ok(job) = work.recv() {
            let (reply, to) = match job {
                OfflineJob::Ask(_, to) => (fake.rows(), to),
                OfflineJob::Take(pieces, to) => {
                    let batch: Vec<u8> = pieces.iter().flatten().collect();
                    (fake.take(&batch), to)
                }
            };
            let _ = to.send(reply);
        }
        let _ = count.send(fake.rows.len());
        Ok(())
    });
    let line = Conversation::with(config.clone(), jobs, thread);
    let link = Link::to(config, line);
    let bar = indicatif::ProgressBar::hidden();
    let run = |dir: &&Path| {
        let mut sender = Sender::new(&link, "ana", "INBOX")?;
        maildir::read(dir, &mut sender, &bar)?;
        sender.flush()?;
        sender.compare()
    };
    let reports = runs.iter().map(run).collect();
    link.close().expect("closes");
    (reports, counted.recv().expect("a count"))
}

/// Messages that no client could have sent came in by an import.
#[test]
fn what_is_above_the_limit_is_left_out_and_told() {
    let root = tempfile::tempdir().expect("a directory");
    let letter = |bytes: usize| format!("Subject: x\n\n{}", "b".repeat(bytes - 12));
    let (fits, small, large) = (letter(64_000), letter(64_001), letter(700_000));
    let files = [
        ("cur/1.x:2,", fits.as_str()),
        ("cur/2.x:2,", &small),
        ("cur/3.x:2,S", &large),
        ("cur/4.x:2,", "Subject: y\n\n"),
    ];
    make(root.path(), &["new", "tmp"], &files);
    let (reports, there) = imported(0, &[root.path()]);
    let report = reports[0].as_ref().expect("a report");
    assert_eq!((report.messages, report.added, there), (2, 2, 2));
    assert!(!report.is_equal(), "the command ends with 1");
    let mut told = report.unreadable.clone();
    told.sort();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("cur/2.x") && told[0].contains("64001 octets"));
    assert!(told[1].contains("cur/3.x") && told[1].contains("700000 octets"));
}

/// A batch whose outcome nobody knew was sent again as it was, and was in twice.
#[test]
fn after_a_late_answer_the_next_run_brings_nothing_twice() {
    let root = tempfile::tempdir().expect("a directory");
    let texts: Vec<(String, String)> = (0..5)
        .map(|n| (format!("cur/{n}.x:2,"), format!("Subject: {n}\n\nbody\n")))
        .collect();
    let files: Vec<(&str, &str)> = texts
        .iter()
        .map(|(n, t)| (n.as_str(), t.as_str()))
        .collect();
    make(root.path(), &["new", "tmp"], &files);
    let (reports, there) = imported(1, &[root.path(), root.path()]);
    assert!(
        matches!(reports[0], Err(CliError::Refused(_))),
        "{:?}",
        reports[0]
    );
    let report = reports[1].as_ref().expect("a report");
    assert_eq!((report.added, report.present, there), (0, 5, 5));
    assert!(report.is_equal());
}
