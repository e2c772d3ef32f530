//! What is to be adopted: the folders of a tree and the mailboxes they become. Kept as a value of
//! the account from the first step to the last, so that a second run goes on with the same.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use super::{AdoptError, AdoptRequest, UidlFormat};
use crate::runtime::{DirEntry, Disk, DiskError, DiskErrorKind};
use crate::store::bytes::{Malformed, Reader, Writer};
use crate::store::maildir::{Naming, canonical, folder, is_good};

/// The value's namespace and key.
pub(super) const NAMESPACE: &str = "palomar.adopt";
pub(super) const KEY: &[u8] = b"plan";

const VERSION: u8 = 1;

/// Another program's lists may be so long: some two million messages of a folder.
pub(super) const LIST_BYTES_MAX: u64 = 128 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub from: PathBuf,
    /// Where the lists of UIDs and keywords are, if not with the mail.
    pub control: Option<PathBuf>,
    /// The tree stays where it is; ours is a copy.
    pub copy: bool,
    pub naming: Naming,
    pub uidl: UidlFormat,
    /// INBOX first.
    pub folders: Vec<Folder>,
    pub subscriptions: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Folder {
    /// Below the tree's root; empty for INBOX.
    pub dir: OsString,
    pub mailbox: String,
}

impl Folder {
    /// What it was called, where it is called otherwise now.
    pub fn former_name(&self, naming: &Naming) -> Option<String> {
        if self.dir.is_empty() {
            return None;
        }
        let former = naming.as_named(&self.dir);
        (canonical(&former) != self.mailbox).then_some(former)
    }

    pub fn below(&self, root: &Path) -> PathBuf {
        match self.dir.is_empty() {
            true => root.to_path_buf(),
            false => root.join(&self.dir),
        }
    }
}

impl Plan {
    /// Looks at the tree, whose path is canonical; changes nothing.
    pub async fn of(disk: &Disk, request: &AdoptRequest) -> Result<Plan, AdoptError> {
        let disk = &disk.foreign();
        let from = &request.from;
        if !disk.exists(from).await? {
            return Err(AdoptError::NoTree(from.clone()));
        }
        let entries = list(disk, from).await?;
        let dirs: Vec<&DirEntry> = entries.iter().filter(|entry| entry.is_dir).collect();
        let mut found = Vec::new();
        for entry in &dirs {
            let is_hidden = entry.name.as_bytes().starts_with(b".");
            let inside = disk.names(&from.join(&entry.name)).await?;
            let has_mail = inside
                .iter()
                .any(|name| name == "cur" || name == "maildirfolder");
            match (is_hidden, has_mail) {
                (true, true) => found.push(entry.name.clone()),
                (false, true) => return Err(AdoptError::FsLayout(from.join(&entry.name))),
                (_, false) => {}
            }
        }
        let is_maildir = entries
            .iter()
            .any(|entry| entry.name == "cur" || entry.name == "new");
        if !is_maildir && found.is_empty() {
            return Err(AdoptError::NotAMaildir(from.clone()));
        }
        let naming = Naming {
            escape: request.escape,
        };
        let folders = folders(&naming, &found);
        let names: Vec<String> = folders.iter().map(|f| f.mailbox.clone()).collect();
        let lists = request.control.as_ref().unwrap_or(from);
        let subscribed = read(disk, &lists.join("subscriptions")).await?;
        Ok(Plan {
            from: from.clone(),
            control: request.control.clone(),
            copy: request.copy,
            naming,
            uidl: request.uidl.clone(),
            folders,
            subscriptions: naming.subscriptions(&subscribed.unwrap_or_default(), &names),
        })
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        let path = |path: &Path| path.as_os_str().as_bytes().to_vec();
        w.u8(VERSION);
        w.bytes(&path(&self.from));
        w.u8(u8::from(self.control.is_some()));
        if let Some(control) = &self.control {
            w.bytes(&path(control));
        }
        w.u8(u8::from(self.copy));
        // What was said of the folder names' encoding once.
        w.u8(0);
        w.u32(u32::from(self.naming.escape));
        w.str(&self.uidl.to_string());
        w.count(self.folders.len());
        for folder in &self.folders {
            w.bytes(folder.dir.as_bytes());
            w.str(&folder.mailbox);
        }
        w.count(self.subscriptions.len());
        self.subscriptions.iter().for_each(|name| w.str(name));
        w.out
    }

    pub fn decode(bytes: &[u8]) -> Result<Plan, Malformed> {
        let mut r = Reader::new(bytes);
        let os = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        if r.u8()? != VERSION {
            return Err(Malformed);
        }
        let from = PathBuf::from(os(r.bytes()?));
        let control = match r.u8()? {
            0 => None,
            _ => Some(PathBuf::from(os(r.bytes()?))),
        };
        let copy = r.u8()? != 0;
        r.u8()?;
        let escape = char::from_u32(r.u32()?).ok_or(Malformed)?;
        let uidl = r.str()?.parse().map_err(|_| Malformed)?;
        let mut folders = Vec::new();
        for _ in 0..r.count(8)? {
            let dir = os(r.bytes()?);
            let mailbox = r.str()?.to_owned();
            folders.push(Folder { dir, mailbox });
        }
        let subscriptions = (0..r.count(4)?)
            .map(|_| r.str().map(str::to_owned))
            .collect::<Result<_, _>>()?;
        Ok(Plan {
            from,
            control,
            copy,
            naming: Naming { escape },
            uidl,
            folders,
            subscriptions,
        })
    }
}

/// A mailbox for each folder, none twice.
fn folders(naming: &Naming, dirs: &[OsString]) -> Vec<Folder> {
    let mut taken = HashSet::from(["INBOX".to_owned()]);
    let mut all = vec![Folder {
        dir: OsString::new(),
        mailbox: "INBOX".to_owned(),
    }];
    // Who has the canonical name of a mailbox keeps it.
    let mut named: Vec<(&OsString, String)> = dirs
        .iter()
        .map(|dir| (dir, canonical(&naming.mailbox(dir)).into_owned()))
        .collect();
    named.sort_by_key(|(dir, name)| (dir.as_os_str() != OsStr::new(&folder(name)), *dir));
    for (dir, name) in named {
        // Nor one whose folder is another's now: renaming them could be done again in any order.
        let is_free = |name: &str| {
            let wanted = folder(name);
            let is_others = |d: &OsString| d != dir && d.as_os_str() == OsStr::new(&wanted);
            !taken.contains(name) && !dirs.iter().any(is_others)
        };
        let name = free_name(name, is_free);
        taken.insert(name.clone());
        all.push(Folder {
            dir: dir.clone(),
            mailbox: name,
        });
    }
    all
}

fn free_name(name: String, is_free: impl Fn(&str) -> bool) -> String {
    if is_free(&name) {
        return name;
    }
    let mut stem = name;
    loop {
        let mut others = (2..).map(|n| format!("{stem} ({n})"));
        match others.find(|name| is_free(name) || !is_good(name)) {
            Some(name) if is_good(&name) => return name,
            // Too long with its number.
            _ => stem.truncate(stem.floor_char_boundary(stem.len() / 2)),
        }
    }
}

/// What is in a directory; nothing where there is none.
pub(super) async fn list(disk: &Disk, dir: &Path) -> Result<Vec<DirEntry>, DiskError> {
    match disk.list(dir).await {
        Err(error) if error.kind == DiskErrorKind::NotFound => Ok(Vec::new()),
        listed => listed,
    }
}

/// A whole list; `None` where there is none.
pub(super) async fn read(disk: &Disk, path: &Path) -> Result<Option<Vec<u8>>, DiskError> {
    match disk.read_at_most(path, LIST_BYTES_MAX).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind == DiskErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read_back() {
        let naming = Naming { escape: '\\' };
        let dirs = [".a", ".INBOX", ".R&-D", ".R&D", ".inbox", ".inbox.x"].map(OsString::from);
        let plan = Plan {
            from: PathBuf::from("/var/vmail/x"),
            control: Some(PathBuf::from("/control")),
            copy: true,
            naming,
            uidl: UidlFormat::default(),
            folders: folders(&naming, &dirs),
            subscriptions: vec!["INBOX".to_owned(), "ü".to_owned()],
        };
        let names: Vec<&str> = plan.folders.iter().map(|f| f.mailbox.as_str()).collect();
        let want = [
            "INBOX",
            "R&D",
            "a",
            "INBOX (2)",
            "R&D (2)",
            "INBOX (3)",
            "INBOX/x",
        ];
        let mut sorted = (names.clone(), want.to_vec());
        sorted.0.sort_unstable();
        sorted.1.sort_unstable();
        assert_eq!(sorted.0, sorted.1);
        // The folder that is called as we would call it has the name.
        let owner = plan.folders.iter().find(|f| f.mailbox == "R&D");
        assert_eq!(owner.map(|f| f.dir.as_os_str()), Some(OsStr::new(".R&-D")));
        let mut changed: Vec<(String, &str)> = plan
            .folders
            .iter()
            .filter_map(|f| Some((f.former_name(&naming)?, f.mailbox.as_str())))
            .collect();
        changed.sort_unstable();
        let want = [
            ("INBOX", "INBOX (2)"),
            ("R&D", "R&D (2)"),
            ("inbox", "INBOX (3)"),
        ];
        assert_eq!(changed, want.map(|(old, new)| (old.to_owned(), new)));
        assert_eq!(Plan::decode(&plan.encode()), Ok(plan.clone()));
        assert_eq!(Plan::decode(&plan.encode()[..9]), Err(Malformed));
    }
}
