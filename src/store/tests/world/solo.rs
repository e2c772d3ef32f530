//! A client that has its account to itself: it knows exactly what must be there.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use super::look::{Chronicle, Mail, Seen, check_files, check_quota, look};
use super::model::Model;
use super::post::Post;
use super::{Life, Numbers, Random};
use crate::base::{ByteSize, Uid};
use crate::runtime::{Disk, trace_id, unix_now};
use crate::store::tests::{ROOT, account, soon, target};
use crate::store::{
    Access, Account, AccountRef, Delivered, FlagChange, FlagMode, Flags, NewMessage, StoreError,
    View,
};

const EXTRA: [&str; 6] = ["a", "a/b", "c", "Ä.x", "c/d/e", "~t\\u"];
const NAMESPACE: &str = "sieve";

/// Whether the account was purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vital {
    Alive,
    /// Its purge was not answered.
    InDoubt,
    Purged,
}

pub(super) struct Solo {
    pub number: u64,
    random: Random,
    numbers: Numbers,
    post: Rc<RefCell<Post>>,
    who: AccountRef,
    /// Nothing comes to it from an outbox.
    pub exact: bool,
    /// It may be purged.
    pub mortal: bool,
    pub life: Vital,
    certain: Model,
    /// What the command under way may have made of it, record by record.
    possible: Vec<Model>,
    chronicle: Chronicle,
}

impl Solo {
    pub fn new(number: u64, seed: u64, numbers: Numbers, post: Rc<RefCell<Post>>) -> Self {
        let mut random = Random(seed ^ number << 32);
        let mut who = account(number);
        who.quota.bytes = (random.below(3) == 0).then(|| ByteSize(400 + random.below(2_000)));
        Solo {
            number,
            random,
            numbers,
            post,
            who,
            exact: false,
            mortal: false,
            life: Vital::Alive,
            certain: Model::default(),
            possible: Vec::new(),
            chronicle: Chronicle::default(),
        }
    }

    /// Runs commands until the disk stops.
    pub async fn work(&mut self, life: &Life, commands: u64) {
        for _ in 0..commands {
            match self.command(life).await {
                Ok(()) => {
                    if let Some(after) = self.possible.pop() {
                        self.certain = after;
                    }
                    self.possible.clear();
                }
                // Nothing was done.
                Err(StoreError::Full | StoreError::OverQuota { .. } | StoreError::Busy)
                    if self.possible.len() <= 1 =>
                {
                    self.possible.clear();
                }
                Err(
                    StoreError::Full
                    | StoreError::OverQuota { .. }
                    | StoreError::Busy
                    | StoreError::Late
                    | StoreError::Poisoned,
                ) => return,
                Err(StoreError::Damaged { .. })
                    if life.is_rough && !life.is_stopping && self.possible.len() <= 1 =>
                {
                    self.possible.clear();
                }
                // What a disk that has stopped says when an index is read.
                Err(StoreError::Damaged { .. }) if life.is_stopping || life.is_rough => return,
                Err(why) => panic!("account {}: {why:?}", self.number),
            }
        }
    }

    async fn command(&mut self, life: &Life) -> Result<(), StoreError> {
        if self.life == Vital::Purged {
            return self.haunt(life).await;
        }
        if self.certain.is_untouched() {
            self.possible = vec![Model::touched()];
            return life
                .home(self.number)
                .remote()
                .account(self.who)
                .await
                .map(drop);
        }
        let ana = life.home(self.number).remote().account(self.who).await?;
        let existing: Vec<String> = self.certain.folders.keys().cloned().collect();
        let name = self.random.pick(&existing).expect("INBOX at least");
        match self.random.below(24) {
            0..=5 => self.deliver(life, &name).await?,
            6..=8 => self.append(life, &ana, &name).await?,
            9..=12 => self.store_flags(&ana, &name).await?,
            13 | 14 => self.expunge(&ana, &name).await?,
            15 | 16 => {
                let to = self.random.pick(&existing).expect("INBOX at least");
                self.relocate(&ana, &name, &to).await?;
            }
            17 | 18 => self.folders(&ana, &existing).await?,
            19 => self.subscribe(&ana).await?,
            20 => self.set_values(life, &ana).await?,
            21 if self.mortal && self.random.below(3) == 0 => return self.purge(life).await,
            21 | 22 => life.home(self.number).checkpoint().await?,
            _ => {
                life.home(self.number).settle_all().await?;
                life.home(self.number).compact_caches(256).await?;
            }
        }
        check_quota(&ana);
        if self.random.below(3) == 0 {
            match self.peek(&ana, &name).await {
                // The command itself was done.
                Err(StoreError::Damaged { .. } | StoreError::Busy) if life.is_rough => {}
                other => other?,
            }
        }
        Ok(())
    }

    async fn peek(&mut self, ana: &Account, name: &str) -> Result<(), StoreError> {
        if let Some(id) = ana.find(name) {
            let view = ana.select(id, Access::ReadOnly).await?;
            self.chronicle.see(name, &view);
        }
        Ok(())
    }

    /// UIDs that were given for those that were guessed.
    fn given(&mut self, name: &str, guessed: &[u32], given: &[Uid]) {
        let given: Vec<u32> = given.iter().map(|uid| uid.0).collect();
        if name != "INBOX" || self.exact {
            assert_eq!(given, guessed, "UIDs are given out in order");
        }
        assert!(given.is_sorted() && given.first() >= guessed.first());
        if let Some(after) = self.possible.last_mut() {
            after.relabel(name, guessed, &given);
        }
    }

    /// A refusal for quota is right where the message does not fit.
    fn check_refusal(&self, outcome: Option<&StoreError>, bytes: u64) {
        let Some(limit) = self.who.quota.bytes else {
            return assert!(!matches!(outcome, Some(StoreError::OverQuota { .. })));
        };
        let used = self.certain.bytes();
        if self.exact {
            let refused = matches!(outcome, Some(StoreError::OverQuota { .. }));
            let fits = used + bytes <= limit.0;
            assert!(
                fits || outcome.is_some(),
                "{used} and {bytes} of {limit:?} taken"
            );
            assert!(
                !(fits && refused),
                "{used} and {bytes} of {limit:?} refused"
            );
        }
    }

    async fn deliver(&mut self, life: &Life, name: &str) -> Result<(), StoreError> {
        let mut name = name.to_owned();
        let mut after = self.certain.clone();
        let mut stages = Vec::new();
        if self.random.below(8) == 0 {
            name = format!("new{}", self.random.below(1_000));
            if !after.folders.contains_key(&name) {
                after.create(&name);
                stages.push(after.clone());
            }
        }
        let body = self.numbers.text(&mut self.random, life);
        let mut to = target(self.number, &name);
        to.account = self.who;
        let text = format!("{}{body}", String::from_utf8_lossy(&to.prefix));
        let mail = Mail {
            text: text.into(),
            flags: 0,
            keywords: BTreeSet::new(),
        };
        let bytes = mail.text.len() as u64;
        let guessed = after.place(&name, mail);
        let remote = life.any(&mut self.random).remote();
        let body = life.message(&mut self.random, &remote, &body).await?;
        stages.push(after);
        self.possible = stages;
        let placed = remote
            .deliver(body, vec![to], unix_now(), trace_id(), soon())
            .await;
        self.check_refusal(placed.as_ref().err(), bytes);
        match placed? {
            Delivered::Placed(uids) => self.given(&name, &[guessed], &uids),
            Delivered::Queued => panic!("one owner needs no queue"),
        }
        Ok(())
    }

    async fn append(&mut self, life: &Life, ana: &Account, name: &str) -> Result<(), StoreError> {
        let remote = life.home(self.number).remote();
        let mut after = self.certain.clone();
        let mut new = Vec::new();
        let mut guessed = Vec::new();
        let mut bytes = 0;
        for _ in 0..=self.random.below(3) {
            let text = self.numbers.text(&mut self.random, life);
            let flags = self.random.below(32) as u8;
            let keywords = BTreeSet::from([format!("K{}", self.random.below(4))]);
            bytes += text.len() as u64;
            new.push(NewMessage {
                message: life.message(&mut self.random, &remote, &text).await?,
                flags: Flags(flags),
                keywords: keywords.iter().cloned().collect(),
                internal_date: None,
                trace: None,
            });
            let mail = Mail {
                text: text.into(),
                flags,
                keywords,
            };
            guessed.push(after.place(name, mail));
        }
        self.possible = vec![after];
        let id = ana.find(name).expect("the model has it");
        let appended = ana.append(id, new).await;
        self.check_refusal(appended.as_ref().err(), bytes);
        self.given(name, &guessed, &appended?.uids);
        Ok(())
    }

    async fn view(&self, ana: &Account, name: &str) -> Result<View, StoreError> {
        let id = ana.find(name).expect("the model has it");
        ana.select(id, Access::ReadWrite).await
    }

    fn some_uids(&mut self, name: &str) -> Vec<u32> {
        let all = self.certain.folders[name].mails.keys().copied();
        all.filter(|_| self.random.below(2) == 0).collect()
    }

    async fn store_flags(&mut self, ana: &Account, name: &str) -> Result<(), StoreError> {
        let view = self.view(ana, name).await?;
        let uids = self.some_uids(name);
        let mut after = self.certain.clone();
        let flags = self.random.below(32) as u8;
        let keyword = format!("K{}", self.random.below(4));
        let modes = [FlagMode::Add, FlagMode::Remove, FlagMode::Replace];
        let mode = self.random.pick(&modes).expect("one of three");
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
        self.possible = vec![after];
        let change = FlagChange {
            mode,
            flags: Flags(flags),
            keywords: vec![keyword],
        };
        let uids: Vec<Uid> = uids.into_iter().map(Uid).collect();
        let stored = view.store(&uids, &change, None).await?;
        assert_eq!(stored.uids, uids);
        let told = uids.iter().filter_map(|uid| view.row(*uid));
        assert!(
            told.into_iter()
                .all(|row| row.modseq <= stored.modseq.max(row.modseq))
        );
        Ok(())
    }

    async fn expunge(&mut self, ana: &Account, name: &str) -> Result<(), StoreError> {
        let view = self.view(ana, name).await?;
        let uids = self.some_uids(name);
        let mut after = self.certain.clone();
        after
            .folder(name)
            .mails
            .retain(|uid, _| !uids.contains(uid));
        self.possible = vec![after];
        let uids: Vec<Uid> = uids.into_iter().map(Uid).collect();
        assert_eq!(view.expunge(&uids).await?, uids);
        Ok(())
    }

    async fn relocate(&mut self, ana: &Account, from: &str, to: &str) -> Result<(), StoreError> {
        let view = self.view(ana, from).await?;
        let uids = self.some_uids(from);
        let remove = self.random.below(2) == 0;
        let mut after = self.certain.clone();
        let mut guessed = Vec::new();
        let mut bytes = 0;
        for uid in &uids {
            let mail = self.certain.folders[from].mails[uid].clone();
            bytes += mail.text.len() as u64;
            guessed.push(after.place(to, mail));
        }
        if remove {
            after
                .folder(from)
                .mails
                .retain(|uid, _| !uids.contains(uid));
        }
        self.possible = vec![after];
        let uids: Vec<Uid> = uids.into_iter().map(Uid).collect();
        let target = ana.find(to).expect("the model has it");
        let copied = match remove {
            true => view.move_to(&uids, target).await?,
            false => {
                let copied = view.copy(&uids, target).await;
                self.check_refusal(copied.as_ref().err(), bytes);
                copied?
            }
        };
        assert_eq!(copied.from, uids);
        self.given(to, &guessed, &copied.to);
        Ok(())
    }

    async fn folders(&mut self, ana: &Account, existing: &[String]) -> Result<(), StoreError> {
        let mut names: Vec<String> = EXTRA.iter().map(|n| (*n).to_owned()).collect();
        let made = |n: &&String| n.starts_with('r') || n.starts_with("new");
        names.extend(existing.iter().filter(made).cloned());
        let name = self.random.pick(&names).expect("some");
        let there = existing.contains(&name);
        let mut after = self.certain.clone();
        match self.random.below(3) {
            _ if !there => {
                after.create(&name);
                self.possible = vec![after];
                let id = ana.create(&name, None).await?;
                let status = ana.status(id)?;
                self.chronicle.created(status.uidvalidity.0);
            }
            1 => {
                after.folders.remove(&name);
                self.possible = vec![after];
                ana.delete(&name).await?;
            }
            _ => {
                let to = match self.random.below(2) {
                    0 => self.random.pick(&names).expect("some"),
                    _ => format!("r{}", self.random.below(50)),
                };
                let below = format!("{name}/");
                let old = std::mem::take(&mut after.folders);
                let mut taken = to.starts_with(&below) || old.contains_key(&to);
                // Its superiors are made.
                for (end, _) in to.match_indices('/') {
                    if !old.contains_key(&to[..end]) {
                        after.folder(&to[..end]);
                    }
                }
                for (path, folder) in &old {
                    let new = match path.strip_prefix(&below) {
                        Some(tail) => format!("{to}/{tail}"),
                        None if *path == name => to.clone(),
                        None => path.clone(),
                    };
                    taken |= new != *path && old.contains_key(&new);
                    after.folders.insert(new, folder.clone());
                }
                if taken {
                    return Ok(());
                }
                self.possible = vec![after];
                ana.rename(&name, &to).await?;
            }
        }
        Ok(())
    }

    async fn subscribe(&mut self, ana: &Account) -> Result<(), StoreError> {
        let name = ["INBOX", "a", "nowhere", "Trash"][self.random.below(4) as usize];
        let on = self.random.below(2) == 0;
        let mut after = self.certain.clone();
        match on {
            true => after.subscriptions.insert(name.to_owned()),
            false => after.subscriptions.remove(name),
        };
        self.possible = vec![after];
        ana.subscribe(name, on).await
    }

    async fn set_values(&mut self, life: &Life, ana: &Account) -> Result<(), StoreError> {
        let key = vec![b'k', self.random.below(4) as u8];
        let value = (self.random.below(3) > 0).then(|| vec![7; self.random.below(300) as usize]);
        let mut after = self.certain.clone();
        match &value {
            Some(value) => after.values.insert(key.clone(), value.clone()),
            None => after.values.remove(&key),
        };
        self.possible = vec![after];
        if self.random.below(2) == 0 {
            return ana
                .set_values(vec![(NAMESPACE.to_owned(), key, value)])
                .await;
        }
        let change = crate::store::ValueChange {
            account: Some(self.who.account),
            namespace: NAMESPACE.to_owned(),
            key,
            value,
        };
        let remote = life.any(&mut self.random).remote();
        remote
            .set_values(self.who.partition, vec![change], soon())
            .await
    }

    async fn purge(&mut self, life: &Life) -> Result<(), StoreError> {
        self.life = Vital::InDoubt;
        let remote = life.any(&mut self.random).remote();
        remote.purge(self.who, soon()).await?;
        self.life = Vital::Purged;
        self.certain = Model::default();
        Ok(())
    }

    /// What comes late for a purged account does not bring it back.
    async fn haunt(&mut self, life: &Life) -> Result<(), StoreError> {
        let remote = life.any(&mut self.random).remote();
        let gone = match self.random.below(4) {
            0 => {
                let home = life.home(self.number).remote();
                home.account(self.who).await.map(drop)
            }
            1 => {
                let text = self.numbers.text(&mut self.random, life);
                let body = life.message(&mut self.random, &remote, &text).await?;
                let mut to = target(self.number, "INBOX");
                to.account = self.who;
                let sent = remote.deliver(body, vec![to], unix_now(), trace_id(), soon());
                sent.await.map(drop)
            }
            2 => {
                let change = crate::store::ValueChange {
                    account: Some(self.who.account),
                    namespace: "last-login".to_owned(),
                    key: b"imap".to_vec(),
                    value: Some(b"now".to_vec()),
                };
                let partition = self.who.partition;
                return remote.set_values(partition, vec![change], soon()).await;
            }
            _ => return remote.purge(self.who, soon()).await,
        };
        match gone {
            Err(StoreError::MailboxGone) => Ok(()),
            Ok(()) => panic!("account {} is back", self.number),
            other => other,
        }
    }

    /// After a restart: whether its last purge was done. True where it is gone.
    async fn check_purged(&mut self, life: &Life) -> bool {
        if self.life == Vital::Alive {
            return false;
        }
        let remote = life.home(self.number).remote();
        match remote.account(self.who).await {
            Err(StoreError::MailboxGone) => self.life = Vital::Purged,
            Ok(_) if self.life == Vital::InDoubt => self.life = Vital::Alive,
            other => panic!("account {}: {:?}", self.number, other.map(drop)),
        }
        self.life == Vital::Purged
    }

    // ---- after a restart ----

    /// What is there is what is certain, or that and the last command, or a part of it that is
    /// one record.
    pub async fn check(&mut self, life: &Life) {
        if self.check_purged(life).await {
            (self.certain, self.possible) = (Model::default(), Vec::new());
            return;
        }
        let untouched = self.certain.is_untouched() && self.possible.is_empty();
        if untouched && !self.post.borrow().is_any_on_its_way(self.number) {
            return;
        }
        let remote = life.home(self.number).remote();
        let ana = remote.account(self.who).await.expect("opens");
        let seen = look(&ana, &mut self.chronicle).await;
        let subscriptions: BTreeSet<String> = ana.subscriptions().into_iter().collect();
        let known = self.certain.clone();
        let mut candidates = vec![std::mem::take(&mut self.certain)];
        candidates.append(&mut self.possible);
        for candidate in &mut candidates {
            // The first touch just now made the default folders.
            if candidate.is_untouched() {
                *candidate = Model::touched();
            }
            if !self.exact {
                candidate.adopt(
                    &known,
                    &seen.folders["INBOX"],
                    self.number,
                    &self.post.borrow(),
                );
            }
        }
        let all_fit = |c: &Model| {
            let value = |key: &Vec<u8>| ana.value(NAMESPACE, key).map(|v| v.to_vec());
            let keys = (0..4).map(|n| vec![b'k', n]);
            c.fits(&seen)
                && c.subscriptions == subscriptions
                && keys
                    .into_iter()
                    .all(|key| value(&key) == c.values.get(&key).cloned())
        };
        let Some(found) = candidates.iter().rposition(all_fit) else {
            panic!(
                "account {}\nthere {:#?}\n{subscriptions:?}\nmay be {:#?}",
                self.number,
                seen.shown(),
                candidates.iter().map(Model::shown).collect::<Vec<_>>()
            );
        };
        self.certain = candidates.swap_remove(found);
        self.certain.learn(&seen);
        let inbox = &seen.folders["INBOX"];
        for mail in inbox.mails.values() {
            self.post.borrow_mut().arrived(self.number, &mail.text);
        }
    }

    /// After a checkpoint: what other programs see.
    pub async fn check_files(&mut self, life: &Life, disk: &Disk) {
        if self.life == Vital::Purged {
            let root = format!("{ROOT}/mail/{}/{}", self.who.partition.0, self.who.account);
            assert!(
                !disk.exists(root.as_ref()).await.expect("looks"),
                "{root} is there"
            );
        }
        if self.certain.is_untouched() {
            return;
        }
        let remote = life.home(self.number).remote();
        let ana = remote.account(self.who).await.expect("opens");
        let seen: Seen = look(&ana, &mut self.chronicle).await;
        check_files(disk, self.number, &seen).await;
    }
}
