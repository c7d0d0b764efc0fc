//! Keys of the file's top level and of its `mcpm` block.

use super::super::settings::AccessLogForm;
use super::Treatment::NotYet;
use super::{APP, Key, Kind, LIMITS, Short, Table};

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
            "access_log",
            Kind::Word(AccessLogForm::WORDS),
            "`off`",
            "a line for each request in `logs/access.log`, in columns or as JSON",
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
            "trusted_proxies",
            Kind::Texts,
            "none",
            "proxies whose word about a client's address and scheme counts: addresses, or networks such as `10.0.0.0/8`",
        ),
        Key::new(
            "trusted_header",
            Kind::Word(&["x-forwarded-for", "forwarded"]),
            "`x-forwarded-for`",
            "the header in which they say the address; the other one is not read",
        ),
        Key::new(
            "proxy_protocol",
            Kind::Flag,
            "`false`",
            "their connections begin with a header of the PROXY protocol, version 1 or 2",
        ),
        Key::new(
            "identity_provider",
            Kind::Blocks(&IDENTITY_PROVIDER),
            "none",
            "whose JWTs count as tokens of users; one, or a list",
        ),
        Key::new(
            "cors",
            Kind::Block(&CORS, &[]),
            "none",
            "pages of other origins that may call",
        ),
        Key::new(
            "limits",
            Kind::Block(&LIMITS, &[]),
            "none",
            "how much instances, users and services may send at most",
        ),
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
            Kind::Days,
            "`180d`",
            "usage of a day is removed after so many days; 0: never",
        ),
        Key::new(
            "audit",
            Kind::Days,
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

/// `mcpm.identity_provider`
pub static IDENTITY_PROVIDER: Table = Table::new(
    "mcpm.identity_provider",
    &[
        Key::new(
            "issuer",
            Kind::Text,
            "required",
            "`iss` of its tokens, to the letter",
        ),
        Key::new(
            "audience",
            Kind::Texts,
            "required",
            "one of these must stand in `aud`",
        ),
        Key::new(
            "jwks_url",
            Kind::Text,
            "found at `issuer`",
            "address of its public keys",
        ),
        Key::new(
            "jwks_file",
            Kind::Text,
            "",
            "whole path of a file with its public keys, read again when it changes",
        ),
        Key::new(
            "secret_env",
            Kind::Text,
            "",
            "variable of the daemon with the secret of `HS256`; one that begins with `MCPM_JWT_` reaches no app",
        ),
        Key::new(
            "secret_file",
            Kind::Text,
            "",
            "whole path of a file with that secret, read again when it changes",
        ),
        Key::new(
            "algorithms",
            Kind::Texts,
            "`RS256`, `ES256`; with a secret `HS256`",
            "what its tokens may be signed with",
        ),
        Key::new(
            "user_claim",
            Kind::Text,
            "`sub`",
            "the claim whose value is the user's id",
        ),
        Key::new(
            "user_prefix",
            Kind::Text,
            "",
            "stands before that value in the user's id",
        ),
        Key::new(
            "create_users",
            Kind::Flag,
            "`false`",
            "users are added when their first token is seen",
        ),
        Key::new(
            "leeway",
            Kind::Duration,
            "`30s`",
            "how far its clock may be off; at most 5 minutes",
        ),
        Key::new(
            "required_scope",
            Kind::Texts,
            "",
            "all of these must stand in `scope` or `scp`",
        ),
        Key::new(
            "allow_private",
            Kind::Flag,
            "`false`",
            "it may be at a private address, and at one that begins with `http://`",
        ),
    ],
);

/// `mcpm.cors`
pub static CORS: Table = Table::new(
    "mcpm.cors",
    &[Key::new(
        "origins",
        Kind::Texts,
        "required",
        "such as `https://app.example.com`; `*` is none",
    )],
);
