//! Processes for the tests of this room.

use serde_json::json;

use crate::api::processes::{Health, Process, Readiness};

/// An online plain app of that name.
pub(crate) fn process(id: u32, name: &str) -> Process {
    let spec = json!({
        "name": name, "namespace": "default",
        "program": {
            "script": "/srv/app.js", "interpreter": "node", "interpreterArgs": [],
            "args": ["a", "b c"]
        },
        "cwd": "/srv", "env": {"PORT": "3000", "API_KEY": "***"}, "execMode": "fork_mode",
        "instances": 1, "instanceVar": "NODE_APP_INSTANCE", "autostart": true,
        "restart": {
            "autorestart": true, "maxRestarts": 16, "minUptime": 1000, "restartDelay": null,
            "expBackoffRestartDelay": null, "stopExitCodes": []
        },
        "stop": {"signal": 2, "grace": 1600, "treekill": true},
        "logs": {"out": "default", "error": "default", "merge": true},
        "pidFile": null, "runAs": null, "version": null, "mcp": null
    });
    let process = json!({
        "pmId": id, "uniqueId": "u", "name": name, "instance": 0, "pid": 1000 + id, "status": "online",
        "reason": null, "restarts": 0, "unstableRestarts": 0,
        "startedAt": "2026-11-23T00:00:00Z", "createdAt": "2026-11-22T00:00:00Z",
        "lastExit": null, "memory": 0, "cpu": 0.0, "user": "root",
        "outLog": format!("/h/logs/{name}-out.log"), "errorLog": format!("/h/logs/{name}-error.log"),
        "pidFile": format!("/h/pids/{name}-{id}.pid"), "health": null, "spec": spec
    });
    serde_json::from_value(process).expect("the sample fits the types")
}

/// A service of that name on a port, in this state of readiness.
pub(crate) fn service(id: u32, name: &str, port: u16, readiness: Readiness) -> Process {
    let mcp = json!({
        "service": name, "displayName": name, "description": null, "category": null,
        "iconUrl": null, "port": port, "mcpPath": "/mcp", "protocol": "mcp",
        "upstreamPath": "/{rest}", "prefix": "abc",
        "health": {
            "readiness": "tcp", "liveness": {"http": "/health"}, "interval": 30000,
            "timeout": 2000, "unhealthyAfter": 3, "expect": []
        },
        "startTimeout": 60000,
        "auth": {
            "kind": "none", "fields": [],
            "inject": {"headers": [], "query": [], "basic": null},
            "validate": null, "oauth": null
        },
        "requireAuth": false, "rateLimit": null, "allowPrivate": false
    });
    let mut process = process(id, name);
    process.spec.mcp = Some(serde_json::from_value(mcp).expect("the sample fits the types"));
    process.health = Some(Health {
        readiness,
        last_check: None,
        response_ms: None,
        consecutive_failures: 0,
        uptime_percent: None,
        last_failure: None,
    });
    process
}
