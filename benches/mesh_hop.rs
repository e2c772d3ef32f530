//! What a question to another shard and its answer cost: both awake, and many in flight at once.

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use palomar::base::{Deadline, ShardId};
use palomar::runtime::{Gate, Mesh, Plan, Reply, now, reply, spawn_in, start};

type Question = (u64, Reply<u64>);

/// Shard 0 asks, shard 1 answers. A run is so many questions from each of so many tasks.
struct Pair {
    runs: flume::Sender<(usize, u64)>,
    took: flume::Receiver<Duration>,
}

impl Pair {
    fn start() -> Self {
        let (mesh, inboxes) = Mesh::<Question>::new(2, 1024);
        let (hand, take) = flume::bounded(2);
        inboxes
            .into_iter()
            .for_each(|i| hand.send(i).expect("room for both"));
        let (runs, run) = flume::bounded(1);
        let (done, took) = flume::bounded(1);
        let plan = Plan {
            shards: 2,
            cores: vec![0, 1],
        };
        let shards = start(&plan, move |_| {
            let (mesh, run, done) = (mesh.clone(), run.clone(), done.clone());
            let mut inbox = take.recv().expect("one each");
            async move {
                if inbox.shard() == ShardId(1) {
                    while let Some((n, reply)) = inbox.next().await {
                        reply.send(n);
                    }
                }
                while let Ok((tasks, each)) = run.recv_async().await {
                    let _ = done.send(ask(&mesh, tasks, each).await);
                }
            }
        });
        // The process ends with the shards running.
        drop(shards.expect("two shards"));
        Pair { runs, took }
    }

    fn run(&self, tasks: usize, each: u64) -> Duration {
        self.runs.send((tasks, each)).expect("shard 0 runs");
        self.took.recv().expect("shard 0 answers")
    }
}

async fn ask(mesh: &Mesh<Question>, tasks: usize, each: u64) -> Duration {
    let (gate, began) = (Gate::new(), Instant::now());
    for _ in 0..tasks {
        let mesh = mesh.clone();
        spawn_in(&gate, "asker", async move {
            for n in 0..each {
                let until = Deadline::after(now(), Duration::from_secs(10));
                let (reply, answer) = reply();
                let posted = mesh.post(ShardId(1), (n, reply), until).await;
                assert!(posted.is_ok() && answer.wait(until).await == Ok(n));
            }
        });
    }
    let until = Deadline::after(now(), Duration::from_secs(600));
    gate.close(until).await.expect("all are answered");
    began.elapsed()
}

fn mesh_hop(criterion: &mut Criterion) {
    let pair = Pair::start();
    let mut group = criterion.benchmark_group("mesh_hop");
    for tasks in [1, 64] {
        group.throughput(Throughput::Elements(tasks as u64));
        group.bench_function(format!("{tasks}_in_flight"), |bencher| {
            bencher.iter_custom(|each| pair.run(tasks, each));
        });
    }
    group.finish();
}

criterion_group!(benches, mesh_hop);
criterion_main!(benches);
