//! Becoming somebody else after the ports are open.
//!
//! Linux has user ids by thread, and a thread inherits those of the one that starts it. A server
//! has one thread when it drops its privileges; a second one would keep root, so it is refused.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Gid, Uid};

/// Why the process still is who it was. It must not go on then.
#[derive(Debug)]
pub enum PrivilegeError {
    /// /etc/passwd has no such user.
    UnknownUser { user: String },
    /// The process is neither root nor that user.
    NotRoot { user: String },
    /// It is too late: there is more than one thread.
    Threads { threads: usize },
    /// The data directory was made by somebody else.
    NotTheirs { user: String, directory: PathBuf },
    /// What this user makes there would stop the server's next start.
    NotOwner { directory: PathBuf, uid: u32 },
    /// What was made as root cannot be given away.
    File { path: PathBuf, error: io::Error },
    /// A file that must be read, or a system call, failed.
    System {
        what: &'static str,
        error: io::Error,
    },
    /// The kernel would let us be root again.
    StillRoot,
}

#[derive(Debug, PartialEq, Eq)]
struct Account {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

/// Becomes `user` (a name or number of /etc/passwd) with its group and supplementary groups, for
/// good. Nothing happens where the process is that user already.
pub fn drop_privileges(user: &str) -> Result<(), PrivilegeError> {
    let account = known(user)?;
    let own = rustix::process::geteuid();
    if own.as_raw() == account.uid {
        return Ok(());
    }
    if !own.is_root() {
        return Err(PrivilegeError::NotRoot {
            user: user.to_owned(),
        });
    }
    let threads = fs::read_dir("/proc/self/task")
        .map_err(|error| PrivilegeError::System {
            what: "/proc/self/task",
            error,
        })?
        .count();
    if threads != 1 {
        return Err(PrivilegeError::Threads { threads });
    }
    become_account(&account)
}

/// Gives `user` what root `made` in `directory` on the user's behalf; all of it must be the user's
/// then. Nothing happens where the process is not root.
pub fn hand_over(user: &str, directory: &Path, made: &[PathBuf]) -> Result<(), PrivilegeError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let account = known(user)?;
    for path in made {
        lchown(path, Some(account.uid), Some(account.gid)).map_err(failed_file(path))?;
    }
    let owner = fs::metadata(directory).map_err(failed_file(directory))?;
    if owner.uid() == account.uid {
        return Ok(());
    }
    Err(PrivilegeError::NotTheirs {
        user: user.to_owned(),
        directory: directory.to_owned(),
    })
}

/// Makes root's calling thread, and those that it starts, the owner of `directory`: so that what
/// root does there on a stopped server can be read by the server. Other threads stay who they are;
/// who is neither root nor the owner is refused.
pub fn become_owner(directory: &Path) -> Result<(), PrivilegeError> {
    let owner = fs::metadata(directory).map_err(failed_file(directory))?;
    let own = rustix::process::geteuid();
    if own.as_raw() == owner.uid() {
        return Ok(());
    }
    if !own.is_root() {
        return Err(PrivilegeError::NotOwner {
            directory: directory.to_owned(),
            uid: owner.uid(),
        });
    }
    become_account(&known(&owner.uid().to_string()).unwrap_or(Account {
        uid: owner.uid(),
        gid: owner.gid(),
        groups: vec![owner.gid()],
    }))
}

/// The name that a user logs in with, and what he is called: by /etc/passwd, else by what this host
/// asks beside it (LDAP, NIS), through its `getent`. Blocks, for some seconds at most.
#[must_use]
pub fn user_names(uid: u32) -> Option<(String, String)> {
    let here = read("/etc/passwd").ok();
    here.and_then(|passwd| names(uid, &passwd))
        .or_else(|| names(uid, &asked(uid)?))
}

/// A directory that does not answer must not keep the thread.
fn asked(uid: u32) -> Option<String> {
    let words = ["--kill-after=1", "5", "getent", "passwd", &uid.to_string()];
    let done = Command::new("timeout")
        .args(words)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    String::from_utf8(done.stdout).ok()
}

fn names(uid: u32, passwd: &str) -> Option<(String, String)> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (login, number) = (fields.next()?, fields.nth(1)?);
        // The rest of that field is rooms and telephones.
        let name = fields.nth(1)?.split(',').next().unwrap_or_default();
        let is_his = number.parse() == Ok(uid) && !login.is_empty();
        is_his.then(|| (login.to_owned(), name.replace('&', login)))
    })
}

fn failed_file(path: &Path) -> impl Fn(io::Error) -> PrivilegeError {
    let path = path.to_owned();
    move |error| PrivilegeError::File {
        path: path.clone(),
        error,
    }
}

fn known(user: &str) -> Result<Account, PrivilegeError> {
    let passwd = read("/etc/passwd")?;
    let group = read("/etc/group")?;
    account(user, &passwd, &group).ok_or_else(|| PrivilegeError::UnknownUser {
        user: user.to_owned(),
    })
}

fn become_account(account: &Account) -> Result<(), PrivilegeError> {
    let failed = |what| {
        move |errno: rustix::io::Errno| PrivilegeError::System {
            what,
            error: errno.into(),
        }
    };
    let groups: Vec<_> = account
        .groups
        .iter()
        .map(|gid| Gid::from_raw(*gid))
        .collect();
    let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
    // Groups first, user last: the right to do so goes with the user.
    rustix::thread::set_thread_groups(&groups).map_err(failed("setgroups"))?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(failed("setresgid"))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(failed("setresuid"))?;
    if account.uid != 0 && rustix::thread::set_thread_uid(Uid::ROOT).is_ok() {
        return Err(PrivilegeError::StillRoot);
    }
    Ok(())
}

fn read(path: &'static str) -> Result<String, PrivilegeError> {
    fs::read_to_string(path).map_err(|error| PrivilegeError::System { what: path, error })
}

/// passwd(5) and group(5).
fn account(user: &str, passwd: &str, group: &str) -> Option<Account> {
    let (name, uid, gid) = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, uid, gid) = (
            fields.next()?,
            fields.next()?,
            fields.next()?,
            fields.next()?,
        );
        (name == user || uid == user).then_some((name, uid.parse().ok()?, gid.parse().ok()?))
    })?;
    let groups = group.lines().filter_map(|line| {
        let mut fields = line.split(':').skip(2);
        let (gid, members) = (fields.next()?, fields.next()?);
        members
            .split(',')
            .any(|member| member == name)
            .then(|| gid.parse().ok())?
    });
    let groups = groups.chain([gid]).collect();
    Some(Account { uid, gid, groups })
}

impl fmt::Display for PrivilegeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PrivilegeError::UnknownUser { user } => write!(
                f,
                "user {user}: not in /etc/passwd; \
                 `adduser --system --group --no-create-home {user}` makes it"
            ),
            PrivilegeError::NotRoot { user } => {
                write!(
                    f,
                    "user {user}: only root can become it; start as root or as {user}"
                )
            }
            PrivilegeError::Threads { threads } => {
                write!(
                    f,
                    "privileges are dropped too late: there are {threads} threads"
                )
            }
            PrivilegeError::NotTheirs { user, directory } => write!(
                f,
                "{}: belongs to somebody else than `user`; `chown -R {user}: {0}` gives it away",
                directory.display()
            ),
            PrivilegeError::NotOwner { directory, uid } => write!(
                f,
                "{} belongs to the user {uid}; run the command as root or as that one: \
                 sudo -u '#{uid}' palomar ...",
                directory.display()
            ),
            PrivilegeError::File { path, error } => write!(f, "{}: {error}", path.display()),
            PrivilegeError::System { what, error } => write!(f, "{what}: {error}"),
            PrivilegeError::StillRoot => f.write_str("the process could still become root"),
        }
    }
}

impl std::error::Error for PrivilegeError {}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\npalomar:x:990:980::/:/bin/false\n";
    const GROUP: &str = "root:x:0:\nssl-cert:x:110:postgres,palomar\npalomar:x:980:\n";

    #[test]
    fn accounts_by_name_and_number() {
        let palomar = Account {
            uid: 990,
            gid: 980,
            groups: vec![110, 980],
        };
        assert_eq!(account("palomar", PASSWD, GROUP).as_ref(), Some(&palomar));
        assert_eq!(account("990", PASSWD, GROUP).as_ref(), Some(&palomar));
        assert_eq!(account("palo", PASSWD, GROUP), None);
        assert_eq!(account("broken", PASSWD, GROUP), None);
    }

    #[test]
    fn names_of_users() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\n\
                      ana:x:1001:1001:Ana Pérez,Room 3,,:/home/ana:/bin/sh\n\
                      bob:x:1002:1002:&:/home/bob:\n:x:7:7:nobody::\n";
        let check = |uid: u32, want: Option<(&str, &str)>| {
            let got = names(uid, passwd);
            let got = got.as_ref().map(|(login, name)| (&login[..], &name[..]));
            assert_eq!(got, want, "{uid}");
        };
        check(0, Some(("root", "root")));
        check(1001, Some(("ana", "Ana Pérez")));
        check(1002, Some(("bob", "bob")));
        check(7, None);
        check(8, None);
    }

    #[test]
    fn a_thread_that_became_somebody_stays_so() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        // Ids belong to the thread, so this one can lose its own.
        let lost = std::thread::spawn(|| {
            become_account(&Account {
                uid: 990,
                gid: 980,
                groups: vec![980],
            })
            .expect("become");
            let ids = (
                rustix::process::geteuid().as_raw(),
                rustix::process::getegid().as_raw(),
            );
            (ids, fs::read("/etc/shadow").is_err())
        });
        assert_eq!(lost.join().expect("no panic"), ((990, 980), true));
        assert!(rustix::process::geteuid().is_root());
    }

    #[test]
    fn root_works_as_the_owner() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let (inside, path) = (folder.path().join("new"), folder.path().to_owned());
        let error = hand_over("nobody", &path, &[]).expect_err("root's");
        assert!(error.to_string().contains("chown -R nobody:"), "{error}");
        hand_over("nobody", &path, std::slice::from_ref(&path)).expect("handed over");
        let made = inside.clone();
        std::thread::spawn(move || {
            become_owner(&path).expect("become");
            fs::write(made, "").expect("written");
        })
        .join()
        .expect("no panic");
        let owner = |path: &Path| fs::metadata(path).expect("there").uid();
        assert_eq!(owner(&inside), owner(folder.path()));
        assert!(owner(&inside) != 0 && rustix::process::geteuid().is_root());
    }

    #[test]
    fn unknown_users_and_late_calls_are_refused() {
        let error = drop_privileges("no such user").expect_err("unknown");
        assert!(error.to_string().contains("adduser"), "{error}");
    }
}
