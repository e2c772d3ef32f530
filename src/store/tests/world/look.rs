//! What is there, as a session sees it, and what must be true of it whatever was done.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::rc::Rc;

use crate::base::{ModSeq, Uid};
use crate::runtime::Disk;
use crate::store::maildir::{OwnName, flag_letters, folder, parse};
use crate::store::tests::{ROOT, account, names};
use crate::store::{Access, Account, Flags, Row, View};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mail {
    pub text: Rc<str>,
    pub flags: u8,
    pub keywords: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SeenFolder {
    pub uidvalidity: u32,
    pub uidnext: u32,
    pub mails: BTreeMap<u32, Mail>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub folders: BTreeMap<String, SeenFolder>,
}

/// Everything that was ever seen of one account and may never be otherwise, over all lives: who
/// has seen something has seen it durable.
#[derive(Default)]
pub(super) struct Chronicle {
    /// RFC 9051 2.3.1.1: name and UIDVALIDITY tell the mailbox.
    named: BTreeMap<(String, u32), u64>,
    uidvalidity: BTreeMap<u64, u32>,
    uidnext: BTreeMap<u64, u32>,
    highest: BTreeMap<u64, ModSeq>,
    /// Which message has a UID.
    uids: BTreeMap<(u64, u32), [u8; 16]>,
    /// A message's modseq and what it stood for.
    rows: BTreeMap<(u64, u32), (ModSeq, u64)>,
    /// What a mailbox's highest modseq stood for, with its checksum.
    states: BTreeMap<(u64, ModSeq), (u64, u64)>,
    uidvalidity_last: u32,
}

impl Chronicle {
    /// Looks at a mailbox as it is applied now. Synchronous.
    pub fn see(&mut self, name: &str, view: &View) {
        let status = view.status().expect("a mailbox that is there");
        let id = status.id.0;
        let named = self.named.entry((name.to_owned(), status.uidvalidity.0));
        assert_eq!(*named.or_insert(id), id, "{name}: UIDVALIDITY of another");
        if let Some(was) = self.uidvalidity.insert(id, status.uidvalidity.0) {
            assert_eq!(was, status.uidvalidity.0, "{name}: UIDVALIDITY changed");
        }
        self.uidvalidity_last = self.uidvalidity_last.max(status.uidvalidity.0);
        let before = self.uidnext.insert(id, status.uidnext.0).unwrap_or(0);
        assert!(status.uidnext.0 >= before, "{name}: UIDNEXT fell");
        let before = self.highest.insert(id, status.highest_modseq);
        assert!(
            before.is_none_or(|before| status.highest_modseq >= before),
            "{name}: HIGHESTMODSEQ fell"
        );
        let rows: Vec<Row> = all_uids(view)
            .iter()
            .filter_map(|&uid| view.row(uid))
            .collect();
        let mut counts = (0, 0, 0, 0);
        let mut state = DefaultHasher::new();
        for row in &rows {
            assert!(row.uid < status.uidnext, "{name}: UID beyond UIDNEXT");
            self.see_row(name, id, row, status.highest_modseq);
            (row.uid.0, row.modseq.0, standing(row)).hash(&mut state);
            counts.0 += 1;
            counts.1 += u32::from(!row.flags.contains(Flags::SEEN));
            counts.2 += u32::from(row.flags.contains(Flags::DELETED));
            counts.3 += row.size;
        }
        let told = (status.messages, status.unseen, status.deleted, status.size);
        assert_eq!(counts, told, "{name}: counts of the catalogue");
        let (kept, anew) = view.checksums();
        assert_eq!(kept, anew, "{name}: checksum");
        let stands_for = (state.finish(), kept);
        let known = self
            .states
            .entry((id, status.highest_modseq))
            .or_insert(stands_for);
        assert_eq!(*known, stands_for, "{name}: HIGHESTMODSEQ of another state");
    }

    fn see_row(&mut self, name: &str, id: u64, row: &Row, highest: ModSeq) {
        assert!(row.modseq <= highest, "{name}: modseq above the highest");
        let key = (id, row.uid.0);
        let who = self.uids.entry(key).or_insert(row.email_id);
        assert_eq!(*who, row.email_id, "{name} {}: UID of another", row.uid);
        let stands = (row.modseq, standing(row));
        if let Some(before) = self.rows.insert(key, stands) {
            assert!(before.0 <= stands.0, "{name} {}: modseq fell", row.uid);
            assert!(
                before.0 != stands.0 || before.1 == stands.1,
                "{name} {}: modseq of another state",
                row.uid
            );
        }
    }

    /// UIDVALIDITY of a new mailbox is above all that there were.
    pub fn created(&mut self, uidvalidity: u32) {
        assert!(
            uidvalidity > self.uidvalidity_last,
            "UIDVALIDITY used again"
        );
        self.uidvalidity_last = uidvalidity;
    }
}

/// UIDs of the mailbox now: a fresh view's are.
fn all_uids(view: &View) -> Vec<Uid> {
    view.uids().to_vec()
}

fn standing(row: &Row) -> u64 {
    let mut keywords: Vec<&str> = row.keywords.iter().map(|k| &**k).collect();
    keywords.sort_unstable();
    let mut hasher = DefaultHasher::new();
    (row.flags.0, keywords, row.size, row.email_id).hash(&mut hasher);
    hasher.finish()
}

/// The sums of the account are the sums of its mailboxes. Synchronous.
pub(super) fn check_quota(ana: &Account) {
    let mut sums = (0, 0);
    for info in ana.mailboxes() {
        let status = ana.status(info.id).expect("it is listed");
        sums = (sums.0 + status.size, sums.1 + u64::from(status.messages));
    }
    let quota = ana.quota();
    assert_eq!((quota.bytes, quota.messages), sums, "quota usage");
}

/// Everything of an account, with the messages' texts.
pub(super) async fn look(ana: &Account, chronicle: &mut Chronicle) -> Seen {
    let mut seen = Seen::default();
    check_quota(ana);
    for info in ana.mailboxes() {
        let view = ana
            .select(info.id, Access::ReadOnly)
            .await
            .expect("selects");
        chronicle.see(&info.name, &view);
        let status = view.status().expect("status");
        let mut folder = SeenFolder {
            uidvalidity: status.uidvalidity.0,
            uidnext: status.uidnext.0,
            mails: BTreeMap::new(),
        };
        for &uid in view.uids() {
            let row = view.row(uid).expect("a row");
            let body = view.body(uid).await.expect("a body");
            let text = body.read(0..body.len()).await.expect("reads");
            assert_eq!(text.len() as u64, row.size);
            view.digest(uid).await.expect("a digest");
            let mail = Mail {
                text: String::from_utf8(text).expect("text").into(),
                flags: row.flags.0,
                keywords: row.keywords.iter().map(|k| k.to_string()).collect(),
            };
            folder.mails.insert(uid.0, mail);
        }
        seen.folders.insert(info.name, folder);
    }
    seen
}

/// What a message is without the line of its owner, which is not in a file that others have too.
fn shared(number: u64, text: &str) -> &str {
    let line = format!("Delivered-To: {number}\r\n");
    text.strip_prefix(line.as_str()).unwrap_or(text)
}

/// After a checkpoint the Maildir tree holds the same, and nothing else.
pub(super) async fn check_files(disk: &Disk, number: u64, seen: &Seen) {
    let who = account(number);
    let root = PathBuf::from(format!("{ROOT}/mail/{}/{}", who.partition.0, who.account));
    let mut folders = BTreeSet::new();
    for (name, there) in &seen.folders {
        folders.insert(folder(name));
        let dir = root.join(folder(name));
        let letters = keyword_letters(disk, &dir).await;
        let want = there.mails.values().map(|mail| {
            let keywords: BTreeSet<&str> = mail.keywords.iter().map(String::as_str).collect();
            let text = shared(number, &mail.text);
            (flag_letters(Flags(mail.flags)), keywords, text)
        });
        let mut want: Vec<_> = want.collect();
        let mut files = Vec::new();
        for file in names(disk, &dir.join("cur")).await {
            let bytes = disk
                .read(&dir.join("cur").join(&file))
                .await
                .expect("reads");
            let text = String::from_utf8(bytes).expect("text");
            let said = OwnName::parse(parse(&file).0).map(|own| own.prefix_bytes as usize);
            let there = text.len() - shared(number, &text).len();
            assert!(said.is_none_or(|said| said == there), "{file}");
            files.push((parse(&file).1, text));
        }
        let mut have: Vec<_> = files
            .iter()
            .map(|(bits, text)| {
                let named = |(n, name): (usize, &String)| {
                    (bits >> (6 + n) & 1 == 1).then_some(name.clone())
                };
                let keywords: Vec<String> = letters.iter().enumerate().filter_map(named).collect();
                (bits & 0x3f, keywords, shared(number, text))
            })
            .collect();
        want.sort_unstable();
        let mut have: Vec<_> = have
            .iter_mut()
            .map(|(bits, keywords, text)| {
                (*bits, keywords.iter().map(String::as_str).collect(), *text)
            })
            .collect();
        have.sort_unstable();
        let shown = |all: &[(u32, BTreeSet<&str>, &str)]| -> Vec<String> {
            let one = |(bits, keywords, text): &(u32, BTreeSet<&str>, &str)| {
                format!("{bits:b} {keywords:?} {:?}", subject(text))
            };
            all.iter().map(one).collect()
        };
        assert!(
            want == have,
            "files of {number} {name}\nkeywords {letters:?} of {files:?}\nhave {:#?}\nwant {:#?}",
            shown(&have),
            shown(&want)
        );
        assert_eq!(
            names(disk, &dir.join("new")).await,
            [""; 0],
            "new of {name}"
        );
    }
    let there = names(disk, &root).await;
    for name in there.into_iter().filter(|n| n.starts_with('.')) {
        assert!(folders.contains(&name), "left over: {name}");
    }
}

/// Which letter stands for which keyword, from `a` on: `dovecot-keywords`.
async fn keyword_letters(disk: &Disk, dir: &std::path::Path) -> Vec<String> {
    let bytes = disk.read(&dir.join("dovecot-keywords")).await;
    let text = String::from_utf8(bytes.unwrap_or_default()).expect("text");
    let name = |(n, line): (usize, &str)| {
        let (number, name) = line.split_once(' ').expect("a number and a name");
        assert_eq!(number.parse(), Ok(n));
        name.to_owned()
    };
    text.lines().enumerate().map(name).collect()
}

/// What a letter calls itself.
pub(super) fn subject(text: &str) -> &str {
    let from = text.find("Subject: ").map_or(0, |at| at + 9);
    let end = text[from..].find("\r\n").unwrap_or(0);
    &text[from..from + end]
}
