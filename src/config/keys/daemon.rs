//! Keys of the file's top level and of its `mcpm` block.

use super::Treatment::NotYet;
use super::{APP, Key, Kind, Short, Table};

/// The top level, when it is a map with `apps` or `pm2`.
pub static TOP: Table = Table::new(
    "top level",
    &[
        Key::new(
            "apps",
            Kind::Blocks(&APP),
            "",
            "the apps; one app may stand without a list",
        )
        .aka(&["pm2"]),
        Key::new(
            "mcpm",
            Kind::Block(&DAEMON, &[]),
            "",
            "settings of the daemon itself",
        ),
        // Most files of `pm2 init` have it, and it is nothing that starting would need.
        Key::new("deploy", Kind::Any, "", "PM2's deployments").but(super::Treatment::Invisible),
        Key::new("static", Kind::Any, "", "PM2's static file servers").but(NotYet),
        // What a `package.json` and an editor's schema line bring along is no mistake.
        Key::new("$schema", Kind::Any, "", "for editors").but(super::Treatment::Invisible),
    ],
);

/// `mcpm`
pub static DAEMON: Table = Table::new(
    "mcpm",
    &[
        Key::new(
            "listen",
            Kind::Text,
            "`127.0.0.1:8080`",
            "address and port of router and API",
        ),
        Key::new(
            "public_url",
            Kind::Text,
            "`http://` and `listen`",
            "origin of handed-out URLs",
        ),
        Key::new(
            "require_auth",
            Kind::Flag,
            "`false`",
            "all services demand a token of the owner",
        ),
        Key::new("max_body", Kind::Size, "`8M`", "largest request body"),
        Key::new(
            "log_rotate",
            ROTATE,
            "`true`",
            "when logs are put aside, mcpm's own too; `false` or 0: never. An app may say otherwise",
        ),
        Key::new(
            "admin_listen",
            Kind::Text,
            "",
            "address of metrics and service detail",
        )
        .but(NotYet),
        Key::new("tls", Kind::Any, "", "certificate and key").but(NotYet),
        Key::new(
            "identity_provider",
            Kind::Any,
            "",
            "issuer of users' tokens",
        )
        .but(NotYet),
        Key::new("limits", Kind::Any, "", "bounds of the router").but(NotYet),
        Key::new(
            "retention",
            Kind::Block(&RETENTION, &[]),
            "",
            "how long usage and audit are kept",
        ),
        Key::new(
            "audit",
            Kind::Block(&AUDIT, &[]),
            "",
            "who else is told of what is done",
        ),
    ],
);

/// `retention`
pub static RETENTION: Table = Table::new(
    "retention",
    &[
        Key::new(
            "usage",
            Kind::Duration,
            "`180d`",
            "usage of a day is removed after so many days; 0: never",
        ),
        Key::new(
            "audit",
            Kind::Duration,
            "`365d`",
            "an entry of the audit log is removed after so many days; 0: never",
        ),
    ],
);

/// `audit`
pub static AUDIT: Table = Table::new(
    "audit",
    &[Key::new(
        "webhook",
        Kind::Text,
        "",
        "an address to which isolation events are posted as JSON; private ones are allowed",
    )],
);

/// `log_rotate` of an app or of the daemon: a block, or on or off.
pub(super) const ROTATE: Kind =
    Kind::Block(&LOG_ROTATE, &[Short::True, Short::False, Short::Number]);

/// `log_rotate`
pub static LOG_ROTATE: Table = Table::new(
    "log_rotate",
    &[
        Key::new(
            "max_size",
            Kind::Size,
            "`10M`",
            "a larger log is put aside, between two lines; 0: any size",
        ),
        Key::new(
            "max_age",
            Kind::Duration,
            "0",
            "an older one, too, with the next line; 0: any age",
        ),
        Key::new(
            "retain",
            Kind::Count {
                min: 0,
                max: u32::MAX as i64,
            },
            "30",
            "how many that were put aside are kept; 0: all",
        ),
        Key::new(
            "compress",
            Kind::Flag,
            "`true`",
            "those are compressed with gzip",
        ),
    ],
);
