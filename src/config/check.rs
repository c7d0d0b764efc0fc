//! What two apps of one file may not share. Pure.
//!
//! Two services of one type or on one port refuse the file; two apps of one name only warn, since
//! PM2 starts both.

use std::collections::HashMap;
use std::hash::Hash;

use super::app::Draft;
use super::error::{Report, shown};
use super::syntax::Place;

/// Compares all apps with each other.
pub(crate) fn check(apps: &[Draft], report: &mut Report) {
    let names = apps.iter().map(|app| (app.name.as_str(), app, app.name_at));
    for (first, second, at) in clashes(names) {
        let message = format!(
            "a second app is named {}{}; operations by name will reach both",
            shown(second.name.as_str()),
            see(first.name_at)
        );
        report.warn(at, message);
    }
    let services = || {
        apps.iter()
            .filter_map(|app| Some((app, app.service.as_ref()?)))
    };
    let types = services().map(|(app, service)| {
        (
            &service.spec.service,
            (app, service.type_at),
            service.type_at,
        )
    });
    for ((first, first_at), (second, _), at) in clashes(types) {
        let name = first
            .service
            .as_ref()
            .map_or("", |service| service.spec.service.as_str());
        let message = format!(
            "service type {} is served by app {} already{}; give {} a type of its own",
            shown(name),
            shown(first.name.as_str()),
            see(first_at),
            shown(second.name.as_str())
        );
        report.mistake(at, message);
    }
    let ports = services().map(|(app, service)| {
        (
            service.spec.port,
            (app, service.port_at, service.spec.port),
            service.port_at,
        )
    });
    for ((first, first_at, port), (second, ..), at) in clashes(ports) {
        let message = format!(
            "port {port} is taken by app {} already{}; give {} another",
            shown(first.name.as_str()),
            see(first_at),
            shown(second.name.as_str())
        );
        report.mistake(at, message);
    }
}

/// Each item whose key came before, with the first item of that key.
fn clashes<K: Eq + Hash, T: Copy>(
    items: impl Iterator<Item = (K, T, Place)>,
) -> Vec<(T, T, Place)> {
    let mut first: HashMap<K, T> = HashMap::new();
    let mut found = Vec::new();
    for (key, item, at) in items {
        match first.get(&key) {
            Some(&before) => found.push((before, item, at)),
            None => {
                first.insert(key, item);
            }
        }
    }
    found
}

fn see(at: Place) -> String {
    if at.line == 0 {
        String::new()
    } else {
        format!(" (line {})", at.line)
    }
}
