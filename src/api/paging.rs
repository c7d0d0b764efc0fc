//! Lists that come a page at a time: how much of one, and from where. Pure.

use serde::Deserialize;
use utoipa::IntoParams;

use super::List;
use super::error::{Answer, ApiError};
use crate::ids::ServiceType;

/// Entries of a page when nobody says, and at most.
const PAGE: u32 = 200;
const PAGE_MAX: u32 = 1000;

/// How much of a list, and from where.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    /// `nextCursor` of the page before.
    pub(super) cursor: Option<String>,
    /// Entries of one page, at most 1000; 200 when not given.
    pub(super) limit: Option<u32>,
}

impl PageQuery {
    /// Entries of the page.
    pub(super) fn size(&self) -> u32 {
        self.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX)
    }

    /// The page of a list that is in the order of services, of which each is there once.
    pub(super) fn of_services<T>(
        &self,
        all: impl IntoIterator<Item = T>,
        service: impl Fn(&T) -> &ServiceType,
    ) -> Answer<List<T>> {
        let after = self.cursor.as_deref().map(ServiceType::parse).transpose();
        let after = after.map_err(|_| ApiError::bad_request("`cursor` is none of ours"))?;
        let is_behind = |item: &T| after.as_ref().is_none_or(|after| service(item) > after);
        let mut rest = all.into_iter().filter(is_behind);
        let items: Vec<T> = rest.by_ref().take(self.size() as usize).collect();
        let is_last = rest.next().is_none();
        let last = items.last().filter(|_| !is_last);
        let next_cursor = last.map(|item| service(item).to_string());
        Ok(List { items, next_cursor })
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn pages_of_services_cover_all_once() {
        let types = ["a-b", "ab", "a_b", "b", "c"].map(|text| ServiceType::parse(text).unwrap());
        let mut all = types.to_vec();
        all.sort();
        for limit in 1..7 {
            let (mut cursor, mut seen) = (None, Vec::new());
            loop {
                let query = PageQuery {
                    cursor,
                    limit: Some(limit),
                };
                let page = query.of_services(all.clone(), |service| service).unwrap();
                assert!(page.items.len() <= limit as usize);
                seen.extend(page.items);
                cursor = page.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!(seen, all, "{limit}");
        }
        let nonsense = PageQuery {
            cursor: Some("A B".to_owned()),
            limit: None,
        };
        let refused = nonsense.of_services(all, |service| service).unwrap_err();
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    }
}
