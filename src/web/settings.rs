//! Settings over HTTP.

use std::str::FromStr;

use axum::{Json, extract::State, http::StatusCode};
use serde::Deserialize;
use serde_json::{Value as Answer, json};

use super::{Interface, body, error::ApiError, query};
use crate::{
    config::{
        CHANGES_MAX, Change, Configuration, Proposal, ReadError, Record, ReloadError, Revision,
        UpdateError,
    },
    value::{Path, Value},
};

pub(super) async fn get(
    State(interface): State<Interface>,
    given: query::Given,
) -> Result<Json<Answer>, ApiError> {
    let [path] = query::known(given, ["path"])?;
    let path = path.unwrap_or_default();
    let config = &interface.config;
    let (value, origin, revision) = config.seen(path.as_str()).map_err(read_error)?;
    Ok(Json(json!({
        "version": 1,
        "path": path,
        "value": value,
        "origin": origin.to_string(),
        "revision": revision.0,
    })))
}

/// One write: a value, or a text that a person gave, which is read by what stands at the path.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Put {
    path: String,
    #[serde(default, deserialize_with = "present")]
    value: Option<Value>,
    text: Option<String>,
}

/// A null is a value that is there.
fn present<'de, D: serde::Deserializer<'de>>(source: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(source).map(Some)
}

impl Put {
    /// Adds the write to a proposal.
    fn write(self, config: &Configuration, proposal: Proposal) -> Result<Proposal, ApiError> {
        let path = self.path.as_str();
        match (self.value, self.text) {
            (Some(value), None) => Ok(proposal.set(path, value)),
            (None, Some(text)) => {
                let value = config.read_text(path, &text).map_err(read_error)?;
                Ok(proposal.set(path, value))
            }
            _ => Err(ApiError::malformed(
                "say one of `value` and `text`, and only one",
            )),
        }
    }
}

pub(super) async fn put(
    State(interface): State<Interface>,
    body::Json(put): body::Json<Put>,
) -> Result<Json<Answer>, ApiError> {
    let config = &interface.config;
    let proposal = put.write(config, config.propose())?;
    let record = proposal.by(HTTP).apply().await.map_err(update_error)?;
    Ok(Json(json!({ "version": 1, "revision": record.revision.0 })))
}

/// Who makes a change that does not say who.
const HTTP: &str = "http";

/// A change: one of `set`, `reset` and `rollback`, and what can be said of each.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Proposed {
    set: Option<Vec<Put>>,
    reset: Option<String>,
    rollback: Option<u64>,
    expect_revision: Option<u64>,
    #[serde(default)]
    dry_run: bool,
    by: Option<String>,
    #[serde(default)]
    why: String,
}

pub(super) async fn change(
    State(interface): State<Interface>,
    body::Json(proposed): body::Json<Proposed>,
) -> Result<Json<Answer>, ApiError> {
    let dry_run = proposed.dry_run;
    let proposal = proposal(&interface.config, proposed)?;
    if dry_run {
        let preview = proposal.dry_run().await.map_err(update_error)?;
        let breaks: Vec<String> = preview.breaks.iter().map(ToString::to_string).collect();
        return Ok(Json(json!({
            "version": 1,
            "against": preview.against.0,
            "changes": changes(&preview.changes),
            "needs_restart": paths(&preview.needs_restart),
            "breaks": breaks,
        })));
    }
    let record = proposal.apply().await.map_err(update_error)?;
    Ok(Json(json!({
        "version": 1,
        "revision": record.revision.0,
        "changes": changes(&record.changes),
        "needs_restart": paths(&record.needs_restart),
    })))
}

fn proposal(config: &Configuration, proposed: Proposed) -> Result<Proposal, ApiError> {
    let proposal = match (proposed.set, proposed.reset, proposed.rollback) {
        (Some(writes), None, None) if writes.len() > CHANGES_MAX => {
            let count = writes.len();
            return Err(update_error(UpdateError::TooMany { count }));
        }
        (Some(writes), None, None) => {
            let write = |proposal: Proposal, put: Put| put.write(config, proposal);
            writes.into_iter().try_fold(config.propose(), write)?
        }
        (None, Some(path), None) => config.propose_reset(path),
        (None, None, Some(revision)) => config.propose_rollback(Revision(revision)),
        _ => {
            return Err(ApiError::malformed(
                "say one of `set`, `reset` and `rollback`, and only one",
            ));
        }
    };
    let by = proposed.by.unwrap_or_else(|| HTTP.to_owned());
    let proposal = proposal.by(by).because(proposed.why);
    Ok(match proposed.expect_revision {
        Some(revision) => proposal.expect_revision(Revision(revision)),
        None => proposal,
    })
}

/// As many changes as are shown without being asked for a number.
const HISTORY_SHOWN: usize = 20;

pub(super) async fn history(
    State(interface): State<Interface>,
    given: query::Given,
) -> Result<Json<Answer>, ApiError> {
    let [limit, path] = query::known(given, ["limit", "path"])?;
    let limit = limit.as_deref().map_or(Ok(HISTORY_SHOWN), number)?;
    let path = parsed(path.as_deref())?;
    let records = interface.config.history(usize::MAX);
    let touching = records.iter().filter(|record| record.touches(&path));
    let shown: Vec<Answer> = touching.take(limit).map(|record| told(record)).collect();
    Ok(Json(json!({ "version": 1, "history": shown })))
}

pub(super) async fn diff(
    State(interface): State<Interface>,
    given: query::Given,
) -> Result<Json<Answer>, ApiError> {
    let [since] = query::known(given, ["since"])?;
    let since = since.as_deref().map(number).transpose()?.map(Revision);
    let found = interface.config.differences_now(since);
    let (revision, found) = found.map_err(update_error)?;
    Ok(Json(json!({
        "version": 1,
        "since": since.map(|revision| revision.0),
        "revision": revision.0,
        "changes": changes(&found),
    })))
}

pub(super) async fn explain(
    State(interface): State<Interface>,
    given: query::Given,
) -> Result<Json<Answer>, ApiError> {
    let [path] = query::known(given, ["path"])?;
    let path = path.unwrap_or_default();
    let found = interface
        .config
        .explain(path.as_str())
        .map_err(read_error)?;
    let layers = found.layers.iter();
    let layers =
        layers.map(|(origin, value)| json!({"origin": origin.to_string(), "value": value}));
    let history = found.history.iter().take(HISTORY_SHOWN);
    let history = history.map(|record| told(record));
    Ok(Json(json!({
        "version": 1,
        "path": path,
        "value": found.value,
        "origin": found.origin.to_string(),
        "mutability": found.mutability.name(),
        "secret": found.secret,
        "description": found.description,
        "held": found.held,
        "layers": layers.collect::<Vec<_>>(),
        "history": history.collect::<Vec<_>>(),
    })))
}

/// Who asks for a reload.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReloadBody {
    by: Option<String>,
}

pub(super) async fn reload(
    State(interface): State<Interface>,
    body::Json(ReloadBody { by }): body::Json<ReloadBody>,
) -> Result<Json<Answer>, ApiError> {
    let by = by.unwrap_or_else(|| HTTP.to_owned());
    let done = interface.config.reload(by).await.map_err(reload_error)?;
    let record = done.record.as_ref();
    let restart = record.iter().flat_map(|record| &record.needs_restart);
    let restart: Vec<String> = restart.chain(&done.held).map(ToString::to_string).collect();
    Ok(Json(json!({
        "version": 1,
        "revision": record.map(|record| record.revision.0),
        "changes": record.map(|record| changes(&record.changes)).unwrap_or_default(),
        "needs_restart": restart,
    })))
}

fn told(record: &Record) -> Answer {
    json!({
        "revision": record.revision.0,
        "kind": record.kind.name(),
        "at": record.at.to_string(),
        "by": record.author.by,
        "why": record.author.why,
        "changes": changes(&record.changes),
        "needs_restart": paths(&record.needs_restart),
    })
}

fn changes(changes: &[Change]) -> Vec<Answer> {
    let changes = changes.iter();
    changes
        .map(|change| json!({"path": change.path.to_string(), "before": change.before, "after": change.after}))
        .collect()
}

fn paths(paths: &[Path]) -> Vec<String> {
    paths.iter().map(ToString::to_string).collect()
}

fn parsed(path: Option<&str>) -> Result<Path, ApiError> {
    match path {
        None | Some("") => Ok(Path::root()),
        Some(text) => Path::parse(text).map_err(ApiError::malformed),
    }
}

fn number<N: FromStr>(text: &str) -> Result<N, ApiError> {
    let refuse = |_| ApiError::malformed(format!("{text:?} is no number; give one such as 17"));
    text.parse().map_err(refuse)
}

fn reload_error(error: ReloadError) -> ApiError {
    match error {
        ReloadError::Refused(refused) => update_error(refused),
        ReloadError::Sources(_) => {
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", error)
        }
        _ => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", error),
    }
}

fn read_error(error: ReadError) -> ApiError {
    match error {
        ReadError::NotFound { .. } => ApiError::not_found(error),
        _ => ApiError::malformed(error),
    }
}

fn update_error(error: UpdateError) -> ApiError {
    let (status, code) = match &error {
        UpdateError::NotFound { .. } | UpdateError::NoSuchRevision { .. } => {
            (StatusCode::NOT_FOUND, "not_found")
        }
        UpdateError::Fixed { .. } => (StatusCode::FORBIDDEN, "forbidden"),
        UpdateError::Stale { .. } => (StatusCode::CONFLICT, "stale"),
        UpdateError::WrongType { .. }
        | UpdateError::Invalid { .. }
        | UpdateError::BeyondLimits { .. }
        | UpdateError::TooLarge { .. }
        | UpdateError::TooMany { .. }
        | UpdateError::TooLong { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "refused"),
        UpdateError::NotPersisted { .. }
        | UpdateError::MayBeKept { .. }
        | UpdateError::DiskStuck { .. }
        | UpdateError::Call(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        UpdateError::Panicked { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "defect"),
        _ => (StatusCode::BAD_REQUEST, "malformed"),
    };
    ApiError::new(status, code, error)
}
