//! Arguments, tables, times, imports and stories: what needs no server.

use clap::{CommandFactory as _, Parser as _};
use jiff::Timestamp;

use super::admin::body_of;
use super::check_inbox;
use super::error::CliError;
use super::explain;
use super::print::{shown, table, when};
use super::user_import::{Outcome, batches};
use super::{Cli, Command};
use crate::base::UnixMs;
use crate::config::Config;
use crate::directory::{self, Answer, DirectoryError, IMPORT_ROWS_MAX, RefusedRow, parse_import};
use crate::observe::reader::{Query, newest_first};

#[test]
fn the_declared_arguments_are_sound() {
    Cli::command().debug_assert();
}

#[track_caller]
fn check(line: &str, good: bool) {
    let parsed = Cli::try_parse_from(line.split_whitespace());
    assert_eq!(
        parsed.is_ok(),
        good,
        "{line}: {:?}",
        parsed.err().map(|error| error.to_string())
    );
}

#[test]
fn command_lines_of_the_contract_parse() {
    for line in [
        "palomar serve --config /etc/palomar/palomar.toml",
        "palomar demo",
        "palomar demo --json --data here --ports 20000",
        "palomar demo --pull-the-plug --seconds 5",
        "palomar check --no-dns --config a.toml",
        "palomar route ana@example.net",
        "palomar route example.net --json",
        "palomar dns lookup example.org",
        "palomar dns lookup _25._tcp.example.org tlsa --json",
        "palomar user add ana@example.org --password-stdin --quota 1GB",
        "palomar user import users.csv",
        "palomar dns check",
        "palomar dns check example.org --address 192.0.2.1 --address 2001:db8::1 --json",
        "palomar dkim make example.org",
        "palomar dkim make example.org --rsa --selector mail --bits 4096 --json",
        "palomar dkim import example.org key.pem --selector mail",
        "palomar dkim list --json",
        "palomar dkim show example.org mail",
        "palomar dkim activate example.org mail e1 --force",
        "palomar dkim rotate example.org --older-than 90d",
        "palomar dkim remove example.org mail --force",
        "palomar dkim test letter.eml --whole --lifetime 7d",
        "palomar user list --json",
        "palomar user passwd ana@example.org --password-stdin",
        "palomar user rename a@x.org b@x.org --keep-old",
        "palomar user set ana --quota unlimited --allow imap,webmail",
        "palomar user set ana --quota class",
        "palomar quota list --over 75 --json",
        "palomar quota show ana",
        "palomar quota set ana bob --bytes 2GB --messages 100000",
        "palomar quota set ana --messages class",
        "palomar quota recount",
        "palomar check-inbox --server mail.example.org:993 --user ana --password-stdin",
        "palomar mailbox list ana",
        "palomar mailbox status ana INBOX --json",
        "palomar mailbox rescan ana --folder INBOX --json",
        "palomar mailbox fetch ana INBOX 7 --headers",
        "palomar journal show --stream 0 --from 10 --limit 5 --partition system --json",
        "palomar journal verify",
        "palomar user remove ana@example.org --purge",
        "palomar domain add short.org --alias-of long.org",
        "palomar alias add a@x.org b@x.org c@x.org",
        "palomar alias remove a@x.org",
        "palomar who --json",
        "palomar kick ana",
        "palomar log --follow --user ana@example.org --json",
        "palomar log --since 2h --message abc --session def",
        "palomar config show --changed",
        "palomar config explain limits.recipients_max",
        "palomar config sample",
        "palomar explain abcdefghijklmnop --json",
        "palomar settle",
        "palomar settle --all --json",
        "palomar journal cut --stream 0 --slot 7 --offset 4096",
        "palomar journal cut --stream 0 --slot 7 --offset 0 --yes --config a.toml",
    ] {
        check(line, true);
    }
    for line in [
        "palomar",
        "palomar user add",
        "palomar user add ana@example.org --quota much",
        "palomar quota set --bytes 2GB",
        "palomar quota set ana --messages many",
        "palomar mailbox fetch ana INBOX 7 --headers --raw",
        "palomar user add ana@example.org --kind robot",
        "palomar user set ana --allow flying",
        "palomar alias add a@x.org",
        "palomar demo --ports 80",
        "palomar demo --seconds 5",
        "palomar queue show",
        "palomar queue list --state lost",
        "palomar dkim make",
        "palomar dkim import example.org key.pem",
        "palomar dkim make example.org --rsa --ed25519",
        "palomar dkim rotate example.org --older-than long",
        "palomar dns check --address example.org",
        "palomar dns lookup",
        "palomar dns lookup example.org SPAM",
        "palomar journal cut --stream 0 --slot 7",
    ] {
        check(line, false);
    }
}

#[test]
fn the_configuration_may_stand_anywhere() {
    for line in [
        "palomar --config a.toml user list",
        "palomar user list --config a.toml",
    ] {
        let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
        assert_eq!(
            cli.config.as_deref(),
            Some(std::path::Path::new("a.toml")),
            "{line}"
        );
        assert!(matches!(cli.command, Command::User(_)));
    }
}

#[test]
fn a_table_has_plain_columns_off_a_terminal() {
    let rows = vec![vec!["ana@x.org".to_owned(), "1GB".to_owned()]];
    let text = table(&["ADDRESS", "QUOTA"], rows.clone(), false);
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(lines, [["ADDRESS", "QUOTA"], ["ana@x.org", "1GB"]]);
    assert!(table(&["ADDRESS", "QUOTA"], rows, true).contains('│'));
}

#[test]
fn strangers_move_no_cursor() {
    assert_eq!(shown("a\x1b[2Jb\u{202e}c"), "a\\u{1b}[2Jb\\u{202e}c");
    assert_eq!(shown("Jürgen 🔭"), "Jürgen 🔭");
    assert_eq!(when(UnixMs(1_700_000_000_000)), "2023-11-14 22:13:20Z");
}

#[test]
fn times_are_read_as_people_write_them() {
    let now: Timestamp = "2026-03-02T10:00:00Z".parse().unwrap();
    for (text, want) in [
        ("2h", Some("2026-03-02T08:00:00Z")),
        ("1d", Some("2026-03-01T10:00:00Z")),
        ("2026-03-01", Some("2026-03-01T00:00:00Z")),
        ("2026-03-01T09:00:00Z", Some("2026-03-01T09:00:00Z")),
        ("2026-03-01T09:00:00", Some("2026-03-01T09:00:00Z")),
        ("2026-03-01 09:30", Some("2026-03-01T09:30:00Z")),
        ("2026-03-01T09:00:00+02:00", Some("2026-03-01T07:00:00Z")),
        ("2026-03-01T09:00:00[Asia/Tokyo]", None),
        ("2026-03-01T25:00:00", None),
        ("2026-03-01Tnoon", None),
        ("yesterday", None),
    ] {
        let want = want.map(|text| {
            let time: Timestamp = text.parse().unwrap();
            UnixMs(time.as_millisecond())
        });
        assert_eq!(super::log::since(text, now), want, "{text}");
    }
}

#[test]
fn an_answer_of_the_socket_is_taken_apart() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
    assert_eq!(body_of(answer), Some(&b"{}"[..]));
    assert_eq!(
        body_of(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"),
        None
    );
    assert_eq!(
        body_of(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n"),
        None
    );
    assert_eq!(body_of(b"220 mail ESMTP\r\n"), None);
}

#[test]
fn an_import_goes_in_batches_and_names_what_was_refused() {
    let mut file = String::from("address,password\nno address here,x\n");
    for n in 0..IMPORT_ROWS_MAX + 5 {
        file.push_str(&format!("u{n}@example.org,pw\n"));
    }
    let (commands, mut outcome) = batches(parse_import(file.as_bytes(), "example.org"));
    let sizes: Vec<usize> = commands
        .iter()
        .map(|command| match command {
            directory::Command::UserImport { rows } => rows.len(),
            _ => 0,
        })
        .collect();
    assert_eq!(sizes, [IMPORT_ROWS_MAX, 5]);
    assert_eq!(outcome.refused.len(), 1);
    let refused = RefusedRow {
        line: 3,
        address: "u0@example.org".to_owned(),
        why: DirectoryError::AddressTaken {
            address: "u0@example.org".to_owned(),
        },
    };
    outcome.absorb(Answer::Imported {
        added: 99,
        refused: vec![refused],
    });
    outcome.absorb(Answer::Imported {
        added: 5,
        refused: Vec::new(),
    });
    let text = outcome.to_text();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("line 2: ") && lines[1].starts_with("line 3: u0@example.org: "));
    assert_eq!(lines[2], "104 accounts added, 2 refused");
    assert_eq!(
        Outcome::default().to_text(),
        "0 accounts added, 0 refused\n"
    );
}

#[test]
fn a_configuration_shown_whole_loads_as_the_same() {
    let text = "hostname = \"mail.example.org\"\ndomains = [\"example.org\"]\n\
                [[listener]]\nprotocol = \"imaps\"\naddress = \"[::1]:993\"\n";
    let config = Config::parse(text, "test").unwrap();
    for table in [config.to_table(), config.to_changed_table()] {
        assert_eq!(Config::parse(&table, "table").unwrap(), config, "{table}");
    }
    assert!(config.to_table().contains("recipients_max = 150"));
}

/// What the log of a delivery and a first reading looks like.
const LOG: &str = r#"{"ts":"2026-03-02T09:00:00.000Z","level":"info","event":"session.opened","session":"s1","peer":"192.0.2.9:4321","proto":"smtp"}
{"ts":"2026-03-02T09:00:00.050Z","level":"info","event":"tls.started","session":"s1","proto":"smtp","version":"TLSv1.3","cipher":"TLS13_AES_128_GCM_SHA256"}
{"ts":"2026-03-02T09:00:00.100Z","level":"info","event":"recipient.accepted","session":"s1","message":"m1","rcpt":"<ana@example.org>"}
{"ts":"2026-03-02T09:00:00.150Z","level":"info","event":"message.placed","message":"m1","account":"2","mailbox":"INBOX","uid":17}
{"ts":"2026-03-02T09:00:00.151Z","level":"info","event":"message.accepted","session":"s1","message":"m1","from":"<x@example.net>","bytes":1234}
{"ts":"2026-03-02T09:00:00.200Z","level":"info","event":"message.accepted","session":"s1","message":"m2","from":"<x@example.net>","bytes":9}
{"ts":"2026-03-02T09:00:00.300Z","level":"info","event":"session.closed","session":"s1","reason":"QUIT"}
{"ts":"2026-03-02T09:05:00.000Z","level":"info","event":"message.fetched_first","session":"s2","account":"2","mailbox":"INBOX","uid":17,"user":"ana@example.org","proto":"imap"}
"#;

#[test]
fn a_message_and_a_session_are_told_as_stories() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("palomar.log"), LOG).unwrap();
    let search = |query: Query| {
        let (mut entries, trouble) = newest_first(directory.path(), &query, 100);
        entries.reverse();
        assert!(trouble.is_none());
        Ok(entries)
    };
    let found = explain::find("m1", search).unwrap();
    let text = found.to_text("m1");
    for fact in [
        "message m1",
        "  from        192.0.2.9:4321",
        "  TLS         TLSv1.3 TLS13_AES_128_GCM_SHA256",
        "  sender      x@example.net",
        "  recipient   ana@example.org",
        "  size        1234 bytes",
        "  placed      account 2 in INBOX as UID 17 at 2026-03-02T09:00:00.150Z",
        "  durable     2026-03-02T09:00:00.151Z, before the sender was told 250",
        "  first read  2026-03-02T09:05:00.000Z by ana@example.org over imap session s2",
    ] {
        assert!(text.lines().any(|line| line == fact), "{fact} in\n{text}");
    }
    assert!(
        !text.contains("m2"),
        "another message's lines are another story\n{text}"
    );
    assert_eq!(found.to_json("m1")["facts"]["size"][0], "1234 bytes");

    let text = explain::find("s1", search).unwrap().to_text("s1");
    assert!(
        text.contains("brought     2 messages") && text.contains("QUIT"),
        "{text}"
    );
    assert!(matches!(
        explain::find("m3", search),
        Err(CliError::NothingKnown { .. })
    ));
}

#[test]
fn a_users_own_client_reads_what_servers_tell() {
    let mut told = check_inbox::Told::default();
    told.take("* STATUS \"INBOX\" (MESSAGES 12 UNSEEN 3)");
    told.take("* QUOTAROOT INBOX \"User quota (x)\"");
    told.take("* QUOTA \"User quota (x)\" (STORAGE 512 1024 MESSAGE 12 100)");
    let text = check_inbox::page("ana", &told);
    for line in [
        "INBOX        12 messages, 3 unseen",
        "storage      [##########..........] 524.3 KB of 1 MB, 50 %",
        "messages     [##..................] 12 of 100, 12 %",
    ] {
        assert!(text.lines().any(|is| is == line), "{line} in\n{text}");
    }
    let none = check_inbox::page("ana", &check_inbox::Told::default());
    assert!(none.contains("storage      no limit"), "{none}");
}

#[test]
fn servers_are_named_with_and_without_a_port() {
    let check = |text, host, port| {
        assert_eq!(check_inbox::host_and_port(text), (host, port), "{text}");
    };
    check("mail.example.org", "mail.example.org", 993);
    check("mail.example.org:9993", "mail.example.org", 9993);
    check("192.0.2.1:9993", "192.0.2.1", 9993);
    check("[2001:db8::1]:9993", "2001:db8::1", 9993);
    check("2001:db8::1", "2001:db8::1", 993);
}
