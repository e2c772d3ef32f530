//! The room as a whole on a simulated disk, with a store, and a DNS that says what it is told to.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::counters::Reason;
use super::desk::EntryKey;
use super::reports;
use super::route::report::{Day, PolicyKey};
use super::schedule::{Outcome, Verdict, Verdicts};
use super::{Parts, Queue, RouteSettings, UnderWay, Way, destination_of, mesh};
use crate::base::{Deadline, ShardId, UnixMs};
use crate::config::Config;
use crate::dns::{Resolver, Script};
use crate::net::OutgoingTls;
use crate::runtime::{self, Disk, DiskOp, Gate, SimDisk, simulate};
use crate::store::{
    Body, MailClass, Message, Outbound, OutboundRecipient, Remote, Store, StoreConfig,
};
use crate::wire::address::{Mailbox, Path};
use crate::wire::smtp::{BodyKind, MailFrom, RcptTo};

const BEGIN: UnixMs = UnixMs(1_790_000_000_000);
const HOUR_MS: i64 = 3_600_000;
const ENOSPC: i32 = 28;
const EIO: i32 = 5;

/// One shard with a queue.
struct World {
    sim: SimDisk,
    remote: Remote,
    queue: Queue,
}

impl World {
    /// Bodies go to spool files, so that the disk may refuse them.
    async fn start(sim: &SimDisk, config: &str, dns: &str) -> World {
        let disk = Disk::sim(sim.clone());
        let mut cfg = StoreConfig::new(PathBuf::from("/data"), 1);
        cfg.partitions = 4;
        cfg.lock = false;
        cfg.body_memory_bytes_max = 0;
        let recovered = Store::recover_all(cfg, &disk).await.expect("recovers");
        let store = Store::open(ShardId(0), &recovered, disk.clone()).await;
        let remote = store.expect("opens").remote();
        let text = format!("hostname = \"me.test\"\ndomains = [\"me.test\"]\n{config}");
        let config = Config::parse(&text, "test").unwrap_or_else(|errors| panic!("{errors}"));
        let (mesh, mut inboxes) = mesh(1);
        let to_elsewhere = |address: &Mailbox, _: &Path| Way {
            elsewhere: vec![address.clone()],
            ..Way::default()
        };
        let parts = Parts {
            remote: remote.clone(),
            disk,
            routes: Arc::new(RouteSettings::load(&config, &[]).expect("no passwords")),
            resolver: Resolver::scripted(Script::new(dns)),
            tls: OutgoingTls::load(None).expect("no file is named"),
            ways: Rc::new(to_elsewhere),
            sign: Rc::new(|_| b"DKIM-Signature: v=1\r\n".to_vec()),
            mesh,
            inbox: inboxes.pop().expect("one shard"),
            under_way: UnderWay::default(),
            gate: Gate::new(),
        };
        World {
            sim: sim.clone(),
            remote,
            queue: Queue::start(ShardId(0), &config, parts),
        }
    }

    async fn message(&self, text: &str) -> Arc<Message> {
        let mut incoming = self.remote.incoming();
        incoming.write(text.as_bytes()).await.expect("room");
        incoming.finish().await.expect("room")
    }

    /// A letter that is due tomorrow.
    async fn letter(&self, to: &str) -> EntryKey {
        let message = self.message("Subject: one\r\n\r\nText.\r\n").await;
        let outbound = Some(Box::new(outbound(to)));
        let until = Deadline::after(runtime::now(), Duration::from_secs(20));
        let trace = runtime::trace_id();
        let sent = self
            .remote
            .send(message, Vec::new(), outbound, trace, until);
        sent.await.expect("durable")
    }

    /// Every entry: its envelope and its text.
    async fn entries(&self) -> Vec<(Outbound, String)> {
        let mut found = Vec::new();
        let mut see = |key: EntryKey, seen: crate::store::QueueEntry<'_>| {
            found.push((key, seen.outbound.clone()));
        };
        self.remote.queue_entries(&mut see).await;
        let mut entries = Vec::new();
        for (key, outbound) in found {
            let message = self.remote.queue_body(key).await.expect("a body");
            let Body::Spool(path) = &message.body else {
                panic!("no memory is given to bodies");
            };
            let bytes = self.queue.shop.means.disk.read(path).await.expect("reads");
            entries.push((outbound, String::from_utf8(bytes).expect("text")));
        }
        entries
    }

    /// A connection for `domain`, whose TLS was good.
    fn count(&self, domain: &str) {
        let (today, policy) = (Day::of(runtime::unix_now()), PolicyKey::none(domain));
        let router = &self.queue.shop.means.router;
        router.with_tally(|tally| tally.count(today, policy, Ok(())));
    }

    fn counted(&self) -> Vec<String> {
        let tomorrow = Day::of(runtime::unix_now()).next();
        let rows = reports::rows(self.queue.shop.tallies(tomorrow)).into_iter();
        rows.map(|row| format!("{} {} {}", row.day, row.domain, row.successes))
            .collect()
    }

    fn recipient(&self, entry: EntryKey) -> OutboundRecipient {
        let first = |seen: crate::store::QueueEntry<'_>| seen.outbound.recipients[0].clone();
        self.remote.queue_entry(entry, first).expect("it waits")
    }
}

fn outbound(to: &str) -> Outbound {
    let mailbox = |text: &str| Path::Mailbox(Mailbox::parse(text).expect("an address"));
    Outbound {
        mail: MailFrom {
            body: BodyKind::EightBit,
            ..MailFrom::new(mailbox("ana@there.test"))
        },
        class: MailClass::Normal,
        submitter: None,
        head: Vec::new(),
        expires: UnixMs(BEGIN.0 + 120 * HOUR_MS),
        recipients: vec![OutboundRecipient::waiting(
            RcptTo::new(mailbox(to)),
            destination_of(&Mailbox::parse(to).expect("an address")),
            UnixMs(BEGIN.0 + 24 * HOUR_MS),
        )],
    }
}

/// The disk had no room for the notice that a letter is late, and the attempt, which was on record
/// by then, was put there again and again until there was: each time one more try was counted, and
/// logged.
#[test]
fn an_attempt_is_on_record_once_whatever_becomes_of_its_notice() {
    let sim = SimDisk::new(1);
    simulate(1, BEGIN, async move {
        let world = World::start(&sim, "", "").await;
        let entry = world.letter("bea@far.test").await;
        let outcome = Outcome {
            at: UnixMs(BEGIN.0 + 5 * HOUR_MS),
            hop: "mx.far.test".into(),
            verdicts: vec![Verdicts {
                ordinal: 0,
                verdict: Verdict::Deferred(Reason::Rcpt),
                status: "4.2.1".into(),
                reply: "450 4.2.1 later".into(),
            }],
            not_before: None,
            is_damaged: false,
        };
        // Of each two the first reads the letter, which a notice can do without.
        for nth in 1..=6 {
            world.sim.fail(DiskOp::Open, "spool", nth, ENOSPC);
        }
        let began = runtime::now();
        world.queue.shop.record(entry, "far.test", outcome).await;
        let waited = runtime::now().saturating_duration_since(began);
        assert!(
            waited >= Duration::from_secs(3),
            "three times no room: {waited:?}"
        );
        let recipient = world.recipient(entry);
        assert!(recipient.is_delay_told, "{recipient:?}");
        assert_eq!(recipient.tries, 1);
    });
}

/// Where nothing can be put on record any more, what was delivered is not tried again: it would be
/// delivered again each time.
#[test]
fn a_poisoned_store_sends_nothing_twice() {
    let sim = SimDisk::new(1);
    simulate(1, BEGIN, async move {
        let world = World::start(&sim, "", "").await;
        let entry = world.letter("bea@far.test").await;
        let rows = &world.queue.shop.rows;
        while rows.borrow().len() == 0 {
            runtime::sleep(Duration::from_millis(1)).await;
        }
        let day = UnixMs(BEGIN.0 + 25 * HOUR_MS);
        assert_eq!(rows.borrow_mut().take(day, 9).len(), 1);
        let outcome = Outcome {
            at: day,
            hop: "mx.far.test".into(),
            verdicts: vec![Verdicts {
                ordinal: 0,
                verdict: Verdict::Delivered {
                    is_dsn_passed: true,
                },
                status: "2.0.0".into(),
                reply: "250 2.0.0 taken".into(),
            }],
            not_before: None,
            is_damaged: false,
        };
        world.sim.fail(DiskOp::Fdatasync, "", 1, EIO);
        world.queue.shop.record(entry, "far.test", outcome).await;
        assert_eq!(rows.borrow().out(), 1);
        assert!(rows.borrow_mut().take(UnixMs(i64::MAX), 9).is_empty());
    });
}

/// A letter that is late at two destinations was told of twice, once for each.
#[test]
fn a_delay_is_told_once_for_all_who_wait() {
    let sim = SimDisk::new(1);
    life(
        &sim,
        BEGIN.0,
        "there.test MX timeout",
        async |world: World| {
            let message = world.message("Subject: one\r\n\r\nText.\r\n").await;
            let mut outbound = outbound("a@one.test");
            for to in ["b@two.test", "c@three.test"] {
                outbound.recipients.extend(self::outbound(to).recipients);
            }
            let until = Deadline::after(runtime::now(), Duration::from_secs(20));
            let (outbound, trace) = (Some(Box::new(outbound)), runtime::trace_id());
            let sent = world
                .remote
                .send(message, Vec::new(), outbound, trace, until);
            let entry = sent.await.expect("durable");
            let deferred = |ordinal, hours| Outcome {
                at: UnixMs(BEGIN.0 + hours * HOUR_MS),
                hop: "mx.test".into(),
                verdicts: vec![Verdicts {
                    ordinal,
                    verdict: Verdict::Deferred(Reason::Rcpt),
                    status: "4.2.1".into(),
                    reply: "450 4.2.1 later".into(),
                }],
                not_before: None,
                is_damaged: false,
            };
            let shop = &world.queue.shop;
            shop.record(entry, "one.test", deferred(0, 1)).await;
            shop.record(entry, "two.test", deferred(1, 1)).await;
            let told = || {
                let all = |seen: crate::store::QueueEntry<'_>| {
                    let each = seen.outbound.recipients.iter();
                    each.map(|recipient| recipient.is_delay_told)
                        .collect::<Vec<_>>()
                };
                world.remote.queue_entry(entry, all).unwrap_or_default()
            };
            assert_eq!(told(), vec![false; 3]);
            // Two find it out at once; the third was not tried yet.
            futures_lite::future::zip(
                shop.record(entry, "one.test", deferred(0, 5)),
                shop.record(entry, "two.test", deferred(1, 5)),
            )
            .await;
            assert_eq!(told(), [true, true, false]);
            let entries = world.entries().await;
            let notices = entries
                .iter()
                .filter(|(_, text)| text.contains("Action: delayed"));
            assert_eq!(notices.count(), 1, "{entries:?}");
        },
    );
}

const REPORTED: &str = "_smtp._tls.far.test TXT v=TLSRPTv1; rua=mailto:tls@reports.test\n\
                        reports.test MX timeout";

/// One life of the process, with a DNS that says this.
fn life(sim: &SimDisk, at: i64, dns: &'static str, body: impl AsyncFnOnce(World) + 'static) {
    let sim = sim.clone();
    simulate(1, UnixMs(at), async move {
        body(World::start(&sim, "", dns).await).await;
    });
}

/// What was counted outlives a power cut, is told at some moment of the next morning those who
/// asked for it, once, and then goes.
#[test]
fn tls_is_reported_after_the_day_whatever_happens_in_it() {
    let sim = SimDisk::new(1);
    life(&sim, BEGIN.0, REPORTED, async |world: World| {
        world.count("far.test");
        world.count("far.test");
        world.count("silent.test");
        runtime::sleep(Duration::from_secs(400)).await;
        // Nobody has time for this one.
        world.count("far.test");
    });
    let sim = sim.power_cut(2);
    life(&sim, BEGIN.0 + HOUR_MS, REPORTED, async |world: World| {
        let kept = ["2026-09-21 far.test 2", "2026-09-21 silent.test 1"];
        assert_eq!(world.counted(), kept);
        world.count("far.test");
        // It is 15:13; at 4:05 it is done.
        runtime::sleep(Duration::from_secs(8 * 3600)).await;
        assert_eq!(world.entries().await.len(), 0);
        runtime::sleep(Duration::from_secs(5 * 3600)).await;
        assert_eq!(world.counted(), [""; 0]);
        let entries = world.entries().await;
        let [(outbound, text)] = &entries[..] else {
            panic!("{entries:?}");
        };
        let head = String::from_utf8_lossy(&outbound.head);
        assert_eq!(head, "DKIM-Signature: v=1\r\nTLS-Required: No\r\n");
        assert_eq!(outbound.mail.path.to_string(), "<postmaster@me.test>");
        let to = &outbound.recipients[0].rcpt;
        assert_eq!(to.path.to_string(), "<tls@reports.test>");
        assert_eq!(to.notify, Some(crate::wire::smtp::Notify::default()));
        for want in ["TLS-Report-Domain: far.test\r\n", "!far.test!1789948800!"] {
            assert!(text.contains(want), "{want}: {text}");
        }
    });
    let sim = sim.power_cut(3);
    life(
        &sim,
        BEGIN.0 + 15 * HOUR_MS,
        REPORTED,
        async |world: World| {
            assert_eq!(world.counted(), [""; 0]);
            assert_eq!(reports::kept_rows(&world.remote), []);
            assert_eq!(world.entries().await.len(), 1);
        },
    );
}

/// Notices that nobody takes are told the postmaster: all that came within an hour in one message,
/// and the next one a day later, over a power cut.
#[test]
fn double_bounces_are_told_once_a_day() {
    let fail = async |world: &World, to: &str| {
        let message = world.message("Subject: notice\r\n\r\nText.\r\n").await;
        let mut outbound = outbound(to);
        outbound.mail.path = Path::Null;
        outbound.recipients[0].rcpt.notify = Some(crate::wire::smtp::Notify::default());
        let until = Deadline::after(runtime::now(), Duration::from_secs(20));
        let outbound = Some(Box::new(outbound));
        let trace = runtime::trace_id();
        let sent = world
            .remote
            .send(message, Vec::new(), outbound, trace, until);
        let entry = sent.await.expect("durable");
        let outcome = Outcome {
            at: runtime::unix_now(),
            hop: "mx.far.test".into(),
            verdicts: vec![Verdicts {
                ordinal: 0,
                verdict: Verdict::Failed,
                status: "5.1.1".into(),
                reply: "550 5.1.1 nobody".into(),
            }],
            not_before: None,
            is_damaged: false,
        };
        world.queue.shop.record(entry, "far.test", outcome).await;
    };
    let digests = async |world: &World| {
        let entries = world.entries().await.into_iter();
        let texts = entries.map(|(_, text)| text);
        texts
            .filter(|text| text.contains("Subject: Notices that could not be delivered"))
            .collect::<Vec<_>>()
    };
    // The postmaster is elsewhere, where nobody answers today.
    let dns = "me.test MX timeout";
    let sim = SimDisk::new(1);
    life(&sim, BEGIN.0, dns, async move |world: World| {
        fail(&world, "bea@far.test").await;
        fail(&world, "bea@far.test").await;
        runtime::sleep(Duration::from_secs(1800)).await;
        assert_eq!(digests(&world).await.len(), 0);
    });
    let sim = sim.power_cut(2);
    life(
        &sim,
        BEGIN.0 + HOUR_MS / 2,
        dns,
        async move |world: World| {
            fail(&world, "eva@far.test").await;
            runtime::sleep(Duration::from_secs(3600)).await;
            let [digest] = &digests(&world).await[..] else {
                panic!("one digest");
            };
            let rows = [
                "     2  <bea@far.test>",
                "     1  <eva@far.test>",
                "  Subject: notice\r\n",
            ];
            for want in rows {
                assert!(digest.contains(want), "{want}: {digest}");
            }
            fail(&world, "late@far.test").await;
            runtime::sleep(Duration::from_secs(400)).await;
        },
    );
    let sim = sim.power_cut(3);
    life(
        &sim,
        BEGIN.0 + 20 * HOUR_MS,
        dns,
        async move |world: World| {
            runtime::sleep(Duration::from_secs(2 * 3600)).await;
            assert_eq!(digests(&world).await.len(), 1);
            runtime::sleep(Duration::from_secs(5 * 3600)).await;
            let found = digests(&world).await;
            let late = found.last().expect("another one");
            assert!(late.contains("<late@far.test>") && !late.contains("<bea@far.test>"));
        },
    );
}
