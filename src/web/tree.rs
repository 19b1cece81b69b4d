//! The supervision tree over HTTP.

use std::str::FromStr;

use axum::{Json, extract::State};
use serde_json::{Value as Answer, json};

use super::{Interface, error::ApiError, query};
use crate::otp::TreeLimits;

pub(super) async fn get(
    State(interface): State<Interface>,
    given: query::Given,
) -> Result<Json<Answer>, ApiError> {
    let [path, depth, children] = query::known(given, ["path", "depth", "children"])?;
    let most = TreeLimits::DEFAULT;
    let limits = TreeLimits {
        depth: number("depth", depth, most.depth)?,
        children: number("children", children, most.children)?,
        total: most.total,
    };
    let tree = interface.overview.tree(path.as_deref(), limits);
    let tree = tree.ok_or_else(|| match path {
        Some(path) if interface.overview.tree(None, ALONE).is_some() => {
            ApiError::not_found(format!(
                "there is nothing at {path:?} in the tree; ask without a path to see what there is"
            ))
        }
        _ => ApiError::unavailable("the node is starting; retry"),
    })?;
    Ok(Json(json!({ "version": 1, "tree": tree })))
}

const ALONE: TreeLimits = TreeLimits {
    depth: 0,
    children: 0,
    total: 0,
};

fn number(name: &str, given: Option<String>, most: usize) -> Result<usize, ApiError> {
    let Some(given) = given else { return Ok(most) };
    let number = usize::from_str(&given).ok();
    number.filter(|number| *number <= most).ok_or_else(|| {
        ApiError::malformed(format!("{name} is {given:?}; give a number up to {most}"))
    })
}
