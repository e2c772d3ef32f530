//! Puts the demo's users and mail in, through the doors that everybody uses: the admin socket,
//! SMTP and IMAP. What is in already is left alone.

use jiff::{Timestamp, Zoned, tz::TimeZone};

use super::DemoError;
use super::client::{Imap, Smtp, TalkError};
use super::home::{Home, User};
use super::letters::{self, Letter, Way};
use crate::cli::admin;
use crate::cli::error::CliError;
use crate::config::{Config, Protocol};
use crate::directory::{Answer, Command, NewUser, Secret};

/// Blocks until the server has taken everything.
pub fn sow(mut home: Home) -> Result<Home, CliError> {
    let config = home.config()?;
    let users = home.memory.users.clone();
    add_users(&config, &users)?;
    let now = Timestamp::now().to_zoned(TimeZone::UTC);
    let letters = letters::all(&now);
    for letter in letters.iter().skip(home.memory.letters) {
        deliver(&home, letter, &now).map_err(|error| {
            CliError::Demo(DemoError::Talk {
                doing: "the demo's mail",
                error,
            })
        })?;
        // One at a time: a start that is broken off neither loses a letter nor doubles many.
        home.memory.letters += 1;
        home.remember()?;
    }
    Ok(home)
}

/// Those that are missing.
pub fn add_users(config: &Config, users: &[User]) -> Result<(), CliError> {
    let listed = match admin::directory(config, Command::UserList { removed: false })? {
        Answer::Users { users } => users,
        _ => Vec::new(),
    };
    for user in users {
        if listed.iter().any(|one| one.account.address == user.address) {
            continue;
        }
        let new = NewUser {
            address: user.address.clone(),
            password: Some(Secret(user.password.clone())),
            ..NewUser::default()
        };
        admin::directory(config, Command::UserAdd(new))?;
    }
    Ok(())
}

fn deliver(home: &Home, letter: &Letter, now: &Zoned) -> Result<(), TalkError> {
    let missing = |name: &str| TalkError::Refused(format!("the demo has no user {name}"));
    match letter.way {
        Way::FromOutside { from } => {
            let mut smtp = Smtp::connect(home.ports.of(Protocol::Smtp))?;
            smtp.send(from, letter.to, letter.raw.as_bytes())?;
        }
        Way::FromUser { name } => {
            let user = home.user(name).ok_or_else(|| missing(name))?;
            let mut smtp = Smtp::connect(home.ports.of(Protocol::Submission))?;
            smtp.login(user)?;
            smtp.send(&user.address, letter.to, letter.raw.as_bytes())?;
        }
        Way::Kept {
            name,
            mailbox,
            flags,
        } => {
            let user = home.user(name).ok_or_else(|| missing(name))?;
            let mut imap = Imap::connect(home.ports.of(Protocol::Imap))?;
            imap.login(user)?;
            let date = letters::hours_before(now, letter.hours_ago);
            let date = date.strftime("%d-%b-%Y %H:%M:%S %z").to_string();
            imap.append(mailbox, flags, &date, letter.raw.as_bytes())?;
        }
    }
    Ok(())
}
