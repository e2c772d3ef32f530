//! Quotas: what is refused, what never is, and one warning for each crossing.

use futures_lite::future::{poll_once, zip};

use super::{account, life, message, soon, target};
use crate::base::{ByteSize, Uid};
use crate::runtime::{SimDisk, trace_id, unix_now};
use crate::store::{
    Access, Account, AccountRef, Delivered, Flags, NewMessage, Quota, QuotaDue, Remote, Resource,
    RestoreRequest, Store, StoreError, View, Warned,
};

const FULL_MESSAGES: StoreError = StoreError::OverQuota {
    of: Resource::Messages,
    used: 2,
    more: 1,
    limit: 2,
};

fn ana(bytes: u64, messages: u64) -> AccountRef {
    AccountRef {
        quota: Quota {
            bytes: (bytes > 0).then_some(ByteSize(bytes)),
            messages: (messages > 0).then_some(messages),
        },
        ..account(1)
    }
}

/// A letter of so many octets in all.
async fn deliver(remote: &Remote, to: AccountRef, octets: usize) -> Result<Uid, StoreError> {
    let body = message(remote, &"x".repeat(octets)).await;
    let mut to_ana = target(1, "INBOX");
    to_ana.account = to;
    to_ana.prefix.clear();
    let placed = remote.deliver(body, vec![to_ana], unix_now(), trace_id(), soon());
    match placed.await? {
        Delivered::Placed(uids) => Ok(uids[0]),
        Delivered::Queued => panic!("one owner needs no queue"),
    }
}

async fn new(remote: &Remote, octets: usize) -> NewMessage {
    NewMessage {
        message: message(remote, &"y".repeat(octets)).await,
        flags: Flags::NONE,
        keywords: Vec::new(),
        internal_date: None,
        trace: None,
    }
}

async fn open(account: &Account, name: &str) -> View {
    let id = account.find(name).expect("the mailbox is there");
    let view = account.select(id, Access::ReadWrite).await;
    view.expect("selects")
}

/// The warning that is due, if one is.
async fn due(remote: &Remote) -> Option<QuotaDue> {
    poll_once(remote.quota_due()).await
}

#[test]
fn what_is_refused_and_what_never_is() {
    life(&SimDisk::new(1), |store| async move {
        let (remote, who) = (store.remote(), ana(0, 2));
        let account = remote.account(who).await.expect("opens");
        let inbox = account.find("INBOX").expect("INBOX");
        let three = vec![
            new(&remote, 10).await,
            new(&remote, 10).await,
            new(&remote, 10).await,
        ];
        // All or none: two of three would fit.
        assert!(account.append(inbox, three).await.is_err());
        assert_eq!(account.quota().messages, 0);
        let two = vec![new(&remote, 10).await, new(&remote, 10).await];
        account.append(inbox, two).await.expect("fits exactly");
        assert_eq!(deliver(&remote, who, 10).await, Err(FULL_MESSAGES));
        let until = soon();
        assert_eq!(remote.preflight(who, 10, until).await, Err(FULL_MESSAGES));
        let view = open(&account, "INBOX").await;
        let archive = account.find("Archive").expect("Archive");
        assert_eq!(view.copy(&[Uid(1)], archive).await, Err(FULL_MESSAGES));
        // Within the account nothing is added, and deleting always helps.
        view.move_to(&[Uid(1)], archive).await.expect("moves");
        assert_eq!(account.quota().messages, 2);
        view.expunge(&[Uid(2)]).await.expect("expunges");
        deliver(&remote, who, 10)
            .await
            .expect("there is room again");
    });
}

#[test]
fn what_is_in_flight_counts() {
    life(&SimDisk::new(2), |store| async move {
        let (remote, who) = (store.remote(), ana(100, 0));
        let account = remote.account(who).await.expect("opens");
        let (one, two) = zip(deliver(&remote, who, 60), deliver(&remote, who, 60)).await;
        assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
        // What an expunge in flight frees is free for what comes after it.
        let view = open(&account, "INBOX").await;
        let first = [Uid(1)];
        let (gone, fits) = zip(view.expunge(&first), deliver(&remote, who, 90)).await;
        assert_eq!(gone.expect("expunges"), first);
        fits.expect("fits");
        assert_eq!(account.quota().bytes, 90);
    });
}

#[test]
fn line_ends_count_as_clients_see_them() {
    life(&SimDisk::new(3), |store| async move {
        let (remote, who) = (store.remote(), ana(30, 0));
        let account = remote.account(who).await.expect("opens");
        let inbox = account.find("INBOX").expect("INBOX");
        let bare = NewMessage {
            message: message(&remote, &"ab\n".repeat(8)).await,
            ..new(&remote, 1).await
        };
        let refused = account.append(inbox, vec![bare]).await;
        assert!(refused.is_err(), "24 octets here are 32 for a client");
    });
}

#[test]
fn each_crossing_is_told_once() {
    life(&SimDisk::new(4), |store| async move {
        let (remote, who) = (store.remote(), ana(1000, 0));
        remote.set_quota_book(std::rc::Rc::new(move |_| Some(who.quota)));
        deliver(&remote, who, 700).await.expect("delivered");
        assert_eq!(due(&remote).await, None);
        // Two at once cross one mark.
        let (one, two) = zip(deliver(&remote, who, 50), deliver(&remote, who, 10)).await;
        one.expect("delivered");
        two.expect("delivered");
        let first = due(&remote).await.expect("a warning is due");
        assert_eq!((first.percent, first.usage.bytes), (75, 760));
        assert_eq!(
            (first.folders[0].name.as_str(), first.folders[0].bytes),
            ("INBOX", 760)
        );
        assert_eq!(due(&remote).await, None);
        // Crossed again before it was told: one warning, of the higher mark.
        deliver(&remote, who, 150).await.expect("delivered");
        let letter = message(&remote, "Subject: full\r\n\r\n").await;
        let told = remote.warn_of_quota(&first, letter.clone()).await;
        assert_eq!(told, Ok(Warned::Superseded));
        let second = due(&remote).await.expect("a warning is due");
        assert_eq!(second.percent, 90);
        assert_eq!(
            remote.warn_of_quota(&second, letter.clone()).await,
            Ok(Warned::Told)
        );
        assert_eq!(due(&remote).await, None);
        deliver(&remote, who, 20).await.expect("delivered");
        assert_eq!(due(&remote).await, None);
        // Mail that does not fit any more: told once.
        assert!(deliver(&remote, who, 500).await.is_err());
        assert!(deliver(&remote, who, 500).await.is_err());
        // Nobody waited for the record that notes it.
        let full = remote.quota_due().await;
        assert_eq!((full.percent, full.refused), (100, Some(500)));
        assert_eq!(remote.warn_of_quota(&full, letter).await, Ok(Warned::Told));
        deliver(&remote, who, 5).await.expect("delivered");
        assert!(deliver(&remote, who, 500).await.is_err());
        assert_eq!(due(&remote).await, None);
        // Room was made: the marks are armed again.
        let account = remote.account(who).await.expect("opens");
        let view = open(&account, "INBOX").await;
        view.expunge(&[Uid(1)]).await.expect("expunges");
        deliver(&remote, who, 550).await.expect("delivered");
        assert_eq!(due(&remote).await.expect("a warning is due").percent, 75);
    });
}

#[test]
fn a_warning_survives_a_restart_and_comes_once() {
    let sim = SimDisk::new(5);
    let who = ana(1000, 0);
    life(&sim, move |store| async move {
        deliver(&store.remote(), who, 800).await.expect("delivered");
        // The power goes before anybody was warned.
    });
    life(&sim, move |store| async move {
        let remote = store.remote();
        let due = due(&remote).await.expect("still due");
        assert_eq!(due.percent, 75);
        let letter = message(&remote, "Subject: filling\r\n\r\n").await;
        assert_eq!(remote.warn_of_quota(&due, letter).await, Ok(Warned::Told));
    });
    life(&sim, move |store: Store| async move {
        let remote = store.remote();
        assert_eq!(due(&remote).await, None);
        let account = remote.account(who).await.expect("opens");
        assert_eq!(account.quota().messages, 2);
    });
}

#[test]
fn a_warning_comes_into_a_full_mailbox() {
    life(&SimDisk::new(6), |store| async move {
        let (remote, who) = (store.remote(), ana(1000, 0));
        remote.set_quota_book(std::rc::Rc::new(move |_| Some(who.quota)));
        deliver(&remote, who, 1000).await.expect("fits exactly");
        let due = due(&remote).await.expect("a warning is due");
        assert_eq!(due.percent, 100);
        let letter = message(&remote, "Subject: full\r\n\r\n").await;
        assert_eq!(remote.warn_of_quota(&due, letter).await, Ok(Warned::Told));
        let account = remote.account(who).await.expect("opens");
        assert_eq!(account.quota().messages, 2);
        // A session that logged in before the limit was raised has the new one.
        remote.set_quota_book(std::rc::Rc::new(|_| Some(Quota::NONE)));
        account.has_room(1_000_000, 1).expect("no limit now");
    });
}

/// Whoever may have four messages was told of 75 % by the fourth, and never that there is no room.
#[test]
fn a_warning_that_crosses_a_mark_tells_of_that_one() {
    life(&SimDisk::new(7), |store| async move {
        let (remote, who) = (store.remote(), ana(0, 4));
        remote.set_quota_book(std::rc::Rc::new(move |_| Some(who.quota)));
        for _ in 0..3 {
            deliver(&remote, who, 10).await.expect("delivered");
        }
        let mut due = due(&remote).await.expect("a warning is due");
        assert_eq!(due.percent, 75);
        let letter = message(&remote, "Subject: filling\r\n\r\n").await;
        let crosses = remote.warn_of_quota(&due, letter.clone()).await;
        let Ok(Warned::Crosses(usage)) = crosses else {
            panic!("{crosses:?}");
        };
        assert_eq!((usage.mark(), usage.messages), (100, 4));
        due.percent = usage.mark();
        assert_eq!(remote.warn_of_quota(&due, letter).await, Ok(Warned::Told));
        assert!(deliver(&remote, who, 10).await.is_err());
        assert_eq!(self::due(&remote).await, None, "100 % was told");
    });
}

/// A limit that was lowered below what is used crosses marks, too; one that was raised arms them.
#[test]
fn a_lowered_limit_is_told() {
    life(&SimDisk::new(8), |store| async move {
        let (remote, who) = (store.remote(), ana(1000, 0));
        let limits = std::rc::Rc::new(std::cell::Cell::new(who.quota));
        let book = limits.clone();
        remote.set_quota_book(std::rc::Rc::new(move |_| Some(book.get())));
        deliver(&remote, who, 500).await.expect("delivered");
        for (limit, want) in [
            (520, Some(90)),
            (510, None),
            (1000, None),
            (600, Some(75)),
            (100, Some(100)),
        ] {
            let now = ana(limit, 0);
            let before = limits.replace(now.quota);
            assert!(remote.look_at_quota(now, Some(before)));
            // Nobody waits for the record that notes it.
            remote
                .account(who)
                .await
                .expect("opens")
                .subscribe("x", true)
                .await
                .expect("noted");
            let due = due(&remote).await;
            assert_eq!(due.as_ref().map(|due| due.percent), want, "{limit}");
            if let Some(due) = due {
                let letter = message(&remote, "x").await;
                assert_eq!(remote.warn_of_quota(&due, letter).await, Ok(Warned::Told));
            }
        }
        // At a start all are looked at, and what was told is not told again.
        assert!(remote.look_at_quota(ana(100, 0), None));
        assert_eq!(due(&remote).await, None);
    });
}

/// Restoring stops for no quota, and its owner heard of it from the next sender.
#[test]
fn what_is_restored_crosses_marks() {
    life(&SimDisk::new(9), |store| async move {
        let (remote, who) = (store.remote(), ana(0, 4));
        remote.set_quota_book(std::rc::Rc::new(move |_| Some(who.quota)));
        let account = remote.account(who).await.expect("opens");
        let inbox = account.find("INBOX").expect("INBOX");
        for round in [1, 2] {
            let two = vec![
                new(&remote, 10 * round).await,
                new(&remote, 11 * round).await,
            ];
            account.append(inbox, two).await.expect("fits");
            let view = open(&account, "INBOX").await;
            let all = view.uids().to_vec();
            view.expunge(&all).await.expect("expunges");
        }
        deliver(&remote, who, 30).await.expect("delivered");
        let mut request = RestoreRequest::default();
        let told = remote
            .restore(who, request.clone(), soon())
            .await
            .expect("tells");
        assert_eq!((told.messages, told.over_quota_messages), (4, 1));
        request.messages_max = 10;
        let done = remote
            .restore(who, request, soon())
            .await
            .expect("restores");
        assert_eq!((done.restored, done.over_quota_messages), (4, 1));
        assert_eq!(due(&remote).await.expect("a warning is due").percent, 100);
    });
}
