//! The older transport (2024-11-05): a stream that names where messages go.

use super::*;

/// Opens a stream and reads its first event; answers the address in it.
async fn address(world: &World, fake: &Fake, path: &str, words: &[&str]) -> (TcpStream, String) {
    let (mut stream, mut read) = world.listen(&format!("{path}/sse"), "").await;
    for word in words {
        fake.say(word);
    }
    read_until(&mut stream, &mut read, "data: hi").await;
    let data = read
        .lines()
        .find_map(|line| line.trim().strip_prefix("data: "));
    let address = data.unwrap_or_else(|| panic!("{read:?}")).to_owned();
    (stream, address)
}

#[tokio::test]
async fn messages_go_through_the_instance_wherever_the_stream_is_cut() {
    let fake = Fake::start().await;
    let (world, path) = world(&fake).await;
    for end in ["\n", "\r\n"] {
        let first = "event: endpoint|data: /message?a=%20&sessionId=own-1||".replace('|', end);
        for cut in 0..=first.len() {
            let (head, tail) = first.split_at(cut);
            let words = [head, tail, "data: hi\n\n"];
            let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
            let (_stream, address) = address(&world, &fake, &path, &words).await;
            let expected = format!("{path}/message?a=%20&sessionId=");
            assert!(address.starts_with(&expected), "{cut}: {address}");
            assert!(
                address.ends_with("own-1") && !address.ends_with("=own-1"),
                "{address}"
            );
        }
    }
}

#[tokio::test]
async fn its_session_is_of_one_instance() {
    let fake = Fake::start().await;
    let (world, alices) = world(&fake).await;
    let (bobs, _) = world.member("bob").await;
    let words = [
        "event: endpoint\ndata: /message?sessionId=own-1\n\n",
        "data: hi\n\n",
    ];
    let (mut stream, address) = address(&world, &fake, &alices, &words).await;
    let reply = world.post(&address, None, &call("1", "echo")).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    assert_eq!(fake.last().uri, "/message?sessionId=own-1");
    let asked = fake.last().json()["id"].clone();
    let before = fake.seen().len();
    for foreign in [
        address.replace(&alices, &bobs),
        format!("{alices}/message?sessionId=own-1"),
        format!("{alices}/message?sessionId="),
    ] {
        let reply = world.post(&foreign, None, &call("1", "echo")).await;
        assert_eq!(reply.error(), (404, json!(1), -32001), "{foreign}");
    }
    assert_eq!(fake.seen().len(), before, "the service has heard of it");
    let answer = json!({"jsonrpc": "2.0", "id": asked, "result": {"answer": "there"}});
    fake.say(&format!("event: message\ndata: {answer}\n\n"));
    let mut read = String::new();
    read_until(&mut stream, &mut read, "there").await;
    assert!(read.contains("\"id\":1"), "{read}");
}

#[tokio::test]
async fn a_service_sends_its_clients_nowhere_else() {
    let fake = Fake::start().await;
    let (world, path) = world(&fake).await;
    for elsewhere in [
        "http://evil.example/message?sessionId=1",
        "//evil.example/m",
    ] {
        let (mut stream, _) = world.listen(&format!("{path}/sse"), "").await;
        fake.say(&format!("event: endpoint\ndata: {elsewhere}\n\n"));
        let rest = read_to_end(&mut stream).await;
        assert!(!rest.contains("evil"), "{rest}");
    }
}

/// A client of this transport reads no body: an error in one would be an answer that never comes.
#[tokio::test]
async fn what_becomes_of_a_call_is_told_on_its_stream_and_else_by_a_status() {
    let fake = Fake::start().await;
    let (world, path) = world(&fake).await;
    let words = [
        "event: endpoint\ndata: /message?sessionId=own-1\n\n",
        "data: hi\n\n",
    ];
    let (mut stream, address) = address(&world, &fake, &path, &words).await;
    world.publish(fake.spec(), Routable::Down);
    let reply = world.post(&address, None, &call("1", "echo")).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    let mut read = String::new();
    read_until(&mut stream, &mut read, "service_unavailable").await;
    assert!(
        read.contains("\"id\":1,") && read.contains("-33001"),
        "{read}"
    );
}
