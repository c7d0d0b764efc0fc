//! Rows of usage, added up by what somebody wants to compare. Pure.

use std::collections::BTreeMap;

use crate::ids::{Day, ServiceType, UserId};
use crate::store::{Usage, UsageRow};

/// What rows are added up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// One group for each pair of a user and a service.
    UserAndService,
    /// One group for each user.
    User,
    /// One group for each service.
    Service,
    /// One group for each day.
    Day,
}

/// What all rows of a group have in common; the rest is `None`. In the order of users, services, days.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// Whose.
    pub user: Option<UserId>,
    /// Of what.
    pub service: Option<ServiceType>,
    /// When.
    pub day: Option<Day>,
}

/// The rows of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// All of them.
    pub usage: Usage,
    /// The latest day of them.
    pub last_day: Option<Day>,
}

impl Sum {
    fn add(&mut self, row: &UsageRow) {
        self.usage.add(&row.usage);
        self.last_day = self.last_day.max(Some(row.key.day));
    }
}

/// Groups, and all of them together.
#[derive(Debug)]
pub struct Report {
    by: By,
    groups: BTreeMap<Group, Sum>,
    total: Sum,
}

impl Report {
    /// Nothing yet.
    pub fn new(by: By) -> Self {
        Self {
            by,
            groups: BTreeMap::new(),
            total: Sum::default(),
        }
    }

    /// Adds a row to its group.
    pub fn add(&mut self, row: &UsageRow) {
        let (user, service) = (&row.key.user, &row.key.service);
        let group = match self.by {
            By::UserAndService => Group {
                user: Some(user.clone()),
                service: Some(service.clone()),
                day: None,
            },
            By::User => Group {
                user: Some(user.clone()),
                ..Group::default()
            },
            By::Service => Group {
                service: Some(service.clone()),
                ..Group::default()
            },
            By::Day => Group {
                day: Some(row.key.day),
                ..Group::default()
            },
        };
        self.groups.entry(group).or_default().add(row);
        self.total.add(row);
    }

    /// The groups, in their order.
    pub fn groups(&self) -> &BTreeMap<Group, Sum> {
        &self.groups
    }

    /// All rows.
    pub fn total(&self) -> &Sum {
        &self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::UsageKey;

    fn row(day: i64, user: &str, service: &str, requests: u64) -> UsageRow {
        UsageRow {
            key: UsageKey {
                day: Day::from_number(day),
                user: UserId::parse(user).unwrap(),
                service: ServiceType::parse(service).unwrap(),
            },
            usage: Usage {
                requests,
                ..Usage::default()
            },
        }
    }

    #[track_caller]
    fn check(by: By, expected: &[(&str, u64, i64)]) {
        let mut report = Report::new(by);
        for row in [
            row(3, "alice", "figma", 1),
            row(1, "alice", "figma", 2),
            row(2, "bob", "figma", 4),
            row(2, "alice", "github", 8),
        ] {
            report.add(&row);
        }
        let found = report.groups().iter().map(|(group, sum)| {
            let user = group.user.as_ref().map(UserId::to_string);
            let service = group.service.as_ref().map(ServiceType::to_string);
            let day = group.day.map(|day| day.number().to_string());
            let name: Vec<_> = [user, service, day].into_iter().flatten().collect();
            (name.join(" "), sum.usage.requests, sum.last_day)
        });
        let expected = expected.iter().map(|(name, requests, day)| {
            ((*name).to_owned(), *requests, Some(Day::from_number(*day)))
        });
        assert_eq!(found.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        assert_eq!(report.total().usage.requests, 15);
        assert_eq!(report.total().last_day, Some(Day::from_number(3)));
    }

    #[test]
    fn rows_add_up_by_what_is_asked_for() {
        check(
            By::UserAndService,
            &[
                ("alice figma", 3, 3),
                ("alice github", 8, 2),
                ("bob figma", 4, 2),
            ],
        );
        check(By::User, &[("alice", 11, 3), ("bob", 4, 2)]);
        check(By::Service, &[("figma", 7, 3), ("github", 8, 2)]);
        check(By::Day, &[("1", 2, 1), ("2", 12, 2), ("3", 1, 3)]);
    }
}
