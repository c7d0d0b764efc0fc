//! Instances in tables: all that are meant, page after page, and one with all that is known of it.

use crate::api::List;
use crate::api::instances::AdminInstance;
use crate::control::client::{Client, segment};
use crate::ids::Timestamp;

use super::INSTANCES;
use crate::cli::exit::Exit;
use crate::cli::grid::{Cell, Column, Grid};
use crate::cli::pages::Pages;
use crate::cli::session::Session;
use crate::cli::style::Paint;
use crate::cli::targets::Tally;

/// Which instances.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Filter {
    /// Only those of this user
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// Only those of this service
    #[arg(long, value_name = "TYPE")]
    service: Option<String>,
    /// Only those that are disabled or have expired
    #[arg(long, conflicts_with = "active")]
    inactive: bool,
    /// Only those that answer
    #[arg(long)]
    active: bool,
}

/// Arguments of `instances list`.
#[derive(Debug, Default, clap::Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    filter: Filter,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl Filter {
    /// Those that are meant.
    pub(super) fn pages(&self) -> Pages {
        let active = (self.inactive || self.active).then(|| self.active.to_string());
        Pages::of(INSTANCES)
            .filter("user", self.user.as_deref())
            .filter("service", self.service.as_deref())
            .filter("active", active.as_deref())
    }
}

/// Prints all that are meant.
pub(super) async fn list(
    args: &ListArgs,
    daemon: &mut Client,
    session: &Session,
) -> anyhow::Result<Exit> {
    let found: List<AdminInstance> = args.filter.pages().all(daemon).await?;
    if args.json {
        session.output.json(&found)?;
    } else {
        let table = table(&found.items, Timestamp::now());
        session.output.table(&table)?;
    }
    Ok(Exit::Fine)
}

/// Prints each of these with all that is known of it.
pub(super) async fn show(
    ids: &[String],
    json: bool,
    daemon: &mut Client,
    session: &Session,
) -> anyhow::Result<Exit> {
    let mut tally = Tally::new(&session.output);
    let mut found: Vec<AdminInstance> = Vec::new();
    for id in ids {
        let path = format!("{INSTANCES}/{}", segment(id));
        let asked = daemon.get(&path).await.map_err(anyhow::Error::from);
        tally.add(asked.map(|instance| {
            found.push(instance);
            Exit::Fine
        }))?;
    }
    if json {
        session.output.json(&List::whole(found))?;
        return Ok(tally.exit());
    }
    for instance in &found {
        let grid = facts(instance, Timestamp::now());
        session.output.table(&grid)?;
    }
    Ok(tally.exit())
}

fn state(instance: &AdminInstance, now: Timestamp) -> Cell {
    if instance.disabled_at.is_some() {
        Cell::painted("disabled", Paint::Bad)
    } else if instance.expires_at.is_some_and(|end| end <= now) {
        Cell::painted("expired", Paint::Warn)
    } else if !instance.active {
        Cell::painted("user disabled", Paint::Bad)
    } else if instance.credentials_expired_at.is_some() {
        Cell::painted("credentials expired", Paint::Bad)
    } else if instance.refused_since.is_some() {
        Cell::painted("refused", Paint::Warn)
    } else {
        Cell::painted("active", Paint::Good)
    }
}

fn or(time: Option<Timestamp>, word: &str) -> String {
    time.map_or(word.to_owned(), |at| at.to_string())
}

pub(in crate::cli) fn table(instances: &[AdminInstance], now: Timestamp) -> Grid {
    let mut grid = Grid::new(vec![
        Column::whole("instance"),
        Column::fit("user"),
        Column::fit("service"),
        Column::whole("state"),
        Column::fit("label").minor(2),
        Column::fit("made").minor(4),
        Column::fit("last used").minor(3),
        Column::fit("expires").minor(1),
    ]);
    for instance in instances {
        grid.row(vec![
            Cell::new(&instance.id),
            Cell::new(&instance.user),
            Cell::new(&instance.service),
            state(instance, now),
            Cell::new(instance.label.as_deref().unwrap_or("-")),
            Cell::new(instance.created_at.to_string()),
            Cell::new(or(instance.last_used_at, "never")),
            Cell::new(or(instance.expires_at, "never")),
        ]);
    }
    grid
}

fn facts(instance: &AdminInstance, now: Timestamp) -> Grid {
    let mut grid = Grid::facts();
    let mut fact = |name: &str, cell: Cell| grid.row(vec![Cell::painted(name, Paint::Head), cell]);
    fact("instance", Cell::new(&instance.id));
    fact("user", Cell::new(&instance.user));
    fact("service", Cell::new(&instance.service));
    fact("state", state(instance, now));
    fact("label", Cell::new(instance.label.as_deref().unwrap_or("-")));
    fact("made", Cell::new(instance.created_at.to_string()));
    fact("last used", Cell::new(or(instance.last_used_at, "never")));
    fact("last rotated", Cell::new(or(instance.rotated_at, "never")));
    fact("expires", Cell::new(or(instance.expires_at, "never")));
    fact("disabled since", Cell::new(or(instance.disabled_at, "-")));
    let expired = or(instance.credentials_expired_at, "-");
    fact("credentials expired", Cell::new(expired));
    fact("refused since", Cell::new(or(instance.refused_since, "-")));
    grid
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::style::Palette;

    fn sample() -> AdminInstance {
        serde_json::from_value(json!({
            "id": "ins_aaaabbbbcccc", "user": "alice", "service": "figma", "active": true,
            "label": "work", "createdAt": "2026-11-22T23:49:07.550Z", "lastUsedAt": null,
            "rotatedAt": null, "expiresAt": "2027-01-01T00:00:00.000Z", "disabledAt": null,
            "version": "0123456789abcdef"
        }))
        .unwrap()
    }

    #[test]
    fn the_call_asks_for_what_is_meant() {
        let call = |filter: Filter| filter.pages().call(9);
        let all = "/api/v1/admin/instances?limit=9";
        assert_eq!(call(Filter::default()).as_deref(), Some(all));
        let some = Filter {
            user: Some("a&b".into()),
            inactive: true,
            ..Filter::default()
        };
        let asked = "/api/v1/admin/instances?limit=9&user=a%26b&active=false";
        assert_eq!(call(some).as_deref(), Some(asked));
    }

    #[test]
    fn a_state_is_one_word() {
        let now = sample().created_at;
        let plain = |instance: &AdminInstance, now| {
            table(std::slice::from_ref(instance), now).render(Palette::PLAIN)
        };
        let mut instance = sample();
        assert!(plain(&instance, now).contains("│ active │ work"));
        instance.refused_since = Some(now);
        assert!(plain(&instance, now).contains("│ refused │"));
        instance.credentials_expired_at = Some(now);
        assert!(plain(&instance, now).contains("│ credentials expired │"));
        let later = instance.expires_at.unwrap();
        assert!(plain(&instance, later).contains("│ expired │"));
        instance.disabled_at = Some(now);
        assert!(plain(&instance, later).contains("│ disabled │"));
        assert!(
            facts(&instance, now)
                .render(Palette::PLAIN)
                .contains("disabled since")
        );
    }
}
