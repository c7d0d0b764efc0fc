//! Keys of the `mcp` block and of the blocks in it.

use super::{Key, Kind, MCP_LIMITS, Short, Table};

/// `mcp`
pub static MCP: Table = Table::new(
    "mcp",
    &[
        Key::new(
            "service",
            Kind::Text,
            "required",
            "service type in URLs: `[a-z0-9][a-z0-9_-]{0,63}`; one app per type",
        ),
        Key::new(
            "port",
            Kind::Port,
            "`port` of the app, else its env's `PORT`",
            "fixed port on 127.0.0.1; `PORT` is set when absent",
        ),
        Key::new(
            "mcp_path",
            Kind::UrlPath,
            "`/mcp`",
            "where the bare instance URL goes",
        ),
        Key::new(
            "protocol",
            Kind::Word(&["mcp", "http"]),
            "`mcp`",
            "`http`: a plain reverse proxy with injection",
        ),
        Key::new(
            "upstream_path",
            Kind::UrlPath,
            "`/{rest}`",
            "`/{instance_id}/{rest}` for services that want an id in their path; it is the public `ins_…`",
        ),
        Key::new(
            "prefix",
            Kind::Text,
            "first 3 letters of the type",
            "first part of instance ids: `[a-z][a-z0-9]{0,15}`",
        ),
        Key::new(
            "health",
            Kind::Block(&HEALTH, &[Short::True, Short::False, Short::Text]),
            "TCP, then GET `mcp_path`",
            "how to see whether it is alive; `false`: running is alive",
        ),
        Key::new(
            "start_timeout",
            Kind::Duration,
            "`60s`",
            "until then it may be not ready",
        ),
        Key::new(
            "auth",
            Kind::Block(&AUTH, &[Short::Text]),
            "`none`",
            "what a user must give, and where it goes; a text is its `type`",
        ),
        Key::new(
            "require_auth",
            Kind::Flag,
            "`false`",
            "the caller must also show a token of the owner",
        ),
        Key::new(
            "rate_limit",
            Kind::Block(&RATE_LIMIT, &[Short::False, Short::Number]),
            "none",
            "per instance; a number is its `per_minute`",
        ),
        Key::new(
            "limits",
            Kind::Block(&MCP_LIMITS, &[]),
            "those of the daemon",
            "how much each instance, and the service as a whole, may be sent at most",
        ),
        Key::new(
            "allow_private",
            Kind::Flag,
            "`false`",
            "validation and bridge calls may reach private addresses",
        ),
        Key::new("display_name", Kind::Text, "the service type", "for people"),
        Key::new("description", Kind::Text, "", "for people"),
        Key::new("category", Kind::Text, "", "for people"),
        Key::new("icon_url", Kind::Text, "", "for people"),
    ],
);

/// `mcp.health`
pub static HEALTH: Table = Table::new(
    "mcp.health",
    &[
        Key::new(
            "http",
            Kind::UrlPath,
            "",
            "GET this path, for readiness and from then on",
        ),
        Key::new("tcp", Kind::Flag, "`false`", "connect only"),
        Key::new("interval", Kind::Duration, "`30s`", "between two probes"),
        Key::new("timeout", Kind::Duration, "`2s`", "for one probe"),
        Key::new(
            "unhealthy_after",
            Kind::Count { min: 1, max: 1000 },
            "3",
            "failures in a row that make a restart",
        ),
        Key::new(
            "expect",
            Kind::Numbers { min: 100, max: 599 },
            "any below 500",
            "statuses that are alive",
        ),
    ],
);

/// `mcp.auth`
pub static AUTH: Table = Table::new(
    "mcp.auth",
    &[
        Key::new(
            "type",
            Kind::Text,
            "`none`",
            "`none`, `api_key`, `bearer_token`, `basic_auth`, `oauth2` (or `oauth`)",
        ),
        Key::new(
            "fields",
            Kind::Blocks(&AUTH_FIELD),
            "by the type: `api_key`; `token`; `username` and `password`",
            "what the user is asked for",
        ),
        Key::new(
            "inject",
            Kind::Block(&INJECT, &[]),
            "`Authorization`, as the type says",
            "where it goes in a request to the service",
        ),
        Key::new(
            "validate",
            Kind::Block(&VALIDATE, &[Short::False]),
            "",
            "how to see whether it is right",
        ),
        Key::new(
            "oauth",
            Kind::Block(&OAUTH, &[]),
            "",
            "where users of an `oauth2` service give their consent, and as whom we ask for it",
        ),
    ],
);

/// `mcp.auth.oauth`
pub static OAUTH: Table = Table::new(
    "mcp.auth.oauth",
    &[
        Key::new(
            "authorization_url",
            Kind::Text,
            "required",
            "where the user's browser is sent: an `https` address (`http` with `allow_private`)",
        )
        .aka(&["authorize_url", "auth_url"]),
        Key::new(
            "token_url",
            Kind::Text,
            "required",
            "where codes and refresh tokens are exchanged",
        ),
        Key::new(
            "revocation_url",
            Kind::Text,
            "",
            "where tokens of a removed instance are revoked (RFC 7009)",
        )
        .aka(&["revoke_url"]),
        Key::new(
            "client_id",
            Kind::Text,
            "required",
            "the id that the provider has given to this installation",
        ),
        Key::new(
            "client_secret_env",
            Kind::Text,
            "",
            "variable of the daemon with the client's secret, one that begins with `MCPM_OAUTH_` reaches no app; without a secret the client is public",
        ),
        Key::new(
            "client_secret_file",
            Kind::Text,
            "",
            "file that holds the client's secret; read anew at each use",
        ),
        Key::new(
            "client_auth",
            Kind::Word(&["basic", "post"]),
            "`basic`",
            "how the client shows its secret: in a header, or in the body",
        ),
        Key::new("scopes", Kind::Words, "", "what is asked for").aka(&["scope"]),
        Key::new(
            "issuer",
            Kind::Text,
            "",
            "what the provider says as `iss` in its answers (RFC 9207); with it, one without `iss` does not count",
        ),
        Key::new(
            "authorize_params",
            Kind::Texted,
            "",
            "more parameters of the authorization address, such as `access_type`: `offline`",
        ),
    ],
);

/// `mcp.auth.fields[]`
pub static AUTH_FIELD: Table = Table::new(
    "mcp.auth.fields[]",
    &[
        Key::new(
            "name",
            Kind::Text,
            "required",
            "name in templates (`{name}`) and in `additionalCredentials`",
        ),
        Key::new(
            "type",
            Kind::Text,
            "`password`",
            "`password` and `secret` are hidden; `text`, `email`, `url`, `number` are not",
        ),
        Key::new(
            "required",
            Kind::Flag,
            "`true` without `default`",
            "must be given",
        ),
        Key::new("description", Kind::Text, "", "for people").aka(&["label"]),
        Key::new("default", Kind::Text, "", "taken when it is not given"),
    ],
);

/// `mcp.auth.inject`
pub static INJECT: Table = Table::new(
    "mcp.auth.inject",
    &[
        Key::new("headers", Kind::Texted, "", "header name: template"),
        Key::new("query", Kind::Texted, "", "query parameter: template"),
        Key::new(
            "basic",
            Kind::Block(&BASIC, &[Short::Text]),
            "",
            "templates for `Authorization: Basic`; a text is `user:password`",
        ),
    ],
);

/// `mcp.auth.inject.basic`
pub static BASIC: Table = Table::new(
    "mcp.auth.inject.basic",
    &[
        Key::new("username", Kind::Text, "required", "template").aka(&["user"]),
        Key::new("password", Kind::Text, "empty", "template"),
    ],
);

/// `mcp.auth.validate`
pub static VALIDATE: Table = Table::new(
    "mcp.auth.validate",
    &[
        Key::new(
            "url",
            Kind::Text,
            "required",
            "template of an `https` or `http` address",
        ),
        Key::new(
            "method",
            Kind::Word(&["GET", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"]),
            "`GET`",
            "method",
        ),
        Key::new(
            "headers",
            Kind::Texted,
            "what `inject` says",
            "header name: template",
        ),
        Key::new(
            "expect",
            Kind::Numbers { min: 100, max: 599 },
            "200",
            "statuses that say \"right\"",
        ),
        Key::new(
            "json",
            Kind::Block(&VALIDATE_JSON, &[Short::Text]),
            "",
            "what such an answer must say as well, for APIs that answer 200 to wrong keys; a text is its `at`",
        ),
        Key::new(
            "cache",
            Kind::Duration,
            "`5m`",
            "so long a good answer counts for the same user and credential; at most a day, and 0 asks each time",
        ),
    ],
);

/// `mcp.auth.validate.json`
pub static VALIDATE_JSON: Table = Table::new(
    "mcp.auth.validate.json",
    &[
        Key::new(
            "at",
            Kind::Text,
            "required",
            "where to look: `ok`, `data.viewer.id`, or a JSON Pointer such as `/data/0/id`",
        ),
        Key::new(
            "is",
            Kind::Any,
            "anything but `null` and `false`",
            "what must stand there: a text, a number, `true` or `false`",
        ),
    ],
);

/// Of a rate of requests, wherever it stands.
pub(super) const RATE_KEYS: &[Key] = &[
    Key::new(
        "per_minute",
        Kind::Count {
            min: 1,
            max: 100_000_000,
        },
        "required",
        "requests",
    ),
    Key::new(
        "burst",
        Kind::Count {
            min: 1,
            max: 100_000_000,
        },
        "`per_minute`",
        "requests at once",
    ),
];

/// `mcp.rate_limit`
pub static RATE_LIMIT: Table = Table::new("mcp.rate_limit", RATE_KEYS);
