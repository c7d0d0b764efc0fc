//! The last lines of `mcpm start`: where the router is, what to look after, and what to type next.

use crate::api::List;
use crate::api::daemon::DaemonInfo;
use crate::api::services::AdminService;
use crate::api::users::User;
use crate::control::client::{Client, ClientError};

use super::render::Output;

/// What an operator should act on, to stderr.
pub(crate) async fn warn(daemon: &mut Client, output: &Output) -> Result<DaemonInfo, ClientError> {
    let info: DaemonInfo = daemon.get("/api/v1/admin/daemon").await?;
    for warning in &info.warnings {
        output.warning(warning);
    }
    Ok(info)
}

/// Where the router is, what to look after, and what to type next. Returns whether the router has
/// its address.
pub(crate) async fn print(daemon: &mut Client, output: &Output) -> anyhow::Result<bool> {
    let info = warn(daemon, output).await?;
    let has_router = info.listen.is_some();
    let services: List<AdminService> = daemon.get("/api/v1/admin/services").await?;
    if services.items.is_empty() {
        return Ok(has_router);
    }
    if let Some(listen) = &info.listen {
        output.line(router(&info.public_url, listen))?;
    }
    let users: List<User> = daemon.get("/api/v1/admin/users").await?;
    if let Some(next) = next(&services.items, &users.items) {
        output.line(format_args!("next    {next}"))?;
    }
    Ok(has_router)
}

fn router(public_url: &str, listen: &str) -> String {
    if public_url == format!("http://{listen}") {
        format!("router  {public_url}")
    } else {
        format!("router  {public_url} (listens on {listen})")
    }
}

/// The command that brings a new operator on; `None` for one who has users with instances.
fn next(services: &[AdminService], users: &[User]) -> Option<String> {
    let Some(user) = users.first() else {
        return Some("mcpm users add alice".to_owned());
    };
    if users.iter().any(|user| user.instances > 0) {
        return None;
    }
    let service = &services.first()?.service.service;
    Some(format!("mcpm instances add {service} --user {}", user.id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Timestamp;

    #[test]
    fn the_router_is_shown_once_when_both_addresses_are_one() {
        assert_eq!(
            router("http://127.0.0.1:8080", "127.0.0.1:8080"),
            "router  http://127.0.0.1:8080"
        );
        assert_eq!(
            router("https://mcp.example.com", "127.0.0.1:8080"),
            "router  https://mcp.example.com (listens on 127.0.0.1:8080)"
        );
    }

    #[test]
    fn the_next_command_brings_a_new_operator_on() {
        let service = serde_json::json!({
            "service": "demo", "displayName": "Demo", "description": null, "category": null,
            "iconUrl": null, "authType": "none", "fields": [],
            "health": {
                "readiness": "ready", "lastCheck": null, "responseMs": null,
                "consecutiveFailures": 0, "uptimePercent": null, "lastFailure": null
            },
            "app": "demo", "port": 49160, "instances": 0
        });
        let services = [serde_json::from_value(service).unwrap()];
        let user = |instances| User {
            id: "bob".into(),
            created_at: Timestamp::from_millis(0),
            instances,
            disabled_at: None,
            group: None,
            version: String::new(),
        };
        assert_eq!(next(&services, &[]).unwrap(), "mcpm users add alice");
        let second = next(&services, &[user(0)]).unwrap();
        assert_eq!(second, "mcpm instances add demo --user bob");
        assert_eq!(next(&services, &[user(1)]), None);
    }
}
