//! Plans from scripted answers: what the DNS and the site say, and what comes of it.

pub(super) mod peers;
mod secure;

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::base::UnixMs;
use crate::config::Config;
use crate::dns::Script;
use crate::queue::client::Security;
use crate::runtime::simulate;

const BEGIN: UnixMs = UnixMs(1_790_000_000_000);

/// What a test begins with.
struct World {
    config: String,
    script: Script,
    seed: u64,
}

impl World {
    fn new(config: &str, dns: &str) -> Self {
        World {
            config: config.to_owned(),
            script: Script::new(dns),
            seed: 7,
        }
    }

    fn settings(&self) -> Arc<Settings> {
        self.settings_with(|settings| settings)
    }

    fn settings_with(&self, change: impl FnOnce(Settings) -> Settings) -> Arc<Settings> {
        let text = format!(
            "hostname = \"me.test\"\ndomains = [\"test\"]\n{}",
            self.config
        );
        let config = Config::parse(&text, "test").unwrap_or_else(|errors| panic!("{errors}"));
        let own = ["198.51.100.99".parse().expect("an address")];
        Arc::new(change(Settings::load(&config, &own).expect("passwords")))
    }

    fn router(&self) -> Router {
        let resolver = Resolver::scripted(self.script.clone());
        let tls = OutgoingTls::load(None).expect("no file is named");
        Router::new(self.settings(), resolver, tls, Rc::new(Unkept), self.seed)
    }

    /// The plan as it is told.
    fn plan(&self, destination: &'static str) -> String {
        let router = self.router();
        simulate(1, BEGIN, async move {
            told(&router.plan(destination, soon()).await)
        })
    }
}

fn ours() -> Ours {
    Ours {
        own_name: "me.test".to_owned(),
        is_chunking_used: true,
        recipients_max: 1,
        letters_max: 1,
        times: Default::default(),
    }
}

fn soon() -> Deadline {
    Deadline::after(runtime::now(), Duration::from_secs(60))
}

/// On one line: the addresses with their hosts, or why there are none.
fn told(plan: &Result<Plan, NoRoute>) -> String {
    match plan {
        Ok(plan) => {
            let hop = |hop: &Hop| format!("{}={}", hop.host, hop.address);
            plan.hops.iter().map(hop).collect::<Vec<_>>().join(" ")
        }
        Err(why) => format!("{} {why}", why.enhanced()),
    }
}

/// `destination` with this in the DNS and no word of the site's.
#[track_caller]
fn check(dns: &str, destination: &'static str, want: &str) {
    let got = World::new("", dns).plan(destination);
    // A refusal may go on; a list of hosts is all of them.
    let is_it = match want.contains('=') {
        true => got == want,
        false => got.starts_with(want),
    };
    assert!(is_it, "{destination}: {got}\nand not {want}");
}

#[test]
fn who_takes_the_mail_of_a_domain() {
    let hosts = "a.mx A 192.0.2.1\nb.mx A 192.0.2.2\nme.test A 198.51.100.9\nlo.mx A 127.0.0.1";
    let mx = |records: &str| format!("{hosts}\n{records}");
    check(
        &mx("d MX 20 a.mx.\nd MX 10 b.mx."),
        "d",
        "b.mx=192.0.2.2:25 a.mx=192.0.2.1:25",
    );
    check(
        &mx("d MX 10 a.mx\nd MX 20 a.mx"),
        "D.",
        "5.1.2 D. is no domain",
    );
    check(&mx("d MX 10 a.mx\nd MX 20 a.mx"), "D", "a.mx=192.0.2.1:25");
    // RFC 7505.
    check(&mx("d MX 0 ."), "d", "5.1.10 ");
    check(&mx("d MX 0 .\nd MX 10 a.mx"), "d", "a.mx=192.0.2.1:25");
    // The domain itself.
    check(&mx(""), "a.mx", "a.mx=192.0.2.1:25");
    check("d TXT hello", "d", "5.4.4 no host takes mail");
    check("", "d", "5.1.2 the domain does not exist");
    // What the DNS does not say.
    check("d MX servfail", "d", "4.4.3 looking up MX of d: ");
    check("d MX timeout", "d", "4.4.3 ");
    check("d MX bogus", "d", "4.4.3 ");
    check("d MX none\nd A servfail", "d", "4.4.3 looking up A of d");
    check(
        &mx("d MX 10 x.mx\nx.mx A timeout"),
        "d",
        "4.4.3 looking up A of x.mx",
    );
    // Hosts that are none.
    check(
        &mx("d MX 10 192.0.2.7\nd MX 20 a.mx"),
        "d",
        "a.mx=192.0.2.1:25",
    );
    check(&mx("d MX 10 192.0.2.7"), "d", "5.4.4 ");
    check(
        &mx("d MX 10 gone.mx\nd MX 20 a.mx"),
        "d",
        "a.mx=192.0.2.1:25",
    );
    check(&mx("d MX 10 gone.mx"), "d", "5.4.4 no host takes mail");
    check(
        &mx("d MX 10 x.mx\nd MX 20 a.mx\nx.mx A servfail\nx.mx AAAA 2001:db8::1"),
        "d",
        "x.mx=[2001:db8::1]:25 a.mx=192.0.2.1:25",
    );
    // Behind a stranger's names.
    check(
        &mx("d MX 10 lo.mx"),
        "d",
        "5.4.4 the domain names no host that can be reached",
    );
    check(&mx("d MX 10 lo.mx\nd MX 20 a.mx"), "d", "a.mx=192.0.2.1:25");
    check(&mx("d MX 10 localhost"), "d", "5.4.4 ");
    // Aliases.
    check(&mx("d CNAME e\ne MX 10 a.mx"), "d", "a.mx=192.0.2.1:25");
    check(&mx("d CNAME a.mx"), "d", "d=192.0.2.1:25");
    check(
        &mx("d MX 10 c.mx\nc.mx CNAME b.mx"),
        "d",
        "c.mx=192.0.2.2:25",
    );
    // Literals.
    check("", "[192.0.2.5]", "192.0.2.5=192.0.2.5:25");
    check("", "[IPv6:2001:db8::5]", "2001:db8::5=[2001:db8::5]:25");
    check("", "[127.0.0.1]", "5.4.4 ");
    check("", "[IPv6:::ffff:10.0.0.1]", "5.4.4 ");
    check("", "[198.51.100.99]", "5.4.6 ");
    check("", "[X:y]", "5.1.2 ");
    check("", "no domain", "5.1.2 ");
}

#[test]
fn mail_does_not_come_back() {
    let hosts = "a.mx A 192.0.2.1\nb.mx A 192.0.2.2\nown.mx A 198.51.100.99\nme.test A 192.0.2.9";
    let mx = |records: &str| format!("{hosts}\n{records}");
    check(&mx("d MX 10 me.test"), "d", "5.4.6 ");
    check(&mx("d MX 10 own.mx\nd MX 10 a.mx"), "d", "5.4.6 ");
    check(
        &mx("d MX 10 a.mx\nd MX 20 me.test\nd MX 20 b.mx"),
        "d",
        "a.mx=192.0.2.1:25",
    );
    check(
        &mx("d MX 10 b.mx\nd MX 20 own.mx\nd MX 30 a.mx"),
        "d",
        "b.mx=192.0.2.2:25",
    );
    check(&mx(""), "own.mx", "5.4.6 ");
}

#[test]
fn what_the_site_says() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("password");
    std::fs::write(&file, "secret\nanything").expect("a file");
    let login = format!("user = \"me\"\npassword_file = \"{}\"\n", file.display());
    let route = |domain: &str, rest: &str| format!("[[route]]\ndomain = \"{domain}\"\n{rest}\n");
    let smarthost = format!("[smtp.relay]\nsmarthost = \"smart.test:587\"\n{login}");
    let config = [
        &smarthost,
        &route("direct.org", ""),
        &route(".b.org", "hop = \"127.0.0.1:2024\"\ntransport = \"lmtp\""),
        &route("x.b.org", "hop = \"[::1]:465\""),
        &route("plain.org", "tls = \"none\""),
        &route("safe.org", "tls = \"verified\""),
        &route("gone.org", "hop = \"gone.test:25\""),
        &route("home.org", &format!("hop = \"localhost:25\"\n{login}")),
    ];
    let config = config.map(String::as_str).concat();
    let dns = "smart.test A 10.1.2.3\na.mx A 192.0.2.1\ndirect.org MX 5 a.mx\nplain.org MX 5 a.mx\n\
               safe.org MX 5 a.mx";
    let world = World::new(&config, dns);
    let router = world.router();
    let check = |destination: &'static str, want: &str| {
        let router = router.clone();
        let got = simulate(1, BEGIN, async move {
            let plan = match router.plan(destination, soon()).await {
                Ok(plan) => plan,
                failed => return told(&failed),
            };
            let hop = &plan.hops[0];
            let terms = hop.terms(&ours());
            let way = &plan.way;
            let from_start = if terms.is_tls_from_start {
                " at once"
            } else {
                ""
            };
            let login = match &terms.login {
                Some(login) if login.password.expose() == b"secret" => {
                    format!(" as {}", login.name)
                }
                Some(_) => " with another password".to_owned(),
                None => String::new(),
            };
            let clear = match hop.in_the_clear() {
                Some(clear) if clear.security() == Security::Never => " or in the clear",
                _ => "",
            };
            format!(
                "{} {:?} {:?}{clear}{from_start}{login} by {way}",
                hop.address, terms.protocol, terms.security
            )
        });
        assert_eq!(got, want, "{destination}");
    };
    check(
        "a.example",
        "10.1.2.3:587 Smtp Verified as me by the site's smarthost",
    );
    check(
        "[192.0.2.77]",
        "10.1.2.3:587 Smtp Verified as me by the site's smarthost",
    );
    check(
        "direct.org",
        "192.0.2.1:25 Smtp Opportunistic or in the clear by the MX of the domain",
    );
    let lmtp = "127.0.0.1:2024 Lmtp Opportunistic or in the clear by the site's route for .b.org";
    check("a.x.b.org", lmtp);
    check(
        "x.b.org",
        "[::1]:465 Smtp Opportunistic at once by the site's route for x.b.org",
    );
    check(
        "plain.org",
        "192.0.2.1:25 Smtp Never by the MX of the domain",
    );
    check(
        "safe.org",
        "192.0.2.1:25 Smtp Verified by the MX of the domain",
    );
    let gone = "4.3.5 gone.test, which this site sends the mail through, has no address";
    check("gone.org", gone);
    check(
        "home.org",
        "[::1]:25 Smtp Opportunistic or in the clear as me by the site's route for home.org",
    );
    let all = World::new(&(smarthost + &route("*", "")), dns);
    assert!(
        all.plan("direct.org").starts_with("a.mx="),
        "a route is nearer than the smarthost"
    );
}

#[test]
fn addresses_take_turns() {
    let dns = "d MX 1 a.mx\nd MX 2 b.mx\na.mx A 192.0.2.1\na.mx AAAA 2001:db8::1\nb.mx A 192.0.2.2\n\
               b.mx AAAA 2001:db8::2";
    let world = World::new("", dns);
    let router = world.router();
    let outcomes = simulate(1, BEGIN, async move {
        let ip = |text: &str| text.parse().expect("an address");
        let mut outcomes = vec![told(&router.plan("d", soon()).await)];
        router.worked(ip("192.0.2.2"));
        outcomes.push(told(&router.plan("d", soon()).await));
        router.failed(ip("192.0.2.1"));
        outcomes.push(told(&router.plan("d", soon()).await));
        router.worked(ip("192.0.2.1"));
        outcomes.push(told(&router.plan("d", soon()).await));
        outcomes
    });
    let v4_first =
        "a.mx=192.0.2.1:25 a.mx=[2001:db8::1]:25 b.mx=192.0.2.2:25 b.mx=[2001:db8::2]:25";
    let want = [
        "a.mx=[2001:db8::1]:25 a.mx=192.0.2.1:25 b.mx=[2001:db8::2]:25 b.mx=192.0.2.2:25",
        v4_first,
        "a.mx=[2001:db8::1]:25 b.mx=192.0.2.2:25 b.mx=[2001:db8::2]:25 a.mx=192.0.2.1:25",
        v4_first,
    ];
    assert_eq!(outcomes, want);
}

#[test]
fn equal_hosts_share_the_mail() {
    let dns = "d MX 1 a.mx\nd MX 1 b.mx\nd MX 1 c.mx\na.mx A 192.0.2.1\nb.mx A 192.0.2.2\n\
               c.mx A 192.0.2.3";
    let mut first = std::collections::BTreeMap::new();
    let router = World::new("", dns).router();
    for _ in 0..300 {
        let router = router.clone();
        let plan = simulate(1, BEGIN, async move { router.plan("d", soon()).await });
        let plan = plan.expect("a plan");
        *first.entry(plan.hops[0].host.clone()).or_insert(0) += 1;
    }
    assert_eq!(first.len(), 3);
    assert!(
        first.values().all(|count| (60..140).contains(count)),
        "{first:?}"
    );
}

#[test]
fn a_plan_is_bounded() {
    let mut dns = String::new();
    for host in 0..40 {
        dns += &format!("d MX {} h{host}.mx\n", host / 2);
        for n in 0..20 {
            dns += &format!("h{host}.mx A 192.0.{host}.{n}\n");
        }
    }
    let world = World::new("", &dns);
    let router = world.router();
    let plan = simulate(1, BEGIN, async move { router.plan("d", soon()).await });
    let plan = plan.expect("a plan");
    assert_eq!(plan.hops.len(), HOPS_MAX);
    let mut hosts: Vec<_> = plan.hops.iter().map(|hop| hop.host.as_str()).collect();
    hosts.dedup();
    assert_eq!(hosts.len(), HOSTS_MAX, "each has a place: {hosts:?}");
    // The MX, both kinds of addresses, the policy.
    assert!(world.script.asked().len() <= 1 + 2 * plan::HOSTS_ASKED_MAX + 1);
}

/// The next message to the same domain asks nobody, for as long as the DNS allows, and seconds.
#[test]
fn what_was_just_found_is_used_again() {
    let check = |ttl: u32, wait: u64, want: usize| {
        let world = World::new("", "d MX 1 a.mx\na.mx A 192.0.2.1");
        world.script.set_ttl(ttl);
        let (router, script) = (world.router(), world.script.clone());
        let asked = simulate(1, BEGIN, async move {
            let first = told(&router.plan("d", soon()).await);
            let all = script.asked().len();
            runtime::sleep(Duration::from_secs(wait)).await;
            assert_eq!(told(&router.plan("d", soon()).await), first);
            (all, script.asked().len())
        });
        // MX, A, AAAA and the policy's record.
        assert_eq!(asked, (4, want), "ttl {ttl}, {wait} s later");
    };
    check(60, 0, 0);
    check(60, 9, 0);
    check(60, 10, 4);
    check(5, 4, 0);
    check(5, 5, 4);
    check(0, 0, 4);
}
