//! Shards, timers, mesh, pool and sockets, each alone and together on 4 shards over 2 cores.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::local::{Notify, Semaphore, oneshot};
use super::*;
use crate::base::{Deadline, ShardId};

fn after(ms: u64) -> Deadline {
    Deadline::after(now(), Duration::from_millis(ms))
}

/// Far enough that only a bug reaches it.
fn soon() -> Deadline {
    after(20_000)
}

#[track_caller]
fn on_shard<T>(fut: impl Future<Output = T> + 'static) -> T {
    block_on(fut).unwrap()
}

/// Runs `body` on `shards` shards over two cores, each with its inbox.
fn on_shards<M, Fut>(
    shards: u16,
    depth: usize,
    body: impl Fn(ShardId, Mesh<M>, Inbox<M>) -> Fut + Clone + Send + 'static,
) -> Result<(), RuntimeError>
where
    M: Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let (mesh, inboxes) = Mesh::new(shards, depth);
    let (hand, take) = flume::bounded(usize::from(shards));
    inboxes
        .into_iter()
        .for_each(|inbox| hand.send(inbox).unwrap());
    let cores = vec![0, 1];
    let plan = Plan { shards, cores };
    start(&plan, move |_| {
        // Which shard gets which inbox does not matter here: each is told by its inbox.
        let inbox = take.recv().unwrap();
        body(inbox.shard(), mesh.clone(), inbox)
    })?
    .join()
}

#[test]
fn what_crosses_shards_is_send() {
    fn check<T: Send>() {}
    check::<Mesh<u8>>();
    check::<Inbox<u8>>();
    check::<Reply<u8>>();
    check::<Answer<u8>>();
    check::<Pool>();
    check::<Stop>();
    check::<Peer>();
    check::<DiskError>();
}

// ---- shards

#[test]
fn four_shards_on_two_cores_play_ping_pong() {
    let (stop, played) = (Stop::new(), Arc::new(AtomicU32::new(0)));
    on_shards(
        4,
        8,
        move |shard, mesh, mut inbox: Inbox<(u32, Reply<u32>)>| {
            let (stop, played) = (stop.clone(), played.clone());
            async move {
                spawn("echo", async move {
                    while let Some((n, reply)) = inbox.next().await {
                        reply.send(n + 1);
                    }
                });
                let other = ShardId((shard.0 + 1) % mesh.shards());
                for n in 0..100 {
                    let (reply, answer) = reply();
                    mesh.post(other, (n, reply), soon()).await.unwrap();
                    assert_eq!(answer.wait(soon()).await, Ok(n + 1));
                }
                if played.fetch_add(1, Ordering::SeqCst) == 3 {
                    stop.raise();
                }
                deadline(soon(), stop.raised()).await.unwrap();
            }
        },
    )
    .unwrap();
}

#[test]
fn a_plan_that_cannot_be_is_refused() {
    #[track_caller]
    fn check(shards: u16, cores: Vec<usize>, want: &str) {
        let error = start(&Plan { shards, cores }, |_| async {}).unwrap_err();
        assert!(error.to_string().contains(want), "{error}");
    }
    check(0, vec![], "0 shards");
    check(257, vec![], "257 shards");
    check(2, vec![0, 900], "shard 1 cannot be pinned to core 900");
    check(1, vec![1 << 20], "shard 0 cannot be pinned");
    let no_ring = RuntimeError::no_ring(ShardId(3), std::io::ErrorKind::OutOfMemory.into());
    assert!(no_ring.to_string().contains("shard 3 got no io_uring"));
}

#[test]
fn a_body_that_panics_is_the_joins_error() {
    let outcome = on_shards(2, 1, |shard, _, _: Inbox<()>| async move {
        assert!(shard.0 == 0, "a bug");
    });
    assert!(matches!(outcome, Err(RuntimeError::Panicked { .. })));
}

#[test]
fn a_panicking_task_leaves_the_shard_alive_and_its_gate_empty() {
    on_shard(async {
        let (gate, before) = (Gate::new(), panics());
        assert!(spawn_in(&gate, "faulty", async {
            yield_now().await;
            panic!("a bug");
        }));
        assert_eq!(gate.close(soon()).await, Ok(()));
        assert!(panics() > before);
        sleep(Duration::from_millis(1)).await;
    });
}

#[test]
fn a_spawned_task_begins_after_its_parent_has_yielded() {
    on_shard(async {
        let order = Rc::new(RefCell::new(Vec::new()));
        let child = order.clone();
        let held = order.borrow_mut();
        spawn("child", async move { child.borrow_mut().push("child") });
        drop(held);
        order.borrow_mut().push("parent");
        yield_now().await;
        assert_eq!(*order.borrow(), ["parent", "child"]);
    });
}

#[test]
fn trace_ids_differ_across_shards() {
    let (give, take) = mpsc::channel();
    on_shards(4, 1, move |_, _, _: Inbox<()>| {
        let give = give.clone();
        async move { (0..1000).for_each(|_| give.send(trace_id()).unwrap()) }
    })
    .unwrap();
    let mut ids: Vec<_> = take.iter().collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4000);
}

#[test]
fn a_stop_reaches_every_waiter_of_every_shard() {
    let (stop, ready) = (Stop::new(), Arc::new(AtomicU32::new(0)));
    let (raiser, seen) = (stop.clone(), ready.clone());
    let main = std::thread::spawn(move || {
        while seen.load(Ordering::SeqCst) < 3 {
            std::thread::yield_now();
        }
        assert!(!raiser.is_raised());
        raiser.raise();
        raiser.raise();
    });
    on_shards(3, 1, move |_, _, _: Inbox<()>| {
        let (stop, ready) = (stop.clone(), ready.clone());
        async move {
            let gate = Gate::new();
            for _ in 0..10 {
                let stop = stop.clone();
                spawn_in(&gate, "waiter", async move { stop.raised().await });
            }
            yield_now().await;
            ready.fetch_add(1, Ordering::SeqCst);
            stop.raised().await;
            assert_eq!(gate.close(soon()).await, Ok(()));
            stop.raised().await;
        }
    })
    .unwrap();
    main.join().unwrap();
}

// ---- gate and timers

#[test]
fn a_closed_gate_admits_nobody_and_waits_for_who_is_inside() {
    on_shard(async {
        let gate = Gate::new();
        let (first, second) = (gate.enter().unwrap(), gate.enter().unwrap());
        assert_eq!(gate.close(after(1)).await, Err(2));
        assert!(gate.enter().is_none());
        assert!(!spawn_in(&gate, "late", async {}));
        drop(first);
        assert_eq!(gate.close(after(1)).await, Err(1));
        spawn("leaver", async move {
            yield_now().await;
            drop(second);
        });
        assert_eq!(gate.close(soon()).await, Ok(()));
        gate.closing().await;
        assert_eq!(gate.inside(), 0);
    });
}

#[test]
fn a_deadline_fires_and_a_cancelled_one_does_not() {
    on_shard(async {
        assert_eq!(deadline(soon(), async { 7 }).await, Ok(7));
        assert_eq!(
            deadline(after(0), async { 7 }).await,
            Ok(7),
            "ready is ready"
        );
        let start = now();
        let never = std::future::pending::<()>();
        assert_eq!(deadline(after(20), never).await, Err(Elapsed));
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(20) && took < Duration::from_secs(5));

        // Dropped before it fires, it drops what it held and wakes nobody.
        let dropped = Rc::new(Cell::new(false));
        struct OnDrop(Rc<Cell<bool>>);
        impl Drop for OnDrop {
            fn drop(&mut self) {
                self.0.set(true);
            }
        }
        let held = OnDrop(dropped.clone());
        let mut wait = Box::pin(deadline(soon(), async move {
            let _held = held;
            std::future::pending::<()>().await;
        }));
        assert!(futures_lite::future::poll_once(&mut wait).await.is_none());
        drop(wait);
        assert!(dropped.get());
    });
}

#[test]
fn ten_thousand_far_deadlines_leave_the_shard_idle() {
    on_shard(async {
        let gate = Gate::new();
        for _ in 0..10_000 {
            let closing = gate.clone();
            spawn_in(&gate, "idle", async move {
                let idle = deadline(after(1_800_000), closing.closing());
                assert_eq!(idle.await, Ok(()));
            });
        }
        yield_now().await;
        let cpu = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        // On a busy machine one of them may cost more.
        let mut least = Duration::MAX;
        for _ in 0..5 {
            let before = cpu();
            sleep(Duration::from_millis(100)).await;
            least = least.min(Duration::try_from(cpu() - before).unwrap());
        }
        assert!(least < Duration::from_millis(20), "{least:?}");
        assert_eq!(gate.close(soon()).await, Ok(()));
    });
}

// ---- local

#[test]
fn a_semaphore_serves_in_order_and_forgets_who_left() {
    on_shard(async {
        let semaphore = Semaphore::new(2);
        let all = semaphore.acquire(2, soon()).await.unwrap();
        assert!(semaphore.acquire(1, after(1)).await.is_err());
        let order = Rc::new(RefCell::new(Vec::new()));
        let gate = Gate::new();
        for (n, units) in [(0, 2), (1, 1), (2, 1)] {
            let (semaphore, order) = (semaphore.clone(), order.clone());
            spawn_in(&gate, "taker", async move {
                let permit = semaphore.acquire(units, soon()).await.unwrap();
                order.borrow_mut().push(n);
                yield_now().await;
                drop(permit);
            });
        }
        yield_now().await;
        // One that waits in front and goes must pass its turn on.
        let mut leaver = Box::pin(semaphore.acquire(2, soon()));
        assert!(futures_lite::future::poll_once(&mut leaver).await.is_none());
        assert!(semaphore.try_acquire(1).is_none(), "others came before");
        drop(all);
        drop(leaver);
        assert_eq!(gate.close(soon()).await, Ok(()));
        assert_eq!(*order.borrow(), [0, 1, 2]);
        assert_eq!(semaphore.free(), 2);
        assert_eq!(semaphore.try_acquire(2).unwrap().units(), 2);
    });
}

#[test]
fn a_notice_between_the_look_and_the_wait_is_seen() {
    on_shard(async {
        let notify = Notify::new();
        let wait = notify.notified();
        notify.notify_all();
        wait.await;
        let next = deadline(after(1), notify.notified()).await;
        assert_eq!(next, Err(Elapsed), "a notice is not remembered");
    });
}

#[test]
fn a_oneshot_survives_either_end() {
    on_shard(async {
        let (sender, receiver) = oneshot();
        assert_eq!(sender.send(1), Ok(()));
        assert_eq!(receiver.await, Some(1));

        let (sender, receiver) = oneshot();
        spawn("sender", async move {
            yield_now().await;
            assert_eq!(sender.send(2), Ok(()));
        });
        assert_eq!(receiver.await, Some(2));

        let (sender, receiver) = oneshot::<u8>();
        drop(sender);
        assert_eq!(receiver.await, None);

        let (sender, receiver) = oneshot();
        assert!(!sender.is_closed());
        drop(receiver);
        assert!(sender.is_closed());
        assert_eq!(sender.send(3), Err(3));

        let value = Rc::new(());
        let (sender, receiver) = oneshot();
        sender.send(value.clone()).unwrap();
        drop(receiver);
        assert_eq!(Rc::strong_count(&value), 1);
    });
}

// ---- mesh and reply

#[test]
fn posts_keep_their_order_and_come_back_when_refused() {
    on_shard(async {
        let (mesh, mut inboxes) = Mesh::new(1, 2);
        let mut inbox = inboxes.pop().unwrap();
        let to = ShardId(0);
        mesh.try_post(to, 1).unwrap();
        mesh.try_post(to, 2).unwrap();
        let full = mesh.try_post(to, 3).unwrap_err();
        assert_eq!((full.message, full.why), (3, Refusal::Full));
        let late = mesh.post(to, 3, after(5)).await.unwrap_err();
        assert_eq!((late.message, late.why), (3, Refusal::Late));

        let poster = mesh.clone();
        spawn("poster", async move {
            for n in 3..100 {
                poster.post(to, n, soon()).await.unwrap();
            }
        });
        for n in 1..100 {
            assert_eq!(inbox.next().await, Some(n));
        }
        mesh.try_post(to, 100).unwrap();
        assert_eq!(inbox.next().await, Some(100));

        mesh.try_post(to, 1).unwrap();
        mesh.try_post(to, 2).unwrap();
        spawn("closer", async move {
            yield_now().await;
            drop(inbox);
        });
        let closed = mesh.post(to, 9, soon()).await.unwrap_err();
        assert_eq!((closed.message, closed.why), (9, Refusal::Closed));
    });
}

#[test]
fn an_inbox_ends_with_the_last_mesh() {
    on_shard(async {
        let (mesh, mut inboxes) = Mesh::new(1, 1);
        mesh.try_post(ShardId(0), 1).unwrap();
        drop(mesh);
        let mut inbox = inboxes.pop().unwrap();
        assert_eq!(inbox.next().await, Some(1));
        assert_eq!(inbox.next().await, None);
    });
}

#[test]
fn many_posters_to_a_full_inbox_all_get_through() {
    let (stop, taken) = (Stop::new(), Arc::new(AtomicU32::new(0)));
    on_shards(4, 2, move |shard, mesh, mut inbox: Inbox<u32>| {
        let (stop, taken) = (stop.clone(), taken.clone());
        async move {
            let (done, gate) = (stop.clone(), Gate::new());
            spawn("taker", async move {
                while inbox.next().await.is_some() {
                    if taken.fetch_add(1, Ordering::SeqCst) + 1 == 4 * 20 * 25 {
                        done.raise();
                    }
                }
            });
            for _ in 0..20 {
                let mesh = mesh.clone();
                spawn_in(&gate, "poster", async move {
                    for n in 0..25 {
                        mesh.post(ShardId(0), n, soon()).await.unwrap();
                    }
                });
            }
            assert_eq!(gate.close(soon()).await, Ok(()), "shard {shard}");
            deadline(soon(), stop.raised()).await.unwrap();
        }
    })
    .unwrap();
}

#[test]
fn an_answer_is_given_late_or_gone() {
    on_shard(async {
        let (give, answer) = reply();
        give.send(5);
        assert_eq!(answer.wait(soon()).await, Ok(5));
        let (give, answer) = reply::<u8>();
        drop(give);
        assert_eq!(answer.wait(soon()).await, Err(NoAnswer::Gone));
        let (give, answer) = reply::<u8>();
        assert_eq!(answer.wait(after(1)).await, Err(NoAnswer::Late));
        assert!(give.is_abandoned());
        give.send(1);
    });
}

// ---- pool

#[test]
fn the_pool_names_its_outcomes() {
    on_shard(async {
        let pool = Pool::start(1, 1);
        assert_eq!(pool.run(soon(), || 7).await, Ok(7));
        let before = panics();
        let panicked = pool.run(soon(), || panic!("a bug")).await;
        assert_eq!(panicked, Err::<(), _>(PoolError::Panicked));
        assert!(panics() > before);

        // The one thread is held, the one place in the queue taken.
        let (release, hold) = mpsc::channel::<()>();
        let holder = pool.clone();
        let gate = Gate::new();
        let (began, has_begun) = flume::bounded(1);
        spawn_in(&gate, "holder", async move {
            let held = holder.run(soon(), move || {
                began.send(()).unwrap();
                let _ = hold.recv();
            });
            assert_eq!(held.await, Ok(()));
        });
        has_begun.recv_async().await.unwrap();
        let ran = Arc::new(AtomicU32::new(0));
        let count = ran.clone();
        let late = pool.run(after(5), move || count.fetch_add(1, Ordering::SeqCst));
        assert_eq!(late.await, Err(PoolError::Late));
        assert_eq!(pool.run(soon(), || 1).await, Err(PoolError::Full));
        assert_eq!(pool.run_queued(after(5), || 1).await, Err(PoolError::Late));
        drop(release);
        assert_eq!(pool.run_queued(soon(), || 2).await, Ok(2));
        assert_eq!(ran.load(Ordering::SeqCst), 0, "given up before it began");
        assert_eq!(gate.close(soon()).await, Ok(()));
    });
}

// ---- sockets

fn listener() -> (Listener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let listener = Listener::from_std(listener).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn echo(mut stream: Stream) {
    let mut buf = [0; 64];
    loop {
        match stream.read(&mut buf).await.unwrap() {
            0 => return stream.shutdown(),
            n => stream.write_all(&buf[..n]).await.unwrap(),
        }
    }
}

async fn read_to_end(stream: &mut Stream) -> Vec<u8> {
    let (mut all, mut buf) = (Vec::new(), [0; 1000]);
    loop {
        match stream.read(&mut buf).await.unwrap() {
            0 => return all,
            n => all.extend_from_slice(&buf[..n]),
        }
    }
}

#[test]
fn tcp_echoes_more_than_the_socket_holds() {
    on_shard(async {
        let (listener, address) = listener();
        spawn("echo", async move {
            let (stream, peer) = listener.accept().await.unwrap();
            assert!(matches!(peer, Peer::Tcp { local, .. } if local == address));
            echo(stream).await;
        });
        let mut client = Stream::connect(address, soon()).await.unwrap();
        let sent: Vec<u8> = (0..8_000_000u32).map(|n| (n >> 3) as u8).collect();
        let mut writer = Stream::from_fd(client.dup().unwrap());
        let bytes = sent.clone();
        spawn("writer", async move {
            writer.write_all(&bytes).await.unwrap();
            writer.shutdown();
        });
        let echoed = deadline(soon(), read_to_end(&mut client)).await.unwrap();
        assert!(echoed == sent);
    });
}

#[test]
fn unix_sockets_are_streams_too() {
    on_shard(async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let listener = Listener::from_unix(listener).unwrap();
        assert_eq!(listener.local_addr(), None);
        spawn("echo", async move {
            let (stream, peer) = listener.accept().await.unwrap();
            let uid = Some(rustix::process::geteuid().as_raw());
            assert_eq!(peer, Peer::Unix { uid });
            echo(stream).await;
        });
        let mut client = Stream::connect_unix(&path, soon()).await.unwrap();
        client.write_all(b"hola").await.unwrap();
        client.shutdown();
        assert_eq!(read_to_end(&mut client).await, b"hola");
        let nobody = dir.path().join("nobody");
        let error = Stream::connect_unix(&nobody, soon()).await.err().unwrap();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    });
}

#[test]
fn a_dropped_accept_loses_no_connection() {
    on_shard(async {
        let (listener, address) = listener();
        for _ in 0..3 {
            assert!(deadline(after(2), listener.accept()).await.is_err());
        }
        let client = Stream::connect(address, soon()).await.unwrap();
        let accepted = deadline(soon(), listener.accept()).await.unwrap().unwrap();
        drop((client, accepted));
        drop(listener);
        let refused = Stream::connect(address, soon()).await.err().unwrap();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn an_idle_stream_wakes_for_data_and_closes_its_descriptor() {
    on_shard(async {
        let (listener, address) = listener();
        let mut client = Stream::connect(address, soon()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let mut buf = [0; 8];
        assert!(deadline(after(5), server.read(&mut buf)).await.is_err());
        client.write_all(b"x").await.unwrap();
        let read = deadline(soon(), server.read(&mut buf)).await.unwrap();
        assert_eq!(read.unwrap(), 1);
        drop(server);
        let end = deadline(soon(), client.read(&mut buf)).await.unwrap();
        assert_eq!(end.unwrap(), 0, "closed, although never shut down");
    });
}

#[test]
fn a_connection_moves_between_shards() {
    let stop = Stop::new();
    on_shards(
        2,
        4,
        move |shard, mesh, mut inbox: Inbox<(OwnedFd, Vec<u8>)>| {
            let stop = stop.clone();
            async move {
                if shard == ShardId(1) {
                    let (fd, carried) = inbox.next().await.unwrap();
                    let mut stream = Stream::from_fd(fd);
                    stream.write_all(&carried).await.unwrap();
                    return echo(stream).await;
                }
                let (listener, address) = listener();
                let done = stop.clone();
                spawn("client", async move {
                    let mut client = Stream::connect(address, soon()).await.unwrap();
                    client.write_all(b"one").await.unwrap();
                    let mut buf = [0; 3];
                    assert_eq!(client.read(&mut buf).await.unwrap(), 3);
                    client.write_all(b"two").await.unwrap();
                    client.shutdown();
                    assert_eq!(
                        (buf, read_to_end(&mut client).await),
                        (*b"one", b"two".to_vec())
                    );
                    done.raise();
                });
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut buf = [0; 8];
                let n = stream.read(&mut buf).await.unwrap();
                let fd = stream.dup().unwrap();
                drop(stream);
                let carried = buf[..n].to_vec();
                mesh.post(ShardId(1), (fd, carried), soon()).await.unwrap();
                deadline(soon(), stop.raised()).await.unwrap();
            }
        },
    )
    .unwrap();
}

#[test]
fn a_stream_that_is_always_ready_does_not_hold_the_shard() {
    on_shard(async {
        let (listener, address) = listener();
        let mut client = Stream::connect(address, soon()).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        client.shutdown();
        let gate = Gate::new();
        let closing = gate.clone();
        spawn_in(&gate, "reader", async move {
            let mut buf = [0; 64];
            while !closing.is_closed() {
                // An ended stream says so as often as it is asked.
                assert_eq!(stream.read(&mut buf).await.unwrap(), 0);
            }
        });
        sleep(Duration::from_millis(20)).await;
        assert_eq!(gate.close(soon()).await, Ok(()));
    });
}

/// The executor of glommio is told never to leave its ready tasks by itself (`PREEMPT`).
#[test]
fn tasks_that_wake_one_another_for_ever_hold_neither_timers_nor_sockets() {
    on_shard(async {
        let gate = Gate::new();
        let (ping, pong) = (Notify::new(), Notify::new());
        let turns = Rc::new(Cell::new(0u64));
        for (own, other) in [(ping.clone(), pong.clone()), (pong, ping.clone())] {
            let (closing, turns) = (gate.clone(), turns.clone());
            spawn_in(&gate, "player", async move {
                while !closing.is_closed() {
                    let told = own.notified();
                    other.notify_all();
                    told.await;
                    turns.set(turns.get() + 1);
                }
                other.notify_all();
            });
        }
        let (listener, address) = listener();
        let mut client = Stream::connect(address, soon()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        sleep(Duration::from_millis(300)).await;
        client.write_all(b"x").await.unwrap();
        let mut buf = [0; 8];
        let read = deadline(soon(), server.read(&mut buf)).await.unwrap();
        assert_eq!(read.unwrap(), 1);
        assert!(turns.get() > 100, "{} turns", turns.get());
        let closed = gate.close(soon()).await;
        assert_eq!(closed, Ok(()));
    });
}

#[test]
fn background_waits_end_together_on_whole_seconds() {
    fn check(since_ms: u64, span_ms: u64, want_ms: u64) {
        let ms = Duration::from_millis;
        let span = super::timer::to_whole(ms(since_ms), ms(span_ms));
        assert_eq!(span, ms(want_ms), "{since_ms} {span_ms}");
    }
    check(0, 2_000, 2_000);
    check(3, 2_000, 1_997);
    check(1_998, 5_000, 5_002);
    check(1_600, 5_000, 5_400);
    check(1_400, 5_000, 4_600);
    // Too short to reach one.
    check(1_100, 200, 200);
}

#[test]
fn a_stop_raised_before_the_first_wait_is_seen() {
    on_shard(async {
        for _ in 0..2_000 {
            let stop = Stop::new();
            let raiser = stop.clone();
            // Races with the wait below, on purpose.
            let raise = std::thread::spawn(move || raiser.raise());
            assert_eq!(deadline(soon(), stop.raised()).await, Ok(()));
            raise.join().unwrap();
        }
    });
}

#[test]
fn datagrams_come_from_the_peer_or_not_at_all() {
    on_shard(async {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut udp = Udp::connect(server.local_addr().unwrap()).unwrap();
        let mut buf = [0; 16];
        let late = udp.receive(&mut buf, after(5)).await.unwrap_err();
        assert_eq!(late.kind(), std::io::ErrorKind::TimedOut);
        udp.send(b"question", soon()).await.unwrap();
        let (n, from) = server.recv_from(&mut buf).unwrap();
        assert_eq!(&buf[..n], b"question");
        server.send_to(b"answer", from).unwrap();
        let n = udp.receive(&mut buf, soon()).await.unwrap();
        assert_eq!(&buf[..n], b"answer");
    });
}
