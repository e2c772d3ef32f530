//! Whether all of a source is in its folder: count, flags, dates, content.

use serde::Serialize;

use crate::cli::print::{counted, shown, table};
use crate::web::import::{Head, ImportRow};

/// Unreadable files that are named; of the rest only the count is told.
const NAMED_MAX: usize = 20;

/// A message in short: what it is, its flags, its date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Expected {
    pub id: [u8; 16],
    mark: [u8; 8],
    seconds: i64,
}

/// The first half of the BLAKE3 of a message.
pub(super) fn id_of(hasher: &blake3::Hasher) -> [u8; 16] {
    let mut id = [0; 16];
    id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    id
}

impl Expected {
    pub fn new(id: [u8; 16], head: &Head) -> Self {
        let lower = head.keywords.iter().map(|k| k.to_ascii_lowercase());
        let mut keywords: Vec<String> = lower.collect();
        keywords.sort_unstable();
        keywords.dedup();
        let text = format!("{} {}", head.flags, keywords.join(" "));
        let mut mark = [0; 8];
        mark.copy_from_slice(&blake3::hash(text.as_bytes()).as_bytes()[..8]);
        let seconds = head.date.seconds();
        Expected { id, mark, seconds }
    }

    /// `None`: not an answer of this version.
    pub fn of_row(row: &ImportRow) -> Option<Self> {
        let id = data_encoding::HEXLOWER.decode(row.hash.as_bytes()).ok()?;
        Some(Expected::new(id.try_into().ok()?, &row.head))
    }
}

/// What became of one folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Report {
    pub user: String,
    pub folder: String,
    pub sources: Vec<String>,
    /// In the source.
    pub messages: u64,
    /// Brought in by this run.
    pub added: u64,
    /// There from before.
    pub present: u64,
    /// No mail: removed but not compacted, or a program's own data.
    pub skipped: u64,
    /// In the folder now; may have more than the source.
    pub in_folder: u64,
    /// In the source and not in the folder.
    pub missing: u64,
    pub flags_differ: u64,
    pub dates_differ: u64,
    pub unreadable: Vec<String>,
    /// What messages had in the source, and no message can have here.
    pub left_out: Vec<String>,
}

impl Report {
    pub fn new(user: &str, folder: &str) -> Self {
        Report {
            user: user.to_owned(),
            folder: folder.to_owned(),
            ..Report::default()
        }
    }

    pub fn is_equal(&self) -> bool {
        let different = self.missing + self.flags_differ + self.dates_differ;
        different == 0 && self.unreadable.is_empty() && self.left_out.is_empty()
    }

    /// Finds each expected message in what is there, each of those for one at most.
    pub fn compare(&mut self, expected: &mut [Expected], there: &mut [Expected]) {
        self.in_folder = there.len() as u64;
        expected.sort_unstable();
        there.sort_unstable();
        let mut from = 0;
        for wanted in expected.chunk_by(|one, two| one.id == two.id) {
            let id = wanted[0].id;
            from += there[from..].partition_point(|row| row.id < id);
            let found = &there[from..from + there[from..].partition_point(|row| row.id == id)];
            self.compare_same(wanted, found);
        }
    }

    /// Messages of one content: first those that are alike in all, then in flags, then the rest.
    fn compare_same(&mut self, wanted: &[Expected], found: &[Expected]) {
        let (mut wanted, mut found) = (wanted.to_vec(), found.to_vec());
        let alike: [fn(&Expected, &Expected) -> bool; 4] = [
            |a, b| a == b,
            |a, b| a.mark == b.mark,
            |a, b| a.seconds == b.seconds,
            |_, _| true,
        ];
        for (round, alike) in alike.iter().enumerate() {
            wanted.retain(|one| {
                let Some(at) = found.iter().position(|row| alike(one, row)) else {
                    return true;
                };
                found.swap_remove(at);
                self.dates_differ += u64::from(round == 1 || round == 3);
                self.flags_differ += u64::from(round >= 2);
                false
            });
        }
        self.missing += wanted.len() as u64;
    }
}

pub(super) fn to_text(reports: &[Report]) -> String {
    let header = [
        "user",
        "folder",
        "source",
        "added",
        "present",
        "missing",
        "flags",
        "dates",
        "skipped",
        "in folder",
        "equal",
    ];
    let row = |r: &Report| {
        let numbers = [
            r.messages,
            r.added,
            r.present,
            r.missing,
            r.flags_differ,
            r.dates_differ,
            r.skipped,
            r.in_folder,
        ];
        let mut row = vec![r.user.clone(), r.folder.clone()];
        row.extend(numbers.iter().map(ToString::to_string));
        row.push(if r.is_equal() { "yes" } else { "NO" }.to_owned());
        row
    };
    let rows = reports.iter().map(row).collect();
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stdout());
    let mut text = table(&header, rows, terminal);
    for report in reports {
        for what in &report.left_out {
            text.push_str(&format!("{}: {}\n", shown(&report.folder), shown(what)));
        }
        for what in report.unreadable.iter().take(NAMED_MAX) {
            text.push_str(&format!("{}: {}\n", shown(&report.folder), shown(what)));
        }
        if report.unreadable.len() > NAMED_MAX {
            let more = (report.unreadable.len() - NAMED_MAX) as u64;
            text.push_str(&format!(
                "{}: {} more\n",
                shown(&report.folder),
                counted(more, "file")
            ));
        }
    }
    text
}
