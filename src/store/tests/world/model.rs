//! What the outside world knows of an account that one client alone uses: exactly everything.

use std::collections::{BTreeMap, BTreeSet};

use super::look::{Mail, Seen, SeenFolder, subject};
use super::post::Post;

pub(super) const DEFAULTS: [&str; 6] = ["INBOX", "Archive", "Drafts", "Junk", "Sent", "Trash"];

#[derive(Clone, Debug, Default)]
pub(super) struct Folder {
    pub mails: BTreeMap<u32, Mail>,
    pub uidnext: u32,
    /// `None` until it was looked at.
    pub uidvalidity: Option<u32>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub folders: BTreeMap<String, Folder>,
    pub subscriptions: BTreeSet<String>,
    pub values: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Model {
    /// An account that was touched.
    pub fn touched() -> Model {
        let mut model = Model::default();
        for name in DEFAULTS {
            model.folder(name);
            model.subscriptions.insert(name.to_owned());
        }
        model
    }

    pub fn is_untouched(&self) -> bool {
        self.folders.is_empty()
    }

    pub fn folder(&mut self, name: &str) -> &mut Folder {
        let new = Folder {
            uidnext: 1,
            ..Folder::default()
        };
        self.folders.entry(name.to_owned()).or_insert(new)
    }

    /// The mailbox with its superiors.
    pub fn create(&mut self, name: &str) {
        let ends = name.match_indices('/').map(|(at, _)| at);
        for end in ends.chain([name.len()]) {
            self.folder(&name[..end]);
        }
    }

    pub fn place(&mut self, name: &str, mail: Mail) -> u32 {
        let folder = self.folder(name);
        let uid = folder.uidnext;
        folder.mails.insert(uid, mail);
        folder.uidnext += 1;
        uid
    }

    /// The UIDs turned out to be others: an outbox placed something meanwhile.
    pub fn relabel(&mut self, name: &str, guessed: &[u32], given: &[u32]) {
        let folder = self.folder(name);
        let take = |uid| folder.mails.remove(uid).expect("it was placed");
        let mails: Vec<Mail> = guessed.iter().map(take).collect();
        for (uid, mail) in given.iter().zip(mails) {
            folder.mails.insert(*uid, mail);
            folder.uidnext = folder.uidnext.max(uid + 1);
        }
    }

    pub fn bytes(&self) -> u64 {
        let mails = self.folders.values().flat_map(|f| f.mails.values());
        mails.map(|mail| mail.text.len() as u64).sum()
    }

    /// Takes in what the post brought to INBOX meanwhile, as far as it is not known here, and
    /// gives what was placed under guessed UIDs those that are there.
    pub fn adopt(&mut self, known: &Model, seen: &SeenFolder, owner: u64, post: &Post) {
        let none = BTreeMap::new();
        let before = known.folders.get("INBOX").map_or(&none, |f| &f.mails);
        let inbox = self.folder("INBOX");
        let fresh: Vec<u32> = inbox
            .mails
            .keys()
            .copied()
            .filter(|u| !before.contains_key(u))
            .collect();
        let mut placed: Vec<Mail> = fresh
            .iter()
            .filter_map(|uid| inbox.mails.remove(uid))
            .collect();
        placed.reverse();
        for (uid, mail) in seen
            .mails
            .iter()
            .filter(|(uid, _)| !before.contains_key(uid))
        {
            if post.is_on_its_way(owner, &mail.text) {
                inbox.mails.insert(*uid, mail.clone());
            } else if let Some(mail) = placed.pop() {
                inbox.mails.insert(*uid, mail);
            }
        }
        // What is left was never there; it is kept so that the difference shows.
        let last = seen.uidnext + 1_000;
        inbox.mails.extend((last..).zip(placed));
        inbox.uidnext = inbox.uidnext.max(seen.uidnext);
    }

    /// Equal but for what a model cannot know.
    pub fn fits(&self, seen: &Seen) -> bool {
        seen.folders.len() == self.folders.len()
            && seen.folders.iter().all(|(name, there)| {
                self.folders.get(name).is_some_and(|m| {
                    there.mails == m.mails
                        && there.uidnext == m.uidnext
                        && m.uidvalidity.is_none_or(|v| there.uidvalidity == v)
                })
            })
    }

    pub fn learn(&mut self, seen: &Seen) {
        for (name, there) in &seen.folders {
            let folder = self.folder(name);
            folder.uidvalidity = Some(there.uidvalidity);
            folder.uidnext = there.uidnext;
        }
    }

    /// For people.
    pub fn shown(&self) -> BTreeMap<&str, Vec<String>> {
        let of = |f: &Folder| {
            let next = format!("next {} of {:?}", f.uidnext, f.uidvalidity);
            f.mails.iter().map(one).chain([next]).collect()
        };
        self.folders
            .iter()
            .map(|(n, f)| (n.as_str(), of(f)))
            .collect()
    }
}

fn one((uid, mail): (&u32, &Mail)) -> String {
    format!(
        "{uid}: {} {:05b} {:?}",
        subject(&mail.text),
        mail.flags,
        mail.keywords
    )
}

impl Seen {
    pub fn shown(&self) -> BTreeMap<&str, Vec<String>> {
        let of = |f: &SeenFolder| {
            let next = format!("next {} of {}", f.uidnext, f.uidvalidity);
            f.mails.iter().map(one).chain([next]).collect()
        };
        self.folders
            .iter()
            .map(|(n, f)| (n.as_str(), of(f)))
            .collect()
    }
}
