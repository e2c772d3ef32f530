//! Several sessions in the same mailboxes at once. Nobody knows all of it, but each session knows
//! its own keyword on every message, what was promised to be there, and what to be gone.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::look::{Chronicle, check_files, check_quota, look};
use super::post::Post;
use super::{Life, Numbers, Random};
use crate::base::Uid;
use crate::runtime::Disk;
use crate::store::tests::account;
use crate::store::{Access, Account, FlagChange, FlagMode, Flags, NewMessage, StoreError, View};

const FOLDERS: [&str; 3] = ["INBOX", "Archive", "Trash"];
pub(super) const SESSIONS: usize = 3;

/// Folder and UID.
type Place = (usize, u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gone {
    No,
    Maybe,
    Yes,
}

/// What is known of one message.
#[derive(Clone, Debug)]
struct Fact {
    text: Rc<str>,
    gone: Gone,
    /// Sessions that have tried to remove it.
    tried: BTreeSet<usize>,
    /// Whether session `n`'s keyword is set: values that may be.
    own: [Vec<bool>; SESSIONS],
}

/// What a session was doing when power went.
#[derive(Clone, Debug)]
enum Doing {
    Append { folder: usize, text: Rc<str> },
    Copy { from: Vec<Place>, to: usize },
    Move { from: Vec<Place>, to: usize },
}

pub(super) struct Ledger {
    number: u64,
    post: Rc<RefCell<Post>>,
    facts: BTreeMap<Place, Fact>,
    doing: [Option<Doing>; SESSIONS],
    chronicle: Chronicle,
    touched: bool,
}

pub(super) struct Session {
    pub n: usize,
    pub random: Random,
    pub numbers: Numbers,
    pub ledger: Rc<RefCell<Ledger>>,
}

fn keyword(session: usize) -> String {
    format!("S{session}")
}

impl Session {
    pub async fn work(&mut self, life: &Life, commands: u64) {
        let outcome = self.commands(life, commands).await;
        match outcome {
            Ok(()) | Err(StoreError::Late | StoreError::Poisoned) => {}
            Err(StoreError::Damaged { .. }) if life.is_stopping || life.is_rough => {}
            Err(StoreError::Full | StoreError::Busy) if life.is_rough => {}
            Err(why) => panic!("session {}: {why:?}", self.n),
        }
    }

    async fn commands(&mut self, life: &Life, commands: u64) -> Result<(), StoreError> {
        let number = self.ledger.borrow().number;
        let ana = life.home(number).remote().account(account(number)).await?;
        self.ledger.borrow_mut().touched = true;
        let mut at = 0;
        let mut view = self.select(&ana, at).await?;
        for _ in 0..commands {
            if self.random.below(6) == 0 {
                at = self.random.below(FOLDERS.len() as u64) as usize;
                view = self.select(&ana, at).await?;
            }
            match self.random.below(10) {
                0..=2 => self.append(life, &ana).await?,
                3..=5 => self.store(&view, at).await?,
                6 | 7 => self.expunge(&view, at).await?,
                8 => self.relocate(&ana, &view, at, true).await?,
                _ => self.relocate(&ana, &view, at, false).await?,
            }
            follow(&mut view, self.random.below(2) == 0);
            check_quota(&ana);
        }
        Ok(())
    }

    async fn select(&mut self, ana: &Account, folder: usize) -> Result<View, StoreError> {
        let id = ana.find(FOLDERS[folder]).expect("a default folder");
        let view = ana.select(id, Access::ReadWrite).await?;
        let mut ledger = self.ledger.borrow_mut();
        ledger.chronicle.see(FOLDERS[folder], &view);
        Ok(view)
    }

    /// UIDs of the view that somebody has told of.
    fn some(&mut self, view: &View, folder: usize) -> Vec<Uid> {
        let ledger = self.ledger.borrow();
        let known = |uid: &&Uid| ledger.facts.contains_key(&(folder, uid.0));
        let all: Vec<Uid> = view.uids().iter().filter(known).copied().collect();
        drop(ledger);
        all.into_iter()
            .filter(|_| self.random.below(3) == 0)
            .collect()
    }

    async fn append(&mut self, life: &Life, ana: &Account) -> Result<(), StoreError> {
        let folder = self.random.below(FOLDERS.len() as u64) as usize;
        let text = self.numbers.text(&mut self.random, life);
        let number = self.ledger.borrow().number;
        let remote = life.home(number).remote();
        let message = life.message(&mut self.random, &remote, &text).await?;
        let text: Rc<str> = text.into();
        let new = NewMessage {
            message,
            flags: Flags::NONE,
            keywords: Vec::new(),
            internal_date: None,
            trace: None,
        };
        self.ledger.borrow_mut().doing[self.n] = Some(Doing::Append {
            folder,
            text: text.clone(),
        });
        let id = ana.find(FOLDERS[folder]).expect("a default folder");
        let appended = match ana.append(id, vec![new]).await {
            Err(StoreError::Full | StoreError::Busy) => None,
            other => Some(other?),
        };
        let mut ledger = self.ledger.borrow_mut();
        ledger.doing[self.n] = None;
        if let Some(appended) = appended {
            ledger.add((folder, appended.uids[0].0), Fact::new(text));
        }
        Ok(())
    }

    async fn store(&mut self, view: &View, folder: usize) -> Result<(), StoreError> {
        let uids = self.some(view, folder);
        let on = self.random.below(3) > 0;
        let n = self.n;
        for uid in &uids {
            let mut ledger = self.ledger.borrow_mut();
            let own = &mut ledger.fact(folder, *uid).own[n];
            if !own.contains(&on) {
                own.push(on);
            }
        }
        let change = FlagChange {
            mode: if on { FlagMode::Add } else { FlagMode::Remove },
            flags: Flags::NONE,
            keywords: vec![keyword(n)],
        };
        let stored = match view.store(&uids, &change, None).await {
            Err(StoreError::Full | StoreError::Busy) => return Ok(()),
            other => other?,
        };
        let mut ledger = self.ledger.borrow_mut();
        for uid in &uids {
            let fact = ledger.fact(folder, *uid);
            if stored.missing.contains(uid) {
                assert!(fact.gone != Gone::No, "{uid} is said to be gone");
                continue;
            }
            fact.own[n] = vec![on];
            if let Some(row) = view.row(*uid) {
                let set = row.keywords.iter().any(|k| **k == *keyword(n));
                assert_eq!(set, on, "own keyword of {uid}");
            }
        }
        Ok(())
    }

    async fn expunge(&mut self, view: &View, folder: usize) -> Result<(), StoreError> {
        let uids = self.some(view, folder);
        self.ledger.borrow_mut().try_removing(self.n, folder, &uids);
        match view.expunge(&uids).await {
            Err(StoreError::Full | StoreError::Busy) => return Ok(()),
            other => drop(other?),
        }
        // RFC 9051 6.4.3, 6.4.9: after the OK they are gone, whoever removed them.
        self.ledger.borrow_mut().removed(folder, &uids);
        for uid in uids {
            assert!(view.row(uid).is_none(), "{uid} is there after EXPUNGE");
        }
        Ok(())
    }

    async fn relocate(
        &mut self,
        ana: &Account,
        view: &View,
        folder: usize,
        remove: bool,
    ) -> Result<(), StoreError> {
        let uids = self.some(view, folder);
        let to = self.random.below(FOLDERS.len() as u64) as usize;
        let id = ana.find(FOLDERS[to]).expect("a default folder");
        let mut from: Vec<Place> = uids.iter().map(|uid| (folder, uid.0)).collect();
        // The view may still show what is long removed.
        from.retain(|place| self.ledger.borrow().facts[place].gone != Gone::Yes);
        if remove {
            self.ledger.borrow_mut().try_removing(self.n, folder, &uids);
        }
        self.ledger.borrow_mut().doing[self.n] = Some(match remove {
            true => Doing::Move { from, to },
            false => Doing::Copy { from, to },
        });
        let outcome = match remove {
            true => view.move_to(&uids, id).await,
            false => view.copy(&uids, id).await,
        };
        let copied = match outcome {
            Err(StoreError::Full | StoreError::Busy) => {
                self.ledger.borrow_mut().doing[self.n] = None;
                return Ok(());
            }
            other => other?,
        };
        let mut ledger = self.ledger.borrow_mut();
        ledger.doing[self.n] = None;
        for (from, uid) in copied.from.iter().zip(&copied.to) {
            let source = ledger.fact(folder, *from);
            let mut fact = Fact::new(source.text.clone());
            // Its own keyword it knows; the others' may have changed while this waited.
            fact.own = std::array::from_fn(|_| vec![false, true]);
            fact.own[self.n] = source.own[self.n].clone();
            ledger.add((to, uid.0), fact);
        }
        if remove {
            // RFC 9051 6.4.8: what was asked to be moved is not here any more.
            ledger.removed(folder, &uids);
            for uid in uids {
                assert!(view.row(uid).is_none(), "{uid} is there after MOVE");
            }
        }
        Ok(())
    }
}

/// A client that believes what it is told sees the same as the view.
fn follow(view: &mut View, expunges: bool) {
    let mut believed = view.uids().to_vec();
    let known = believed.len();
    let changes = view.refresh(expunges);
    for n in &changes.expunged {
        believed.remove(*n as usize - 1);
    }
    let kept = known - changes.expunged.len();
    assert_eq!(believed, view.uids()[..kept], "the view after EXPUNGE");
    let grown = (view.uids().len() > kept).then_some(view.uids().len() as u32);
    assert!(changes.exists == grown || changes.exists == Some(view.uids().len() as u32));
    if expunges {
        let gone = view.uids().iter().filter(|uid| view.row(**uid).is_none());
        assert_eq!(gone.count(), 0, "messages in the view that are gone");
    }
}

impl Fact {
    fn new(text: Rc<str>) -> Fact {
        Fact {
            text,
            gone: Gone::No,
            tried: BTreeSet::new(),
            own: std::array::from_fn(|_| vec![false]),
        }
    }
}

impl Ledger {
    pub fn new(number: u64, post: Rc<RefCell<Post>>) -> Self {
        Ledger {
            number,
            post,
            facts: BTreeMap::new(),
            doing: Default::default(),
            chronicle: Chronicle::default(),
            touched: false,
        }
    }

    fn fact(&mut self, folder: usize, uid: Uid) -> &mut Fact {
        self.facts
            .get_mut(&(folder, uid.0))
            .expect("a known message")
    }

    fn add(&mut self, place: Place, fact: Fact) {
        let before = self.facts.insert(place, fact);
        assert!(before.is_none(), "UID given twice: {place:?}");
    }

    fn try_removing(&mut self, session: usize, folder: usize, uids: &[Uid]) {
        for uid in uids {
            let fact = self.fact(folder, *uid);
            fact.tried.insert(session);
            if fact.gone == Gone::No {
                fact.gone = Gone::Maybe;
            }
        }
    }

    fn removed(&mut self, folder: usize, uids: &[Uid]) {
        uids.iter()
            .for_each(|uid| self.fact(folder, *uid).gone = Gone::Yes);
    }

    /// After a restart: everything that was promised, and nothing that nobody asked for.
    pub async fn check(&mut self, life: &Life) {
        if !self.touched && !self.post.borrow().is_any_on_its_way(self.number) {
            return;
        }
        let remote = life.home(self.number).remote();
        let ana = remote.account(account(self.number)).await.expect("opens");
        let seen = look(&ana, &mut self.chronicle).await;
        let doing = std::mem::take(&mut self.doing);
        let mut there: BTreeMap<Place, (Rc<str>, [bool; SESSIONS])> = BTreeMap::new();
        for (folder, name) in FOLDERS.iter().enumerate() {
            for (uid, mail) in &seen.folders[*name].mails {
                let own = std::array::from_fn(|n| mail.keywords.contains(&keyword(n)));
                there.insert((folder, *uid), (mail.text.clone(), own));
            }
        }
        for (place, fact) in &mut self.facts {
            match there.get(place) {
                Some((text, own)) => {
                    assert!(fact.gone != Gone::Yes, "back again: {place:?} {fact:?}");
                    assert_eq!(*text, fact.text, "another message: {place:?}");
                    for (n, set) in own.iter().enumerate() {
                        assert!(
                            fact.own[n].contains(set),
                            "keyword {n} of {place:?} {fact:?}"
                        );
                    }
                    fact.gone = Gone::No;
                    fact.own = own.map(|set| vec![set]);
                }
                None => {
                    assert!(fact.gone != Gone::No, "lost: {place:?} {fact:?}");
                    fact.gone = Gone::Yes;
                }
            }
        }
        // What was not known before: of whom was under way, or from the post.
        let mut unknown: Vec<(Place, Rc<str>, [bool; SESSIONS])> = Vec::new();
        for (place, (text, own)) in there {
            if !self.facts.contains_key(&place) {
                unknown.push((place, text, own));
            }
        }
        for doing in doing.iter().flatten() {
            self.explain(doing, &mut unknown);
        }
        let mut post = self.post.borrow_mut();
        unknown.retain(|((folder, uid), text, own)| {
            let from_post = *folder == 0 && post.arrived(self.number, text);
            if from_post {
                let mut fact = Fact::new(text.clone());
                fact.own = own.map(|set| vec![set]);
                self.facts.insert((*folder, *uid), fact);
            }
            !from_post
        });
        assert!(unknown.is_empty(), "nobody sent {unknown:?}, {doing:?}");
        self.facts.values_mut().for_each(|fact| fact.tried.clear());
    }

    /// Takes what a command under way has made out of `unknown`. It was done as a whole or not.
    fn explain(&mut self, doing: &Doing, unknown: &mut Vec<(Place, Rc<str>, [bool; SESSIONS])>) {
        let mut take = |folder: usize, text: &Rc<str>| {
            let at = unknown
                .iter()
                .position(|(place, t, _)| place.0 == folder && t == text);
            at.map(|at| unknown.remove(at))
        };
        let mut found = Vec::new();
        match doing {
            Doing::Append { folder, text } => found.extend(take(*folder, text)),
            Doing::Copy { from, to } => {
                for place in from {
                    let text = self.facts[place].text.clone();
                    found.extend(take(*to, &text));
                }
            }
            Doing::Move { from, to } => {
                for place in from {
                    let fact = &self.facts[place];
                    let moved = take(*to, &fact.text);
                    let gone = fact.gone == Gone::Yes;
                    assert!(
                        gone || moved.is_none(),
                        "moved, and still there: {place:?} {fact:?}"
                    );
                    let by_others = fact.tried.len() > 1;
                    assert!(
                        !gone || by_others || moved.is_some(),
                        "lost: {place:?} {fact:?}"
                    );
                    found.extend(moved);
                }
            }
        }
        for (place, text, own) in found {
            let mut fact = Fact::new(text);
            fact.own = own.map(|set| vec![set]);
            self.add(place, fact);
        }
    }

    pub async fn check_files(&mut self, life: &Life, disk: &Disk) {
        if !self.touched {
            return;
        }
        let remote = life.home(self.number).remote();
        let ana = remote.account(account(self.number)).await.expect("opens");
        let seen = look(&ana, &mut self.chronicle).await;
        check_files(disk, self.number, &seen).await;
    }
}
