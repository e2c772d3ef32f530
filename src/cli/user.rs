//! `palomar user`: accounts.

use std::path::PathBuf;

use clap::Subcommand;

use super::domain::done;
use super::error::{CliError, Unanswered};
use super::print::{out, out_json, out_table, when};
use super::{Site, admin, password, user_import};
use crate::base::ByteSize;
use crate::config::Config;
use crate::directory::{
    Answer, Class, Command, Entitlement, EntitlementChange, Entitlements, Kind, Limit, NewUser,
    UserChange, UserInfo,
};

#[derive(Debug, Subcommand)]
pub enum User {
    /// Add an account; it is in effect at once
    Add(Add),
    /// Add many accounts from a CSV file (address,password,quota) or a Dovecot passwd-file
    Import {
        /// Which of the two it is, is seen from its first line; - reads standard input
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List all accounts
    List {
        /// Also accounts that were removed and whose mail is still there
        #[arg(long)]
        removed: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one account
    Show {
        address: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Set a new password
    Passwd {
        address: String,
        /// Read the password from the first line of standard input; on a terminal it is asked for
        #[arg(long)]
        password_stdin: bool,
    },
    /// Give an account another address; its mail stays
    Rename {
        from: String,
        to: String,
        /// The old address goes on as a second one
        #[arg(long)]
        keep_old: bool,
    },
    /// Change quota, kind, class and what the account may do
    Set(Set),
    /// No log-in any more; mail still arrives
    Disable { address: String },
    /// Log-in again
    Enable { address: String },
    /// Remove an account; its mail stays until --purge
    Remove {
        /// An address, or '#ID' of an account that was removed without --purge
        address: String,
        /// Delete all its mail too; this cannot be undone
        #[arg(long)]
        purge: bool,
    },
}

#[derive(Debug, clap::Args)]
pub struct Add {
    address: String,
    /// Read the password from the first line of standard input; on a terminal it is asked for.
    /// Without it nobody can log in until `palomar user passwd`
    #[arg(long)]
    password_stdin: bool,
    /// Largest mailbox, such as 1GB [default: that of its class]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    quota: Option<ByteSize>,
    /// person, shared, role or forward-only
    #[arg(long, default_value_t)]
    kind: Kind,
    /// member, staff, student or guest
    #[arg(long, default_value_t)]
    class: Class,
    /// Language of notices, such as es
    #[arg(long)]
    language: Option<String>,
    /// Time zone of notices, such as Europe/Madrid
    #[arg(long)]
    timezone: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct Set {
    address: String,
    /// A size such as 1GB, unlimited, or class for that of its class
    #[arg(long, value_name = "SIZE", value_parser = limit)]
    quota: Option<Limit>,
    /// person, shared, role or forward-only
    #[arg(long)]
    kind: Option<Kind>,
    /// member, staff, student or guest
    #[arg(long)]
    class: Option<Class>,
    /// What it may do: a list such as imap,webmail; none; or class, for the defaults of its class
    #[arg(long, value_name = "LIST", value_parser = entitlements)]
    allow: Option<EntitlementChange>,
    /// Language of notices, empty for that of the site
    #[arg(long)]
    language: Option<String>,
    /// Time zone of notices, empty for that of the site
    #[arg(long)]
    timezone: Option<String>,
}

impl User {
    pub fn run(self, site: &Site) -> Result<(), CliError> {
        let config = site.config()?;
        let full = |address: &str| full_address(&config, address);
        match self {
            User::Add(add) => add.run(&config),
            User::Import { file, json } => user_import::run(&config, &file, json),
            User::List { removed, json } => {
                let users = users(&config, Command::UserList { removed })?;
                if json {
                    return out_json(&users);
                }
                let header = ["ADDRESS", "KIND", "CLASS", "QUOTA", "STATE", "CREATED"];
                out_table(&header, users.iter().map(row).collect())
            }
            User::Show { address, json } => {
                let users = users(
                    &config,
                    Command::UserShow {
                        address: full(&address),
                    },
                )?;
                if json {
                    return out_json(&users.first());
                }
                users.iter().try_for_each(|user| out(&page(user)))
            }
            User::Passwd {
                address,
                password_stdin,
            } => {
                if !password_stdin && !std::io::IsTerminal::is_terminal(&std::io::stdin()) {
                    return Err(CliError::PasswordMissing);
                }
                let (address, password) = (full(&address), password::read()?);
                let what = format!("{address} has a new password");
                done(
                    admin::directory(&config, Command::UserPasswd { address, password })?,
                    &what,
                )
            }
            User::Rename { from, to, keep_old } => {
                let (from, to) = (full(&from), full(&to));
                let what = format!("{from} is now {to}");
                done(
                    admin::directory(&config, Command::UserRename { from, to, keep_old })?,
                    &what,
                )
            }
            User::Set(set) => set.run(&config),
            User::Disable { address } => {
                let address = full(&address);
                let what = format!("{address} can log in no more; mail still arrives");
                done(
                    admin::directory(&config, Command::UserDisable { address })?,
                    &what,
                )
            }
            User::Enable { address } => {
                let address = full(&address);
                let what = format!("{address} can log in again");
                done(
                    admin::directory(&config, Command::UserEnable { address })?,
                    &what,
                )
            }
            User::Remove { address, purge } => {
                let address = if address.starts_with('#') {
                    address
                } else {
                    full(&address)
                };
                let what = match purge {
                    true => format!("removed {address} and all its mail"),
                    false => format!("removed {address}; its mail is kept until --purge"),
                };
                done(
                    admin::directory(&config, Command::UserRemove { address, purge })?,
                    &what,
                )
            }
        }
    }
}

impl Add {
    fn run(self, config: &Config) -> Result<(), CliError> {
        let password = match self.password_stdin {
            true => Some(password::read()?),
            false => None,
        };
        let address = full_address(config, &self.address);
        let mut what = format!("added {address}");
        if password.is_none() && self.kind == Kind::Person {
            what.push_str(&format!(
                "; nobody can log in yet: palomar user passwd {address} --password-stdin"
            ));
        }
        let user = NewUser {
            address,
            password,
            quota: self.quota,
            quota_messages: None,
            kind: self.kind,
            class: self.class,
            entitlements: None,
            language: self.language,
            timezone: self.timezone,
        };
        done(admin::directory(config, Command::UserAdd(user))?, &what)
    }
}

impl Set {
    fn run(self, config: &Config) -> Result<(), CliError> {
        let address = full_address(config, &self.address);
        let change = UserChange {
            quota: self.quota,
            quota_messages: None,
            kind: self.kind,
            class: self.class,
            entitlements: self.allow,
            language: self.language,
            timezone: self.timezone,
        };
        if change == UserChange::default() {
            return Err(CliError::Usage(
                "nothing to set; give --quota, --kind, --class, --allow, --language or --timezone",
            ));
        }
        let what = format!("changed {address}");
        done(
            admin::directory(config, Command::UserSet { address, change })?,
            &what,
        )
    }
}

/// A bare name is one of the first domain, as at log-in.
pub(super) fn full_address(config: &Config, name: &str) -> String {
    match config.domains.first() {
        Some(domain) if !name.contains('@') => format!("{name}@{domain}"),
        _ => name.to_owned(),
    }
}

fn users(config: &Config, command: Command) -> Result<Vec<UserInfo>, CliError> {
    match admin::directory(config, command)? {
        Answer::Users { users } => Ok(users),
        _ => Err(CliError::unanswered(
            config.admin_socket(),
            Unanswered::NotAnAnswer,
        )),
    }
}

fn state(user: &UserInfo) -> String {
    let account = &user.account;
    if account.removed.is_some() {
        return format!("removed (#{})", account.id);
    }
    let state = match (account.disabled, user.has_password, account.kind) {
        (true, ..) => "disabled",
        (false, false, Kind::Person) => "no password",
        _ => "active",
    };
    state.to_owned()
}

fn quota(user: &UserInfo) -> String {
    match user.account.quota {
        None => "of its class".to_owned(),
        Some(ByteSize(0)) => "unlimited".to_owned(),
        Some(quota) => quota.to_string(),
    }
}

fn row(user: &UserInfo) -> Vec<String> {
    let account = &user.account;
    vec![
        account.address.clone(),
        account.kind.to_string(),
        account.class.to_string(),
        quota(user),
        state(user),
        when(account.created),
    ]
}

fn page(user: &UserInfo) -> String {
    let account = &user.account;
    let allowed: Vec<String> = user.allowed.iter().map(|one| one.to_string()).collect();
    let site = || "that of the site".to_owned();
    let facts = [
        ("address", account.address.clone()),
        (
            "also",
            user.addresses.get(1..).unwrap_or_default().join(", "),
        ),
        ("id", account.id.to_string()),
        ("kind", account.kind.to_string()),
        ("class", account.class.to_string()),
        ("may use", allowed.join(", ")),
        ("quota", quota(user)),
        ("state", state(user)),
        ("created", when(account.created)),
        ("language", account.language.clone().unwrap_or_else(site)),
        ("time zone", account.timezone.clone().unwrap_or_else(site)),
    ];
    let lines = facts.iter().filter(|(_, fact)| !fact.is_empty());
    lines
        .map(|(name, fact)| format!("{name:<10} {}\n", super::print::shown(fact)))
        .collect()
}

pub(super) fn size(text: &str) -> Result<ByteSize, String> {
    text.parse::<ByteSize>()
        .map_err(|error| format!("{error}; write it as 1GB or 500MB"))
}

pub(super) fn limit(text: &str) -> Result<Limit, String> {
    match text {
        "unlimited" | "none" => Ok(Limit::Unlimited),
        "class" => Ok(Limit::OfClass),
        text => size(text).map(|size| Limit::Of(size.0)),
    }
}

fn entitlements(text: &str) -> Result<EntitlementChange, String> {
    match text {
        "class" => Ok(EntitlementChange::OfClass),
        "none" => Ok(EntitlementChange::Only(Entitlements::NONE)),
        list => {
            let each = list
                .split(',')
                .map(|word| word.trim().parse::<Entitlement>());
            let each: Result<Vec<Entitlement>, _> = each.collect();
            each.map(|list| EntitlementChange::Only(list.into()))
                .map_err(|error| error.to_string())
        }
    }
}
