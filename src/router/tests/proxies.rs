//! Who a client is, where a proxy stands before the router.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{HEAD_TIMEOUT, PATIENCE, Proxies, Reply, World, service_spec, upstream};
use crate::config::{Network, TrustedHeader};
use crate::store::AuditFilter;

fn trust(network: &str, introduce: bool) -> Proxies {
    let network = Network::parse(network).unwrap();
    Proxies::new(&[network], TrustedHeader::default(), introduce)
}

impl World {
    /// What is sent on a connection of its own, byte for byte, and what comes back until it ends.
    async fn said_to(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect().await;
        let _ = stream.write_all(bytes).await;
        let mut read = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut read)).await;
        let _ = ended.expect("an end in time");
        read
    }

    async fn addresses(&self) -> Vec<Option<String>> {
        self.audit.flush().await;
        let rows = self.audit.list(AuditFilter::default(), None, 1000).await;
        let rows = rows.unwrap().into_iter();
        rows.map(|row| row.entry.address).collect()
    }
}

/// What the service was told of the client.
fn forwarded(reply: &Reply) -> (String, String) {
    assert_eq!(reply.status, 200, "{reply:?}");
    let headers = &reply.json()["headers"];
    let of = |name: &str| headers[name].as_str().unwrap_or_default().to_owned();
    (of("x-forwarded-for"), of("x-forwarded-proto"))
}

fn pair(address: &str, scheme: &str) -> (String, String) {
    (address.to_owned(), scheme.to_owned())
}

#[tokio::test]
async fn the_word_of_a_trusted_proxy_counts_and_of_nobody_else() {
    let upstream = upstream().await;
    let spec = service_spec("demo", upstream.port);
    let said = "x-forwarded-for: 127.0.0.1, 192.0.2.1\r\nx-forwarded-proto: http";
    for (trusted, expected) in [
        ("127.0.0.1", pair("192.0.2.1", "http")),
        ("10.0.0.0/8", pair("127.0.0.1", "https")),
    ] {
        let world = World::behind(spec.clone(), trust(trusted, false)).await;
        let (path, _) = world.member("alice").await;
        let head = format!("GET {path}/echo HTTP/1.1\r\n{said}");
        assert_eq!(forwarded(&world.exchange(&head, "").await), expected);
        assert_eq!(world.addresses().await, [Some(expected.0)], "the first use");
    }
}

#[tokio::test]
async fn one_client_of_a_proxy_is_locked_out_and_the_others_are_not() {
    let upstream = upstream().await;
    let spec = service_spec("demo", upstream.port);
    let world = World::behind(spec, trust("127.0.0.1", false)).await;
    let from = async |address: &str| {
        let head = format!("GET /dem_x/demo HTTP/1.1\r\nx-forwarded-for: {address}");
        world.exchange(&head, "").await.status
    };
    let mut last = 404;
    for _ in 0..100 {
        last = from("192.0.2.1").await;
        if last == 429 {
            break;
        }
    }
    assert_eq!(last, 429);
    assert_eq!(from("192.0.2.2").await, 404);
}

#[tokio::test]
async fn the_proxy_protocol_is_heard_where_it_is_to_be_spoken() {
    let upstream = upstream().await;
    let spec = service_spec("demo", upstream.port);
    let world = World::behind(spec.clone(), trust("127.0.0.1", true)).await;
    let (path, _) = world.member("alice").await;
    let get = format!("GET {path}/echo HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let v1 = b"PROXY TCP4 192.0.2.1 127.0.0.1 5 6\r\n";
    let mut v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    v2.extend([192, 0, 2, 1, 127, 0, 0, 1, 0, 5, 0, 6]);
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    let with = async |header: &[u8]| {
        let read = world.said_to(&[header, get.as_bytes()].concat()).await;
        forwarded(&Reply::parse(&read)).0
    };
    assert_eq!(with(v1).await, "192.0.2.1");
    assert_eq!(with(&v2).await, "192.0.2.1");
    assert_eq!(with(local).await, "127.0.0.1");
    // Who does not speak it is not served, and neither is who says nothing.
    assert!(world.said_to(get.as_bytes()).await.is_empty());
    let began = tokio::time::Instant::now();
    let mut stream = world.connect().await;
    stream.write_all(&v1[..10]).await.unwrap();
    let mut read = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut read)).await;
    assert_eq!(ended.unwrap().unwrap_or(0), 0);
    assert!(began.elapsed() >= HEAD_TIMEOUT);

    // From anywhere else it is no HTTP.
    let world = World::behind(spec, trust("10.0.0.0/8", true)).await;
    let read = world
        .said_to(&[v1.as_slice(), get.as_bytes()].concat())
        .await;
    assert_eq!(Reply::parse(&read).status, 400);
}

#[tokio::test]
async fn a_proxy_that_says_nothing_does_not_keep_the_router_from_ending() {
    let upstream = upstream().await;
    let spec = service_spec("demo", upstream.port);
    let world = World::behind(spec, trust("127.0.0.1", true)).await;
    let mut stream = world.connect().await;
    stream.write_all(b"PROXY ").await.unwrap();
    // Accepted: another one, later, has been served.
    world.said_to(b"no header").await;
    let began = tokio::time::Instant::now();
    world.router.drain(PATIENCE).await;
    assert!(began.elapsed() < HEAD_TIMEOUT, "it was waited for");
}

#[tokio::test]
async fn what_tells_of_a_trace_passes_as_it_came() {
    let upstream = upstream().await;
    let world = World::new(service_spec("demo", upstream.port)).await;
    let (path, _) = world.member("alice").await;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let state = "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7";
    let head = format!("GET {path}/echo HTTP/1.1\r\ntraceparent: {parent}\r\ntracestate: {state}");
    let seen = world.exchange(&head, "").await.json();
    assert_eq!(seen["headers"]["traceparent"], parent);
    assert_eq!(seen["headers"]["tracestate"], state);
}
