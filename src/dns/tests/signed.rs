//! A signed root, a signed zone and one that is not, and what a forger makes of them.

use std::collections::HashMap;
use std::sync::Arc;

use hickory_proto::dnssec::crypto::Ed25519SigningKey;
use hickory_proto::dnssec::rdata::{DNSKEY, DNSSECRData, DS, NSEC, RRSIG, SigInput};
use hickory_proto::dnssec::{Algorithm, DigestType, SigningKey as _, TBS};
use hickory_proto::op::{Edns, ResponseCode};
use hickory_proto::rr::rdata::NS;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType, SerialNumber};
use proptest::prelude::*;

use super::super::answer::{DnsError, Kind, Outcome, Security};
use super::super::resolver::{Resolver, Settings};
use super::super::sim::SimNet;
use super::super::transport::Transport;
use super::super::validate::Anchors;
use super::{BEGIN, a, alias, answer, at_once, name, record, server, soa};
use crate::base::UnixMs;
use crate::config::DnssecMode;
use crate::runtime::simulate;

/// Signatures hold for an hour on both sides of the beginning.
const HOUR: u32 = 3600;

/// A zone's name and key.
struct Signer {
    zone: Name,
    key: Ed25519SigningKey,
    dnskey: DNSKEY,
}

impl Signer {
    fn new(zone: &str) -> Self {
        let der = Ed25519SigningKey::generate_pkcs8().unwrap();
        let key = Ed25519SigningKey::from_pkcs8(&der).unwrap();
        let dnskey = DNSKEY::from_key(&key.to_public_key().unwrap());
        Signer {
            zone: name(zone),
            key,
            dnskey,
        }
    }

    /// The records of one set, with a signature.
    fn sign(&self, records: Vec<Record>) -> Vec<Record> {
        let labels = records[0].name.num_labels();
        self.sign_as(records, labels)
    }

    /// With fewer labels than the name has: made from a wildcard.
    fn sign_as(&self, mut records: Vec<Record>, labels: u8) -> Vec<Record> {
        let first = records[0].clone();
        let now = u32::try_from(BEGIN.0 / 1000).unwrap();
        let input = SigInput {
            type_covered: first.record_type(),
            algorithm: Algorithm::ED25519,
            num_labels: labels,
            original_ttl: first.ttl,
            sig_expiration: SerialNumber::new(now + HOUR),
            sig_inception: SerialNumber::new(now - HOUR),
            key_tag: self.dnskey.calculate_key_tag().unwrap(),
            signer_name: self.zone.clone(),
        };
        let tbs = TBS::from_input(&first.name, DNSClass::IN, &input, records.iter()).unwrap();
        let signature = RRSIG::from_sig(input, self.key.sign(&tbs).unwrap());
        let data = RData::DNSSEC(DNSSECRData::RRSIG(signature));
        records.push(Record::from_rdata(first.name, first.ttl, data));
        records
    }

    fn dnskeys(&self) -> Vec<Record> {
        let data = RData::DNSSEC(DNSSECRData::DNSKEY(self.dnskey.clone()));
        self.sign(vec![Record::from_rdata(self.zone.clone(), 60, data)])
    }

    fn ds(&self) -> Record {
        let key = self.key.to_public_key().unwrap();
        let ds = DS::from_key(&key, &self.zone, DigestType::SHA256).unwrap();
        let data = RData::DNSSEC(DNSSECRData::DS(ds));
        Record::from_rdata(self.zone.clone(), 60, data)
    }

    fn anchors(&self) -> Anchors {
        let key =
            data_encoding::BASE64.encode(self.dnskey.public_key().clone().into_inner().as_ref());
        Anchors::parse(&format!(". 60 IN DNSKEY 257 3 15 {key}\n")).unwrap()
    }
}

fn nsec(owner: &str, next: &str, types: &[RecordType]) -> Record {
    let nsec = NSEC::new(name(next), types.iter().copied());
    record(owner, 60, RData::DNSSEC(DNSSECRData::NSEC(nsec)))
}

fn ns(owner: &str) -> Record {
    record(owner, 60, RData::NS(NS(name("ns.test."))))
}

/// What a name server says to one question.
#[derive(Clone, Default)]
struct Says {
    code: ResponseCode,
    answers: Vec<Record>,
    authorities: Vec<Record>,
}

/// `(name, type)` and what is said.
type World = HashMap<(Name, RecordType), Says>;

/// The truth: `test.` is signed, `plain.` is not.
fn world() -> (World, Signer, Signer) {
    let (root, test) = (Signer::new("."), Signer::new("test."));
    let mut world = World::new();
    let mut say = |owner: &str, rtype, answers: Vec<Record>, authorities: Vec<Record>| {
        let code = ResponseCode::NoError;
        let says = Says {
            code,
            answers,
            authorities,
        };
        world.insert((name(owner), rtype), says);
    };
    use RecordType as T;
    say(".", T::DNSKEY, root.dnskeys(), vec![]);
    say("test.", T::DNSKEY, test.dnskeys(), vec![]);
    say("test.", T::DS, root.sign(vec![test.ds()]), vec![]);
    say("test.", T::NS, vec![ns("test.")], vec![]);
    say(
        "a.test.",
        T::A,
        test.sign(vec![a("a.test.", 60, 1)]),
        vec![],
    );
    let out = test.sign(vec![alias("out.test.", "b.plain.")]);
    say("out.test.", T::A, out, vec![]);
    let absence = [
        test.sign(vec![soa("test.", 60, 60)]),
        test.sign(vec![nsec("a.test.", "out.test.", &[T::A])]),
    ];
    say("a.test.", T::TLSA, vec![], absence.concat());
    let unsigned = [
        root.sign(vec![soa(".", 60, 60)]),
        root.sign(vec![nsec("plain.", "test.", &[T::NS, T::RRSIG, T::NSEC])]),
    ];
    say("plain.", T::DS, vec![], unsigned.concat());
    say("plain.", T::NS, vec![ns("plain.")], vec![]);
    say("b.plain.", T::A, vec![a("b.plain.", 60, 2)], vec![]);
    say("b.plain.", T::TLSA, vec![], vec![soa("plain.", 60, 60)]);
    (world, root, test)
}

type Judged = Result<(Outcome, Security), DnsError>;

fn look_up(world: World, root: &Signer, at: UnixMs, asked: &'static str, kind: Kind) -> Judged {
    let settings = Settings {
        servers: vec![server(1)],
        cache_bytes_max: 1 << 20,
        dnssec: DnssecMode::On,
        anchors: root.anchors(),
        insecure_domains: vec!["inside".to_owned()],
    };
    simulate(7, at, async move {
        let net = SimNet::default();
        net.serve(server(1), move |query, _| {
            let asked = &query.queries[0];
            let key = (asked.name.to_lowercase(), asked.query_type);
            let says = world.get(&key).cloned().unwrap_or_default();
            let mut message = answer(query);
            message.metadata.response_code = says.code;
            message.add_answers(says.answers);
            message.add_authorities(says.authorities);
            let mut edns = Edns::new();
            edns.set_dnssec_ok(true);
            message.set_edns(edns);
            at_once(&message)
        });
        let resolver = Resolver::over(Transport::Sim(net), &settings, Arc::default());
        let answer = resolver.lookup(asked, kind).await?;
        Ok((answer.outcome, answer.security))
    })
}

#[track_caller]
fn check_true(asked: &'static str, kind: Kind, outcome: Outcome, security: Security) {
    let (world, root, _) = world();
    let got = look_up(world, &root, BEGIN, asked, kind);
    assert_eq!(got, Ok((outcome, security)), "{asked}");
}

#[test]
fn the_truth_is_known_for_what_it_is() {
    check_true("a.test", Kind::A, Outcome::Records, Security::Secure);
    check_true("a.test", Kind::Tlsa, Outcome::NoData, Security::Secure);
    check_true("b.plain", Kind::A, Outcome::Records, Security::Insecure);
    check_true("b.plain", Kind::Tlsa, Outcome::NoData, Security::Insecure);
    check_true("out.test", Kind::A, Outcome::Records, Security::Insecure);
}

/// `change` is what a forger, or time, does to what is said about a.test.
#[track_caller]
fn check_bogus(what: &str, kind: Kind, change: impl FnOnce(&mut World)) {
    let (mut world, root, _) = world();
    change(&mut world);
    let got = look_up(world, &root, BEGIN, "a.test", kind);
    assert!(matches!(got, Err(DnsError::Bogus(_))), "{what}: {got:?}");
}

#[test]
fn what_is_forged_is_bogus() {
    let of_a = || (name("a.test."), RecordType::A);
    let absent = |code: ResponseCode, authorities: Vec<Record>| {
        move |world: &mut World| {
            let says = Says {
                code,
                authorities,
                ..Says::default()
            };
            world.insert((name("a.test."), RecordType::TLSA), says.clone());
            world.insert((name("a.test."), RecordType::A), says);
        }
    };
    check_bogus("the signature taken off", Kind::A, |world| {
        world.get_mut(&of_a()).unwrap().answers.truncate(1);
    });
    check_bogus("another address", Kind::A, |world| {
        world.get_mut(&of_a()).unwrap().answers[0] = a("a.test.", 60, 66);
    });
    check_bogus("a key that nobody knows", Kind::A, |world| {
        let stranger = Signer::new("test.");
        let key = (name("test."), RecordType::DNSKEY);
        world.get_mut(&key).unwrap().answers = stranger.dnskeys();
        let answers = stranger.sign(vec![a("a.test.", 60, 66)]);
        world.get_mut(&of_a()).unwrap().answers = answers;
    });
    check_bogus("a delegation that is denied", Kind::A, |world| {
        world.insert((name("test."), RecordType::DS), Says::default());
        world.get_mut(&of_a()).unwrap().answers.truncate(1);
    });
    for code in [ResponseCode::NoError, ResponseCode::NXDomain] {
        for kind in [Kind::A, Kind::Tlsa] {
            check_bogus("nothing at all", kind, absent(code, vec![]));
            let own = vec![soa("test.", 60, 60)];
            check_bogus("an unsigned SOA", kind, absent(code, own));
            let other = vec![soa("plain.", 60, 60)];
            check_bogus("the SOA of an unsigned zone", kind, absent(code, other));
            let other = vec![nsec("x.plain.", "y.plain.", &[RecordType::A])];
            check_bogus("an NSEC of an unsigned zone", kind, absent(code, other));
            let below = vec![soa("a.test.", 60, 60)];
            check_bogus("a zone that is not there", kind, absent(code, below));
        }
    }
}

#[test]
fn a_wildcard_needs_proof_that_nothing_is_nearer() {
    let check = |what: &str, by_root: bool, nsecs: &[(&str, &str)], good: bool| {
        let (mut world, root, test) = world();
        let signer = if by_root { &root } else { &test };
        let denials = nsecs
            .iter()
            .flat_map(|(owner, next)| signer.sign(vec![nsec(owner, next, &[RecordType::A])]));
        let says = Says {
            answers: test.sign_as(vec![a("y.x.wild.test.", 60, 1)], 2),
            authorities: denials.collect(),
            ..Says::default()
        };
        world.insert((name("y.x.wild.test."), RecordType::A), says);
        let got = look_up(world, &root, BEGIN, "y.x.wild.test", Kind::A);
        match good {
            true => assert_eq!(got, Ok((Outcome::Records, Security::Secure)), "{what}"),
            false => assert!(matches!(got, Err(DnsError::Bogus(_))), "{what}: {got:?}"),
        }
    };
    let itself = ("*.wild.test.", "zz.test.");
    check("the wildcard's own", false, &[itself], true);
    check(
        "the last of the zone",
        false,
        &[("*.wild.test.", "test.")],
        true,
    );
    check("none", false, &[], false);
    check("elsewhere", false, &[("a.test.", "out.test.")], false);
    check(
        "one that shows something nearer",
        false,
        &[("x.wild.test.", "zz.test.")],
        false,
    );
    check(
        "the same from behind",
        false,
        &[("*.wild.test.", "z.x.wild.test.")],
        false,
    );
    check("another zone's", true, &[itself], false);
}

#[test]
fn signatures_hold_for_their_time() {
    for (hours, good) in [(-2, false), (0, true), (2, false)] {
        let (world, root, _) = world();
        let at = UnixMs(BEGIN.0 + hours * 3_600_000);
        let got = look_up(world, &root, at, "a.test", Kind::A);
        assert_eq!(got.is_ok(), good, "{hours}: {got:?}");
    }
}

/// A key that cannot be had today is no forgery: the failure is named as what it is.
#[test]
fn what_cannot_be_judged_is_not_bogus() {
    let (mut world, root, _) = world();
    let says = world.get_mut(&(name("test."), RecordType::DNSKEY)).unwrap();
    says.code = ResponseCode::ServFail;
    let got = look_up(world, &root, BEGIN, "a.test", Kind::A);
    assert_eq!(got, Err(DnsError::ServFail));
}

/// The root knows nothing of a site's own names, which are used all the same.
#[test]
fn names_of_the_site_are_not_checked() {
    let (mut world, root, _) = world();
    let says = Says {
        answers: vec![a("mail.inside.", 60, 1)],
        ..Says::default()
    };
    world.insert((name("mail.inside."), RecordType::A), says);
    let got = look_up(world, &root, BEGIN, "mail.inside", Kind::A);
    assert_eq!(got, Ok((Outcome::Records, Security::Indeterminate)));
}

#[test]
fn beyond_the_anchors_nothing_is_known() {
    let (_, _, test) = world();
    let key = data_encoding::BASE64.encode(test.dnskey.public_key().clone().into_inner().as_ref());
    let anchors = Anchors::parse(&format!("test. 60 IN DNSKEY 257 3 15 {key}\n")).unwrap();
    assert!(anchors.cover(&name("a.test.")) && !anchors.cover(&name("b.plain.")));
    assert!(Anchors::parse("").is_err() && Anchors::parse("test. 60 IN A 192.0.2.1").is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever one octet of a signed set becomes, it is never taken for the truth.
    #[test]
    fn a_changed_octet_is_never_secure(at in 0usize..64, to in any::<u8>()) {
        let (mut world, root, _) = world();
        let says = world.get_mut(&(name("a.test."), RecordType::A)).unwrap();
        let RData::DNSSEC(DNSSECRData::RRSIG(signature)) = &says.answers[1].data else {
            panic!("a signature");
        };
        let mut octets = signature.sig().to_vec();
        prop_assume!(octets[at] != to);
        octets[at] = to;
        let changed = RRSIG::from_sig(signature.input().clone(), octets);
        says.answers[1].data = RData::DNSSEC(DNSSECRData::RRSIG(changed));
        let got = look_up(world, &root, BEGIN, "a.test", Kind::A);
        prop_assert!(matches!(got, Err(DnsError::Bogus(_))), "{:?}", got);
    }
}
