//! Keys from their making to their end, on a directory whose store is memory.

use std::sync::OnceLock;

use data_encoding::BASE64;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa;
use aws_lc_rs::signature::Ed25519KeyPair;

use super::plan::{NewKey, generate, read};
use super::*;
use crate::base::UnixMs;
use crate::directory::command::{Answer, Command};
use crate::directory::error::DirectoryError as E;
use crate::directory::password::Secret;
use crate::directory::plan;
use crate::directory::snapshot::{Quotas, Site, Snapshot};
use crate::policy::dkim::{Algorithm, BodyHash, Times};
use crate::store::ValueChange;

const DAY_MS: i64 = 86_400_000;
const START: UnixMs = UnixMs(1_790_000_000_000);
const BOTH: [Algorithm; 2] = [Algorithm::Rsa, Algorithm::Ed25519];

struct World {
    state: Snapshot,
    now: UnixMs,
    stored: Vec<ValueChange>,
}

fn site(domains: &[&str]) -> Site {
    Site {
        domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
        postmaster: None,
        failure_delay: std::time::Duration::ZERO,
        partitions: 256,
        quotas: Quotas::default(),
    }
}

impl World {
    fn new() -> World {
        World {
            state: Snapshot::new(&site(&["example.org", "b.example"])),
            now: START,
            stored: Vec::new(),
        }
    }

    fn try_run(&mut self, command: DkimCommand) -> Result<Answer, E> {
        let made = match &command {
            DkimCommand::Make { algorithms, .. } => algorithms.iter().map(|a| key(*a)).collect(),
            DkimCommand::Import { key, .. } => {
                vec![read(key).map_err(|why| E::Dkim { why })?]
            }
            _ => Vec::new(),
        };
        let command = Command::Dkim(command);
        let planned = plan::plan(&self.state, 0, self.now, &command, Vec::new(), made)?;
        for change in planned.changes {
            assert_eq!(self.state.apply(&change), Ok(true));
            self.stored.push(change);
        }
        Ok(planned.answer)
    }

    #[track_caller]
    fn run(&mut self, command: DkimCommand) -> Vec<(String, KeyState)> {
        match self.try_run(command) {
            Ok(Answer::DkimKeys { keys }) => keys
                .into_iter()
                .map(|key| (key.selector, key.state))
                .collect(),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn refuse(&mut self, command: DkimCommand) -> DkimError {
        match self.try_run(command) {
            Err(E::Dkim { why }) => {
                assert!(why.to_string().len() > 20, "a text with a remedy");
                why
            }
            other => panic!("{other:?}"),
        }
    }

    /// Selectors that sign for a domain, the topmost first.
    fn signing(&self, domain: &str) -> Vec<String> {
        let times = Times {
            now: self.now,
            lifetime: None,
        };
        let body = BodyHash::default().finish();
        let fields = self.state.sign(domain, b"From: a\r\n", &body, times);
        let text = String::from_utf8(fields).unwrap();
        let selector = |part: &str| part.split(';').next().unwrap().to_owned();
        text.split(" s=").skip(1).map(selector).collect()
    }
}

/// A pair; RSA is drawn once for all tests.
fn key(algorithm: Algorithm) -> NewKey {
    static RSA: OnceLock<NewKey> = OnceLock::new();
    match algorithm {
        Algorithm::Rsa => RSA
            .get_or_init(|| generate(algorithm, 2048).unwrap())
            .clone(),
        Algorithm::Ed25519 => generate(algorithm, 2048).unwrap(),
    }
}

fn make(domain: &str, algorithms: &[Algorithm], selector: Option<&str>) -> DkimCommand {
    DkimCommand::Make {
        domain: domain.into(),
        algorithms: algorithms.into(),
        selector: selector.map(str::to_owned),
        rsa_bits: 2048,
    }
}

fn activate(selectors: &[&str]) -> DkimCommand {
    DkimCommand::Activate {
        domain: "Example.org".into(),
        selectors: selectors
            .iter()
            .map(|selector| (*selector).to_owned())
            .collect(),
    }
}

fn retire(selector: &str) -> DkimCommand {
    DkimCommand::Retire {
        domain: "example.org".into(),
        selector: selector.into(),
    }
}

fn remove(selector: &str, force: bool) -> DkimCommand {
    DkimCommand::Remove {
        domain: "example.org".into(),
        selector: selector.into(),
        force,
    }
}

fn states(pairs: &[(&str, KeyState)]) -> Vec<(String, KeyState)> {
    pairs
        .iter()
        .map(|(selector, state)| ((*selector).to_owned(), *state))
        .collect()
}

use KeyState::{Active, New, Retired};

#[test]
fn a_pair_lives_from_new_to_removed() {
    let mut world = World::new();
    let made = world.run(make("Example.ORG", &BOTH, None));
    assert_eq!(made, states(&[("r20260921", New), ("e20260921", New)]));
    assert!(
        world.signing("example.org").is_empty(),
        "nothing signs before it is active"
    );
    let why = world.refuse(make("example.org", &BOTH, None));
    assert!(matches!(why, DkimError::StillNew { .. }));

    let done = world.run(activate(&[]));
    assert_eq!(
        done,
        states(&[("e20260921", Active), ("r20260921", Active)])
    );
    assert_eq!(world.signing("example.org"), ["r20260921", "e20260921"]);
    assert_eq!(world.signing("EXAMPLE.org"), ["r20260921", "e20260921"]);
    assert_eq!(world.signing("a.b.example.org").len(), 2);
    assert!(world.signing("b.example").is_empty() && world.signing("org").is_empty());

    // The next pair takes its place, and the old one is kept for a week.
    let made = world.run(make("example.org", &BOTH, None));
    assert_eq!(made, states(&[("r20260921-2", New), ("e20260921-2", New)]));
    let done = world.run(activate(&["R20260921-2", "e20260921-2"]));
    assert_eq!(
        done.iter().filter(|(_, state)| *state == Retired).count(),
        2
    );
    assert_eq!(world.signing("example.org"), ["r20260921-2", "e20260921-2"]);
    let why = world.refuse(remove("r20260921", false));
    assert_eq!(
        why,
        DkimError::StillNeeded {
            selector: "r20260921".into(),
            days: 7
        }
    );
    world.now = UnixMs(START.0 + 7 * DAY_MS + 1);
    world.run(remove("r20260921", false));
    world.run(remove("e20260921", false));
    assert!(matches!(
        world.refuse(remove("r20260921", true)),
        DkimError::NoSuchKey { .. }
    ));
    let gone: Vec<_> = world
        .stored
        .iter()
        .filter(|change| change.value.is_none())
        .collect();
    assert_eq!(gone.len(), 4, "public and private halves");
}

#[test]
fn what_still_signs_is_removed_by_force_only() {
    let mut world = World::new();
    world.run(make("example.org", &[Algorithm::Ed25519], Some("Mail.One")));
    assert!(matches!(
        world.refuse(retire("mail.one")),
        DkimError::NotActive { .. }
    ));
    world.run(activate(&["mail.one"]));
    assert!(matches!(
        world.refuse(remove("mail.one", false)),
        DkimError::StillActive { .. }
    ));
    assert_eq!(
        world.run(retire("mail.one")),
        states(&[("mail.one", Retired)])
    );
    assert!(world.signing("example.org").is_empty());
    // Back again, as after a rotation that went wrong.
    world.run(activate(&["mail.one"]));
    assert_eq!(world.signing("example.org"), ["mail.one"]);
    world.run(remove("mail.one", true));
    assert!(world.signing("example.org").is_empty());
    // What was never active can go at any time.
    world.run(make("example.org", &[Algorithm::Ed25519], None));
    world.run(remove("e20260921", false));
}

#[test]
fn what_cannot_be_made_is_refused() {
    let mut world = World::new();
    let one = [Algorithm::Ed25519];
    let why = world.refuse(make("example.org", &one, Some("a_b")));
    assert!(matches!(why, DkimError::NotASelector { .. }));
    assert_eq!(
        world.refuse(make("example.org", &BOTH, Some("s"))),
        DkimError::OneSelector
    );
    assert_eq!(
        world.refuse(activate(&[])),
        DkimError::NothingNew {
            domain: "example.org".into()
        }
    );
    assert!(matches!(
        world.refuse(activate(&["x"])),
        DkimError::NoSuchKey { .. }
    ));
    world.run(make("example.org", &one, Some("s")));
    world.run(activate(&[]));
    let why = world.refuse(make("example.org", &one, Some("S")));
    assert!(matches!(why, DkimError::SelectorTaken { .. }));
    let mut odd = make("example.org", &[Algorithm::Rsa], None);
    if let DkimCommand::Make { rsa_bits, .. } = &mut odd {
        *rsa_bits = 1024;
    }
    assert_eq!(world.refuse(odd), DkimError::NotASize { bits: 1024 });
    assert!(generate(Algorithm::Rsa, 1024).is_err());
    let elsewhere = world.try_run(make("other.example", &one, None));
    assert!(
        matches!(elsewhere, Err(E::NotOurDomain { .. })),
        "{elsewhere:?}"
    );
    for n in 0..20 {
        let made = world.try_run(make("example.org", &one, Some(&format!("k{n}"))));
        match made {
            Ok(_) => drop(world.run(activate(&[]))),
            Err(E::Dkim {
                why: DkimError::TooManyKeys { max, .. },
            }) => {
                assert_eq!(n + 1, max);
                return;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    panic!("keys without end");
}

#[test]
fn a_start_finds_the_keys_in_any_order_of_values() {
    let mut world = World::new();
    world.run(make("example.org", &BOTH, None));
    world.run(activate(&[]));
    let want = world.signing("example.org");
    for backwards in [false, true] {
        let mut state = Snapshot::new(&site(&["example.org"]));
        let mut values = world.stored.clone();
        if backwards {
            // A start sees the last value of each key, in no order.
            values.retain(|v| v.namespace == DKIM_PRIVATE);
            values.extend(world.stored.iter().skip(4).cloned());
            values.reverse();
        }
        for value in &values {
            assert_eq!(state.apply(value), Ok(true));
        }
        let again = World {
            state,
            now: START,
            stored: Vec::new(),
        };
        assert_eq!(again.signing("example.org"), want);
    }
}

#[test]
fn keys_of_a_domain_that_is_not_ours_sign_nothing() {
    let mut world = World::new();
    world.run(make("b.example", &[Algorithm::Ed25519], Some("s")));
    world.run(DkimCommand::Activate {
        domain: "b.example".into(),
        selectors: Vec::new(),
    });
    assert_eq!(world.signing("b.example"), ["s"]);
    world.state.set_site(&site(&["example.org"]));
    assert!(world.signing("b.example").is_empty());
    // They are still seen, and can be removed.
    let all = world.run(DkimCommand::List {
        domain: Some("b.example".into()),
    });
    assert_eq!(all, states(&[("s", Active)]));
}

#[test]
fn values_that_cannot_be_read_are_left_out() {
    let mut world = World::new();
    let mut check = |namespace: &str, key: &str, value: &[u8]| {
        let change = ValueChange {
            account: None,
            namespace: namespace.into(),
            key: key.into(),
            value: Some(value.into()),
        };
        assert!(world.state.apply(&change).is_err(), "{namespace}");
    };
    check(DKIM, "example.org/s", b"{}");
    check(
        DKIM_PRIVATE,
        "example.org/s",
        br#"{"algorithm":"rsa-sha256","pkcs8":"AAAA"}"#,
    );
    check(
        DKIM_PRIVATE,
        "example.org/s",
        br#"{"algorithm":"rsa-sha1","pkcs8":""}"#,
    );
    check(SECRET, SRS, BASE64.encode(b"short").as_bytes());
    check(SECRET, SRS, b"!");
    assert!(world.state.srs().is_none());
    let secret = set_srs_secret(&[7; SRS_SECRET_BYTES]);
    assert_eq!(world.state.apply(&secret), Ok(true));
    assert!(world.state.srs().is_some());
}

#[test]
fn a_header_is_signed_on_request() {
    let mut world = World::new();
    let sign = |head: &str, body: &[u8]| DkimCommand::Sign {
        from_domain: "sub.example.org".into(),
        head: BASE64.encode(head.as_bytes()),
        body: BASE64.encode(body),
        lifetime: None,
    };
    let signed = |world: &mut World, command| match world.try_run(command) {
        Ok(Answer::Signed { fields }) => fields,
        other => panic!("{other:?}"),
    };
    let body = BodyHash::default().finish();
    assert_eq!(signed(&mut world, sign("From: a\r\n", &body.0)), "");
    world.run(make("example.org", &[Algorithm::Ed25519], Some("s")));
    world.run(activate(&[]));
    let fields = signed(&mut world, sign("From: a\r\n", &body.0));
    assert!(
        fields.starts_with("DKIM-Signature: v=1; a=ed25519-sha256;"),
        "{fields}"
    );
    assert_eq!(
        world.refuse(sign("From: a\r\n", b"short")),
        DkimError::NotAHeader
    );
}

#[test]
fn a_key_of_another_server_is_taken_over() {
    let mut world = World::new();
    let import = |selector: &str, der: &[u8]| DkimCommand::Import {
        domain: "example.org".into(),
        selector: selector.into(),
        key: Secret(BASE64.encode(der)),
    };
    let pair = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
    let pkcs8: Pkcs8V1Der = pair.as_der().unwrap();
    let ed25519 = Ed25519KeyPair::generate().unwrap();
    let keys = [
        pkcs8.as_ref().to_vec(),
        ed25519.to_pkcs8v1().unwrap().as_ref().to_vec(),
    ];
    for (selector, der) in ["one", "two"].into_iter().zip(keys) {
        assert_eq!(
            world.run(import(selector, &der)),
            states(&[(selector, New)])
        );
    }
    world.run(activate(&[]));
    assert_eq!(world.signing("example.org"), ["one", "two"]);
    assert_eq!(world.refuse(import("three", b"no key")), DkimError::NotAKey);
    assert_eq!(world.refuse(import("three", b"")), DkimError::NotAKey);
    let shown = format!("{:?}", import("three", b"secret"));
    assert!(!shown.contains(&BASE64.encode(b"secret")), "{shown}");
}
