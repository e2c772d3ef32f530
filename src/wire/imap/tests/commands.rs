//! Commands, one table a group.

use proptest::prelude::*;

use crate::wire::imap::{
    self, AppendPart, AppendRest, Body, Coding, Fault, Fetch, Flags, List, LiteralPurpose,
    MailboxArg, SEARCH_DEPTH_MAX, Search, SearchKey, SequenceSet, Store, append_rest, is_done,
    literal_purpose, parse, tag_and_name,
};

/// `a ` and the line, read and shown in short.
#[track_caller]
fn check(line: &str, want: &str) {
    let text = format!("a {line}\r\n");
    let got = match parse(text.as_bytes()) {
        Ok(command) => show(&command.body),
        Err(bad) => {
            assert_eq!(bad.tag, Some("a"));
            format!("{:?}", bad.fault)
        }
    };
    assert_eq!(got, want, "{line}");
}

fn show(body: &Body<'_>) -> String {
    match body {
        Body::Fetch(fetch) => show_fetch(fetch),
        Body::Store(store) => show_store(store),
        Body::Search(search) => show_search(search),
        Body::List(list) => show_list(list),
        Body::Append(append) => {
            format!(
                "append {} {}",
                show_name(&append.mailbox),
                show_part(&append.first)
            )
        }
        Body::Select(select) | Body::Examine(select) => {
            format!("select {} {}", show_name(&select.mailbox), select.condstore)
        }
        Body::Create(create) => format!("create {} {:?}", show_name(&create.mailbox), create.uses),
        Body::Delete(name) | Body::Subscribe(name) | Body::Unsubscribe(name) => show_name(name),
        Body::Rename { from, to } => format!("rename {} {}", show_name(from), show_name(to)),
        Body::Lsub { reference, pattern } => {
            format!("lsub {} {}", show_name(reference), show_name(pattern))
        }
        Body::Status { mailbox, items } => {
            let items: Vec<_> = items.iter().map(|(name, _)| name).collect();
            format!("status {} {}", show_name(mailbox), items.join(" "))
        }
        Body::GetQuota(root) => {
            format!("getquota <{}>", String::from_utf8_lossy(root.as_bytes()))
        }
        Body::GetQuotaRoot(mailbox) => format!("getquotaroot {}", show_name(mailbox)),
        Body::Copy { uid, set, mailbox } | Body::Move { uid, set, mailbox } => {
            format!("to {uid} {} {}", show_set(*set), show_name(mailbox))
        }
        Body::Expunge(set) => format!("expunge {:?}", set.map(show_set)),
        Body::Login(login) => {
            let password = String::from_utf8_lossy(login.password.expose());
            format!("login {} {password}", login.user)
        }
        Body::Id(fields) => fields
            .iter()
            .map(|(name, value)| {
                let value = value.map(|value| value.escape_ascii().to_string());
                format!("{}={value:?};", name.escape_ascii())
            })
            .collect(),
        other => format!("{other:?}"),
    }
}

fn show_name(name: &MailboxArg<'_>) -> String {
    match name.name(Coding::Ascii) {
        Ok(name) => format!("<{name}>"),
        Err(error) => format!("<{error:?}>"),
    }
}

fn show_set(set: SequenceSet<'_>) -> String {
    if set.is_saved() {
        return "$".to_owned();
    }
    let ranges = set.resolve(100).map(|(low, high)| format!("{low}-{high}"));
    ranges.collect::<Vec<_>>().join(",")
}

fn show_flags(flags: Flags<'_>) -> String {
    let mut out = Vec::new();
    imap::flag_list(&mut out, flags.iter());
    String::from_utf8(out).unwrap()
}

fn show_fetch(fetch: &Fetch<'_>) -> String {
    let items = fetch.items.iter().map(|item| {
        let mut name = Vec::new();
        item.write_name(&mut name);
        let seen = if item.sets_seen() { "!" } else { "" };
        String::from_utf8(name).unwrap() + seen
    });
    let items = items.collect::<Vec<_>>().join(", ");
    let since = fetch.changed_since.map(|m| format!(" since {m}"));
    format!(
        "fetch {} {}: {items}{}",
        fetch.uid,
        show_set(fetch.set),
        since.unwrap_or_default()
    )
}

fn show_store(store: &Store<'_>) -> String {
    let silent = if store.silent { " silent" } else { "" };
    let unchanged = store.unchanged_since.map(|m| format!(" unchanged {m}"));
    let set = show_set(store.set);
    let flags = show_flags(store.flags);
    let unchanged = unchanged.unwrap_or_default();
    format!(
        "store {} {set} {:?}{silent}{unchanged} {flags}",
        store.uid, store.mode
    )
}

fn show_search(search: &Search<'_>) -> String {
    let returns = search.returns.map_or(String::new(), |r| {
        let all = [
            (r.min, "min"),
            (r.max, "max"),
            (r.all, "all"),
            (r.count, "count"),
        ];
        let all = all
            .into_iter()
            .chain([(r.save, "save")])
            .filter(|(on, _)| *on);
        format!(
            "[{}] ",
            all.map(|(_, name)| name).collect::<Vec<_>>().join(" ")
        )
    });
    format!(
        "search {} {returns}{}",
        search.uid,
        show_key(&search.keys.tree())
    )
}

fn show_key(key: &SearchKey<'_>) -> String {
    match key {
        SearchKey::And(keys) => {
            let keys: Vec<_> = keys.iter().map(show_key).collect();
            format!("({})", keys.join(" & "))
        }
        SearchKey::Or(keys) => format!("({} | {})", show_key(&keys[0]), show_key(&keys[1])),
        SearchKey::Not(key) => format!("!{}", show_key(key)),
        SearchKey::Sequence(set) => format!("Seq {}", show_set(*set)),
        SearchKey::Uid(set) => format!("Uid {}", show_set(*set)),
        SearchKey::Header { field, text } => format!("{field}:{text}"),
        leaf => format!("{leaf:?}"),
    }
}

fn show_list(list: &List<'_>) -> String {
    let patterns: Vec<_> = list.patterns.iter().map(|p| show_name(&p)).collect();
    let flags = |all: &[(bool, &'static str)]| {
        let on = all.iter().filter(|(on, _)| *on).map(|(_, name)| *name);
        on.collect::<Vec<_>>().join(" ")
    };
    let selection = list.selection.map_or("plain".to_owned(), |s| {
        flags(&[
            (s.subscribed, "sub"),
            (s.remote, "remote"),
            (s.recursive_match, "recursive"),
            (s.special_use, "use"),
        ])
    });
    let r = list.returns;
    let returns = flags(&[
        (r.subscribed, "sub"),
        (r.children, "children"),
        (r.special_use, "use"),
    ]);
    let status: Vec<_> = r
        .status
        .iter()
        .flat_map(|s| s.iter())
        .map(|(name, _)| name)
        .collect();
    let reference = show_name(&list.reference);
    format!(
        "list [{selection}] {reference} {} [{returns}] {status:?}",
        patterns.join(" ")
    )
}

fn show_part(part: &AppendPart<'_>) -> String {
    let date = part.date.map(|date| {
        let mut out = Vec::new();
        imap::write_date_time(&mut out, date);
        String::from_utf8(out).unwrap()
    });
    let date = date.unwrap_or_default();
    format!(
        "{} {date} {} {}",
        show_flags(part.flags),
        part.utf8,
        part.bytes
    )
}

#[test]
fn commands_without_arguments() {
    for (line, want) in [
        ("CAPABILITY", "Capability"),
        ("noop", "Noop"),
        ("LOGOUT ", "Logout"),
        ("STARTTLS", "StartTls"),
        ("NAMESPACE", "Namespace"),
        ("IDLE", "Idle"),
        ("CHECK", "Check"),
        ("CLOSE", "Close"),
        ("UNSELECT", "Unselect"),
        ("EXPUNGE", "expunge None"),
        ("NOOP x", "ExtraText"),
        ("UID NOOP", "UnknownCommand"),
        ("UID", "MissingArgument"),
        ("XYZZY", "UnknownCommand"),
        ("", "NoCommand"),
        (" NOOP", "NoCommand"),
        ("NO\0OP", "UnknownCommand"),
    ] {
        check(line, want);
    }
    assert_eq!(parse(b"\r\n").unwrap_err().fault, Fault::NoTag);
    assert_eq!(parse(b"+ NOOP\r\n").unwrap_err().fault, Fault::NoTag);
    assert_eq!(tag_and_name(b"a7 fetch 1 ("), (Some("a7"), Some("fetch")));
    assert_eq!(tag_and_name(b"{"), (None, None));
    assert!(is_done(b"done\r\n") && !is_done(b"DONE x\r\n"));
}

#[test]
fn access() {
    check("LOGIN ana secret", "login ana secret");
    check("LOGIN {3}\r\nana {6+}\r\nsec et", "login ana sec et");
    check(r#"LOGIN "a\"na" "s\\cret""#, r#"login a"na s\cret"#);
    check("LOGIN ana", "MissingArgument");
    check("LOGIN ana \"x", "UnclosedQuote");
    check(r#"LOGIN ana "\x""#, "BadEscape");
    check("LOGIN ana {3}\r\nab\0", "BadLiteral");
    check("LOGIN ana {9}\r\nab", "CutLiteral");
    check("LOGIN ana se(ret", "ExtraText");
    check(
        "AUTHENTICATE PLAIN",
        r#"Authenticate(Authenticate { mechanism: "PLAIN", initial: None })"#,
    );
    check(
        "AUTHENTICATE PLAIN AGE=",
        r#"Authenticate(Authenticate { mechanism: "PLAIN", initial: Some("(hidden)") })"#,
    );
    check(
        "ENABLE condstore X-NEW IMAP4rev2",
        "Enable(Capabilities { imap4rev2: true, utf8_accept: false, condstore: true, \
         qresync: false })",
    );
    check("ENABLE", "MissingArgument");
    check("ID NIL", "");
    check(
        r#"ID ("name" "Mail" "os" NIL)"#,
        r#"name=Some("Mail");os=None;"#,
    );
    check("ID ()", "");
    check(
        &format!("ID ({})", ["\"a\" NIL"; 31].join(" ")),
        "TooManyIdFields",
    );
}

#[test]
fn mailboxes() {
    check("SELECT inbox", "select <INBOX> false");
    check("SELECT \"a b\" (CONDSTORE)", "select <a b> true");
    check("EXAMINE x (FOO)", "BadSelectOption");
    check("SELECT Entw&APw-rfe", "select <Entwürfe> false");
    check("SELECT a&b", "select <BadUtf7> false");
    check("SELECT a%b", "select <a%b> false");
    check("RENAME a*b 50%", "rename <a*b> <50%>");
    check("SELECT a(b", "ExtraText");
    check("CREATE x/y/", "create <x/y/> []");
    check(
        r"CREATE x (USE (\sent \Drafts \Sent))",
        "create <x> [Drafts, Sent]",
    );
    check(r"CREATE x (USE (\Nope))", "BadCreateOption");
    check("DELETE ~peter", "<~peter>");
    check("RENAME a {1}\r\nb", "rename <a> <b>");
    check("SUBSCRIBE x", "<x>");
    check("UNSUBSCRIBE x]", "<x]>");
    check("STATUS x (UNSEEN messages)", "status <x> MESSAGES UNSEEN");
    check("STATUS x (DELETED-STORAGE)", "status <x> DELETED-STORAGE");
    check("GETQUOTA \"\"", "getquota <>");
    check("getquota {1+}\r\nx", "getquota <x>");
    check("GETQUOTA", "MissingArgument");
    check("GETQUOTAROOT x", "getquotaroot <x>");
    check("GETQUOTAROOT a b", "ExtraText");
    check("STATUS x ()", "BadStatusItem");
    check("STATUS x (FOO)", "BadStatusItem");
    check("STATUS x (UNSEEN", "MissingClose");
}

#[test]
fn lists() {
    check(r#"LIST "" *"#, "list [plain] <> <*> [] []");
    check(r#"LIST "" """#, "list [plain] <> <> [] []");
    check("LIST ~/ %/INBOX", "list [plain] <~/> <%/INBOX> [] []");
    check(r#"LIST () "" (a* "b %")"#, "list [] <> <a*> <b %> [] []");
    check(
        r#"LIST (SUBSCRIBED RECURSIVEMATCH) "" % RETURN (CHILDREN STATUS (UIDNEXT SIZE))"#,
        r#"list [sub recursive] <> <%> [children] ["UIDNEXT", "SIZE"]"#,
    );
    check(
        r#"LIST "" % RETURN (SPECIAL-USE SUBSCRIBED)"#,
        "list [] <> <%> [sub use] []",
    );
    check(r#"LIST (RECURSIVEMATCH) "" %"#, "BadListOption");
    check(r#"LIST (FOO) "" %"#, "BadListOption");
    check(r#"LIST "" ()"#, "MissingArgument");
    check(r#"LIST """#, "MissingArgument");
    check(r#"LSUB "" "*""#, "lsub <> <*>");
}

#[test]
fn appends() {
    check("APPEND box {310}", "append <box> ()  false 310");
    check(
        r"APPEND box (\Seen $x) {0+}",
        r"append <box> (\Seen $x)  false 0",
    );
    check(
        r#"APPEND box () " 1-Feb-1994 12:00:00 -0800" ~{5}"#,
        r#"append <box> () "01-Feb-1994 12:00:00 -0800" false 5"#,
    );
    check("APPEND box UTF8 (~{5+}", "append <box> ()  true 5");
    check("APPEND box UTF8 ({5+}", "NoMessageLiteral");
    check("APPEND box", "MissingArgument");
    check("APPEND box \"text\"", "BadDateTime");
    check("APPEND box (\\Seen {5}", "BadFlag");
    for (prefix, want) in [
        ("a APPEND {3}", LiteralPurpose::Argument),
        ("a APPEND box {3}", LiteralPurpose::Message),
        ("a append {3}\r\nbox {3}", LiteralPurpose::Message),
        ("a APPEND box ((( {3}", LiteralPurpose::Message),
        ("a APPENDIX box {3}", LiteralPurpose::Argument),
        ("a LOGIN {3}", LiteralPurpose::Argument),
    ] {
        assert_eq!(
            literal_purpose(format!("{prefix}\r\n").as_bytes()),
            want,
            "{prefix}"
        );
    }
    assert_eq!(append_rest(b"\r\n", false), Ok(AppendRest::End));
    assert_eq!(append_rest(b")\r\n", true), Ok(AppendRest::End));
    assert_eq!(append_rest(b"\r\n", true), Err(Fault::MissingClose));
    assert_eq!(append_rest(b"x\r\n", false), Err(Fault::MissingSpace));
    match append_rest(b" (\\Draft) {99}\r\n", false) {
        Ok(AppendRest::Another(part)) => assert_eq!(show_part(&part), r"(\Draft)  false 99"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn fetches() {
    check("UID FETCH 1:* (FLAGS)", "fetch true 1-100: FLAGS");
    check(
        "FETCH 1,5:3,*:200 fast",
        "fetch false 1-1,3-5,100-200: FLAGS, INTERNALDATE, RFC822.SIZE",
    );
    check(
        "FETCH 1 ALL",
        "fetch false 1-1: FLAGS, INTERNALDATE, RFC822.SIZE, ENVELOPE",
    );
    check(
        "FETCH 1 FULL",
        "fetch false 1-1: FLAGS, INTERNALDATE, RFC822.SIZE, ENVELOPE, BODY",
    );
    check(
        "FETCH $ (FLAGS) (CHANGEDSINCE 12)",
        "fetch false $: FLAGS since 12",
    );
    check(
        "FETCH 1 (UID ENVELOPE BODYSTRUCTURE BODY MODSEQ SAVEDATE EMAILID THREADID)",
        "fetch false 1-1: UID, ENVELOPE, BODYSTRUCTURE, BODY, MODSEQ, SAVEDATE, EMAILID, THREADID",
    );
    check(
        "FETCH 1 (RFC822 RFC822.HEADER RFC822.TEXT RFC822.SIZE)",
        "fetch false 1-1: RFC822!, RFC822.HEADER, RFC822.TEXT!, RFC822.SIZE",
    );
    check("FETCH 1 body[]", "fetch false 1-1: BODY[]!");
    check(
        "FETCH 1 BODY.PEEK[1.2.MIME]<0.10>",
        "fetch false 1-1: BODY[1.2.MIME]<0>",
    );
    check(
        "FETCH 1 (BODY.PEEK[HEADER.FIELDS (From \"T o\" {2}\r\nCc)] BODY[TEXT] BODY[1.HEADER])",
        "fetch false 1-1: BODY[HEADER.FIELDS (From \"T o\" Cc)], BODY[TEXT]!, BODY[1.HEADER]!",
    );
    check(
        "FETCH 1 BODY[2.HEADER.FIELDS.NOT (a)]",
        "fetch false 1-1: BODY[2.HEADER.FIELDS.NOT (a)]!",
    );
    check(
        "FETCH 1 (BINARY[1]<5.6> BINARY.PEEK[] BINARY.SIZE[1.2])",
        "fetch false 1-1: BINARY[1]<5>!, BINARY[], BINARY.SIZE[1.2]",
    );
    for (item, want) in [
        ("", "BadFetchItem"),
        ("()", "BadFetchItem"),
        ("FOO", "BadFetchItem"),
        ("(ALL)", "BadFetchItem"),
        ("(FLAGS", "MissingClose"),
        ("(FLAGS  UID)", "BadFetchItem"),
        ("BODY[MIME]", "BadSection"),
        ("BODY[1.]", "BadSection"),
        ("BODY[1..2]", "BadSection"),
        ("BODY[0]", "BadSection"),
        ("BODY[1TEXT]", "BadSection"),
        ("BODY[.TEXT]", "BadSection"),
        ("BODY[HEADER", "BadSection"),
        ("BODY[HEADER.FIELDS ()]", "BadSection"),
        ("BODY[]<1>", "BadPartial"),
        ("BODY[]<1.0>", "BadPartial"),
        ("BINARY[1.TEXT]", "BadSection"),
        ("RFC822[]", "BadFetchItem"),
    ] {
        check(&format!("FETCH 1 {item}"), want);
    }
    check("FETCH 0 FLAGS", "ZeroNumber");
    check("FETCH 4294967296 FLAGS", "NumberTooLarge");
    check("FETCH 1: FLAGS", "BadSequenceSet");
    check("FETCH 1,,2 FLAGS", "BadSequenceSet");
    check("FETCH FLAGS", "BadSequenceSet");
}

#[test]
fn message_changes() {
    check(
        r"UID STORE 4:9 +FLAGS (\Seen)",
        r"store true 4-9 Add (\Seen)",
    );
    check(
        r"STORE 1 -flags.silent \seen $Forwarded",
        r"store false 1-1 Remove silent (\Seen $Forwarded)",
    );
    check("STORE 1 FLAGS ()", "store false 1-1 Replace ()");
    check(
        r"STORE 1 (UNCHANGEDSINCE 5) FLAGS \X ",
        r"store false 1-1 Replace unchanged 5 (\X)",
    );
    check("STORE 1 FLAGSILENT x", "BadStoreItem");
    check("STORE 1 *FLAGS x", "BadStoreItem");
    check("STORE 1 FLAGS", "BadStoreItem");
    check(r"STORE 1 FLAGS (\*)", "BadFlag");
    check("UID COPY 1,2 Trash", "to true 1-1,2-2 <Trash>");
    check("MOVE $ \"a b\"", "to false $ <a b>");
    check("MOVE 1", "MissingArgument");
    check("UID EXPUNGE 7:5", "expunge Some(\"5-7\")");
    check("EXPUNGE 1", "ExtraText");
}

#[test]
fn searches() {
    check("UID SEARCH ALL", "search true All");
    check(
        "SEARCH CHARSET utf-8 TEXT \"é\"",
        "search false Text(\"é\")",
    );
    check("SEARCH CHARSET KOI8-R ALL", "BadCharset");
    check(
        "SEARCH RETURN (MIN COUNT) UNSEEN",
        "search false [min count] !Flag(Seen)",
    );
    check("SEARCH RETURN () 1:5", "search false [all] Seq 1-5");
    check(
        "SEARCH RETURN (SAVE) $ UID 4,*",
        "search false [save] (Seq $ & Uid 4-4,100-100)",
    );
    check("SEARCH RETURN (FOO) ALL", "BadSearchReturn");
    check(
        "SEARCH OR (FROM a NOT TO b) UNKEYWORD $x NEW",
        "search false (((From:a & !To:b) | !Flag(Keyword(\"$x\"))) & (Flag(Recent) & !Flag(Seen)))",
    );
    check(
        "SEARCH SINCE 1-Feb-1970 SENTON \"02-Jan-1970\" BEFORE 1-jan-1970",
        "search false (Since(Day(31)) & SentOn(Day(1)) & Before(Day(0)))",
    );
    check(
        "SEARCH HEADER Message-ID {3}\r\n<a> LARGER 5000000000 OLD YOUNGER 60",
        "search false (Message-ID:<a> & Larger(5000000000) & !Flag(Recent) & Younger(60))",
    );
    check(
        "SEARCH MODSEQ \"/flags/\\\\draft\" all 620162338 EMAILID M1",
        "search false (ModSeq(ModSeq(620162338)) & EmailId(\"M1\"))",
    );
    check("SEARCH NOT NOT SEEN ", "search false Flag(Seen)");
    for (keys, want) in [
        ("", "MissingArgument"),
        ("()", "BadSearchKey"),
        ("(SEEN", "MissingClose"),
        ("SEEN)", "ExtraText"),
        ("FOO", "BadSearchKey"),
        ("NOT", "MissingArgument"),
        ("OR SEEN", "MissingArgument"),
        ("SINCE 31-Feb-2026", "BadDate"),
        ("SINCE 1-Foo-2026", "BadDate"),
        ("SINCE \"1-Feb-2026", "BadDate"),
        ("LARGER x", "BadNumber"),
        ("YOUNGER 0", "ZeroNumber"),
        ("1:5x", "ExtraText"),
    ] {
        check(&format!("SEARCH {keys}"), want);
    }
    assert_eq!(
        parse(b"a SEARCH TEXT {1}\r\n\xff\r\n").unwrap_err().fault,
        Fault::NotUtf8
    );
}

#[test]
fn search_depth_is_capped() {
    for (open, close) in [("(", ")"), ("NOT ", ""), ("OR ALL ", "")] {
        let deep = |n| format!("SEARCH {}ALL{}", open.repeat(n), close.repeat(n));
        check(&deep(SEARCH_DEPTH_MAX), "SearchTooDeep");
        let text = format!("a {}\r\n", deep(SEARCH_DEPTH_MAX - 1));
        match parse(text.as_bytes()) {
            Ok(imap::Command {
                body: Body::Search(search),
                ..
            }) => drop(search.keys.tree()),
            other => panic!("{other:?}"),
        }
    }
}

/// Uses everything that a command lends out.
pub fn exhaust(bytes: &[u8]) {
    let _ = tag_and_name(bytes);
    let _ = literal_purpose(bytes);
    let _ = append_rest(bytes, true);
    let _ = append_rest(bytes, false);
    if let Ok(command) = parse(bytes) {
        let _ = show(&command.body);
        let _ = format!("{command:?}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        exhaust(&bytes);
    }

    #[test]
    fn no_command_panics(
        name in prop::sample::select(&[
            "FETCH 1 ", "STORE 1 ", "SEARCH ", "UID SEARCH RETURN (", "LIST ", "APPEND x ", "ID ",
            "STATUS x (", "CREATE x ", "AUTHENTICATE ", "FETCH 1 BODY[", "STORE 1 FLAGS ",
            "FETCH ", "SEARCH SINCE ", "LOGIN ",
        ][..]),
        words in proptest::collection::vec(prop_oneof![
            prop::sample::select(&[
                " ", "(", ")", "[", "]", "<", ">", "\"", "\\", "{1}\r\n", "~{2+}\r\n", "{9}", "*",
                "1", "0", ":", ",", ".", "$", "NOT ", "OR ", "SEEN", "ALL", "BODY", "HEADER.FIELDS",
                "RETURN (", "1-Feb-2026", "99999999999", "NIL", "\r", "\n", "\0", "é", "UTF8 (",
            ][..]).prop_map(|word| word.as_bytes().to_vec()),
            proptest::collection::vec(any::<u8>(), 0..4),
        ], 0..12),
    ) {
        exhaust(&[b"a ", name.as_bytes(), &words.concat(), b"\r\n"].concat());
    }
}
