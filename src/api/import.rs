//! `POST /api/v1/admin/instances/import`: instances that come from another system, many in one call.
//!
//! Every row is checked by itself, and answered in its place. Credentials are not tried with the
//! external services: a hundred thousand of them would look like an attack. No answer repeats a value
//! of a row, since in a file whose columns are mixed up any of them may be a credential.

use std::collections::BTreeMap;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::door::{Admin, Json, Reply};
use super::error::{Answer, ApiError};
use super::instances::{parse_label, url};
use super::services::find;
use super::state::Api;
use super::{List, Problem};
use crate::audit::{By, words};
use crate::config::spec::{AuthKind, ServiceSpec};
use crate::ids::{InstanceId, ServiceType, Timestamp, UserId};
use crate::instances::{Imported, Incoming, NewTerms, alias, credentials};
use crate::router::path::{Route, parse};
use crate::secret::Secret;
use crate::store::Standing;
use crate::vault::Fields;

/// Rows of one call: a few milliseconds of work, so that nobody else waits for long.
pub const ROWS_MAX: usize = 1000;

/// Rows that are checked before other tasks get a turn.
const STEP: usize = 64;

/// Instances that are to be added.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImportRequest {
    /// At most 1000.
    pub rows: Vec<ImportRow>,
    /// Add the users that are missing, without tokens.
    #[serde(default)]
    pub add_users: bool,
    /// Only say what would become of each; nothing changes.
    #[serde(default)]
    pub dry_run: bool,
}

/// One instance that is to be added.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImportRow {
    /// Owner.
    pub user: String,
    /// Service type.
    pub service: String,
    /// As in `authenticate`.
    #[serde(default)]
    pub api_key: Option<String>,
    /// As in `authenticate`.
    #[serde(default)]
    pub additional_credentials: BTreeMap<String, String>,
    /// Its id in the other system; a secret. It goes on here when it is as hard to guess as ours.
    #[serde(default)]
    pub alias: Option<String>,
    /// What people call it: at most 100 characters.
    #[serde(default)]
    pub label: Option<String>,
    /// From when on it does not answer.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// When it was made; now, when not given.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub created_at: Option<Timestamp>,
}

/// What became of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImportState {
    /// It was added, or would be.
    Added,
    /// Its user had one of that service already, and nothing has changed.
    Exists,
    /// The same, and that one has another id than this row asks for.
    OtherUrl,
    /// There is a mistake in it.
    Refused,
}

/// The answer for one row.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImportedRow {
    /// What became of it.
    pub state: ImportState,
    /// What is wrong with it.
    pub error: Option<String>,
    /// Why its old id does not go on; then the new one is told, once it is there.
    pub alias_refused: Option<String>,
    /// The new secret id, in the place of one that does not go on.
    pub instance_id: Option<String>,
    /// The new URL, likewise.
    pub instance_url: Option<String>,
}

impl ImportedRow {
    fn new(state: ImportState) -> Self {
        Self {
            state,
            error: None,
            alias_refused: None,
            instance_id: None,
            instance_url: None,
        }
    }

    fn refused(why: impl Into<String>) -> Self {
        Self {
            error: Some(why.into()),
            ..Self::new(ImportState::Refused)
        }
    }
}

/// A row without a mistake.
struct Checked {
    /// Where it stands in the request.
    at: usize,
    incoming: Incoming,
    alias_refused: Option<String>,
}

const USER_DISABLED: &str = "its user is disabled; enable them with `mcpm users enable`";
const NO_USER: &str = "there is no such user; add them with `mcpm users add`, or have them added \
                       with `--add-users`";
const ALIAS_TAKEN: &str = "its old instance id is that of another instance here";

/// Adds instances that come from another system.
#[utoipa::path(post, path = "/api/v1/admin/instances/import", tag = "instances",
    request_body = ImportRequest,
    responses((status = 200, body = List<ImportedRow>), (status = 400, body = Problem)))]
pub(super) async fn import(
    _: Admin,
    by: By,
    State(api): State<Api>,
    Json(request): Json<ImportRequest>,
) -> Answer<Reply<List<ImportedRow>>> {
    let ImportRequest {
        rows,
        add_users,
        dry_run,
    } = request;
    if rows.len() > ROWS_MAX {
        let detail = format!("more than {ROWS_MAX} rows in one call; send them in parts");
        return Err(ApiError::bad_request(detail));
    }
    let mut services = BTreeMap::new();
    let (mut answers, mut checked) = (Vec::with_capacity(rows.len()), Vec::new());
    for (at, row) in rows.into_iter().enumerate() {
        if at % STEP == STEP - 1 {
            tokio::task::yield_now().await;
        }
        match check(&api, &mut services, at, row) {
            Ok(good) => {
                answers.push(ImportedRow::new(ImportState::Added));
                checked.push(good);
            }
            Err(why) => answers.push(ImportedRow::refused(why)),
        }
    }
    let done = if dry_run {
        judge(&api, checked, add_users).await?
    } else {
        add(&api, checked, add_users).await?
    };
    for (at, answer) in done {
        answers[at] = answer;
    }
    let is_added = |row: &&ImportedRow| matches!(row.state, ImportState::Added);
    let added = answers.iter().filter(is_added).count();
    if !dry_run && added > 0 {
        let entry = by.entry(words::INSTANCE_IMPORT);
        let entry = entry.with_detail(format!("{added} added"));
        api.audit.record_now(entry).await;
    }
    Ok(Reply(List::whole(answers)))
}

/// One row by itself.
fn check(
    api: &Api,
    services: &mut BTreeMap<String, Option<ServiceSpec>>,
    at: usize,
    row: ImportRow,
) -> Result<Checked, String> {
    // From here on what was given is wiped when it is dropped, however this ends.
    let api_key = row.api_key.map(Secret::new);
    let additional: Fields = row.additional_credentials.into_iter().collect();
    let old_id = row.alias.map(InstanceId::new);

    let user = UserId::parse(&row.user).map_err(|error| error.to_string())?;
    let spec = services
        .entry(row.service)
        .or_insert_with_key(|name| find(api, name).ok().map(|(_, spec)| spec));
    let spec = spec
        .as_ref()
        .ok_or("there is no such service here; `mcpm services` shows all")?;
    if spec.auth.kind == AuthKind::Oauth2 {
        return Err("the service wants OAuth 2: its users connect by themselves".to_owned());
    }
    let given = api_key.as_ref().map(|key| key.expose().as_str());
    let fields = credentials::collect(&spec.auth, given, &additional);
    let fields = Secret::new(fields.map_err(|error| error.to_string())?);
    let label = row.label.filter(|text| !text.is_empty());
    let label = label.map(|text| parse_label(&text)).transpose();
    let now = Timestamp::now();
    let created_at = row.created_at.unwrap_or(now);
    if created_at > now {
        return Err("it was made at a time that is to come".to_owned());
    }
    let (alias, alias_refused) = match old_id {
        Some(id) => match keep(&id, &spec.service) {
            Ok(()) => (Some(id), None),
            Err(why) => (None, Some(why)),
        },
        None => (None, None),
    };
    let incoming = Incoming {
        user,
        service: spec.service.clone(),
        prefix: spec.prefix.clone(),
        fields,
        alias,
        terms: NewTerms {
            label: label.map_err(|error| error.detail)?,
            expires_at: row.expires_at,
        },
        created_at,
    };
    Ok(Checked {
        at,
        incoming,
        alias_refused,
    })
}

/// May an id go on here? Else why not.
fn keep(id: &InstanceId, service: &ServiceType) -> Result<(), String> {
    alias::check(id.expose()).map_err(|error| error.to_string())?;
    let path = Secret::new(format!("/{}/{service}", id.expose()));
    match parse(path.expose()) {
        Route::Instance(target) if target.id == id.expose() => Ok(()),
        _ => Err("it is a path of the router's own".to_owned()),
    }
}

/// What would become of them.
async fn judge(
    api: &Api,
    checked: Vec<Checked>,
    add_users: bool,
) -> Answer<Vec<(usize, ImportedRow)>> {
    let wanted: Vec<_> = checked
        .iter()
        .map(|Checked { incoming, .. }| {
            (&incoming.user, &incoming.service, incoming.alias.as_ref())
        })
        .collect();
    let standings = api.instances.standings(&wanted).await?;
    let judged = |(row, (standing, is_same)): (Checked, (Standing, bool))| {
        let answer = match standing.own {
            Some(_) if is_same => ImportedRow::new(ImportState::Exists),
            Some(_) => ImportedRow::new(ImportState::OtherUrl),
            None if standing.is_taken => ImportedRow::refused(ALIAS_TAKEN),
            None if standing.user_disabled => ImportedRow::refused(USER_DISABLED),
            None if !standing.has_user && !add_users => ImportedRow::refused(NO_USER),
            None => ImportedRow::new(ImportState::Added),
        };
        let alias_refused = row.alias_refused;
        (
            row.at,
            ImportedRow {
                alias_refused,
                ..answer
            },
        )
    };
    Ok(checked.into_iter().zip(standings).map(judged).collect())
}

/// Adds them.
async fn add(
    api: &Api,
    checked: Vec<Checked>,
    add_users: bool,
) -> Answer<Vec<(usize, ImportedRow)>> {
    let (mut places, mut rows) = (Vec::new(), Vec::new());
    for Checked {
        at,
        incoming,
        alias_refused,
    } in checked
    {
        places.push((at, incoming.service.clone(), alias_refused));
        rows.push(incoming);
    }
    let imported = api.instances.import(rows, add_users).await?;
    let mut done = Vec::with_capacity(places.len());
    for ((at, service, alias_refused), imported) in places.into_iter().zip(imported) {
        let (state, id) = match imported {
            Imported::Added { id } => (ImportState::Added, id),
            Imported::Exists { id, is_same: true } => (ImportState::Exists, id),
            Imported::Exists { id, is_same: false } => (ImportState::OtherUrl, id),
            Imported::AliasTaken => {
                done.push((at, ImportedRow::refused(ALIAS_TAKEN)));
                continue;
            }
            Imported::NoUser => {
                done.push((at, ImportedRow::refused(NO_USER)));
                continue;
            }
            Imported::UserDisabled => {
                done.push((at, ImportedRow::refused(USER_DISABLED)));
                continue;
            }
        };
        let mut answer = ImportedRow::new(state);
        if alias_refused.is_some() {
            answer.instance_id = Some(id.expose().to_owned());
            answer.instance_url = Some(url(api, &id, &service));
            answer.alias_refused = alias_refused;
        }
        done.push((at, answer));
    }
    Ok(done)
}
