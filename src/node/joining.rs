//! What a node does to be in a cluster: agrees on its id, keeps the books of who comes and goes, and says what keeps it out.

use std::{sync::Arc, time::Duration};

use super::{NodeBuilder, NodeError, boot, health::Complaint, watch::Watch};
use crate::{
    cluster::{
        Cluster, ClusterError, ClusterOptions, ConnectError, MemberEvent, Refusal, is_taken,
    },
    ids::{IdGenerator, Identity, NodeId, NodeName},
    otp::{ChildSpec, Groups},
    telemetry::Telemetry,
    value::{Map, Value},
};

/// How often an id is drawn anew: with half of all ids taken, one in a thousand million draws would not find a free one.
const DRAWS: usize = 30;

/// An id that no node to be joined knows to be taken. Only one that was drawn is drawn anew: one that is configured is meant.
///
/// Blocks the thread, for a second at most where no node answers.
pub(super) fn agree(
    builder: &NodeBuilder,
    name: &NodeName,
    mut identity: Option<Identity>,
    mut ids: Arc<IdGenerator>,
) -> Result<(Option<Identity>, Arc<IdGenerator>), NodeError> {
    let Some(options) = builder
        .cluster
        .as_ref()
        .filter(|_| builder.node_id.is_none())
    else {
        return Ok((identity, ids));
    };
    let runtime = tokio::runtime::Handle::current();
    for _ in 0..DRAWS {
        let incarnation = identity
            .as_ref()
            .map_or(0, |identity| identity.incarnation().get());
        if !runtime.block_on(is_taken(options, name, ids.node(), incarnation)) {
            break;
        }
        tracing::info!(id = %ids.node(), "another node has this id; another one is drawn");
        if let Some(identity) = identity {
            identity.close()?;
        }
        (identity, ids) = boot::identify(builder, Some(NodeId::random()))?;
    }
    Ok((identity, ids))
}

/// The node's part in a cluster.
pub(super) fn room(
    options: ClusterOptions,
    (name, id, incarnation): (NodeName, NodeId, u64),
    groups: &Groups,
    telemetry: &Telemetry,
) -> Result<Cluster, ClusterError> {
    let identity = crate::cluster::Identity {
        name,
        id,
        incarnation,
    };
    Cluster::new(options, identity, groups, telemetry)
}

/// What keeps the node out of the cluster. That another node is down is no fault of this one.
pub(super) fn complaints(cluster: &Cluster) -> Vec<Complaint> {
    let refused = cluster
        .failures()
        .into_iter()
        .filter_map(|(address, error)| match &error {
            ConnectError::Refused {
                refusal: Refusal::Leaving,
                ..
            } => None,
            ConnectError::Refused { .. }
            | ConnectError::Insecure { .. }
            | ConnectError::Certificate { .. }
            | ConnectError::Foreign { .. } => Some(Complaint {
                part: "node/cluster".into(),
                kind: address.into(),
                reason: error.to_string(),
                since: None,
            }),
            _ => None,
        });
    refused.collect()
}

/// Keeps the books of who comes and goes.
pub(super) fn news(watch: &Arc<Watch>, cluster: &Cluster) -> ChildSpec {
    let (watch, cluster) = (Arc::clone(watch), cluster.clone());
    ChildSpec::task("cluster", move |ctx| {
        let (watch, mut monitor) = (Arc::clone(&watch), cluster.monitor());
        async move {
            loop {
                let event = tokio::select! {
                    () = ctx.cancelled() => return Ok(()),
                    event = monitor.next() => event,
                };
                match event {
                    Some(event) => note(&watch, &event),
                    None => tokio::time::sleep(Duration::from_secs(1)).await,
                }
            }
        }
    })
}

fn note(watch: &Watch, event: &MemberEvent) {
    let (kind, node, reason) = match event {
        MemberEvent::Up(node) => ("cluster.up", node, None),
        MemberEvent::Suspect(node) => ("cluster.suspect", node, None),
        MemberEvent::Recovered(node) => ("cluster.recovered", node, None),
        MemberEvent::Down(node, reason) => ("cluster.down", node, Some(reason)),
        MemberEvent::Left(node) => ("cluster.left", node, None),
        MemberEvent::Missed(missed) => {
            let data = Map::from_iter([("missed", Value::from(*missed))]);
            return watch.journal.cluster("cluster.missed", data.into());
        }
        MemberEvent::Joining(_) => return,
    };
    let reason = reason.and_then(|reason| crate::value::to_value(reason).ok());
    let node = ("node", Value::from(node.as_str()));
    let data = [node]
        .into_iter()
        .chain(reason.map(|reason| ("reason", reason)));
    watch.journal.cluster(kind, Value::Map(data.collect()));
}

/// The cluster as the interface shows it.
#[cfg(feature = "web")]
pub(super) fn shown(cluster: &Cluster) -> serde_json::Value {
    let failures: Vec<_> = cluster
        .failures()
        .into_iter()
        .map(|(address, error)| serde_json::json!({ "address": address, "error": error.to_string() }))
        .collect();
    let text = |name: &Arc<str>| name.to_string();
    serde_json::json!({
        "version": 1,
        "name": cluster.name(),
        "id": cluster.id(),
        "incarnation": cluster.incarnation().to_string(),
        "listen": cluster.listen_addr(),
        "address": cluster.address(),
        "has_left": cluster.has_left(),
        "plain_listen": cluster.plain_addr(),
        "members": cluster.members(),
        "failures": failures,
        "services": cluster.services().iter().map(text).collect::<Vec<_>>(),
        "groups": cluster.which_groups().iter().map(text).collect::<Vec<_>>(),
    })
}
