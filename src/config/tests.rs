//! Every refusal with its line and words; properties of what loads.

use std::net::IpAddr;

use proptest::prelude::*;

use super::declare::Need;
use super::*;

const MINIMAL: &str = "hostname = \"mail.example.org\"\ndomains = [\"example.org\"]\n";

fn minimal() -> Config {
    Config::parse(MINIMAL, "minimal.toml").expect("the minimum is enough")
}

/// `text` below the minimum gives exactly these faults: line (the minimum has two), words of it.
#[track_caller]
fn check(text: &str, want: &[(usize, &str)]) {
    let whole = format!("{MINIMAL}{text}");
    check_whole(&whole, want);
}

#[track_caller]
fn check_whole(whole: &str, want: &[(usize, &str)]) {
    let errors = match Config::parse(whole, "palomar.toml") {
        Ok(_) if want.is_empty() => return,
        Ok(_) => panic!("loads, but should not:\n{whole}"),
        Err(errors) => errors,
    };
    let told = errors.to_string();
    let got: Vec<(usize, String)> = errors
        .lines()
        .map(|(line, fault)| (line, format!("{}; {}", fault.what, fault.remedy)))
        .collect();
    assert_eq!(got.len(), want.len(), "{told}");
    for ((line, text), (want_line, words)) in got.iter().zip(want) {
        assert_eq!(line, want_line, "{told}");
        assert!(text.contains(words), "{words:?} is not in:\n{told}");
    }
    assert!(told.contains("palomar.toml:"), "{told}");
}

#[test]
fn single_keys() {
    check("", &[]);
    check(
        "shrads = 2",
        &[(3, "no key `shrads`; did you mean `shards`")],
    );
    check(
        "recipients_max = 5",
        &[(3, "`recipients_max` belongs below `[limits]`")],
    );
    check("[dns]\nservers = []", &[(4, "nobody to ask")]);
    check_whole(
        "hostname = \"192.0.2.1\"\ndomains = [\"x.org\"]",
        &[(1, "is no domain name")],
    );
    check(
        "[policy]\nspf = \"tag\"",
        &[(3, "there is no key `policy`")],
    );
    check(
        "[limits]\nhostname = \"a.b\"",
        &[(4, "belongs at the top of the file")],
    );
    check(
        "[limits]\nrecipient_max = 5",
        &[(4, "did you mean `recipients_max`")],
    );
    for wrong in [
        "20:00",
        "8:00-20:00",
        "24:00-06:00",
        "20:60-06:00",
        "06:00-06:00",
        "+1:00-02:00",
    ] {
        check(
            &format!("[queue]\nbulk_hours = [\"20:00-06:00\", \"{wrong}\"]"),
            &[(4, "are no hours of a day")],
        );
    }
    check(
        "[limits]\nrecipients_max = \"5\"",
        &[(4, "whole number, without quotes")],
    );
    check(
        "[limits]\nrecipients_max = 0",
        &[(4, "out of range; write 1 to 10000")],
    );
    check("[limits]\nrecipients_max = -1", &[(4, "out of range")]);
    check("[limits]\nmessage_bytes_max = 100", &[(4, "has no unit")]);
    check(
        "[limits]\nmessage_bytes_max = \"100\"",
        &[(4, "it needs a unit; units: B, KB")],
    );
    check(
        "[limits]\nmessage_bytes_max = \"9TB\"",
        &[(4, "out of range; write 64KB to 2GB")],
    );
    check(
        "[limits]\nimap_idle = \"2 weeks\"",
        &[(4, "units: ms, s, m, h, d")],
    );
    check("limits = 5", &[(3, "`limits` is a table")]);
    check(
        "[listener]\nprotocol = \"smtp\"",
        &[(3, "write `[[listener]]` with two brackets")],
    );
    check("shards = 129", &[(3, "write 0 to 128")]);
    check("partitions = 0", &[(3, "write 1 to 16384")]);
    check(
        "partitions = 4\nshards = 5",
        &[(4, "some would own nothing; write at most 4")],
    );
    check("timezone = \"Europe/Atlantis\"", &[(3, "is no time zone")]);
    check("postmaster = \"ana\"", &[(3, "write name@domain")]);
    check("data_dir = \"data\"", &[(3, "begin the path with /")]);
    check("user = 3", &[(3, "must not be of type integer")]);
    check(
        "[log]\nlevel = \"loud\"",
        &[(4, "one of error, warn, info")],
    );
    check(
        "[store]\nquota_refusal = \"drop\"",
        &[(4, "one of defer, reject")],
    );
    check(
        "[[class]]\nname = \"dean\"",
        &[(4, "one of member, staff, student, guest")],
    );
    check(
        "[[class]]\nname = \"guest\"\n[[class]]\nname = \"guest\"",
        &[(6, "two [[class]] tables for guest")],
    );
    check(
        "[dns]\nservers = [\"dns.example.org\"]",
        &[(4, "is no IP address with port")],
    );
    check("x = \n", &[(3, "must be quoted")]);
    check("[smtp.relay]\nsmarthost = \"\"", &[]);
    check(
        "[smtp.relay]\nsmarthost = \"mx.example.net\"",
        &[(4, "has no port; write \"mail.example.org:25\"")],
    );
    check(
        "[smtp]\nsource_addresses = [\"mx.example.net\"]",
        &[(4, "is no IP address")],
    );
    check("[[route]]\ndomain = \"*.a.b\"", &[(4, "for all below it")]);
    check(
        "[[route]]\nhop = \"a.b:25\"",
        &[(3, "`route[0].domain` is missing")],
    );
    check_whole(
        "",
        &[(1, "`hostname` is missing"), (1, "`domains` is missing")],
    );
    check_whole(
        "hostname = \"ma il\"\ndomains = []",
        &[(1, "is no domain name"), (2, "`domains` is empty")],
    );
    check_whole(
        "hostname = \"a.b\"\ndomains = [\"x.org\",\n \"X.org\"]",
        &[(3, "the same twice")],
    );
}

#[test]
fn trusting_everybody_does_not_load() {
    for key in ["trusted_networks", "proxy_networks"] {
        let one = |network: &str| format!("{key} = [\"10.0.0.0/8\",\n\"{network}\"]");
        let everybody = "would trust everybody";
        check(&one("0.0.0.0/0"), &[(4, everybody)]);
        check(&one("::/0"), &[(4, everybody)]);
        check(&one("::ffff:0:0/96"), &[(4, everybody)]);
        check(&one("128.0.0.0/1"), &[(4, everybody)]);
        check(&one("2000::/3"), &[(4, everybody)]);
        check(&one("64:ff9b::/96"), &[(4, everybody)]);
        check(&one("2002::/16"), &[(4, everybody)]);
        check(&one("10.1.2.3/8"), &[(4, "write \"10.0.0.0/8\"")]);
        check(&one("10.0.0.0/33"), &[(4, "too many bits")]);
        check(&one("office"), &[(4, "no network there")]);
        check(&one("fc00::/7"), &[]);
        check(&one("2001:720::/32"), &[]);
        check(&one("192.0.2.7"), &[]);
        let all: Vec<String> = (0..256).map(|n| format!("\"{n}.0.0.0/8\"")).collect();
        check(&format!("{key} = [{}]", all.join(",")), &[(3, everybody)]);
    }
}

#[test]
fn combinations() {
    let listener = |protocol: &str, address: &str, more: &str| {
        format!("[[listener]]\nprotocol = \"{protocol}\"\naddress = \"{address}\"\n{more}\n")
    };
    let plain = "[auth]\nallow_plaintext = true\n";
    check(plain, &[(4, "without a loopback listener")]);
    check(
        &format!("{plain}{}", listener("imap", "0.0.0.0:143", "")),
        &[(4, "without a loopback listener")],
    );
    check(
        &format!("{plain}{}", listener("imap", "127.0.0.1:143", "")),
        &[],
    );
    check(
        &format!("{plain}{}", listener("submission", "[::1]:0", "")),
        &[],
    );
    check(
        &format!("{plain}{}", listener("smtp", "127.0.0.1:25", "")),
        &[(4, "without a loopback listener")],
    );

    // One fault does not drag others along.
    check(
        &format!("{plain}{}", listener("imaap", "127.0.0.1:143", "")),
        &[(6, "one of smtp, submission")],
    );
    check(
        "[tls]\ncertificate = \"/c.pem\"",
        &[(4, "`certificate` without `key`")],
    );
    check(
        "[tls]\nkey = \"/k.pem\"",
        &[(4, "`key` without `certificate`")],
    );
    check(
        "[[tls.pair]]\nkey = \"/k.pem\"",
        &[(3, "`tls.pair[0].certificate` is missing")],
    );
    check(
        &listener("imaps", "0.0.0.0:993", "certificate = \"/c.pem\""),
        &[(6, "`certificate` without `key`")],
    );

    let twice = listener("smtp", "0.0.0.0:25", "") + &listener("lmtp", "0.0.0.0:25", "");
    check(&twice, &[(9, "two listeners on 0.0.0.0:25")]);
    check(
        &(listener("smtp", "127.0.0.1:0", "") + &listener("imap", "127.0.0.1:0", "")),
        &[],
    );
    check(
        "[[listener]]\nprotocol = \"smtp\"",
        &[(3, "`listener[0].address` is missing")],
    );
    check(
        &listener("gopher", "0.0.0.0:70", ""),
        &[(4, "one of smtp, submission")],
    );
    check(
        &listener("smtp", "0.0.0.0", ""),
        &[(5, "is no IP address with port")],
    );
    check(
        &listener("imaps", "0.0.0.0:993", "auth = \"off\""),
        &[(6, "does nothing on imaps")],
    );
    check(
        &listener("pop3s", "0.0.0.0:995", "message_bytes_max = \"1MB\""),
        &[(6, "does nothing on pop3s")],
    );
    check(
        &listener("submission", "0.0.0.0:587", "auth = \"off\""),
        &[(6, "submission without log-in")],
    );
    check(
        &listener("smtp", "0.0.0.0:25", "proxy_protocol = true"),
        &[(6, "nobody may send")],
    );
    check(
        &listener("metrics", "0.0.0.0:9925", ""),
        &[(5, "metrics open to everybody")],
    );
    check(
        &listener("lmtp", "0.0.0.0:24", "trusted_networks = [\"10.0.0.0/8\"]"),
        &[],
    );
}

#[test]
fn ways_out() {
    let route = |rest: &str| format!("[[route]]\ndomain = \"b.org\"\n{rest}\n");
    let relay = |rest: &str| format!("[smtp.relay]\n{rest}\n");
    let user = "user = \"me\"\npassword_file = \"/p\"\n";
    check(&route("tls = \"verified\""), &[]);
    check(&route("hop = \"127.0.0.1:24\"\ntransport = \"lmtp\""), &[]);
    check(&route("transport = \"lmtp\""), &[(5, "to one host alone")]);
    check(
        &(route("") + &route("")),
        &[(7, "two [[route]] tables for b.org")],
    );
    check(&(route("") + "[[route]]\ndomain = \".b.org\""), &[]);
    check(&route(user), &[(5, "no host to log in to")]);
    check(&relay(user), &[(4, "no host to log in to")]);
    check(&relay(&format!("smarthost = \"a.b:25\"\n{user}")), &[]);
    check(
        &relay("smarthost = \"a.b:25\"\nuser = \"me\""),
        &[(5, "without `password_file`")],
    );
    check(
        &relay("smarthost = \"a.b:25\"\npassword_file = \"/p\""),
        &[(5, "without `user`")],
    );
    let clear = |hop: &str| relay(&format!("smarthost = \"{hop}\"\ntls = \"none\"\n{user}"));
    check(&clear("a.b:25"), &[(5, "a password in the clear")]);
    check(&clear("[::1]:25"), &[]);
    check(&clear("localhost:465"), &[(5, "port 465 is TLS")]);
    check(&relay("tls = \"none\""), &[(4, "without `smarthost`")]);
}

#[test]
fn several_errors_are_shown_at_once_with_line_and_remedy() {
    let text = "hostnam = \"mail.example.org\"\ndomains = [\"example.org\"]\n\
                [limits]\nmessage_bytes_max = \"100\"\n";
    let errors = Config::parse(text, "palomar.toml").expect_err("three faults");
    insta::assert_snapshot!(errors.to_string(), @r#"
    error: there is no key `hostnam`
     --> palomar.toml:1:1
      |
    1 | hostnam = "mail.example.org"
      | ^^^^^^^
      |
      = help: did you mean `hostname`?

    error: `hostname` is missing
     --> palomar.toml:1:1
      |
    1 | hostnam = "mail.example.org"
      | ^
      |
      = help: add `hostname = "mail.example.org"`

    error: `limits.message_bytes_max` is not a size such as "100MB": it needs a unit
     --> palomar.toml:4:21
      |
    4 | message_bytes_max = "100"
      |                     ^^^^^
      |
      = help: units: B, KB, MB, GB, TB (1000), KiB, MiB, GiB, TiB (1024)
    "#);
}

#[test]
fn the_minimum_is_a_complete_safe_server() {
    let config = minimal();
    let listeners = config.listeners();
    let shown: Vec<String> = listeners
        .iter()
        .map(|listener| format!("{} {}", listener.protocol, listener.address))
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r"
    smtp [::]:25
    smtp 0.0.0.0:25
    submissions [::]:465
    submissions 0.0.0.0:465
    submission [::]:587
    submission 0.0.0.0:587
    imaps [::]:993
    imaps 0.0.0.0:993
    pop3s [::]:995
    pop3s 0.0.0.0:995
    lmtp 127.0.0.1:24
    metrics 127.0.0.1:9925
    ");
    assert!(!config.auth.allow_plaintext);
    assert!(
        listeners
            .iter()
            .all(|listener| listener.hostname.as_str() == "mail.example.org")
    );
    assert_eq!(
        config.admin_socket(),
        std::path::Path::new("/var/lib/palomar/admin.sock")
    );
    let public: Vec<_> = Protocol::ALL.iter().filter(|p| p.reads_mail()).collect();
    assert_eq!(public.len(), 4);
}

#[test]
fn default_listeners_are_what_the_table_declares() {
    let mut text = MINIMAL.to_owned();
    for listener in minimal().listeners() {
        text += &format!(
            "[[listener]]\nprotocol = \"{}\"\naddress = \"{}\"\n",
            listener.protocol, listener.address
        );
    }
    let listed = Config::parse(&text, "listed.toml").expect("the defaults may be listed");
    assert_eq!(listed.listeners(), minimal().listeners());
}

#[test]
fn domains_are_kept_as_a_labels() {
    let text = "hostname = \"Mail.Example.org\"\ndomains = [\"espa\u{f1}a.example\"]";
    let config = Config::parse(text, "x").expect("U-labels are fine");
    assert_eq!(config.hostname.as_str(), "mail.example.org");
    assert_eq!(config.domains[0].as_str(), "xn--espaa-rta.example");
}

#[test]
fn listeners_inherit_what_they_do_not_say() {
    let text = format!(
        "{MINIMAL}[limits]\nmessage_bytes_max = \"7MB\"\n[[listener]]\nprotocol = \"smtp\"\n\
         address = \"127.0.0.1:2525\"\ntrusted_networks = [\"10.0.0.0/8\"]\n\
         normalise_bare_newlines = true\n"
    );
    let config = Config::parse(&text, "x").expect("good");
    let listener = &config.listeners()[0];
    let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
    assert_eq!(listener.message_bytes_max.0, 7_000_000);
    assert_eq!(listener.auth, AuthMode::Off);
    assert!(listener.normalises(ip("::ffff:10.1.2.3")));
    assert!(!listener.normalises(ip("127.0.0.1")));
}

#[test]
fn where_nobody_logs_in_only_ours_are_served() {
    let text = format!(
        "trusted_networks = [\"10.0.0.0/8\"]\n{MINIMAL}[[listener]]\nprotocol = \"lmtp\"\n\
         address = \"0.0.0.0:24\"\ntrusted_networks = [\"10.1.0.0/16\"]\n\
         [[listener]]\nprotocol = \"imaps\"\naddress = \"0.0.0.0:993\"\n"
    );
    let config = Config::parse(&text, "x").expect("good");
    let serves = |n: usize, ip: &str| config.listeners()[n].serves(ip.parse().expect("address"));
    assert!(serves(0, "127.0.0.1") && serves(0, "10.1.2.3") && serves(1, "192.0.2.1"));
    assert!(!serves(0, "10.2.2.3") && !serves(0, "192.0.2.1"));
}

#[test]
fn the_sample_file_is_the_defaults() {
    let sample = Config::sample();
    let parsed = Config::parse(&sample, "sample").expect("the sample loads");
    assert_eq!(parsed, minimal());
    // And so is every value that it shows as a default.
    let bare = sample.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => rest,
        _ => line,
    });
    let bare = bare.collect::<Vec<_>>().join("\n");
    assert!(bare.contains("\nfailure_delay = \"2s\""), "{bare}");
    let parsed = Config::parse(&bare, "sample").expect("the bare sample loads");
    assert_eq!(parsed, minimal());
}

#[test]
fn every_key_is_declared_with_what_loads() {
    for section in Config::all_sections() {
        for key in section.keys {
            assert!(
                key.path.ends_with(key.name) && !key.doc.is_empty(),
                "{}",
                key.path
            );
            let explained = minimal().explain(key.path).expect("declared");
            assert!(explained.contains(key.kind), "{explained}");
            // In these an example may need others beside it.
            let together = ["[[", "[tls", "[smtp.relay"];
            let is_together = together.iter().any(|t| section.header.starts_with(t));
            if let (Need::Absent(_, example), false) = (key.need, is_together) {
                let line = format!("{} = {}", key.name, read::literal(example));
                check(&format!("{}\n{line}", section.header), &[]);
            }
        }
    }
    assert_eq!(minimal().explain("no.such"), None);
    let limits = minimal()
        .explain("limits.recipients_max")
        .expect("declared");
    assert!(
        limits.contains("now       limits.recipients_max = 150 (default)"),
        "{limits}"
    );
}

#[test]
fn changed_table_shows_only_what_differs_and_loads_back() {
    let text = format!(
        "postmaster = \"ana@example.org\"\n{MINIMAL}\n[limits]\nrecipients_max = 150\n\
         imap_idle = \"45m\"\n[[tls.pair]]\ncertificate = \"/c\"\nkey = \"/k\"\n\
         [[listener]]\nprotocol = \"smtp\"\naddress = \"0.0.0.0:25\"\n\
         [[listener]]\nprotocol = \"imaps\"\naddress = \"0.0.0.0:993\"\nconnections_max = 9\n"
    );
    let config = Config::parse(&text, "x").expect("good");
    let changed = config.to_changed_table();
    assert_eq!(
        Config::parse(&changed, "changed").expect("loads"),
        config,
        "{changed}"
    );
    insta::assert_snapshot!(changed, @r#"
    hostname = "mail.example.org"
    domains = ["example.org"]
    postmaster = "ana@example.org"

    [[tls.pair]]
    certificate = "/c"
    key = "/k"

    [[listener]]
    protocol = "smtp"
    address = "0.0.0.0:25"

    [[listener]]
    protocol = "imaps"
    address = "0.0.0.0:993"
    connections_max = 9

    [limits]
    imap_idle = "45m"
    "#);
}

#[test]
fn diff_tells_what_a_reload_takes_up() {
    let old = minimal();
    let text = format!("shards = 2\n{MINIMAL}[limits]\nimap_idle = \"45m\"\n");
    let new = Config::parse(&text, "x").expect("good");
    assert_eq!(Config::diff(&old, &old), Changes::default());
    let changes = Config::diff(&old, &new);
    let paths = |list: &[Change]| -> Vec<String> {
        list.iter().map(|change| change.path.clone()).collect()
    };
    assert_eq!(paths(&changes.live), ["limits.imap_idle"]);
    assert_eq!(paths(&changes.restart), ["shards"]);
    assert_eq!(changes.live[0].old.as_deref(), Some("\"30m\""));
    let listening = format!(
        "{MINIMAL}[[listener]]\nprotocol = \"imaps\"\naddress = \"0.0.0.0:993\"\n\
         certificate = \"/c\"\nkey = \"/k\"\n"
    );
    let listening = Config::parse(&listening, "x").expect("good");
    assert_eq!(Config::diff(&old, &listening).live, []);
    assert_eq!(Config::diff(&listening, &old).restart.len(), 7);
}

/// Regenerate with `PALOMAR_REGENERATE=1 cargo test --lib config::`.
#[test]
fn the_reference_is_up_to_date() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/CONFIG.md");
    if std::env::var_os("PALOMAR_REGENERATE").is_some() {
        std::fs::create_dir_all(path.parent().expect("docs")).expect("docs can be made");
        std::fs::write(&path, Config::reference()).expect("docs/CONFIG.md can be written");
    }
    let stands = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        stands == Config::reference(),
        "docs/CONFIG.md is stale: run PALOMAR_REGENERATE=1 cargo test --lib config::"
    );
}

fn toml_value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        any::<bool>().prop_map(|b| b.to_string()),
        "[0-9]{0,12} ?(B|KB|MiB|s|m|h|d|x)?".prop_map(|text| format!("\"{text}\"")),
        any::<(u32, u8)>().prop_map(|(ip, bits)| {
            format!("[\"{}/{bits}\"]", std::net::Ipv4Addr::from_bits(ip))
        }),
        any::<(u128, u8)>().prop_map(|(ip, bits)| {
            format!("[\"{}/{bits}\"]", std::net::Ipv6Addr::from_bits(ip))
        }),
        "\\PC{0,20}",
        Just("{ a = 1 }".to_owned()),
        Just("\"\"\"\u{f1}\n\"\"\"".to_owned()),
    ]
}

fn any_line() -> impl Strategy<Value = String> {
    let keys: Vec<&str> = Config::all_sections()
        .iter()
        .flat_map(|section| section.keys.iter().flat_map(|key| [key.name, key.path]))
        .collect();
    let headers: Vec<&str> = Config::all_sections().iter().map(|s| s.header).collect();
    prop_oneof![
        4 => (proptest::sample::select(keys), toml_value())
            .prop_map(|(key, value)| format!("{key} = {value}")),
        1 => proptest::sample::select(headers).prop_map(str::to_owned),
        1 => "\\PC{0,30}",
        1 => "[\\[\\]{}=\"'#., a-z\r\n\t0-9\u{0}-\u{20}]{0,30}",
    ]
}

proptest! {
    #[test]
    fn no_text_panics(lines in proptest::collection::vec(any_line(), 0..12), bare in ".*") {
        for text in [lines.join("\n"), format!("{MINIMAL}{}", lines.join("\n")), bare] {
            match Config::parse(&text, "x") {
                Ok(config) => {
                    let changed = Config::parse(&config.to_changed_table(), "changed");
                    prop_assert_eq!(changed.expect("loads back"), config);
                }
                Err(errors) => {
                    prop_assert!(!errors.render(true).is_empty());
                    prop_assert!(errors.lines().count() > 0);
                }
            }
        }
    }

    /// Whatever networks are listed: if it loads, most of the world is outside.
    #[test]
    fn no_config_that_loads_trusts_everybody(
        v4 in proptest::collection::vec((any::<u32>(), 0u8..=32), 0..40),
        v6 in proptest::collection::vec((any::<u128>(), 0u8..=128), 0..10),
    ) {
        let v4 = v4.iter().map(|&(ip, bits)| {
            let ip = ip & u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            format!("\"{}/{bits}\"", std::net::Ipv4Addr::from_bits(ip))
        });
        let v6 = v6.iter().map(|&(ip, bits)| {
            let ip = ip & u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            format!("\"{}/{bits}\"", std::net::Ipv6Addr::from_bits(ip))
        });
        let list = v4.chain(v6).collect::<Vec<_>>().join(",");
        let text = format!("{MINIMAL}trusted_networks = [{list}]\nproxy_networks = [{list}]");
        if let Ok(config) = Config::parse(&text, "x") {
            for listener in config.listeners() {
                // One address in each /8, and one in each /11 of 2000::/3.
                let v4 = (0..=255u8).filter(|n| listener.trusts(IpAddr::from([*n, 1, 2, 3])));
                prop_assert!(v4.count() <= 32);
                let v6 = (0..=255u16).filter(|n| {
                    listener.trusts(IpAddr::from([0x2000 + 32 * n, 1, 0, 0, 0, 0, 0, 1]))
                });
                prop_assert!(v6.count() <= 64);
            }
        }
    }
}
