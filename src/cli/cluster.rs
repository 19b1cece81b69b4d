//! `cluster`, and how `run` joins one.

use std::{path::Path, time::Duration};

use serde::Deserialize;
use serde_json::Value as Json;
use underpin::{
    cluster::{ClusterOptions, Cookie, CookieError, Tls},
    node::NodeBuilder,
};

use super::{
    arguments::{ClusterArguments, ClusterCommand, Joining},
    client::Client,
    failure::Failure,
    output::Output,
    span,
};

/// The variable that holds the cookie where no file does.
const VARIABLE: &str = "UNDERPIN_COOKIE";

/// The builder of a node that joins as the arguments say; as it was where they say nothing.
pub(super) fn join(builder: NodeBuilder, joining: &Joining) -> Result<NodeBuilder, Failure> {
    if joining.cluster_listen.is_none() && joining.join.is_empty() {
        return Ok(builder);
    }
    let cookie = match &joining.cookie_file {
        Some(file) => cookie_in(file)?,
        None => Cookie::from_env(VARIABLE).map_err(|error| no_cookie(VARIABLE, &error))?,
    };
    let timeout = Duration::from_millis(joining.cluster_timeout);
    let mut options = ClusterOptions::new(cookie).heartbeat(timeout / 4, timeout);
    if let Some(address) = joining.cluster_listen {
        options = options.listen(address);
    }
    if let Some(address) = &joining.advertise {
        options = options.advertise(address);
    }
    options = joining.join.iter().fold(options, ClusterOptions::join);
    if let (Some(certificate), Some(key), Some(authority)) =
        (&joining.tls_cert, &joining.tls_key, &joining.tls_ca)
    {
        let tls = Tls::from_files(certificate, key, authority);
        options = options.tls(tls.map_err(|error| Failure::refused("tls", error.to_string()))?);
    }
    if let (Some(address), Some(file)) = (joining.plain_listen, &joining.plain_cookie_file) {
        options = options.plain(address, cookie_in(file)?);
    }
    if joining.insecure {
        options = options.insecure();
    }
    if joining.allow_changes {
        options = options.allow_changes();
    }
    Ok(builder.cluster(options))
}

fn cookie_in(file: &Path) -> Result<Cookie, Failure> {
    Cookie::from_file(file).map_err(|error| no_cookie(&file.display().to_string(), &error))
}

/// Most errors say themselves where the cookie should have been.
fn no_cookie(place: &str, error: &CookieError) -> Failure {
    let words = match error {
        CookieError::Length { .. } => format!("{place}: {error}"),
        error => error.to_string(),
    };
    Failure::refused("cookie", words)
}

#[derive(Deserialize)]
struct Shown {
    name: String,
    id: Json,
    address: String,
    /// Not said by nodes of before.
    #[serde(default)]
    has_left: bool,
    members: Vec<Member>,
    failures: Vec<Failed>,
}

#[derive(Deserialize)]
struct Member {
    name: String,
    id: Json,
    kind: String,
    state: String,
    since_ms: u64,
    why: Option<String>,
    address: String,
    underpin: String,
    connection: Option<Connection>,
    plain: Option<Plain>,
}

#[derive(Deserialize)]
struct Plain {
    actors: u64,
    groups: Vec<Json>,
}

#[derive(Deserialize)]
struct Connection {
    round_trip_us: Option<u64>,
    bytes_sent: u64,
    bytes_received: u64,
    backlog_bytes: u64,
    in_flight_bytes: u64,
}

#[derive(Deserialize)]
struct Failed {
    address: String,
    error: String,
}

/// The other nodes, a line each; or leaves them.
pub(super) fn cluster(arguments: &ClusterArguments, out: &mut Output) -> Result<(), Failure> {
    match &arguments.command {
        Some(ClusterCommand::Leave(reach)) => {
            let client = Client::new(&reach.node);
            let answer: Json = client.post("/api/v1/cluster/leave", b"")?;
            if reach.json {
                return out.line(answer);
            }
            out.line("left; it goes on alone until it is started anew")
        }
        None => {
            let client = Client::new(&arguments.reach.node);
            if arguments.reach.json {
                return out.line(client.get_json("/api/v1/cluster", &[])?);
            }
            let shown: Shown = client.get("/api/v1/cluster", &[])?;
            out.lines(lines(&shown))
        }
    }
}

fn lines(shown: &Shown) -> Vec<String> {
    let at = if shown.address.is_empty() {
        "listens nowhere".to_owned()
    } else {
        format!("at {}", shown.address)
    };
    let mut lines = vec![format!("{} (node {}), {at}", shown.name, shown.id)];
    if shown.has_left {
        lines.push("  it has left, and goes on alone until it is started anew".to_owned());
    }
    let width = shown
        .members
        .iter()
        .map(|member| member.name.len())
        .max()
        .unwrap_or_default();
    for member in &shown.members {
        lines.push(line(member, width));
    }
    if shown.members.is_empty() {
        lines.push("  no other node is known".to_owned());
    }
    for failed in &shown.failures {
        lines.push(format!("  cannot join: {}", failed.error_with_address()));
    }
    lines
}

fn line(member: &Member, width: usize) -> String {
    let why = member
        .why
        .as_ref()
        .map(|why| format!(" ({why})"))
        .unwrap_or_default();
    let id = if member.id.is_null() {
        "-".to_owned()
    } else {
        member.id.to_string()
    };
    let mut line = format!(
        "  {:<width$}  {}{why} for {}  node {id}  {}",
        member.name,
        member.state,
        span::readable(member.since_ms),
        if member.address.is_empty() {
            "-"
        } else {
            &member.address
        },
    );
    if member.kind != "underpin" {
        line.push_str(&format!("  {}", member.kind));
    } else if !member.underpin.is_empty() {
        line.push_str(&format!("  v{}", member.underpin));
    }
    if let Some(plain) = &member.plain {
        let (actors, groups) = (plain.actors, plain.groups.len());
        line.push_str(&format!("  {actors} actors, {groups} groups"));
    }
    if let Some(connection) = &member.connection {
        let round_trip = connection
            .round_trip_us
            .map_or_else(|| "-".to_owned(), |us| format!("{us} us"));
        line.push_str(&format!(
            "  round trip {round_trip}, sent {} B, received {} B, backlog {} B, in flight {} B",
            connection.bytes_sent,
            connection.bytes_received,
            connection.backlog_bytes,
            connection.in_flight_bytes,
        ));
    }
    line
}

impl Failed {
    /// Most errors name the address themselves.
    fn error_with_address(&self) -> String {
        if self.error.contains(&self.address) {
            self.error.clone()
        } else {
            format!("{}: {}", self.address, self.error)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_node_is_a_line_with_how_it_is() {
        let shown = json!({
            "name": "a", "id": 1, "address": "127.0.0.1:4620",
            "members": [
                { "name": "b", "id": 2, "kind": "underpin", "state": "alive", "since_ms": 5000, "address": "127.0.0.1:4621",
                  "underpin": "0.1.0", "connection": { "round_trip_us": 92, "bytes_sent": 10, "bytes_received": 20,
                  "backlog_bytes": 0, "in_flight_bytes": 300 } },
                { "name": "long", "id": 3, "kind": "underpin", "state": "down", "why": "silent", "since_ms": 90000,
                  "address": "", "underpin": "" },
                { "name": "p.h", "id": null, "kind": "plain", "state": "alive", "since_ms": 5000, "address": "h:1", "underpin": "",
                  "plain": { "actors": 3, "groups": [{ "scope": "s", "name": "g", "members": 3 }] } },
            ],
            "failures": [{ "address": "10.0.0.1:1", "error": "10.0.0.1:1: the cookies differ" }],
        });
        let shown: Shown = serde_json::from_value(shown).expect("as the node says it");

        assert_eq!(
            lines(&shown),
            [
                "a (node 1), at 127.0.0.1:4620",
                "  b     alive for 5.0 s  node 2  127.0.0.1:4621  v0.1.0  round trip 92 us, sent 10 B, received 20 B, backlog 0 B, in flight 300 B",
                "  long  down (silent) for 1m 30s  node 3  -",
                "  p.h   alive for 5.0 s  node -  h:1  plain  3 actors, 1 groups",
                "  cannot join: 10.0.0.1:1: the cookies differ",
            ]
        );
    }

    #[test]
    fn a_node_that_has_left_says_so() {
        let shown = json!({
            "name": "a", "id": 1, "address": "", "has_left": true, "members": [], "failures": [],
        });
        let shown: Shown = serde_json::from_value(shown).expect("as the node says it");

        assert_eq!(
            lines(&shown)[1],
            "  it has left, and goes on alone until it is started anew"
        );
    }
}
