//! Keys of limits, of the daemon's and of a service's.

use super::mcp::RATE_KEYS;
use super::{Key, Kind, Short, Table};

/// The limits of one thing; `false` takes all of them away.
const QUOTA_OR_NONE: Kind = Kind::Block(&QUOTA, &[Short::False]);

/// A rate; a number is so much in a minute.
const RATE_OR_NONE: Kind = Kind::Block(&REQUEST_RATE, &[Short::False, Short::Number]);

/// `mcpm.limits`
pub static LIMITS: Table = Table::new(
    "mcpm.limits",
    &[
        Key::new(
            "instance",
            QUOTA_OR_NONE,
            "none",
            "each instance, that is each user at each service",
        ),
        Key::new(
            "user",
            QUOTA_OR_NONE,
            "none",
            "each user, over all their instances",
        ),
        Key::new(
            "service",
            QUOTA_OR_NONE,
            "none",
            "each service, over all users",
        ),
        Key::new(
            "groups",
            Kind::Named(&QUOTA),
            "none",
            "by the name of a group: for each of its users, what differs from `user`",
        ),
        Key::new(
            "calls",
            RATE_OR_NONE,
            "1200",
            "calls of the REST API by each user; a number is its `per_minute`, 0 or `false` no limit",
        ),
        Key::new(
            "validations",
            RATE_OR_NONE,
            "30",
            "credentials that an external service is asked about (`validate`), of each user at each service; the same",
        ),
    ],
);

/// `mcp.limits`
pub static MCP_LIMITS: Table = Table::new(
    "mcp.limits",
    &[
        Key::new(
            "instance",
            QUOTA_OR_NONE,
            "`instance` of the daemon's `limits`",
            "each instance of this service",
        ),
        Key::new(
            "service",
            QUOTA_OR_NONE,
            "`service` of the daemon's `limits`",
            "this service, over all users",
        ),
    ],
);

/// What one of them may be sent.
pub static QUOTA: Table = Table::new(
    "quota",
    &[
        Key::new(
            "requests",
            RATE_OR_NONE,
            "none",
            "requests; a number is its `per_minute`, 0 or `false` no limit",
        ),
        Key::new(
            "bytes",
            Kind::Block(&BYTE_RATE, &[Short::False, Short::Number, Short::Text]),
            "none",
            "bytes of bodies, both ways; a size is its `per_minute`, 0 or `false` no limit",
        ),
        Key::new(
            "streams",
            Kind::Count {
                min: 0,
                max: 1_000_000,
            },
            "none",
            "event streams and WebSockets that are open at once; 0 is no limit",
        ),
    ],
);

/// `requests`
pub static REQUEST_RATE: Table = Table::new("quota.requests", RATE_KEYS);

/// `bytes`
pub static BYTE_RATE: Table = Table::new(
    "quota.bytes",
    &[
        Key::new("per_minute", Kind::Size, "required", "bytes"),
        Key::new("burst", Kind::Size, "`per_minute`", "bytes at once"),
    ],
);
