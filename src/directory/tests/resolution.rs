//! The order of resolution (docs/DIRECTORY.md), and that nothing makes it run away.

use proptest::prelude::*;

use super::{World, site};
use crate::base::AccountId;
use crate::directory::account::{Account, Alias, Kind};
use crate::directory::record;
use crate::directory::resolve::{DEPTH_MAX, REACH_MAX};
use crate::directory::snapshot::{Site, Snapshot};
use crate::directory::{Command, NewUser, Resolution, Why};
use crate::wire::address::Mailbox;

fn resolve(state: &Snapshot, address: &str) -> Resolution {
    state.resolve(&Mailbox::parse(address).expect("an address"))
}

/// `want`: `account` or `account+detail` for each copy, then `!Why` for each refusal.
#[track_caller]
fn check(world: &World, address: &str, want: &[&str]) {
    let resolution = resolve(&world.state, address);
    let mut got: Vec<String> = resolution
        .local
        .iter()
        .map(|r| {
            assert_eq!(r.original, address);
            match &r.detail {
                Some(detail) => format!("{}+{detail}", r.account.address),
                None => r.account.address.clone(),
            }
        })
        .collect();
    got.extend(resolution.outside.iter().map(|to| format!(">{to}")));
    got.extend(resolution.refused.iter().map(|r| format!("!{:?}", r.why)));
    assert_eq!(got, want, "{address}");
}

#[test]
fn the_order_of_resolution() {
    let mut world = World::new();
    for user in [
        "ana@example.org",
        "bo@example.org",
        "ana@b.example",
        "all@b.example",
    ] {
        world.user(user);
    }
    world.run(Command::DomainAdd {
        name: "short.example".into(),
        alias_of: Some("example.org".into()),
    });
    world.alias("ana+shop@example.org", &["bo@example.org"]);
    world.alias("team@example.org", &["ana@example.org", "bo@example.org"]);
    world.alias("both@example.org", &["team@example.org", "ana@example.org"]);
    world.alias("filed@example.org", &["ana+inbox@example.org"]);
    world.alias("@b.example", &["all@b.example"]);
    world.alias("bo@b.example", &["bo@example.org"]);

    // Exact, in any spelling.
    check(&world, "ana@example.org", &["ana@example.org"]);
    check(&world, "ANA@EXAMPLE.ORG", &["ana@example.org"]);
    // The domain's real name comes first.
    check(&world, "ana@short.example", &["ana@example.org"]);
    check(
        &world,
        "Team@Short.Example",
        &["ana@example.org", "bo@example.org"],
    );
    // Exact goes before +detail, which goes before the catch-all.
    check(&world, "ana+shop@example.org", &["bo@example.org"]);
    check(&world, "ana+Lists@example.org", &["ana@example.org+Lists"]);
    check(&world, "ana+a+b@example.org", &["ana@example.org+a+b"]);
    check(&world, "bo+x@b.example", &["bo@example.org+x"]);
    check(&world, "ana+x@b.example", &["ana@b.example+x"]);
    check(&world, "nobody@b.example", &["all@b.example"]);
    check(&world, "nobody+x@b.example", &["all@b.example+x"]);
    // One copy each; detail survives aliases that have none of their own.
    check(
        &world,
        "both@example.org",
        &["ana@example.org", "bo@example.org"],
    );
    check(
        &world,
        "team+x@example.org",
        &["ana@example.org+x", "bo@example.org+x"],
    );
    check(&world, "filed+x@example.org", &["ana@example.org+inbox"]);
    // Nobody.
    check(&world, "nobody@example.org", &["!NoSuchUser"]);
    check(&world, "+x@example.org", &["!NoSuchUser"]);
    check(&world, "ana@elsewhere.example", &["!NotLocal"]);
    check(&world, "ana@[192.0.2.1]", &["!NotLocal"]);
}

#[test]
fn spellings_of_one_address() {
    let mut world = World::of(&Site {
        domains: vec!["bücher.example".into()],
        ..site()
    });
    world.user("jos\u{e9}@b\u{fc}cher.example");
    let account = "jos\u{e9}@b\u{fc}cher.example";
    check(&world, "JOSE\u{301}@xn--bcher-kva.example", &[account]);
    check(
        &world,
        "Jos\u{c9}+X@B\u{dc}CHER.example",
        &[&format!("{account}+X")],
    );
}

#[test]
fn postmaster_and_abuse_are_there_from_the_start() {
    let mut world = World::new();
    let kept = "postmaster@example.org";
    for address in [
        "postmaster@example.org",
        "Postmaster@b.example",
        "abuse@example.org",
    ] {
        check(&world, address, &[kept]);
    }
    check(&world, "abuse+x@b.example", &["postmaster@example.org+x"]);
    assert_eq!(
        world.state.resolve_postmaster().local[0].account.address,
        kept
    );
    assert_eq!(
        world.state.login("postmaster").map(|a| a.address.as_str()),
        Some(kept)
    );

    // A catch-all does not take them; the config does, once its address is somebody.
    world.user("ana@example.org");
    world.alias("@b.example", &["ana@example.org"]);
    check(&world, "abuse@b.example", &[kept]);
    let mut named = site();
    named.postmaster = Some("pia@example.org".into());
    world.state.set_site(&named);
    check(&world, "abuse@example.org", &[kept]);
    world.user("pia@example.org");
    check(&world, "abuse@example.org", &["pia@example.org"]);
    assert_eq!(
        world.state.resolve_postmaster().local[0].account.address,
        "pia@example.org"
    );
    // A postmaster that is postmaster@ itself ends at the account that keeps the mail.
    named.postmaster = Some("postmaster@b.example".into());
    world.state.set_site(&named);
    check(&world, "postmaster@example.org", &[kept]);
    // An account or alias of that name is just that.
    world.alias("abuse@example.org", &["ana@example.org"]);
    check(&world, "abuse@example.org", &["ana@example.org"]);
}

#[test]
fn a_redirect_keeps_a_copy_by_naming_itself() {
    let mut world = World::new();
    world.user("ana@example.org");
    world.user("bo@example.org");
    world.alias("ana@example.org", &["bo@example.org"]);
    check(&world, "ana@example.org", &["bo@example.org"]);
    world.alias("ana@example.org", &["ana@example.org"]);
    check(
        &world,
        "ana@example.org",
        &["bo@example.org", "ana@example.org"],
    );
    check(
        &world,
        "ana+x@example.org",
        &["bo@example.org+x", "ana@example.org+x"],
    );
}

#[test]
fn what_leads_nowhere_says_why() {
    let mut world = World::new();
    world.user("ana@example.org");
    let user = NewUser {
        address: "fwd@example.org".into(),
        kind: Kind::ForwardOnly,
        ..NewUser::default()
    };
    world
        .try_run(Command::UserAdd(user), vec![])
        .expect("added");
    check(&world, "fwd@example.org", &["!NoMailbox"]);
    world.alias("fwd@example.org", &["ana@example.org"]);
    check(&world, "fwd@example.org", &["ana@example.org"]);

    // What commands refuse may still stand in older records.
    let mut put = |from: &str, to: &[&str]| {
        let to = to.iter().map(|to| (*to).to_owned()).collect();
        let alias = Alias {
            from: from.into(),
            to,
        };
        assert_eq!(world.state.apply(&record::set_alias(&alias)), Ok(true));
    };
    put("a@example.org", &["b@example.org"]);
    put("b@example.org", &["a@example.org", "ana@example.org"]);
    put("out@example.org", &["x@elsewhere.example", "no address"]);
    for n in 0..20 {
        put(
            &format!("d{n}@example.org"),
            &[&format!("d{}@example.org", n + 1)],
        );
    }
    check(&world, "a@example.org", &["ana@example.org", "!Loop"]);
    check(
        &world,
        "out@example.org",
        &[">x@elsewhere.example", "!NoSuchUser"],
    );
    check(&world, "d0@example.org", &["!TooMany"]);
}

fn account(id: u64) -> Account {
    let json = format!(r#"{{"id":{id},"partition":1,"address":"u{id}@example.org","created":0}}"#);
    serde_json::from_str(&json).expect("an account")
}

proptest! {
    /// Any graph of aliases ends, within bounds, with one copy per account.
    #[test]
    fn no_graph_of_aliases_runs_away(
        edges in prop::collection::vec((0u8..24, 0u8..32), 0..120),
        accounts in prop::collection::vec(0u8..32, 0..12),
        start in 0u8..32,
    ) {
        let name = |n: u8| match n {
            30 => "@example.org".to_owned(),
            31 => "x@outside.example".to_owned(),
            n if n % 5 == 0 => format!("u{n}+d@example.org"),
            n => format!("u{n}@example.org"),
        };
        let mut state = Snapshot::new(&site());
        for n in accounts {
            state.apply(&record::set_account(&account(n.into()))).expect("ours");
            state.apply(&record::set_name(&name(n), AccountId(n.into()))).expect("ours");
        }
        for from in 0..24 {
            let to: Vec<String> = edges
                .iter()
                .filter(|(f, _)| *f == from)
                .map(|(_, to)| name(*to))
                .collect();
            if !to.is_empty() {
                let from = if from == 23 { name(30) } else { name(from) };
                state.apply(&record::set_alias(&Alias { from, to })).expect("ours");
            }
        }
        let Ok(address) = Mailbox::parse(&name(start)) else { return Ok(()) };
        let resolution = state.resolve(&address);
        let mut ids: Vec<u64> = resolution.local.iter().map(|r| r.account.id.0).collect();
        prop_assert!(ids.len() <= REACH_MAX && resolution.refused.len() <= REACH_MAX);
        ids.sort_unstable();
        let copies = ids.len();
        ids.dedup();
        prop_assert_eq!(ids.len(), copies);
        let leads = resolution.local.len() + resolution.outside.len();
        prop_assert!(leads > 0 || !resolution.refused.is_empty());
    }
}

#[test]
fn a_wide_and_deep_tree_is_bounded() {
    let mut state = Snapshot::new(&site());
    for id in 0..3000 {
        let account = account(id);
        let name = record::set_name(&account.address, account.id);
        assert_eq!(state.apply(&record::set_account(&account)), Ok(true));
        assert_eq!(state.apply(&name), Ok(true));
    }
    let to: Vec<String> = (0..3000).map(|id| format!("u{id}@example.org")).collect();
    let from = "all@example.org".to_owned();
    assert_eq!(
        state.apply(&record::set_alias(&Alias { from, to })),
        Ok(true)
    );
    let resolution = resolve(&state, "all@example.org");
    assert_eq!(resolution.local.len(), REACH_MAX);
    assert_eq!(resolution.refused.len(), REACH_MAX);
    assert!(resolution.refused.iter().all(|r| r.why == Why::TooMany));
    const { assert!(DEPTH_MAX < 100, "the walk is recursive") };
}
