//! From a command to the values it changes. Pure: the state, the time and the hashes come in.
//!
//! A planner works on its own copy of the directory and applies each change to it at once, so
//! that the rows of an import see one another. What it leaves behind is one record's worth of
//! values; nothing has happened until the store has them.

use std::sync::Arc;

use hashbrown::HashMap;

use super::account::{Account, Alias, Domain, Kind};
use super::command::{
    Answer, Command, DomainInfo, EntitlementChange, ImportRow, NewUser, RefusedRow, UserChange,
    UserInfo, removed_id,
};
use super::error::DirectoryError as E;
use super::name::{self, Name};
use super::password::PasswordHash;
use super::record;
use super::signing::{self, NewKey};
use super::snapshot::Snapshot;
use crate::base::{AccountId, ByteSize, UnixMs};
use crate::store::ValueChange;

/// Longest language or time zone.
const TEXT_BYTES_MAX: usize = 64;

/// Passwords of a command, hashed beforehand: in its order, one for each row of an import.
pub type Hashes = Vec<Result<String, E>>;

/// What a command comes to.
pub struct Planned {
    pub changes: Vec<ValueChange>,
    pub answer: Answer,
    /// The account whose mail is to be deleted once the changes are durable.
    pub purge: Option<Arc<Account>>,
}

/// Works out `command` against `state`; ids are given out above `last_id`. `made` are the pairs that
/// a command wants, drawn beforehand.
pub fn plan(
    state: &Snapshot,
    last_id: u64,
    now: UnixMs,
    command: &Command,
    hashes: Hashes,
    made: Vec<NewKey>,
) -> Result<Planned, E> {
    let mut planner = Planner::new(state, last_id, now);
    let mut hashes = hashes.into_iter();
    match command {
        Command::DomainList | Command::AliasList | Command::UserList { .. } => {
            return Ok(planner.planned(listing(state, command)));
        }
        Command::UserShow { address } => {
            let account = planner.user(address)?;
            let users = vec![user_info(
                state,
                &account,
                &addresses(state, Some(account.id)),
            )];
            return Ok(planner.planned(Answer::Users { users }));
        }
        Command::Dkim(command) => {
            let (changes, answer) = signing::plan(state, now, command, made)?;
            planner.changes = changes;
            return Ok(planner.planned(answer));
        }
        Command::DomainAdd { name, alias_of } => planner.domain_add(name, alias_of.as_deref())?,
        Command::DomainRemove { name } => planner.domain_remove(name)?,
        Command::UserAdd(user) => planner.user_add(user, hashes.next().transpose()?)?,
        Command::UserImport { rows } => return Ok(planner.import(rows, hashes)),
        Command::UserPasswd { address, .. } => planner.passwd(address, hashes.next())?,
        Command::UserRename { from, to, keep_old } => planner.rename(from, to, *keep_old)?,
        Command::UserSet { address, change } => planner.user_set(address, change)?,
        Command::UserDisable { address } => planner.user_disable(address, true)?,
        Command::UserEnable { address } => planner.user_disable(address, false)?,
        Command::UserRemove { address, purge } => planner.user_remove(address, *purge)?,
        Command::AliasAdd { from, to } => planner.alias_add(from, to)?,
        Command::AliasRemove { from, to } => planner.alias_remove(from, to)?,
    }
    let notes = std::mem::take(&mut planner.notes);
    Ok(planner.planned(Answer::Done { notes }))
}

/// What every directory has from its first start: the account that keeps the postmaster's mail.
pub fn first_start(state: &Snapshot, last_id: u64, now: UnixMs) -> Vec<ValueChange> {
    let mut planner = Planner::new(state, last_id, now);
    if state.internal_postmaster().is_none() {
        let address = match state.site().domains.first() {
            Some(domain) => name::key(name::POSTMASTER, domain),
            None => name::POSTMASTER.to_owned(),
        };
        let account = Account {
            kind: Kind::Role,
            ..planner.blank(address)
        };
        planner.set(record::set_name(name::POSTMASTER, account.id));
        planner.set(record::set_account(&account));
    }
    planner.changes
}

struct Planner {
    state: Snapshot,
    last_id: u64,
    now: UnixMs,
    changes: Vec<ValueChange>,
    notes: Vec<String>,
    purge: Option<Arc<Account>>,
}

impl Planner {
    fn new(state: &Snapshot, last_id: u64, now: UnixMs) -> Self {
        Planner {
            last_id: last_id.max(state.last_account()),
            state: state.clone(),
            now,
            changes: Vec::new(),
            notes: Vec::new(),
            purge: None,
        }
    }

    fn planned(self, answer: Answer) -> Planned {
        Planned {
            changes: self.changes,
            answer,
            purge: self.purge,
        }
    }

    fn set(&mut self, change: ValueChange) {
        let ours = self.state.apply(&change);
        assert_eq!(ours, Ok(true), "what we write we can read");
        self.changes.push(change);
    }

    // Looking up.

    fn address(&self, text: &str) -> Result<Name, E> {
        Name::parse(text).map_err(|_| E::NotAnAddress { text: text.into() })
    }

    /// An address in one of our domains, with its key.
    fn our_address(&self, text: &str) -> Result<(Name, String), E> {
        let name = self.address(text)?;
        let domain = self
            .state
            .local_domain(name.domain())
            .ok_or_else(|| E::NotOurDomain {
                domain: name.domain().into(),
            })?;
        let key = name::key(name.local(), domain);
        Ok((name, key))
    }

    fn user(&self, text: &str) -> Result<Arc<Account>, E> {
        let missing = || E::NoSuchUser {
            address: text.into(),
        };
        if text.contains('@') {
            self.address(text)?;
        }
        self.state.login(text).cloned().ok_or_else(missing)
    }

    /// An address nothing has yet, in one of our domains.
    fn free_address(&self, text: &str) -> Result<(Name, String), E> {
        let (name, key) = self.our_address(text)?;
        if self.state.names.get(&key).is_some() {
            return Err(E::AddressTaken {
                address: name.to_string(),
            });
        }
        if self.state.aliases.get(&key).is_some() {
            return Err(E::AddressIsAlias {
                address: name.to_string(),
            });
        }
        Ok((name, key))
    }

    fn is_internal(&self, account: &Account) -> bool {
        self.state.names.get(name::POSTMASTER) == Some(&account.id)
    }

    // Domains.

    fn domain_add(&mut self, text: &str, alias_of: Option<&str>) -> Result<(), E> {
        let domain = domain(text)?;
        let was = self.state.domains.get(&domain).cloned();
        let Some(real) = alias_of.map(self::domain).transpose()? else {
            if was.is_some() || self.state.in_config(&domain) {
                return Err(E::DomainExists { domain });
            }
            self.set(record::set_domain(&Domain {
                name: domain,
                alias_of: None,
            }));
            return Ok(());
        };
        if was.is_some_and(|was| was.alias_of.as_ref() == Some(&real)) {
            return Err(E::DomainExists { domain });
        }
        let real_of_real = self.state.local_domain(&real).map(str::to_owned);
        match real_of_real {
            None => return Err(E::NotOurDomain { domain: real }),
            Some(end) if end != real || end == domain => {
                return Err(E::AliasOfAlias {
                    domain: real,
                    real: end,
                });
            }
            Some(_) => {}
        }
        self.domain_unused(&domain)?;
        self.set(record::set_domain(&Domain {
            name: domain,
            alias_of: Some(real),
        }));
        Ok(())
    }

    fn domain_remove(&mut self, text: &str) -> Result<(), E> {
        let domain = domain(text)?;
        match self.state.domains.get(&domain) {
            None if self.state.in_config(&domain) => return Err(E::DomainInConfig { domain }),
            None => return Err(E::NoSuchDomain { domain }),
            Some(Domain {
                alias_of: Some(_), ..
            }) => {}
            Some(_) if self.state.in_config(&domain) => {}
            Some(_) => self.domain_unused(&domain)?,
        }
        let keys = self.state.signing().of_domain(&domain).count();
        if keys > 0 && !self.state.in_config(&domain) {
            self.notes.push(format!(
                "{keys} DKIM keys of {domain} stay and sign nothing; see palomar dkim list {domain}"
            ));
        }
        self.set(record::remove_domain(&domain));
        Ok(())
    }

    fn domain_unused(&self, domain: &str) -> Result<(), E> {
        let in_domain = |key: &str| key.rsplit_once('@').is_some_and(|(_, d)| d == domain);
        let accounts = self
            .state
            .names
            .iter()
            .filter(|(k, _)| in_domain(k))
            .count();
        let aliases = self
            .state
            .aliases
            .iter()
            .filter(|(k, _)| in_domain(k))
            .count()
            + self
                .state
                .domains
                .iter()
                .filter(|(_, d)| d.alias_of.as_deref() == Some(domain))
                .count();
        if accounts + aliases == 0 {
            return Ok(());
        }
        Err(E::DomainInUse {
            domain: domain.into(),
            accounts,
            aliases,
        })
    }

    // Accounts.

    fn blank(&mut self, address: String) -> Account {
        self.last_id += 1;
        self.set(record::set_last_account(self.last_id));
        let id = AccountId(self.last_id);
        Account {
            id,
            partition: self.state.place(id),
            address,
            kind: Kind::default(),
            class: super::Class::default(),
            entitlements: None,
            language: None,
            timezone: None,
            disabled: false,
            quota: None,
            quota_messages: None,
            created: self.now,
            removed: None,
        }
    }

    fn user_add(&mut self, user: &NewUser, hash: Option<String>) -> Result<(), E> {
        let (name, key) = self.free_address(&user.address)?;
        if hash.is_some() {
            has_password(user.kind)?;
        }
        let language = short_text("language", user.language.as_deref())?;
        let timezone = short_text("timezone", user.timezone.as_deref())?;
        let account = Account {
            kind: user.kind,
            class: user.class,
            entitlements: user.entitlements,
            language,
            timezone,
            quota: user.quota,
            quota_messages: user.quota_messages,
            ..self.blank(name.to_string())
        };
        self.set(record::set_account(&account));
        self.set(record::set_name(&key, account.id));
        if let Some(hash) = hash {
            self.set_password(account.id, hash);
        }
        Ok(())
    }

    fn import(
        mut self,
        rows: &[ImportRow],
        mut hashes: impl Iterator<Item = Result<String, E>>,
    ) -> Planned {
        let (mut added, mut refused) = (0, Vec::new());
        for row in rows {
            let user = NewUser {
                address: row.address.clone(),
                quota: row.quota,
                ..NewUser::default()
            };
            let hash = hashes.next().unwrap_or(Err(E::PasswordEmpty));
            match hash.and_then(|hash| self.user_add(&user, Some(hash))) {
                Ok(()) => added += 1,
                Err(why) => refused.push(RefusedRow {
                    line: row.line,
                    address: row.address.clone(),
                    why,
                }),
            }
        }
        self.planned(Answer::Imported { added, refused })
    }

    fn set_password(&mut self, id: AccountId, hash: String) {
        let changed = self.now;
        self.set(record::set_password(id, &PasswordHash { hash, changed }));
    }

    fn passwd(&mut self, address: &str, hash: Option<Result<String, E>>) -> Result<(), E> {
        let account = self.user(address)?;
        has_password(account.kind)?;
        let hash = hash.unwrap_or(Err(E::PasswordEmpty))?;
        self.set_password(account.id, hash);
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str, keep_old: bool) -> Result<(), E> {
        let account = self.user(from)?;
        if self.is_internal(&account) {
            return Err(E::Internal {
                address: account.address.clone(),
            });
        }
        let (new, new_key) = self.free_address(to)?;
        let old_text = match from.contains('@') {
            true => from.to_owned(),
            false => account.address.clone(),
        };
        let (_, old_key) = self.our_address(&old_text)?;
        self.set(record::set_account(&Account {
            address: new.to_string(),
            ..(*account).clone()
        }));
        self.set(record::set_name(&new_key, account.id));
        if !keep_old {
            self.set(record::remove_name(&old_key));
            self.rename_in_aliases(&old_key, &new_key, &new.to_string());
        }
        Ok(())
    }

    /// Aliases follow an address that is no more.
    fn rename_in_aliases(&mut self, old_key: &str, new_key: &str, new: &str) {
        let named = |state: &Snapshot, target: &str| {
            key_of(state, target).is_some_and(|key| key == old_key)
        };
        let touched: Vec<Arc<Alias>> = self
            .state
            .aliases
            .iter()
            .filter(|(from, alias)| {
                *from == old_key || alias.to.iter().any(|to| named(&self.state, to))
            })
            .map(|(_, alias)| Arc::clone(alias))
            .collect();
        for alias in touched {
            let to = alias.to.iter().map(|to| match named(&self.state, to) {
                true => new.to_owned(),
                false => to.clone(),
            });
            let to = to.collect();
            let mut from = alias.from.clone();
            if from == old_key {
                self.set(record::remove_alias(old_key));
                from = new_key.to_owned();
            }
            self.set(record::set_alias(&Alias { from, to }));
        }
    }

    fn user_set(&mut self, address: &str, change: &UserChange) -> Result<(), E> {
        let mut account = (*self.user(address)?).clone();
        if let Some(limit) = change.quota {
            account.quota = limit.value().map(ByteSize);
        }
        if let Some(limit) = change.quota_messages {
            account.quota_messages = limit.value();
        }
        account.kind = change.kind.unwrap_or(account.kind);
        account.class = change.class.unwrap_or(account.class);
        match change.entitlements {
            Some(EntitlementChange::OfClass) => account.entitlements = None,
            Some(EntitlementChange::Only(set)) => account.entitlements = Some(set),
            None => {}
        }
        if change.language.is_some() {
            account.language = short_text("language", change.language.as_deref())?;
        }
        if change.timezone.is_some() {
            account.timezone = short_text("timezone", change.timezone.as_deref())?;
        }
        self.set(record::set_account(&account));
        Ok(())
    }

    fn user_disable(&mut self, address: &str, disabled: bool) -> Result<(), E> {
        let account = self.user(address)?;
        self.set(record::set_account(&Account {
            disabled,
            ..(*account).clone()
        }));
        if disabled {
            self.notes
                .push("log-in is off; mail for this account still arrives".into());
        }
        Ok(())
    }

    fn user_remove(&mut self, address: &str, purge: bool) -> Result<(), E> {
        if let Some(id) = removed_id(address) {
            let account = self.state.account(id).filter(|a| a.removed.is_some());
            let account = account.cloned().ok_or_else(|| E::NoSuchUser {
                address: address.into(),
            })?;
            if purge {
                self.purge = Some(account);
            }
            return Ok(());
        }
        let account = self.user(address)?;
        if self.is_internal(&account) {
            return Err(E::Internal {
                address: account.address.clone(),
            });
        }
        let keys = addresses(&self.state, Some(account.id))
            .remove(&account.id)
            .unwrap_or_default();
        for key in &keys {
            self.set(record::remove_name(key));
        }
        self.set(record::remove_password(account.id));
        let gone = Account {
            removed: Some(self.now),
            ..(*account).clone()
        };
        self.set(record::set_account(&gone));
        for (_, alias) in self.state.aliases.iter() {
            let dangling = alias
                .to
                .iter()
                .any(|to| key_of(&self.state, to).is_some_and(|key| keys.contains(&key)));
            if dangling || keys.contains(&alias.from) {
                let note = format!(
                    "the alias {} is still there: palomar alias remove {}",
                    alias.from, alias.from
                );
                self.notes.push(note);
            }
        }
        if purge {
            self.purge = Some(Arc::new(gone));
        } else {
            self.notes.push(format!(
                "its mail is kept; to delete it: palomar user remove '#{}' --purge",
                account.id
            ));
        }
        Ok(())
    }

    // Aliases.

    /// The key of an alias: an address of ours, or `@domain`.
    fn alias_key(&self, text: &str) -> Result<String, E> {
        let Some(domain) = text.trim().strip_prefix('@') else {
            return Ok(self.our_address(text)?.1);
        };
        let domain = self::domain(domain)?;
        match self.state.local_domain(&domain) {
            Some(real) => Ok(name::key("", real)),
            None => Err(E::NotOurDomain { domain }),
        }
    }

    fn alias_add(&mut self, from: &str, to: &[String]) -> Result<(), E> {
        let key = self.alias_key(from)?;
        let old = self.state.aliases.get(&key).cloned();
        let mut targets = old.map(|alias| alias.to.clone()).unwrap_or_default();
        let mut keys: Vec<Option<String>> =
            targets.iter().map(|to| key_of(&self.state, to)).collect();
        for text in to {
            let target = self.address(text)?;
            self.target_exists(&target)?;
            let target_key = key_of(&self.state, text);
            if !keys.contains(&target_key) {
                keys.push(target_key);
                targets.push(target.to_string());
            }
        }
        if targets.is_empty() {
            return Err(E::NoTargets {
                address: from.into(),
            });
        }
        if targets.len() > super::resolve::REACH_MAX {
            return Err(E::TooManyTargets {
                address: from.into(),
                max: super::resolve::REACH_MAX,
            });
        }
        self.set(record::set_alias(&Alias {
            from: key.clone(),
            to: targets.clone(),
        }));
        for target in to.iter().map(|to| self.address(to)) {
            self.no_circle(&target?, from)?;
        }
        if !key.starts_with('@') {
            self.no_circle(&self.address(from)?, from)?;
        }
        if self.state.names.get(&key).is_some() && !keys.contains(&Some(key)) {
            self.notes.push(format!(
                "{from} is an account: its mail goes to the alias only; to keep a copy: \
                 palomar alias add {from} {from}"
            ));
        }
        Ok(())
    }

    fn target_exists(&self, target: &Name) -> Result<(), E> {
        let address = target.to_string();
        if self.state.local_domain(target.domain()).is_none() {
            return Err(E::TargetOutside { address });
        }
        match self.state.resolve(target.mailbox()).local.is_empty() {
            true => Err(E::NoSuchTarget { address }),
            false => Ok(()),
        }
    }

    fn no_circle(&self, start: &Name, from: &str) -> Result<(), E> {
        use super::resolve::Why;
        let refused = self.state.resolve(start.mailbox()).refused;
        match refused
            .iter()
            .any(|r| matches!(r.why, Why::Loop | Why::TooMany))
        {
            true => Err(E::AliasLoop {
                address: from.into(),
            }),
            false => Ok(()),
        }
    }

    fn alias_remove(&mut self, from: &str, to: &[String]) -> Result<(), E> {
        let key = self.alias_key(from)?;
        let missing = || E::NoSuchAlias {
            address: from.into(),
        };
        let alias = self.state.aliases.get(&key).cloned().ok_or_else(missing)?;
        let mut targets = alias.to.clone();
        for text in to {
            let unwanted = key_of(&self.state, text);
            let before = targets.len();
            targets.retain(|t| {
                t != text && (unwanted.is_none() || key_of(&self.state, t) != unwanted)
            });
            if targets.len() == before {
                return Err(E::NoSuchTarget {
                    address: text.clone(),
                });
            }
        }
        if to.is_empty() || targets.is_empty() {
            self.set(record::remove_alias(&key));
        } else {
            self.set(record::set_alias(&Alias {
                from: key,
                to: targets,
            }));
        }
        Ok(())
    }
}

/// The key of an address in one of our domains.
fn key_of(state: &Snapshot, text: &str) -> Option<String> {
    let name = Name::parse(text).ok()?;
    let domain = state.local_domain(name.domain())?;
    Some(name::key(name.local(), domain))
}

fn domain(text: &str) -> Result<String, E> {
    name::domain_key(text)
        .filter(|key| key.contains('.'))
        .ok_or_else(|| E::NotADomain { text: text.into() })
}

fn has_password(kind: Kind) -> Result<(), E> {
    match kind {
        Kind::Person | Kind::Role => Ok(()),
        Kind::Shared | Kind::ForwardOnly => Err(E::NoPasswordForKind {
            kind: kind.to_string(),
        }),
    }
}

/// Empty is none.
fn short_text(field: &str, text: Option<&str>) -> Result<Option<String>, E> {
    match text {
        None | Some("") => Ok(None),
        Some(text) if text.len() <= TEXT_BYTES_MAX && !text.chars().any(char::is_control) => {
            Ok(Some(text.to_owned()))
        }
        Some(_) => Err(E::NotText {
            field: field.into(),
        }),
    }
}

/// The keys that name each account, or one account.
fn addresses(state: &Snapshot, only: Option<AccountId>) -> HashMap<AccountId, Vec<String>> {
    let mut map: HashMap<AccountId, Vec<String>> = HashMap::new();
    for (key, id) in state.names.iter() {
        if only.is_none_or(|only| only == *id) {
            map.entry(*id).or_default().push(key.clone());
        }
    }
    map
}

fn user_info(
    state: &Snapshot,
    account: &Account,
    names: &HashMap<AccountId, Vec<String>>,
) -> UserInfo {
    let primary = key_of(state, &account.address);
    let mut keys = names.get(&account.id).cloned().unwrap_or_default();
    keys.sort_by_key(|key| (Some(key) != primary.as_ref(), key.clone()));
    UserInfo {
        account: account.clone(),
        addresses: keys,
        allowed: account.allowed(),
        has_password: state.password(account.id).is_some(),
    }
}

/// The three listings, sorted.
fn listing(state: &Snapshot, command: &Command) -> Answer {
    match command {
        Command::AliasList => {
            let mut aliases: Vec<Alias> = state
                .aliases
                .iter()
                .map(|(_, alias)| (**alias).clone())
                .collect();
            aliases.sort_by(|a, b| a.from.cmp(&b.from));
            Answer::Aliases { aliases }
        }
        Command::UserList { removed } => {
            let names = addresses(state, None);
            let mut users: Vec<UserInfo> = state
                .accounts
                .iter()
                .filter(|(_, account)| *removed || account.removed.is_none())
                .map(|(_, account)| user_info(state, account, &names))
                .collect();
            users.sort_by(|a, b| a.account.address.cmp(&b.account.address));
            Answer::Users { users }
        }
        _ => {
            let mut domains: Vec<DomainInfo> = state
                .domains
                .iter()
                .map(|(name, domain)| DomainInfo {
                    name: name.clone(),
                    alias_of: domain.alias_of.clone(),
                    in_config: state.in_config(name),
                })
                .collect();
            for name in &state.site().domains {
                if state.domains.get(name).is_none() {
                    domains.push(DomainInfo {
                        name: name.clone(),
                        alias_of: None,
                        in_config: true,
                    });
                }
            }
            domains.sort_by(|a, b| a.name.cmp(&b.name));
            Answer::Domains { domains }
        }
    }
}
