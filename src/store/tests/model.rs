//! Random commands, power cuts and restarts by seed, against a model that knows nothing of the
//! code: what was acknowledged is there, once, with its UID, flags and content, in the store and
//! in the Maildir files; what was not acknowledged is there as a whole or not at all.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::{ROOT, account, config, letter, names, soon, target, try_message};
use crate::base::{ModSeq, ShardId, Uid};
use crate::runtime::{Disk, SimDisk, block_on, spawn, trace_id, unix_now, yield_now};
use crate::store::history::Day;
use crate::store::maildir::{flag_letters, folder, parse};
use crate::store::{
    Access, Account, FlagChange, FlagMode, Flags, NewMessage, Store, StoreError, View,
};

/// SplitMix64: the seed printed by a failure replays it.
#[derive(Clone)]
pub(super) struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        let len = from.len() as u64;
        (len > 0).then(|| from[self.below(len) as usize].clone())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Mail {
    text: String,
    flags: u8,
    keywords: BTreeSet<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Folder {
    mails: BTreeMap<u32, Mail>,
    uidnext: u32,
    uidvalidity: Option<u32>,
    highest: ModSeq,
}

/// What the outside world knows of one account.
#[derive(Clone, Debug, Default)]
struct Model {
    folders: BTreeMap<String, Folder>,
}

impl Model {
    fn place(&mut self, name: &str, mail: Mail) -> u32 {
        let folder = self.folder(name);
        let uid = folder.uidnext;
        folder.mails.insert(uid, mail);
        folder.uidnext += 1;
        uid
    }

    fn folder(&mut self, name: &str) -> &mut Folder {
        let new = Folder {
            uidnext: 1,
            ..Folder::default()
        };
        self.folders.entry(name.to_owned()).or_insert(new)
    }
}

/// One client: what is certain, and what the last command may have made of it.
struct Client {
    number: u64,
    random: Random,
    certain: Model,
    possible: Option<Model>,
    counter: u64,
}

const DEFAULTS: [&str; 6] = ["INBOX", "Archive", "Drafts", "Junk", "Sent", "Trash"];
const EXTRA: [&str; 5] = ["a", "a/b", "c", "Ä.x", "c/d/e"];

impl Client {
    fn new(number: u64, seed: u64) -> Self {
        Client {
            number,
            random: Random(seed ^ number << 32),
            certain: Model::default(),
            possible: None,
            counter: 0,
        }
    }

    /// Runs commands until the disk stops.
    async fn work(&mut self, store: &Store, commands: u64) {
        for _ in 0..commands {
            let mut after = self.certain.clone();
            let outcome = self.command(store, &mut after).await;
            match outcome {
                Ok(()) => self.certain = after,
                Err(_) => {
                    self.possible = Some(after);
                    return;
                }
            }
        }
    }

    fn text(&mut self) -> String {
        self.counter += 1;
        let n = self.number * 1_000_000 + self.counter;
        let mut text = letter(n);
        if self.random.below(25) == 0 {
            let line = "0123456789abcdef\r\n";
            text.push_str(&line.repeat(280_000 / line.len()));
        }
        text
    }

    async fn command(&mut self, store: &Store, after: &mut Model) -> Result<(), StoreError> {
        let remote = store.remote();
        for name in DEFAULTS {
            // The first touch makes these, whatever comes of the command.
            if self.certain.folders.is_empty() {
                after.folder(name);
            }
        }
        let ana = remote.account(account(self.number)).await?;
        if self.certain.folders.is_empty() {
            self.certain = after.clone();
        }
        let existing: Vec<String> = after.folders.keys().cloned().collect();
        let name = self.random.pick(&existing).expect("INBOX at least");
        match self.random.below(20) {
            0..=6 => {
                let body = self.text();
                let to = target(self.number, &name);
                let text = format!("{}{body}", String::from_utf8_lossy(&to.prefix));
                let mail = Mail {
                    text,
                    flags: 0,
                    keywords: BTreeSet::new(),
                };
                after.place(&name, mail);
                let body = try_message(&remote, &body).await?;
                remote
                    .deliver(body, vec![to], unix_now(), trace_id(), soon())
                    .await?;
            }
            7 | 8 => self.append(&ana, &remote, &name, after).await?,
            9..=11 => self.store_flags(&ana, &name, after).await?,
            12 | 13 => self.expunge(&ana, &name, after).await?,
            14 | 15 => {
                let to = self.random.pick(&existing).expect("INBOX at least");
                self.relocate(&ana, &name, &to, after).await?;
            }
            16 | 17 => self.folders(&ana, &existing, after).await?,
            18 => store.checkpoint().await?,
            _ => store.settle_all().await?,
        }
        Ok(())
    }

    async fn append(
        &mut self,
        ana: &Account,
        remote: &crate::store::Remote,
        name: &str,
        after: &mut Model,
    ) -> Result<(), StoreError> {
        let mut new = Vec::new();
        let mut uids = Vec::new();
        for _ in 0..=self.random.below(3) {
            let text = self.text();
            let flags = self.random.below(32) as u8;
            let keywords = BTreeSet::from([format!("K{}", self.random.below(4))]);
            uids.push(Uid(after.place(
                name,
                Mail {
                    text: text.clone(),
                    flags,
                    keywords: keywords.clone(),
                },
            )));
            new.push(NewMessage {
                message: try_message(remote, &text).await?,
                flags: Flags(flags),
                keywords: keywords.into_iter().collect(),
                internal_date: None,
                trace: None,
            });
        }
        let id = ana.find(name).expect("the model has it");
        let appended = ana.append(id, new).await?;
        assert_eq!(appended.uids, uids, "UIDs are given out in order");
        Ok(())
    }

    async fn view(&self, ana: &Account, name: &str) -> Result<View, StoreError> {
        let id = ana.find(name).expect("the model has it");
        ana.select(id, Access::ReadWrite).await
    }

    fn some_uids(&mut self, name: &str, of: &Model) -> Vec<u32> {
        let all = of.folders[name].mails.keys().copied();
        all.filter(|_| self.random.below(2) == 0).collect()
    }

    async fn store_flags(
        &mut self,
        ana: &Account,
        name: &str,
        after: &mut Model,
    ) -> Result<(), StoreError> {
        let view = self.view(ana, name).await?;
        let uids = self.some_uids(name, after);
        let flags = self.random.below(32) as u8;
        let keyword = format!("K{}", self.random.below(4));
        let mode = self
            .random
            .pick(&[FlagMode::Add, FlagMode::Remove, FlagMode::Replace]);
        let mode = mode.expect("one of three");
        for uid in &uids {
            let mail = after.folder(name).mails.get_mut(uid).expect("it is there");
            match mode {
                FlagMode::Add => {
                    mail.flags |= flags;
                    mail.keywords.insert(keyword.clone());
                }
                FlagMode::Remove => {
                    mail.flags &= !flags;
                    mail.keywords.remove(&keyword);
                }
                FlagMode::Replace => {
                    mail.flags = flags;
                    mail.keywords = BTreeSet::from([keyword.clone()]);
                }
            }
        }
        let change = FlagChange {
            mode,
            flags: Flags(flags),
            keywords: vec![keyword],
        };
        let uids: Vec<Uid> = uids.into_iter().map(Uid).collect();
        let before = view.status()?.highest_modseq;
        let stored = view.store(&uids, &change, None).await?;
        assert_eq!(stored.uids, uids);
        assert!(view.status()?.highest_modseq >= before);
        Ok(())
    }

    async fn expunge(
        &mut self,
        ana: &Account,
        name: &str,
        after: &mut Model,
    ) -> Result<(), StoreError> {
        let view = self.view(ana, name).await?;
        let uids = self.some_uids(name, after);
        after
            .folder(name)
            .mails
            .retain(|uid, _| !uids.contains(uid));
        let uids: Vec<Uid> = uids.into_iter().map(Uid).collect();
        let gone = view.expunge(&uids).await?;
        assert_eq!(gone, uids);
        Ok(())
    }

    async fn relocate(
        &mut self,
        ana: &Account,
        from: &str,
        to: &str,
        after: &mut Model,
    ) -> Result<(), StoreError> {
        let view = self.view(ana, from).await?;
        let uids = self.some_uids(from, after);
        let remove = self.random.below(2) == 0;
        let mut to_uids = Vec::new();
        for uid in &uids {
            let mail = after.folders[from].mails[uid].clone();
            to_uids.push(Uid(after.place(to, mail)));
        }
        if remove {
            after
                .folder(from)
                .mails
                .retain(|uid, _| !uids.contains(uid));
        }
        let uids: Vec<Uid> = uids.into_iter().map(Uid).collect();
        let target = ana.find(to).expect("the model has it");
        let copied = match remove {
            true => view.move_to(&uids, target).await?,
            false => view.copy(&uids, target).await?,
        };
        assert_eq!((copied.from, copied.to), (uids, to_uids));
        Ok(())
    }

    async fn folders(
        &mut self,
        ana: &Account,
        existing: &[String],
        after: &mut Model,
    ) -> Result<(), StoreError> {
        let extra: Vec<String> = EXTRA.iter().map(|n| (*n).to_owned()).collect();
        let name = self.random.pick(&extra).expect("some");
        let there = existing.contains(&name);
        match self.random.below(3) {
            0 if !there => {
                let ends = name
                    .match_indices('/')
                    .map(|(at, _)| at)
                    .chain([name.len()]);
                for end in ends {
                    after.folder(&name[..end]);
                }
                ana.create(&name, None).await?;
            }
            1 if there => {
                after.folders.remove(&name);
                ana.delete(&name).await?;
            }
            _ if there => {
                let to = format!("r{}", self.random.below(1_000_000));
                let below = format!("{name}/");
                let old = std::mem::take(&mut after.folders);
                for (path, folder) in old {
                    let new = match path.strip_prefix(&below) {
                        Some(tail) => format!("{to}/{tail}"),
                        None if path == name => to.clone(),
                        None => path,
                    };
                    after.folders.insert(new, folder);
                }
                ana.rename(&name, &to).await?;
            }
            _ => {}
        }
        Ok(())
    }

    /// What is there after a restart is what is certain, or that and the last command.
    async fn check(&mut self, store: &Store, disk: &Disk) {
        if self.certain.folders.is_empty() && self.possible.is_none() {
            return;
        }
        let ana = store
            .remote()
            .account(account(self.number))
            .await
            .expect("opens");
        let mut seen = Model::default();
        for info in ana.mailboxes() {
            let view = ana
                .select(info.id, Access::ReadOnly)
                .await
                .expect("selects");
            let status = view.status().expect("status");
            let mut folder = Folder {
                uidnext: status.uidnext.0,
                uidvalidity: Some(status.uidvalidity.0),
                highest: status.highest_modseq,
                ..Folder::default()
            };
            for &uid in view.uids() {
                let row = view.row(uid).expect("a row");
                assert!(row.modseq <= status.highest_modseq);
                let body = view.body(uid).await.expect("a body");
                let text = body.read(0..body.len()).await.expect("reads");
                assert_eq!(text.len() as u64, row.size);
                view.digest(uid).await.expect("a digest");
                let mail = Mail {
                    text: String::from_utf8(text).expect("text"),
                    flags: row.flags.0,
                    keywords: row.keywords.iter().map(|k| k.to_string()).collect(),
                };
                folder.mails.insert(uid.0, mail);
            }
            seen.folders.insert(info.name, folder);
        }
        let possible = self.possible.take();
        if !possible
            .as_ref()
            .is_some_and(|possible| same(&seen, possible))
        {
            let mut certain = self.certain.clone();
            // The first touch just now made the default folders.
            for name in DEFAULTS {
                if self.certain.folders.is_empty() {
                    certain.folder(name);
                }
            }
            let shown = |m: &Model| -> BTreeMap<String, Vec<u32>> {
                let uids = |f: &Folder| f.mails.keys().copied().collect();
                m.folders
                    .iter()
                    .map(|(name, f)| (name.clone(), uids(f)))
                    .collect()
            };
            assert!(
                same(&seen, &certain),
                "account {}\nthere    {:?}\ncertain  {:?}\npossible {:?}",
                self.number,
                shown(&seen),
                shown(&certain),
                possible.as_ref().map(shown),
            );
        }
        for (name, folder) in &seen.folders {
            if let Some(known) = self.certain.folders.get(name) {
                assert!(folder.highest >= known.highest, "modseq rises");
            }
        }
        store.checkpoint().await.expect("a checkpoint");
        self.check_files(disk, &seen).await;
        self.certain = seen;
    }

    /// The Maildir tree holds the same, and nothing else.
    async fn check_files(&self, disk: &Disk, seen: &Model) {
        let who = account(self.number);
        let root = PathBuf::from(format!("{ROOT}/mail/{}/{}", who.partition.0, who.account));
        let mut folders = BTreeSet::new();
        for (name, model) in &seen.folders {
            folders.insert(folder(name));
            let dir = root.join(folder(name));
            let mut want: Vec<(u32, &str)> = model
                .mails
                .values()
                .map(|mail| (flag_letters(Flags(mail.flags)), mail.text.as_str()))
                .collect();
            let mut have = Vec::new();
            for file in names(disk, &dir.join("cur")).await {
                let bytes = disk
                    .read(&dir.join("cur").join(&file))
                    .await
                    .expect("reads");
                // Letters of keywords stand above the system flags.
                have.push((
                    parse(&file).1 & 0x3f,
                    String::from_utf8(bytes).expect("text"),
                ));
            }
            want.sort_unstable();
            have.sort_unstable();
            let have: Vec<(u32, &str)> = have.iter().map(|(l, t)| (*l, t.as_str())).collect();
            assert!(
                want == have,
                "files of {name}: {} for {}",
                have.len(),
                want.len()
            );
            assert_eq!(
                names(disk, &dir.join("tmp")).await,
                [""; 0],
                "tmp of {name}"
            );
        }
        for name in names(disk, &root)
            .await
            .into_iter()
            .filter(|n| n.starts_with('.'))
        {
            assert!(folders.contains(&name), "left over: {name}");
        }
    }
}

/// Equal but for what a model cannot know.
fn same(seen: &Model, model: &Model) -> bool {
    seen.folders.len() == model.folders.len()
        && seen.folders.iter().all(|(name, folder)| {
            model.folders.get(name).is_some_and(|m| {
                folder.mails == m.mails
                    && folder.uidnext == m.uidnext
                    && m.uidvalidity.is_none_or(|v| folder.uidvalidity == Some(v))
            })
        })
}

/// Several lives on one disk, each ended by a power cut at a random moment.
fn check(seed: u64) {
    println!("seed {seed}");
    let mut random = Random(seed);
    let mut sim = SimDisk::new(seed);
    let clients: Vec<Rc<RefCell<Client>>> = [1, 2, 5]
        .map(|n| Rc::new(RefCell::new(Client::new(n, seed))))
        .into();
    for life in 0..4 {
        let stop = match life {
            3 => None,
            _ => Some(100 + random.below(1500)),
        };
        run_life(&sim, &clients, stop, random.below(40));
        sim = sim.power_cut(random.below(u64::MAX));
    }
}

// One task at a time has a client.
#[allow(clippy::await_holding_refcell_ref)]
fn run_life(sim: &SimDisk, clients: &[Rc<RefCell<Client>>], stop: Option<u64>, commands: u64) {
    let disk = Disk::sim(sim.clone());
    let sim = sim.clone();
    let clients = clients.to_vec();
    block_on(async move {
        // Some lives end before they serve.
        let early = stop.is_some_and(|ops| ops % 7 == 0);
        if early {
            sim.stop_after(stop.unwrap_or_default() / 10);
        }
        let recovered = match Store::recover_all(config(1), &disk).await {
            Ok(recovered) => recovered,
            Err(_) if early => return,
            // A start that nothing stops must not be refused.
            Err(why) => panic!("does not start: {why}"),
        };
        let Ok(store) = Store::open(ShardId(0), &recovered, disk.clone()).await else {
            return;
        };
        if early {
            return;
        }
        for client in &clients {
            client.borrow_mut().check(&store, &disk).await;
        }
        store.checkpoint().await.expect("a checkpoint");
        for dir in ["spool", "removed"] {
            let mut left = names(&disk, &Path::new(ROOT).join(dir)).await;
            // What is kept for a while is no left-over.
            left.retain(|name| name.parse::<Day>().is_err());
            assert_eq!(left, [""; 0], "left in {dir}");
        }
        let stats = store.stats();
        assert_eq!((stats.misfits, stats.files_missing), (0, 0));
        if let Some(ops) = stop {
            sim.stop_after(ops);
        }
        let running = Rc::new(std::cell::Cell::new(clients.len()));
        for client in &clients {
            let (client, store, running) = (client.clone(), store.clone(), running.clone());
            spawn("client", async move {
                client.borrow_mut().work(&store, 20 + commands).await;
                running.set(running.get() - 1);
            });
        }
        while running.get() > 0 {
            yield_now().await;
        }
    })
    .expect("the executor runs");
}

#[test]
fn nothing_acknowledged_is_lost_doubled_or_half_there() {
    for seed in 0..SEEDS {
        check(seed);
    }
}

const SEEDS: u64 = 16;
