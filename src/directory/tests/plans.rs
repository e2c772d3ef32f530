//! What commands change, and what they refuse.

use super::{World, alias_add, site};
use crate::base::{AccountId, ByteSize, PartitionId};
use crate::directory::account::{Class, Entitlement, Entitlements, Kind};
use crate::directory::command::{
    Answer, Command, EntitlementChange, ImportRow, Limit, NewUser, UserChange, UserInfo,
};
use crate::directory::error::DirectoryError as E;
use crate::directory::password::{HashError, Secret};
use crate::directory::snapshot::{Limits, Quotas, Site};
use crate::wire::address::Mailbox;

fn show(world: &mut World, address: &str) -> UserInfo {
    let answer = world.run(Command::UserShow {
        address: address.into(),
    });
    match answer {
        Answer::Users { mut users } => users.remove(0),
        other => panic!("{other:?}"),
    }
}

fn notes(answer: Answer) -> Vec<String> {
    match answer {
        Answer::Done { notes } => notes,
        other => panic!("{other:?}"),
    }
}

fn remove(address: &str, purge: bool) -> Command {
    Command::UserRemove {
        address: address.into(),
        purge,
    }
}

fn domain_add(name: &str, alias_of: Option<&str>) -> Command {
    Command::DomainAdd {
        name: name.into(),
        alias_of: alias_of.map(str::to_owned),
    }
}

#[test]
fn ids_are_never_given_out_twice() {
    let mut world = World::new();
    world.user("ana@example.org");
    let first = show(&mut world, "ana@example.org").account;
    assert_eq!(first.id, AccountId(2), "the postmaster's is the first");
    world.run(remove("ana@example.org", true));
    assert_eq!(world.purged, [2]);
    world.user("ana@example.org");
    let second = show(&mut world, "ana").account;
    assert_eq!(second.id, AccountId(3));
    assert!(first.partition.is_user() && second.partition < PartitionId(256));
}

#[test]
fn a_removed_account_keeps_its_mail_until_it_is_purged() {
    let mut world = World::new();
    world.user("ana@example.org");
    world.user("bo@example.org");
    world.alias("team@example.org", &["ana@example.org", "bo@example.org"]);
    let said = notes(world.run(remove("ana@example.org", false)));
    assert!(said[0].contains("team@example.org") && said[1].contains("'#2' --purge"));
    assert!(world.state.login("ana@example.org").is_none());
    assert!(world.state.password(AccountId(2)).is_none());
    let list = |world: &mut World, removed| match world.run(Command::UserList { removed }) {
        Answer::Users { users } => users.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!((list(&mut world, false), list(&mut world, true)), (2, 3));
    world.run(remove("#2", true));
    assert_eq!(world.purged, [2]);
    assert!(matches!(
        world.refuse(remove("#3", true)),
        E::NoSuchUser { .. }
    ));
    assert!(matches!(
        world.refuse(remove("postmaster", true)),
        E::Internal { .. }
    ));
}

#[test]
fn a_rename_moves_addresses_and_aliases_and_nothing_else() {
    let mut world = World::new();
    world.user("ana@example.org");
    world.user("bo@example.org");
    world.alias("team@example.org", &["ana@example.org", "bo@example.org"]);
    world.alias("ana@example.org", &["ana@example.org", "bo@example.org"]);
    let before = show(&mut world, "ana@example.org").account;
    world.run(Command::UserRename {
        from: "ana@example.org".into(),
        to: "Ana.Diaz@example.org".into(),
        keep_old: false,
    });
    let after = show(&mut world, "ana.diaz").account;
    assert_eq!((after.id, after.partition), (before.id, before.partition));
    assert_eq!(after.address, "Ana.Diaz@example.org");
    assert!(world.state.login("ana@example.org").is_none());
    let aliases = match world.run(Command::AliasList) {
        Answer::Aliases { aliases } => aliases,
        other => panic!("{other:?}"),
    };
    assert_eq!(aliases[0].from, "ana.diaz@example.org");
    assert!(
        aliases
            .iter()
            .all(|a| a.to == ["Ana.Diaz@example.org", "bo@example.org"])
    );

    world.run(Command::UserRename {
        from: "bo".into(),
        to: "bob@example.org".into(),
        keep_old: true,
    });
    let addresses = show(&mut world, "bo@example.org").addresses;
    assert_eq!(addresses, ["bob@example.org", "bo@example.org"]);
}

/// Own limits win over those of the class, and these over the site's; each resource by itself.
#[test]
fn limits_come_from_the_nearest() {
    let limits = |bytes: u64, messages| Limits {
        bytes: Some(ByteSize(bytes)),
        messages,
    };
    let mut world = World::of(&Site {
        quotas: Quotas {
            default: limits(100, Some(0)),
            classes: vec![
                (Class::Student, limits(20, None)),
                (Class::Staff, limits(0, Some(7))),
            ],
        },
        ..site()
    });
    let mut check = |name: &str, class, own, bytes, messages| {
        world.run(Command::UserAdd(NewUser {
            address: format!("{name}@example.org"),
            class,
            quota: own,
            ..NewUser::default()
        }));
        let user = show(&mut world, name);
        let quota = world.state.quota(&user.account);
        assert_eq!(
            (quota.bytes.map(|b| b.0), quota.messages),
            (bytes, messages),
            "{name}"
        );
    };
    check("member", Class::Member, None, Some(100), None);
    check("student", Class::Student, None, Some(20), None);
    check("rich", Class::Student, Some(ByteSize(50)), Some(50), None);
    check("free", Class::Student, Some(ByteSize(0)), None, None);
    check("staff", Class::Staff, None, None, Some(7));
    let postmaster = world.state.internal_postmaster().expect("there").clone();
    assert!(world.state.quota(&postmaster).is_none(), "RFC 5321 4.5.1");
}

#[test]
fn users_are_set_and_shown() {
    let mut world = World::new();
    world.run(Command::UserAdd(NewUser {
        address: "gus@example.org".into(),
        class: Class::Guest,
        quota: Some(ByteSize(1_000_000)),
        language: Some("ca".into()),
        ..NewUser::default()
    }));
    let user = show(&mut world, "gus");
    assert!(user.has_password && !user.allowed.has(Entitlement::SmtpOutside));
    assert_eq!(user.account.quota, Some(ByteSize(1_000_000)));
    world.run(Command::UserSet {
        address: "gus".into(),
        change: UserChange {
            quota: Some(Limit::Unlimited),
            entitlements: Some(EntitlementChange::Only(
                Entitlements::NONE.with(Entitlement::Pop),
            )),
            language: Some(String::new()),
            ..UserChange::default()
        },
    });
    let user = show(&mut world, "gus");
    assert_eq!(user.account.quota, Some(ByteSize(0)));
    assert!(world.state.quota(&user.account).is_none());
    assert_eq!(user.account.language, None);
    assert_eq!(user.allowed.iter().collect::<Vec<_>>(), [Entitlement::Pop]);
    let address = || "gus".to_owned();
    world.run(Command::UserDisable { address: address() });
    assert!(show(&mut world, "gus").account.disabled);
    world.run(Command::UserEnable { address: address() });
    assert!(!show(&mut world, "gus").account.disabled);
}

#[test]
fn what_users_are_refused() {
    let mut world = World::new();
    world.user("ana@example.org");
    world.alias("team@example.org", &["ana@example.org"]);
    let mut check = |address: &str, kind, want: fn(&E) -> bool| {
        let user = NewUser {
            address: address.into(),
            kind,
            ..NewUser::default()
        };
        let error = world.refuse(Command::UserAdd(user));
        assert!(want(&error), "{error:?}");
    };
    check("ANA@example.org", Kind::Person, |e| {
        matches!(e, E::AddressTaken { .. })
    });
    check("team@example.org", Kind::Person, |e| {
        matches!(e, E::AddressIsAlias { .. })
    });
    check("ana@else.example", Kind::Person, |e| {
        matches!(e, E::NotOurDomain { .. })
    });
    check("ana", Kind::Person, |e| matches!(e, E::NotAnAddress { .. }));
    check("x@example.org", Kind::Shared, |e| {
        matches!(e, E::NoPasswordForKind { .. })
    });
    let long = Command::UserSet {
        address: "ana".into(),
        change: UserChange {
            timezone: Some("x".repeat(100)),
            ..UserChange::default()
        },
    };
    assert!(matches!(world.refuse(long), E::NotText { .. }));
}

#[test]
fn an_import_takes_what_it_can() {
    let mut world = World::new();
    let row = |line, address: &str| ImportRow {
        line,
        address: address.into(),
        password: Secret("x".into()),
        quota: None,
    };
    let rows = vec![
        row(1, "ana@example.org"),
        row(2, "Ana@Example.org"),
        row(3, "bo@example.org"),
        row(4, "cy@example.org"),
    ];
    let bad = E::BadHash {
        why: HashError::UnknownScheme,
    };
    let ok = || Ok("$hash".to_owned());
    let hashes = vec![ok(), ok(), Err(bad.clone()), ok()];
    let answer = world.try_run(Command::UserImport { rows }, hashes);
    let Ok(Answer::Imported { added, refused }) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(added, 2);
    assert_eq!((refused[0].line, refused[1].line), (2, 3));
    assert!(matches!(refused[0].why, E::AddressTaken { .. }) && refused[1].why == bad);
    assert!(show(&mut world, "cy").has_password);
}

#[test]
fn domains_come_and_go() {
    let mut world = World::new();
    world.run(domain_add("New.Example", None));
    world.user("ana@new.example");
    world.run(domain_add("short.example", Some("new.example")));
    assert!(world.state.is_local("SHORT.example") && !world.state.is_local("no.example"));
    let mut check = |command: Command, want: fn(&E) -> bool| {
        let error = world.refuse(command);
        assert!(want(&error), "{error:?}");
    };
    let remove = |name: &str| Command::DomainRemove { name: name.into() };
    check(domain_add("new.example", None), |e| {
        matches!(e, E::DomainExists { .. })
    });
    check(domain_add("example.org", None), |e| {
        matches!(e, E::DomainExists { .. })
    });
    check(
        domain_add("a.example", Some("short.example")),
        |e| matches!(e, E::AliasOfAlias { real, .. } if real == "new.example"),
    );
    check(domain_add("a.example", Some("no.example")), |e| {
        matches!(e, E::NotOurDomain { .. })
    });
    check(domain_add("new.example", Some("example.org")), |e| {
        matches!(
            e,
            E::DomainInUse {
                accounts: 1,
                aliases: 1,
                ..
            }
        )
    });
    check(domain_add("no domain", None), |e| {
        matches!(e, E::NotADomain { .. })
    });
    check(remove("new.example"), |e| {
        matches!(e, E::DomainInUse { .. })
    });
    check(remove("example.org"), |e| {
        matches!(e, E::DomainInConfig { .. })
    });
    check(remove("no.example"), |e| {
        matches!(e, E::NoSuchDomain { .. })
    });
    world.run(remove("short.example"));
    assert!(!world.state.is_local("short.example"));
    let Answer::Domains { domains } = world.run(Command::DomainList) else {
        panic!("not domains");
    };
    let names: Vec<_> = domains
        .iter()
        .map(|d| (d.name.as_str(), d.in_config))
        .collect();
    assert_eq!(
        names,
        [
            ("b.example", true),
            ("example.org", true),
            ("new.example", false)
        ]
    );
}

#[test]
fn aliases_are_checked_before_they_are_made() {
    let mut world = World::new();
    world.user("ana@example.org");
    world.user("bo@example.org");
    world.alias("team@example.org", &["ana@example.org"]);
    world.alias("all@example.org", &["team@example.org"]);
    world.alias("away@example.org", &["a@else.example", "bo@example.org"]);
    world.alias("further@example.org", &["away@example.org"]);
    world.alias("team@example.org", &["bo@example.org", "ANA@example.org"]);
    world.alias("out@example.org", &["a@else.example", "b@else.example"]);
    world.alias("out@example.org", &["A@ELSE.example", "c@else.example"]);
    let out = Mailbox::parse("out@example.org").expect("an address");
    assert_eq!(world.state.resolve(&out).outside.len(), 3);
    let said = notes(world.alias("bo@example.org", &["ana@example.org"]));
    assert!(
        said[0].contains("alias add bo@example.org bo@example.org"),
        "{said:?}"
    );
    let mut check = |command: Command, want: fn(&E) -> bool| {
        let error = world.refuse(command);
        assert!(want(&error), "{error:?}");
    };
    check(alias_add("x@example.org", &["no@example.org"]), |e| {
        matches!(e, E::NoSuchTarget { .. })
    });
    check(alias_add("x@example.org", &[]), |e| {
        matches!(e, E::NoTargets { .. })
    });
    check(alias_add("team@example.org", &["all@example.org"]), |e| {
        matches!(e, E::AliasLoop { .. })
    });
    check(alias_add("x@else.example", &["ana@example.org"]), |e| {
        matches!(e, E::NotOurDomain { .. })
    });
    check(alias_add("@b.example", &["no@b.example"]), |e| {
        matches!(e, E::NoSuchTarget { .. })
    });
    let remove = |from: &str, to: &[&str]| Command::AliasRemove {
        from: from.into(),
        to: to.iter().map(|to| (*to).to_owned()).collect(),
    };
    check(remove("no@example.org", &[]), |e| {
        matches!(e, E::NoSuchAlias { .. })
    });
    check(remove("team@example.org", &["x@b.example"]), |e| {
        matches!(e, E::NoSuchTarget { .. })
    });
    world.run(remove("team@example.org", &["Bo@example.org"]));
    world.run(remove("bo@example.org", &[]));
    let Answer::Aliases { aliases } = world.run(Command::AliasList) else {
        panic!("not aliases");
    };
    let from: Vec<&str> = aliases.iter().map(|alias| alias.from.as_str()).collect();
    let names = ["all", "away", "further", "out", "team"].map(|name| format!("{name}@example.org"));
    assert_eq!(from, names);
    assert_eq!(aliases[4].to, ["ana@example.org"]);
}

#[test]
fn commands_and_answers_are_json() {
    let text = r#"{"command":"user-add","address":"ana@example.org","quota":1000,
        "class":"staff","entitlements":["imap","pop"]}"#;
    let command: Command = serde_json::from_str(text).expect("a command");
    let Command::UserAdd(user) = &command else {
        panic!("{command:?}");
    };
    assert_eq!(user.quota, Some(ByteSize(1000)));
    let back = serde_json::to_string(&command).expect("JSON");
    assert_eq!(
        serde_json::from_str::<Command>(&back).expect("a command"),
        command
    );
    assert!(serde_json::from_str::<Command>(r#"{"command":"user-add","adress":"x"}"#).is_err());
    assert!(!format!("{:?}", Secret("hidden".into())).contains("hidden"));
    let mut world = World::new();
    world.user("ana@example.org");
    let answer = world.run(Command::UserList { removed: false });
    let json = serde_json::to_string(&answer).expect("JSON");
    assert!(!json.contains("$hash"), "{json}");
    assert_eq!(
        serde_json::from_str::<Answer>(&json).expect("an answer"),
        answer
    );
}
