//! `mcpm instances export`: all instances for another program, without a secret, a page at a time.

use crate::api::instances::AdminInstance;
use crate::control::client::Client;
use crate::ids::Timestamp;

use super::formulas::escaped;
use super::listing::Filter;
use crate::cli::exit::Exit;
use crate::cli::pages::PAGE;
use crate::cli::session::Session;

/// Names of the columns.
const COLUMNS: [&str; 8] = [
    "user",
    "service",
    "id",
    "label",
    "created_at",
    "last_used_at",
    "expires_at",
    "disabled_at",
];

/// Arguments of `instances export`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    filter: Filter,
    /// A line of JSON for each, which is the default
    #[arg(long)]
    json: bool,
    /// Comma-separated values, with a header; users and labels that a spreadsheet would take for
    /// formulas begin with an apostrophe, which `import` takes away
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

/// Prints them as they come.
pub(super) async fn run(
    args: &Args,
    daemon: &mut Client,
    session: &Session,
) -> anyhow::Result<Exit> {
    if args.csv {
        session.output.data(&csv(&[COLUMNS.map(str::to_owned)])?)?;
    }
    let mut pages = args.filter.pages();
    while let Some(instances) = pages.next::<AdminInstance>(PAGE, daemon).await? {
        let text = if args.csv {
            csv(&instances.iter().map(cells).collect::<Vec<_>>())?
        } else {
            lines(&instances)?
        };
        session.output.data(&text)?;
    }
    Ok(Exit::Fine)
}

fn lines(instances: &[AdminInstance]) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    for instance in instances {
        serde_json::to_writer(&mut text, instance)?;
        text.push(b'\n');
    }
    Ok(text)
}

fn cells(instance: &AdminInstance) -> [String; COLUMNS.len()] {
    let time = |time: Option<Timestamp>| time.map(|at| at.to_string()).unwrap_or_default();
    [
        escaped(&instance.user).into_owned(),
        instance.service.clone(),
        instance.id.clone(),
        escaped(instance.label.as_deref().unwrap_or_default()).into_owned(),
        instance.created_at.to_string(),
        time(instance.last_used_at),
        time(instance.expires_at),
        time(instance.disabled_at),
    ]
}

fn csv(rows: &[[String; COLUMNS.len()]]) -> anyhow::Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.write_record(row)?;
    }
    writer.flush()?;
    Ok(writer.get_ref().clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_quotes_gets_them_and_nothing_is_secret() {
        let instance = serde_json::json!({
            "id": "ins_aaaabbbbcccc", "user": "a,b", "service": "figma", "active": false,
            "label": "say \"hi\"", "createdAt": "2026-11-22T23:49:07.550Z", "lastUsedAt": null,
            "rotatedAt": null, "expiresAt": null, "disabledAt": "2027-01-01T00:00:00.000Z",
            "version": "0123456789abcdef"
        });
        let instance: AdminInstance = serde_json::from_value(instance).unwrap();
        let text = String::from_utf8(csv(&[cells(&instance)]).unwrap()).unwrap();
        assert_eq!(
            text,
            "\"a,b\",figma,ins_aaaabbbbcccc,\"say \"\"hi\"\"\",2026-11-22T23:49:07.550Z,,,\
             2027-01-01T00:00:00.000Z\n"
        );
        let text = String::from_utf8(lines(std::slice::from_ref(&instance)).unwrap()).unwrap();
        assert!(text.ends_with("}\n") && text.lines().count() == 1, "{text}");
        let formula = AdminInstance {
            user: "=1+1".to_owned(),
            label: Some("@SUM(A1)".to_owned()),
            ..instance
        };
        let text = String::from_utf8(csv(&[cells(&formula)]).unwrap()).unwrap();
        assert!(
            text.starts_with("'=1+1,figma,") && text.contains(",'@SUM(A1),"),
            "{text}"
        );
    }
}
