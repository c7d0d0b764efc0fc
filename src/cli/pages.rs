//! Lists that the daemon gives a page at a time, whole.

use serde::de::DeserializeOwned;

use crate::api::List;
use crate::control::client::{Client, ClientError, segment};

/// Entries of a page: as many as the daemon gives.
const PAGE: u32 = 1000;

/// All entries of the list at this path.
pub(crate) async fn all<T: DeserializeOwned>(
    daemon: &mut Client,
    path: &str,
) -> Result<List<T>, ClientError> {
    let mut items = Vec::new();
    let mut from = String::new();
    loop {
        let page: List<T> = daemon.get(&format!("{path}?limit={PAGE}{from}")).await?;
        items.extend(page.items);
        match page.next_cursor {
            Some(cursor) => from = format!("&cursor={}", segment(&cursor)),
            None => return Ok(List::whole(items)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::collections::HashMap;

    use axum::extract::Query;
    use axum::routing::get;

    type Asked = Query<HashMap<String, String>>;

    /// Three pages, whose cursors are ids that mean something in a query.
    async fn page(Query(asked): Asked) -> String {
        let (items, next) = match asked.get("cursor").map(String::as_str) {
            None => ("[1,2]", "\"a&b c\""),
            Some("a&b c") => ("[3]", "\"\u{1f980}\""),
            Some("\u{1f980}") => ("[]", "null"),
            Some(other) => panic!("asked for {other}"),
        };
        format!(r#"{{"items":{items},"nextCursor":{next}}}"#)
    }

    #[tokio::test]
    async fn every_page_is_asked_for_once() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let pages = axum::Router::new().route("/list", get(page));
        tokio::spawn(async move { axum::serve(listener, pages).await });
        let mut daemon = Client::connect(&socket, Box::new(|_| {})).await.unwrap();
        let all: List<u32> = all(&mut daemon, "/list").await.unwrap();
        assert_eq!(all.items, [1, 2, 3]);
        assert_eq!(all.next_cursor, None);
    }
}
