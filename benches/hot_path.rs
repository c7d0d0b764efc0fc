//! What every request and every log line costs: find an instance, read a path, rewrite headers, count,
//! split lines. `cargo bench` runs it; a change to these rooms brings its numbers of before and
//! after.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue};
use mcpm::config::spec::InjectSpec;
use mcpm::ids::{InstancePrefix, Port, ServiceType, UserId};
use mcpm::instances::{Instances, Tallies};
use mcpm::logs::lines::{self, Partial};
use mcpm::router::headers::{self, Facts, Injection};
use mcpm::router::path;
use mcpm::secret::Secret;
use mcpm::store::{Memory, StoreHandle};
use mcpm::users::Users;
use mcpm::vault::{Fields, MasterKey, Vault};

/// The table must be as fast with many instances as with few.
const INSTANCES: [usize; 2] = [10, 10_000];

/// So many users with one instance each, and the id of the last one.
async fn many_instances(count: usize) -> (Instances, String) {
    let store: StoreHandle = Arc::new(Memory::new());
    let vault = Vault::new(&MasterKey::from_bytes([7; 32]));
    let users = Users::new(store.clone(), vault.clone());
    let (instances, _) = Instances::open(store, vault).await.expect("an empty store");
    let service = ServiceType::parse("demo").expect("a type");
    let prefix = InstancePrefix::parse("dem").expect("a prefix");
    let mut last = String::new();
    for number in 0..count {
        let user = UserId::parse(&format!("user-{number}")).expect("an id");
        users.add(&user).await.expect("a new user");
        let mut fields = Fields::new();
        fields.insert("api_key", "sk-0123456789abcdef");
        let granted = instances
            .grant(&user, &service, &prefix, Secret::new(fields))
            .await
            .expect("a first instance");
        last = granted.id.expose().to_owned();
    }
    (instances, last)
}

fn find_an_instance(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let mut group = criterion.benchmark_group("find an instance");
    for count in INSTANCES {
        let (instances, id) = runtime.block_on(many_instances(count));
        let unknown = format!("{}a", &id[..id.len() - 1]);
        for (which, id) in [("known", id), ("unknown", unknown)] {
            let name = BenchmarkId::new(which, count);
            group.bench_with_input(name, &id, |bench, id| {
                bench.iter(|| instances.table().get(&instances.hash(black_box(id))));
            });
        }
    }
    group.finish();
}

fn read_a_path(criterion: &mut Criterion) {
    let path = "/dem_0123456789ab_abcdefghijklmnopqrstuvwxyz/demo/mcp";
    criterion.bench_function("read a path", |bench| {
        bench.iter(|| path::parse(black_box(path)));
    });
}

/// What an MCP client sends with each call.
fn client_headers() -> HeaderMap {
    let headers = [
        ("host", "127.0.0.1:8080"),
        ("accept", "application/json, text/event-stream"),
        ("accept-encoding", "gzip, deflate"),
        ("accept-language", "*"),
        ("connection", "keep-alive"),
        ("content-length", "120"),
        ("content-type", "application/json"),
        ("mcp-protocol-version", "2025-11-25"),
        ("mcp-session-id", "0123456789abcdef0123456789abcdef"),
        ("user-agent", "node"),
        ("x-mcpm-user-id", "mallory"),
    ];
    let header = |(name, value): (&'static str, &'static str)| {
        (
            name.parse().expect("a name"),
            HeaderValue::from_static(value),
        )
    };
    headers.map(header).into_iter().collect()
}

fn rewrite_headers(criterion: &mut Criterion) {
    let spec = InjectSpec {
        headers: vec![("Authorization".into(), "Bearer {api_key}".into())],
        ..InjectSpec::default()
    };
    let port = Port::new(49160).expect("not zero");
    let secret = Secret::new("0123456789abcdef".to_owned());
    let injection = Injection::new(&spec, "demo", port, &secret);
    let user = UserId::parse("alice").expect("an id");
    let facts = Facts {
        instance: "ins_abcdefghijkl",
        user: &user,
        request_id: &HeaderValue::from_static("abcdefghijklmnopqrstuvwxyz"),
        peer: [127, 0, 0, 1].into(),
        host: Some("127.0.0.1:8080"),
        scheme: "http",
    };
    criterion.bench_function("rewrite a request's headers", |bench| {
        bench.iter_batched(
            client_headers,
            |client| injection.request(client, &facts, |_| Some("sk-0123456789abcdef")),
            BatchSize::SmallInput,
        );
    });

    let answer = || {
        let headers = [
            ("content-type", "application/json"),
            ("content-length", "400"),
            ("connection", "keep-alive"),
            ("date", "Mon, 02 Nov 2026 10:00:00 GMT"),
        ];
        let header = |(name, value): (&'static str, &'static str)| {
            (
                name.parse().expect("a name"),
                HeaderValue::from_static(value),
            )
        };
        headers.map(header).into_iter().collect::<HeaderMap>()
    };
    criterion.bench_function("rewrite an answer's headers", |bench| {
        bench.iter_batched(
            answer,
            |mut headers| {
                headers::response(
                    &mut headers,
                    || ("/id/demo".to_owned(), "/".to_owned()),
                    port,
                    false,
                );
                headers
            },
            BatchSize::SmallInput,
        );
    });
}

/// A request, and a piece of a body: most find that theirs is queued already.
fn count(criterion: &mut Criterion) {
    let tallies = Arc::new(Tallies::default());
    let user = UserId::parse("alice").expect("an id");
    let service = ServiceType::parse("demo").expect("a type");
    let tally = tallies.tally(&user, &service);
    let mut group = criterion.benchmark_group("count");
    group.bench_function("a request", |bench| {
        bench.iter(|| tally.answered(black_box(Duration::from_micros(1234)), false));
    });
    group.bench_function("a piece of a body", |bench| {
        bench.iter(|| tally.sent(black_box(1024)));
    });
    group.finish();
    let mut group = criterion.benchmark_group("collect");
    group.bench_function("an instance", |bench| {
        bench.iter(|| {
            tally.answered(black_box(Duration::from_micros(1234)), false);
            tallies.collect(|_, _, usage| {
                black_box(usage);
            });
        });
    });
    group.finish();
}

/// A chunk as a pipe gives it: whole lines of 100 bytes, and one that is cut.
fn split_lines(criterion: &mut Criterion) {
    let mut chunk = Vec::new();
    while chunk.len() < 64 * 1024 {
        chunk.extend_from_slice(&[b'x'; 99]);
        chunk.push(b'\n');
    }
    chunk.truncate(64 * 1024);
    let mut group = criterion.benchmark_group("log lines");
    group.throughput(Throughput::Bytes(chunk.len() as u64));
    group.bench_function("keep cut lines together", |bench| {
        let mut partial = Partial::default();
        bench.iter(|| {
            partial.feed(black_box(&chunk), |piece| {
                black_box(piece);
            })
        });
    });
    group.bench_function("split a piece", |bench| {
        bench.iter(|| lines::split(black_box(&chunk)).count());
    });
    group.finish();
}

criterion_group!(
    benches,
    find_an_instance,
    read_a_path,
    rewrite_headers,
    count,
    split_lines
);
criterion_main!(benches);
