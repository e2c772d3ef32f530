//! What the day files tell of one account, and where the bodies are.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use hashbrown::{HashMap, HashSet};

use super::entry::{Entry, Head};
use super::file::{self, Found};
use super::{Day, day_file, kept_dir};
use crate::base::{AccountId, MailboxId, Uid};
use crate::runtime::{Disk, DiskErrorKind, DiskFile, Open, yield_if_needed};
use crate::store::StoreError;
use crate::store::mailbox::{ALIGN, Index, NewRow, disk_error, replay};
use crate::store::maildir::{Layout, parse};
use crate::store::partition::Partition;

/// Read in one trip.
const WINDOW_BYTES: u64 = 1 << 20;

/// A message that was removed.
pub(super) struct Gone {
    pub head: Rc<Head>,
    pub row: NewRow,
    /// It went because its folder was deleted.
    pub with_folder: bool,
    /// Its file; `None` where it is kept no more.
    pub file: Option<PathBuf>,
}

/// What is known of an account's past.
#[derive(Default)]
pub(super) struct Past {
    pub messages: Vec<Gone>,
    /// Deleted folders.
    pub folders: Vec<Rc<Head>>,
    /// Frames and indexes that could not be read.
    pub damaged: u64,
}

pub(super) struct Reader<'r> {
    pub disk: &'r Disk,
    pub layout: &'r Layout,
    pub partition: &'r Partition,
    pub account: AccountId,
}

impl Reader<'_> {
    /// Everything that the history has of the account, oldest day first.
    pub async fn past(&self) -> Result<Past, StoreError> {
        let days = self.partition.state.borrow().history.days();
        let mut past = Past::default();
        // A life that was cut off while it made room on a full disk may have noted a removal
        // twice.
        let mut seen: HashSet<(MailboxId, Uid)> = HashSet::new();
        for (day, end) in days {
            for entry in self.entries(day, end, &mut past.damaged).await? {
                let head = Rc::new(entry.head().clone());
                let with_folder = matches!(entry, Entry::Deleted { .. });
                let rows = match entry {
                    Entry::Expunged { rows, .. } => rows,
                    Entry::Deleted {
                        generation,
                        log_end,
                        ..
                    } => {
                        past.folders.push(head.clone());
                        let rows = self.buried_rows(&head, generation, log_end).await;
                        rows.unwrap_or_else(|| {
                            past.damaged += 1;
                            Vec::new()
                        })
                    }
                };
                for row in rows {
                    if seen.insert((head.mailbox, row.uid)) {
                        past.messages.push(Gone {
                            head: head.clone(),
                            row,
                            with_folder,
                            file: None,
                        });
                    }
                }
                yield_if_needed().await;
            }
        }
        self.find_files(&mut past).await?;
        Ok(past)
    }

    /// The account's entries of a day.
    async fn entries(
        &self,
        day: Day,
        end: u64,
        damaged: &mut u64,
    ) -> Result<Vec<Entry>, StoreError> {
        let mut found = Vec::new();
        let path = day_file(self.layout, self.partition.id, day);
        *damaged += walk(self.disk, &path, end, |_, entries| {
            let mine = entries.into_iter();
            found.extend(mine.filter(|entry| entry.head().account == self.account));
        })
        .await?;
        Ok(found)
    }

    fn grave(&self, head: &Head) -> PathBuf {
        let grave = Layout::buried_folder(
            self.partition.id,
            self.account,
            head.mailbox,
            Day::of(head.at),
        );
        self.layout.root.join(grave)
    }

    /// The rows of a deleted folder, from its index; `None` where that cannot be read. A folder
    /// that is kept no more has none.
    async fn buried_rows(&self, head: &Head, generation: u32, log_end: u64) -> Option<Vec<NewRow>> {
        let grave = self.grave(head);
        if !self.disk.exists(&grave).await.ok()? {
            return Some(Vec::new());
        }
        let mut index = match generation {
            0 => Index::default(),
            n => {
                let path = grave.join(format!("palomar.index.{n}"));
                Index::decode(&self.disk.read(&path).await.ok()?).ok()?
            }
        };
        if log_end > 0 {
            let path = grave.join(format!("palomar.log.{generation}"));
            let log = self.disk.read(&path).await.ok()?;
            replay(&mut index, log.get(..log_end as usize)?, 0).ok()?;
        }
        Some((0..index.len()).map(|at| index.new_row(at)).collect())
    }

    /// Says of each message where its file is: kept by itself, in its folder's grave, or not even
    /// moved yet.
    async fn find_files(&self, past: &mut Past) -> Result<(), StoreError> {
        let mut graves: HashMap<MailboxId, PathBuf> = HashMap::new();
        for head in &past.folders {
            graves.insert(head.mailbox, self.grave(head).join("cur"));
        }
        let mut listings: HashMap<PathBuf, HashMap<String, String>> = HashMap::new();
        for gone in &mut past.messages {
            let (head, row) = (&gone.head, &gone.row);
            let extra = row.extra.as_deref();
            if extra.is_some_and(|e| e.archive.is_some()) {
                continue;
            }
            let stem = crate::store::maildir::stem(row.uid, &row.cold, extra, row.saved, row.size);
            let day = Day::of(head.at);
            let id = self.partition.id;
            let kept = kept_dir(self.layout, day, id, self.account, head.mailbox);
            let live = self.partition.mailbox(self.account, head.mailbox).ok();
            let live = live.map(|mailbox| mailbox.path().join("cur"));
            let grave = graves.get(&head.mailbox).cloned();
            for dir in [Some(kept), grave, live].into_iter().flatten() {
                if !listings.contains_key(&dir) {
                    let names = self.names(&dir).await?;
                    listings.insert(dir.clone(), names);
                }
                if let Some(name) = listings.get(&dir).and_then(|names| names.get(&stem)) {
                    gone.file = Some(dir.join(name));
                    break;
                }
            }
            yield_if_needed().await;
        }
        Ok(())
    }

    /// The names in a directory by what stands before `:2,`.
    async fn names(&self, dir: &Path) -> Result<HashMap<String, String>, StoreError> {
        let entries = match self.disk.list(dir).await {
            Err(error) if error.kind == DiskErrorKind::NotFound => return Ok(HashMap::new()),
            entries => entries.map_err(|e| disk_error(&e))?,
        };
        let names = entries
            .into_iter()
            .filter_map(|e| e.name.into_string().ok());
        Ok(names
            .map(|name| (parse(&name).0.to_owned(), name))
            .collect())
    }
}

/// Shows `each` every frame of a day file up to `end`: where it stands, with its padding, and what
/// it holds. Answers how many are damaged.
pub(super) async fn walk(
    disk: &Disk,
    path: &Path,
    end: u64,
    mut each: impl FnMut(Range<u64>, Vec<Entry>),
) -> Result<u64, StoreError> {
    let how = Open {
        read: true,
        ..Open::default()
    };
    let file = match disk.open(path, how).await {
        Ok(file) => file,
        Err(error) if error.kind == DiskErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(disk_error(&error)),
    };
    let mut damaged = 0;
    let (mut window, mut from, mut at) = (Vec::new(), 0, 0);
    while at < end {
        let rest = window.get((at - from) as usize..).unwrap_or_default();
        if rest.len() < file::HEAD_BYTES {
            window = read(&file, at, end.min(at + WINDOW_BYTES)).await?;
            from = at;
            if window.len() < file::HEAD_BYTES {
                break;
            }
            continue;
        }
        let Found::Frame(head) = file::look(rest) else {
            at += ALIGN;
            continue;
        };
        let len = head.frame_bytes();
        let whole;
        let frame = match rest.get(..len) {
            Some(frame) => frame,
            None => {
                whole = read(&file, at, end.min(at + len as u64)).await?;
                &whole
            }
        };
        match head.entries(frame) {
            Ok(entries) => {
                let next = at + len as u64;
                each(at..next, entries);
                at = next;
            }
            Err(_) => {
                damaged += 1;
                at += ALIGN;
            }
        }
        yield_if_needed().await;
    }
    Ok(damaged)
}

async fn read(file: &DiskFile, from: u64, to: u64) -> Result<Vec<u8>, StoreError> {
    let bytes = file.read_at((to - from) as usize, from).await;
    bytes.map_err(|e| disk_error(&e))
}
