//! Log-in on a real shard with a real pool; only the store is missing.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::{World, site};
use crate::base::{AccountId, Deadline, UnixMs};
use crate::directory::account::{Class, Entitlement, Kind};
use crate::directory::authenticate::{AuthError, Authenticator, Credentials, Service};
use crate::directory::command::{Command, NewUser};
use crate::directory::last_login::LastLogins;
use crate::directory::owner::{Directory, Owner};
use crate::directory::password::{self, PasswordHash, Secret};
use crate::directory::record;
use crate::runtime::{self, Gate, Pool};

/// "Hello world!", made with crypt(3).
const OLD: &str = "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5";
const PASSWORD: &str = "Hello world!";
const OUTSIDE: Service = Service::Submission { inside: false };

struct Site {
    world: World,
    directory: Directory,
    owner: Owner,
    auth: Authenticator,
    now: Instant,
}

impl Site {
    fn new() -> Site {
        let mut world = World::new();
        let add = |world: &mut World, address: &str, kind, class| {
            let user = NewUser {
                address: address.into(),
                kind,
                class,
                ..NewUser::default()
            };
            let hash = match kind {
                Kind::Person => vec![Ok(OLD.to_owned())],
                _ => vec![],
            };
            world.try_run(Command::UserAdd(user), hash).expect("added");
        };
        add(&mut world, "ana@example.org", Kind::Person, Class::Member);
        add(&mut world, "gus@example.org", Kind::Person, Class::Guest);
        add(&mut world, "all@example.org", Kind::Shared, Class::Member);
        let (directory, owner) = Directory::new(&site());
        directory.publish_for_test(world.state.clone());
        let gate = Gate::new();
        let logins = LastLogins::unwritten();
        let auth = Authenticator::new(directory.clone(), Pool::start(2, 64), logins, &gate);
        Site {
            world,
            directory,
            owner,
            auth,
            now: runtime::now(),
        }
    }

    async fn try_login(
        &self,
        login: &str,
        password: &str,
        service: Service,
        peer: &str,
    ) -> Result<AccountId, AuthError> {
        let credentials = Credentials {
            login: login.into(),
            password: Secret(password.into()),
        };
        let peer: IpAddr = peer.parse().expect("an address");
        let outcome = self.auth.authenticate(credentials, peer, service, self.now);
        outcome.await.map(|logged_in| logged_in.account.id)
    }

    async fn login(&self, login: &str, password: &str) -> Result<AccountId, AuthError> {
        self.try_login(login, password, Service::Imap, "192.0.2.1")
            .await
    }

    fn change(&mut self, command: Command) {
        self.world.run(command);
        self.directory.publish_for_test(self.world.state.clone());
    }
}

fn denied(units: u32) -> Result<AccountId, AuthError> {
    Err(AuthError::Denied {
        wait: site().failure_delay * units,
    })
}

fn on_a_shard<F: Future<Output = ()> + 'static>(test: impl FnOnce(Site) -> F + 'static) {
    runtime::block_on(async move { test(Site::new()).await }).expect("a shard");
}

#[test]
fn right_and_wrong_passwords() {
    on_a_shard(|site| async move {
        let ana = Ok(AccountId(2));
        assert_eq!(site.login("ana@example.org", PASSWORD).await, ana);
        assert_eq!(
            site.login("Ana", PASSWORD).await,
            ana,
            "bare: in the first domain"
        );
        assert_eq!(site.login("ana@b.example", PASSWORD).await, denied(1));
        assert_eq!(site.login("nobody@example.org", PASSWORD).await, denied(1));
        assert_eq!(
            site.login("all@example.org", PASSWORD).await,
            denied(1),
            "no password"
        );
        assert_eq!(site.login("ana@example.org", "").await, denied(1));
        // The same wrong password again counts once; another one counts.
        assert_eq!(site.login("ana@example.org", "").await, denied(1));
        assert_eq!(site.login("ana@example.org", "x").await, denied(2));
        assert_eq!(
            site.login("ana@example.org", &"x".repeat(5000)).await,
            denied(4)
        );
        // The right one starts afresh.
        assert_eq!(site.login("ana@example.org", PASSWORD).await, ana);
        assert_eq!(site.login("ana@example.org", "y").await, denied(1));
    });
}

#[test]
fn who_may_use_what() {
    on_a_shard(|mut site| async move {
        let gus = |service| site.try_login("gus", PASSWORD, service, "192.0.2.1");
        assert!(gus(Service::Imap).await.is_ok());
        assert!(gus(Service::Submission { inside: true }).await.is_ok());
        let missing = Entitlement::SmtpOutside;
        assert_eq!(gus(OUTSIDE).await, Err(AuthError::NotAllowed { missing }));
        let address = || "gus".to_owned();
        site.change(Command::UserDisable { address: address() });
        assert_eq!(site.login("gus", PASSWORD).await, Err(AuthError::Disabled));
        assert_eq!(
            site.login("gus", "wrong").await,
            denied(1),
            "says nothing to strangers"
        );
    });
}

#[test]
fn a_change_is_effective_at_once_also_for_the_cached() {
    on_a_shard(|mut site| async move {
        assert!(site.login("ana", PASSWORD).await.is_ok());
        assert_eq!(site.login("ana", "new").await, denied(1));
        let hash = password::hash_new("new");
        let changed = UnixMs(9);
        let change = record::set_password(AccountId(2), &PasswordHash { hash, changed });
        assert_eq!(site.world.state.apply(&change), Ok(true));
        site.directory.publish_for_test(site.world.state.clone());
        assert!(
            site.login("ana", "new").await.is_ok(),
            "was wrong a moment ago"
        );
        assert_eq!(
            site.login("ana", PASSWORD).await,
            denied(1),
            "was right a moment ago"
        );
        site.change(Command::UserRemove {
            address: "ana".into(),
            purge: false,
        });
        assert_eq!(site.login("ana", "new").await, denied(1));
    });
}

#[test]
fn an_old_hash_is_replaced_at_log_in() {
    on_a_shard(|mut site| async move {
        assert!(site.login("ana", PASSWORD).await.is_ok());
        let (account, was, hash) = site.owner.next_rehash().await;
        assert_eq!((account, was.as_str()), (AccountId(2), OLD));
        assert!(password::verify(PASSWORD, &hash) && !password::is_dated(&hash));
    });
}

#[test]
fn a_storm_of_one_password_is_one_check() {
    on_a_shard(|site| async move {
        // More at once than the pool's queue would hold: they wait for the first.
        let gate = Gate::new();
        let done = std::rc::Rc::new(std::cell::Cell::new(0));
        let site = std::rc::Rc::new(site);
        for _ in 0..500 {
            let (site, done) = (site.clone(), done.clone());
            let login = async move {
                assert!(site.login("ana", PASSWORD).await.is_ok());
                done.set(done.get() + 1);
            };
            assert!(runtime::spawn_in(&gate, "login", login));
        }
        let until = Deadline::after(runtime::now(), Duration::from_secs(30));
        let all = gate.close(until).await;
        assert!(all.is_ok(), "{} of 500", done.get());
        assert_eq!(done.get(), 500);
    });
}

#[test]
fn a_stranger_is_blocked_and_a_campus_is_not() {
    on_a_shard(|site| async move {
        let imap = Service::Imap;
        assert!(
            site.try_login("ana", PASSWORD, imap, "2001:db8:1:2::1")
                .await
                .is_ok()
        );
        // Cheap to refuse: too long to be looked at, and each one different.
        for n in 0..60 {
            for from in [format!("2001:db8:1:2::{n:x}"), "198.51.100.7".to_owned()] {
                let (user, password) = (format!("user{n}"), from.repeat(200));
                let outcome = site.try_login(&user, &password, imap, &from).await;
                assert!(outcome.is_err());
            }
        }
        let blocked = site.try_login("ana", PASSWORD, imap, "198.51.100.7").await;
        assert!(
            matches!(blocked, Err(AuthError::Blocked { .. })),
            "{blocked:?}"
        );
        assert!(
            site.try_login("ana", PASSWORD, imap, "2001:db8:1:2::9")
                .await
                .is_ok()
        );
    });
}
