//! The client against real listeners on this machine.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{Outbound, OutboundError, Policy};

const POLICY: Policy = Policy {
    allow_private: true,
    timeout: Duration::from_secs(5),
    max_answer: 100,
};

/// Answers each connection with these bytes, then keeps it open for a while.
async fn stub(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 2048];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(answer.as_bytes()).await;
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(10)).await;
                drop(stream);
            });
        }
    });
    format!("http://127.0.0.1:{port}/secret-path?key=secret-query")
}

async fn get(policy: Policy, url: &str) -> Result<super::Answer, OutboundError> {
    Outbound::new(policy)
        .call(Request::get(url).body(Bytes::new()).unwrap())
        .await
}

#[tokio::test]
async fn an_answer_comes_back_whole_and_redirects_are_not_followed() {
    let url = stub("HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 2\r\n\r\nhi").await;
    let answer = get(POLICY, &url).await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), &answer.body[..]),
        (302, &b"hi"[..])
    );
    assert_eq!(answer.headers["location"], "/x");
}

#[tokio::test]
async fn private_addresses_are_refused_unless_allowed() {
    let url = stub("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let guarded = Policy {
        allow_private: false,
        ..POLICY
    };
    let error = get(guarded, &url).await.unwrap_err();
    assert!(matches!(error, OutboundError::Private { .. }), "{error}");
    let by_name = url.replace("127.0.0.1", "localhost");
    let error = get(guarded, &by_name).await.unwrap_err();
    assert!(matches!(error, OutboundError::Private { .. }), "{error}");
    assert!(get(POLICY, &url).await.is_ok());
}

#[tokio::test]
async fn a_private_address_is_refused_in_every_spelling() {
    let guarded = Policy {
        allow_private: false,
        ..POLICY
    };
    for host in [
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:a9fe:a9fe]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b:1::a00:1]",
        "[2002:7f00:1::]",
    ] {
        let error = get(guarded, &format!("http://{host}/")).await.unwrap_err();
        assert!(
            matches!(error, OutboundError::Private { .. }),
            "{host}: {error}"
        );
    }
}

#[tokio::test]
async fn answers_over_the_limit_end_the_call_announced_or_not() {
    let announced = stub("HTTP/1.1 200 OK\r\ncontent-length: 101\r\n\r\n").await;
    let error = get(POLICY, &announced).await.unwrap_err();
    assert!(matches!(error, OutboundError::TooLarge { .. }), "{error}");
    let chunk = "33\r\n012345678901234567890123456789012345678901234567890\r\n";
    let text = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunk}{chunk}");
    let error = get(POLICY, &stub(text.leak()).await).await.unwrap_err();
    assert!(matches!(error, OutboundError::TooLarge { .. }), "{error}");
}

#[tokio::test]
async fn silence_and_closed_doors_are_told_apart_and_show_no_path() {
    let quick = Policy {
        timeout: Duration::from_millis(100),
        ..POLICY
    };
    let silent = get(quick, &stub("").await).await.unwrap_err();
    assert!(matches!(silent, OutboundError::Timeout { .. }), "{silent}");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = format!("http://{}/secret-path", listener.local_addr().unwrap());
    drop(listener);
    let closed = get(POLICY, &closed).await.unwrap_err();
    assert!(matches!(closed, OutboundError::Connect { .. }), "{closed}");
    let broken = get(POLICY, &stub("this is not http\r\n\r\n").await)
        .await
        .unwrap_err();
    assert!(matches!(broken, OutboundError::Broken { .. }), "{broken}");
    for error in [silent, closed, broken] {
        assert!(
            !format!("{error} {error:?}").contains("secret"),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn tls_is_spoken_to_https_addresses_only() {
    let url = stub("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let error = get(POLICY, &url.replace("http:", "https:"))
        .await
        .unwrap_err();
    assert!(matches!(error, OutboundError::Broken { .. }), "{error}");
}
