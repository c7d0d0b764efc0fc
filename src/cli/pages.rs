//! Lists that the daemon gives a page at a time.

use serde::de::DeserializeOwned;

use crate::api::List;
use crate::control::client::{Client, ClientError, segment};

/// Entries of a page: as many as the daemon gives.
pub(crate) const PAGE: usize = 1000;

/// A list that is gone through page after page.
#[derive(Clone, Debug)]
pub(crate) struct Pages {
    path: String,
    /// As they stand in the query.
    filters: String,
    next: Next,
}

/// Where the next page begins.
#[derive(Clone, Debug)]
enum Next {
    AtFirst,
    Behind(String),
    Nowhere,
}

impl Pages {
    /// The list at this path.
    pub(crate) fn of(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            filters: String::new(),
            next: Next::AtFirst,
        }
    }

    /// Only the entries that fit this, when there is something to fit.
    pub(crate) fn filter(mut self, name: &str, value: Option<&str>) -> Self {
        if let Some(value) = value {
            self.filters += &format!("&{name}={}", segment(value));
        }
        self
    }

    /// The call for the next page, of so many entries at most; `None` when all have been given.
    pub(crate) fn call(&self, limit: usize) -> Option<String> {
        let Self { path, filters, .. } = self;
        let cursor = match &self.next {
            Next::AtFirst => String::new(),
            Next::Behind(cursor) => format!("&cursor={}", segment(cursor)),
            Next::Nowhere => return None,
        };
        Some(format!("{path}?limit={limit}{filters}{cursor}"))
    }

    /// The next page, of so many entries at most; `None` when all have been given.
    ///
    /// # Errors
    /// Those of the daemon.
    pub(crate) async fn next<T: DeserializeOwned>(
        &mut self,
        limit: usize,
        daemon: &mut Client,
    ) -> Result<Option<Vec<T>>, ClientError> {
        let Some(call) = self.call(limit) else {
            return Ok(None);
        };
        let page: List<T> = daemon.get(&call).await?;
        self.next = page.next_cursor.map_or(Next::Nowhere, Next::Behind);
        Ok(Some(page.items))
    }

    /// What stands behind the pages that were given, for whoever goes on from there.
    pub(crate) fn cursor(self) -> Option<String> {
        match self.next {
            Next::Behind(cursor) => Some(cursor),
            Next::AtFirst | Next::Nowhere => None,
        }
    }

    /// All entries.
    ///
    /// # Errors
    /// Those of the daemon.
    pub(crate) async fn all<T: DeserializeOwned>(
        mut self,
        daemon: &mut Client,
    ) -> Result<List<T>, ClientError> {
        let mut items = Vec::new();
        while let Some(page) = self.next(PAGE, daemon).await? {
            items.extend(page);
        }
        Ok(List::whole(items))
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
        assert_eq!(asked.get("user").map(String::as_str), Some("x&y"));
        format!(r#"{{"items":{items},"nextCursor":{next}}}"#)
    }

    #[tokio::test]
    async fn every_page_is_asked_for_once() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let served = axum::Router::new().route("/list", get(page));
        tokio::spawn(async move { axum::serve(listener, served).await });
        let mut daemon = Client::connect(&socket, Box::new(|_| {})).await.unwrap();
        let pages = Pages::of("/list")
            .filter("user", Some("x&y"))
            .filter("service", None);
        let all: List<u32> = pages.clone().all(&mut daemon).await.unwrap();
        assert_eq!(all.items, [1, 2, 3]);
        assert_eq!(all.next_cursor, None);
        let mut some = pages;
        let first: Option<Vec<u32>> = some.next(2, &mut daemon).await.unwrap();
        assert_eq!(first, Some(vec![1, 2]));
        let next = "/list?limit=7&user=x%26y&cursor=a%26b%20c";
        assert_eq!(some.call(7).as_deref(), Some(next));
        assert_eq!(some.cursor().as_deref(), Some("a&b c"));
    }
}
