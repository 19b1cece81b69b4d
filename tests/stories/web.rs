//! What users of the HTTP interface can rely on.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value as Json, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Notify,
    time::timeout,
};
use underpin::{
    config::{Invalid, Rules, Schema},
    events::Query,
    node::{HealthStatus, Node, NodeBuilder},
    otp::{Address, ChildSpec, Shutdown},
    ractor::{Actor, ActorProcessingErr, ActorRef},
};

/// Above what a busy machine needs for anything here.
pub(crate) const LONG: Duration = Duration::from_secs(30);

fn builder() -> NodeBuilder {
    Node::builder()
        .memory()
        .without_environment()
        .http("127.0.0.1:0")
}

pub(crate) async fn start() -> Node {
    builder().start().await.expect("starts")
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    pub(crate) fn json(&self) -> Json {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub(crate) fn lines(&self) -> Vec<Json> {
        let lines = self.text().lines();
        lines
            .map(|line| serde_json::from_str(line).expect("a line of JSON"))
            .collect()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(": "));
        let field = fields.find(|(known, _)| known.eq_ignore_ascii_case(name));
        field.map(|(_, value)| value)
    }

    /// The code of an error, which has the form that all errors have.
    pub(crate) fn code(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/json"));
        let answer = self.json();
        assert_eq!(answer["version"], 1);
        let words = answer["error"]["message"].as_str().expect("a message");
        assert!(!words.is_empty(), "{answer}");
        answer["error"]["code"].as_str().expect("a code").to_owned()
    }
}

/// Reads one answer; bytes after it are left alone.
async fn answer(stream: &mut TcpStream, has_body: bool) -> Answer {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a head"));
    }
    let head = String::from_utf8(head).expect("text");
    let status = head.get(9..12).and_then(|code| code.parse().ok());
    let mut answer = Answer {
        status: status.expect("a status"),
        head,
        body: Vec::new(),
    };
    if !has_body {
        return answer;
    }
    if answer.header("transfer-encoding") == Some("chunked") {
        answer.body = chunks(stream).await;
    } else {
        let length = answer.header("content-length").unwrap_or("0");
        let length: usize = length.parse().expect("a length");
        answer.body = vec![0; length];
        stream
            .read_exact(&mut answer.body)
            .await
            .expect("the whole body");
    }
    answer
}

async fn chunks(stream: &mut TcpStream) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let mut size = String::new();
        while !size.ends_with("\r\n") {
            size.push(stream.read_u8().await.expect("a size").into());
        }
        let size = usize::from_str_radix(size.trim(), 16).expect("a size");
        let mut chunk = vec![0; size + 2];
        stream.read_exact(&mut chunk).await.expect("a chunk");
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&chunk[..size]);
    }
}

pub(crate) fn address(node: &Node) -> SocketAddr {
    node.http_addr().expect("the interface is on")
}

/// Sends bytes as they are and reads one answer.
pub(crate) async fn raw(address: SocketAddr, request: &[u8]) -> Answer {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.expect("connects");
        // A server that has answered early may not read the rest.
        let _ = stream.write_all(request).await;
        answer(&mut stream, !request.starts_with(b"HEAD ")).await
    };
    timeout(LONG, exchange).await.expect("an answer in time")
}

async fn send(address: SocketAddr, what: &str, media: &str, body: &[u8]) -> Answer {
    let mut request = format!(
        "{what} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n",
        body.len()
    );
    if !media.is_empty() {
        request.extend(["Content-Type: ", media, "\r\n"]);
    }
    request.push_str("\r\n");
    let request = [request.as_bytes(), body].concat();
    raw(address, &request).await
}

pub(crate) async fn get(node: &Node, path: &str) -> Answer {
    send(address(node), &format!("GET {path}"), "", b"").await
}

async fn post(node: &Node, path: &str, body: &Json) -> Answer {
    let body = body.to_string();
    let what = format!("POST {path}");
    send(address(node), &what, "application/json", body.as_bytes()).await
}

async fn put(node: &Node, path: &str, body: &Json) -> Answer {
    let body = body.to_string();
    let what = format!("PUT {path}");
    send(address(node), &what, "application/json", body.as_bytes()).await
}

async fn post_lines(node: &Node, lines: &str) -> Answer {
    let (what, media) = ("POST /api/v1/events", "application/x-ndjson");
    send(address(node), what, media, lines.as_bytes()).await
}

async fn head(node: &Node, request: &str, fields: &[&str]) -> Answer {
    let first = format!("{request} HTTP/1.1");
    let request = [&[&*first], fields, &["\r\n"]].concat().join("\r\n");
    raw(address(node), request.as_bytes()).await
}

async fn count(node: &Node, kind: &str) -> u64 {
    let count = node.events().count(Query::new().kind(kind)).await;
    count.expect("counts")
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begin = Instant::now();
    while !holds().await {
        assert!(begin.elapsed() < LONG, "{what} did not happen");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_node_says_how_it_is() {
    let node = start().await;

    assert_eq!(get(&node, "/livez").await.text(), "ok\n");
    assert_eq!(get(&node, "/readyz").await.status, 200);
    let status = get(&node, "/api/v1/status").await.json();
    assert_eq!(status["version"], 1);
    assert_eq!(status["health"], "healthy");
    assert_eq!(status["node"], node.node_id().get());
    assert_eq!(status["events"]["count"], 0);
    assert_eq!(status["reasons"], json!([]));
    let tree = get(&node, "/api/v1/tree").await.json();
    assert_eq!(tree["version"], 1);
    let ids: Vec<&str> = tree["tree"]["children"]
        .as_array()
        .expect("children")
        .iter()
        .filter_map(|child| child["id"].as_str())
        .collect();
    let order = [
        "telemetry",
        "events",
        "config",
        "tasks",
        "wiring",
        "web",
        "app",
    ];
    assert_eq!(ids, order);
    node.shutdown().await;
}

#[tokio::test]
async fn an_event_that_was_posted_is_found_by_what_it_says() {
    let node = start().await;
    let event = json!({
        "kind": "order.paid", "source": "till/1", "correlation": "req-abc",
        "time": "2026-01-31T12:00:00.000000001Z", "data": {"cents": 4200, "note": "你好"},
    });

    let stored = post(&node, "/api/v1/events", &event).await;

    assert_eq!(stored.status, 201);
    let id = stored.json()["id"].as_str().expect("an id").to_owned();
    let found = get(&node, &format!("/api/v1/events/{id}")).await.json();
    assert_eq!(found["version"], 1);
    assert_eq!(found["id"], id);
    assert_eq!(found["data"], event["data"]);
    assert_eq!(found["time"], event["time"]);
    for filter in [
        "kind=order.paid",
        "source=till%2F1",
        "correlation=req-abc",
        "since=2026-01-31T12:00:00Z&until=2026-01-31T12:00:01Z",
        "since=1769860800000000001&until=1769860800000000001",
        "limit=1&order=-id",
    ] {
        let found = get(&node, &format!("/api/v1/events?{filter}")).await;
        let media = found.header("content-type");
        assert_eq!(media, Some("application/x-ndjson"), "{filter}");
        assert_eq!(found.lines().len(), 1, "{filter}");
        assert_eq!(found.lines()[0]["id"], id, "{filter}");
    }
    for filter in ["kind=order", "until=2026-01-31T12:00:00Z", "limit=0"] {
        let found = get(&node, &format!("/api/v1/events?{filter}")).await;
        assert_eq!((found.status, found.text()), (200, ""), "{filter}");
    }
    node.shutdown().await;
}

#[tokio::test]
async fn what_a_query_answered_can_be_posted_again_and_is_there_once() {
    let node = start().await;
    post(&node, "/api/v1/events", &json!({"kind": "k", "data": [1]})).await;
    let lines = get(&node, "/api/v1/events").await;

    let again = post_lines(&node, lines.text()).await.json();

    assert_eq!(
        again,
        json!({"version": 1, "stored": 0, "duplicates": 1, "refusals": 0, "refused": []})
    );
    assert_eq!(count(&node, "k").await, 1);
    node.shutdown().await;
}

#[tokio::test]
async fn a_long_answer_is_whole_and_in_order() {
    let node = start().await;
    let lines: Vec<String> = (0..1500)
        .map(|n| json!({"kind": "n", "data": n}).to_string())
        .collect();
    assert_eq!(
        post_lines(&node, &lines.join("\n")).await.json()["stored"],
        1500
    );

    for (limit, expected) in [("1500", 1500), ("1499", 1499), ("64", 64), ("65", 65)] {
        let found = get(&node, &format!("/api/v1/events?order=id&limit={limit}")).await;
        let numbers: Vec<u64> = found
            .lines()
            .iter()
            .filter_map(|line| line["data"].as_u64())
            .collect();
        assert_eq!(numbers, (0..expected).collect::<Vec<_>>(), "limit {limit}");
    }
    let newest = get(&node, "/api/v1/events?order=-id&limit=1000").await;
    assert_eq!(newest.lines()[999]["data"], 500);
    assert_eq!(get(&node, "/api/v1/events").await.lines().len(), 1000);
    node.shutdown().await;
}

/// Nothing of what was refused left a trace.
async fn is_untouched(node: Node) {
    assert_eq!(node.health().health, HealthStatus::Healthy);
    assert_eq!(node.events().stats().events, 0);
    assert_eq!(node.config().revision().0, 0);
    node.shutdown().await;
}

#[tokio::test]
async fn f109_bad_questions_get_a_clear_error() {
    let node = start().await;
    for (what, status, code) in [
        ("GET /nothing", 404, "not_found"),
        ("GET /api/v1/nothing", 404, "not_found"),
        ("GET /api/v1/status/", 404, "not_found"),
        ("DELETE /api/v1/events", 405, "method"),
        ("POST /api/v1/status", 405, "method"),
        ("GET /api/v1/events/abc", 400, "malformed"),
        ("GET /api/v1/events/0", 400, "malformed"),
        ("GET /api/v1/events/-1", 400, "malformed"),
        ("GET /api/v1/events/%ff", 400, "malformed"),
        ("GET /api/v1/events/12345", 404, "not_found"),
        ("GET /api/v1/events?colour=red", 400, "malformed"),
        ("GET /api/v1/events?kind=a&kind=b", 400, "malformed"),
        ("GET /api/v1/events?limit=many", 400, "malformed"),
        ("GET /api/v1/events?limit=-1", 400, "malformed"),
        ("GET /api/v1/events?limit=100001", 400, "malformed"),
        ("GET /api/v1/events?order=sideways", 400, "malformed"),
        ("GET /api/v1/events?since=someday", 400, "malformed"),
        ("GET /api/v1/events?since=1h&until=2h", 400, "malformed"),
        ("GET /api/v1/events?correlation=", 400, "malformed"),
        ("GET /api/v1/checkpoints", 400, "malformed"),
        ("GET /api/v1/checkpoints?key=a&b=c", 400, "malformed"),
        ("GET /api/v1/config?path=no.such", 404, "not_found"),
        ("GET /api/v1/config?path=a..b", 400, "malformed"),
        ("GET /api/v1/config?paht=app", 400, "malformed"),
    ] {
        let answer = send(address(&node), what, "", b"").await;
        let got = (answer.status, answer.code());
        assert_eq!(got, (status, code.to_owned()), "{what}");
    }
    is_untouched(node).await;
}

#[tokio::test]
async fn f109_bad_events_get_a_clear_error_and_store_nothing() {
    let node = start().await;
    let long = format!(r#"{{"kind":"{}"}}"#, "k".repeat(257));
    let (open, close) = ("[".repeat(80), "]".repeat(80));
    let deep = format!(r#"{{"kind":"k","data":{open}1{close}}}"#);
    for (path, body, status) in [
        ("events", "{", 400),
        ("events", "", 400),
        ("events", "[]", 400),
        ("events", "{}", 400),
        ("events", r#"{"kind":7}"#, 400),
        ("events", r#"{"kind":""}"#, 400),
        ("events", &long, 400),
        ("events", &deep, 400),
        ("events", r#"{"kind":"k","colour":1}"#, 400),
        ("events", r#"{"kind":"k","time":"soon"}"#, 400),
        ("events", r#"{"kind":"k","id":0}"#, 400),
        ("events", r#"{"kind":"k","version":2}"#, 400),
        ("ids", r#"{"count":0}"#, 400),
        ("ids", r#"{"count":10001}"#, 400),
        ("ids", r#"{"count":"ten"}"#, 400),
        ("ids", r#"{"count":1,"x":2}"#, 400),
        ("import", r#"{"events":{}}"#, 400),
        (
            "import",
            r#"{"events":[],"checkpoint":{"key":"","value":1}}"#,
            400,
        ),
        (
            "import",
            r#"{"events":[],"checkpoint":{"key":"underpin:config","value":1}}"#,
            403,
        ),
    ] {
        let what = format!("POST /api/v1/{path}");
        let answer = send(address(&node), &what, "application/json", body.as_bytes()).await;
        let code = match status {
            403 => "forbidden",
            _ => "malformed",
        };
        let got = (answer.status, answer.code());
        assert_eq!(got, (status, code.to_owned()), "{what} {body:.100}");
    }
    is_untouched(node).await;
}

#[tokio::test]
async fn f109_bad_changes_of_settings_get_a_clear_error_and_change_nothing() {
    let node = start().await;
    let (open, close) = ("[".repeat(40), "]".repeat(40));
    let deep = format!(r#"{{"path":"app.x","value":{open}1{close}}}"#);
    for (body, status, code) in [
        (r#"{"path":"app.x"}"#, 400, "malformed"),
        (r#"{"path":"a..b","value":1}"#, 400, "malformed"),
        (r#"{"path":"underpin.no_such","value":1}"#, 404, "not_found"),
        (r#"{"path":"no.such","value":1}"#, 404, "not_found"),
        (
            r#"{"path":"underpin.events.durability","value":"memory"}"#,
            403,
            "forbidden",
        ),
        (
            r#"{"path":"underpin.health.crash_loop","value":0}"#,
            422,
            "refused",
        ),
        (
            r#"{"path":"underpin.health.crash_loop","value":"many"}"#,
            422,
            "refused",
        ),
        (&deep, 422, "refused"),
    ] {
        let what = "PUT /api/v1/config";
        let answer = send(address(&node), what, "application/json", body.as_bytes()).await;
        let got = (answer.status, answer.code());
        assert_eq!(got, (status, code.to_owned()), "{body:.100}");
    }
    is_untouched(node).await;
}

#[tokio::test]
async fn a_body_of_another_kind_is_refused() {
    let node = start().await;
    for (what, media) in [
        ("POST /api/v1/events", "text/plain"),
        ("POST /api/v1/events", ""),
        ("POST /api/v1/ids", "application/x-www-form-urlencoded"),
        ("PUT /api/v1/config", ""),
    ] {
        let answer = send(address(&node), what, media, b"{}").await;
        assert_eq!((answer.status, &*answer.code()), (415, "media_type"));
    }
    is_untouched(node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f109_a_flood_of_bad_requests_leaves_the_node_healthy() {
    let node = Arc::new(start().await);
    let floods: Vec<_> = (0..8)
        .map(|_| {
            let address = address(&node);
            tokio::spawn(async move {
                for _ in 0..50 {
                    raw(address, b"garbage\r\n\r\n").await;
                    send(address, "POST /api/v1/events", "application/json", b"{").await;
                    send(address, "GET /api/v1/config?path=no.such", "", b"").await;
                    send(address, "GET /api/v1/events/77", "", b"").await;
                }
            })
        })
        .collect();
    for flood in floods {
        flood.await.expect("every request is answered");
    }

    assert_eq!(node.health().health, HealthStatus::Healthy);
    let stored = post(&node, "/api/v1/events", &json!({"kind": "after"})).await;
    assert_eq!(stored.status, 201);
    let tree = node.tree().expect("runs");
    assert!(tree.walk().all(|child| child.restarts == 0), "{tree:?}");
}

#[tokio::test]
async fn f36_an_event_above_one_megabyte_is_refused() {
    let node = start().await;
    let event = |bytes| json!({"kind": "large", "data": "x".repeat(bytes)});

    let refused = post(&node, "/api/v1/events", &event(1_000_001)).await;
    let stored = post(&node, "/api/v1/events", &event(999_000)).await;

    assert_eq!((refused.status, &*refused.code()), (413, "too_large"));
    assert_eq!(stored.status, 201);
    assert_eq!(count(&node, "large").await, 1);
    node.shutdown().await;
}

#[tokio::test]
async fn a_body_above_sixteen_mebibytes_is_refused_however_it_is_sent() {
    let node = start().await;
    let body = vec![b' '; (16 << 20) + 1];

    let (what, media) = ("POST /api/v1/events", "application/json");
    let with_length = send(address(&node), what, media, &body).await;
    let mut request = format!(
        "{what} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media}\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(&body);
    request.extend_from_slice(b"\r\n0\r\n\r\n");
    let in_chunks = raw(address(&node), &request).await;

    assert_eq!(
        (with_length.status, &*with_length.code()),
        (413, "too_large")
    );
    assert_eq!((in_chunks.status, &*in_chunks.code()), (413, "too_large"));
    assert_eq!(get(&node, "/livez").await.status, 200);
    node.shutdown().await;
}

#[tokio::test]
async fn a_bad_line_never_loses_a_good_one() {
    let node = start().await;
    let taken = post(&node, "/api/v1/events", &json!({"kind": "first"})).await;
    let taken = taken.json()["id"].clone();
    let large = "x".repeat(1_000_001);
    let lines = [
        r#"{"kind":"good","data":1}"#.to_owned(),
        "no JSON".to_owned(),
        String::new(),
        format!(r#"{{"kind":"large","data":"{large}"}}"#),
        format!(r#"{{"kind":"other","id":{taken}}}"#),
        r#"{"kind":"good","id":"77","time":5,"data":2}"#.to_owned(),
        r#"{"kind":"good","id":"77","data":3}"#.to_owned(),
        r#"{"kind":"good","id":"77","time":5,"data":2}"#.to_owned(),
        r#"{"kind":"good","colour":1}"#.to_owned(),
        "{\"kind\":\"good\",\"data\":4}\r".to_owned(),
    ];

    let answer = post_lines(&node, &lines.join("\n")).await;

    let answer = answer.json();
    let refused: Vec<u64> = answer["refused"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|line| line["line"].as_u64())
        .collect();
    let refused = BTreeSet::from_iter(refused);
    assert_eq!(refused, BTreeSet::from([2, 4, 5, 7, 9]));
    assert_eq!(answer["refusals"], 5);
    assert_eq!(answer["stored"], 3);
    assert_eq!(count(&node, "good").await, 3);
    assert_eq!(count(&node, "other").await, 0);
    node.shutdown().await;
}

#[tokio::test]
async fn ids_are_given_once_and_rise() {
    let node = start().await;
    let mut last = 0;
    for _ in 0..3 {
        let answer = post(&node, "/api/v1/ids", &json!({"count": 10_000})).await;
        let ids = answer.json()["ids"].as_array().expect("a list").clone();
        assert_eq!(ids.len(), 10_000);
        for id in ids {
            let id: u64 = id.as_str().expect("text").parse().expect("a number");
            assert!(id > last, "{id} after {last}");
            last = id;
        }
    }
    node.shutdown().await;
}

#[tokio::test]
async fn an_import_sent_twice_is_stored_once_and_its_checkpoint_moves_with_it() {
    let node = start().await;
    let ids = post(&node, "/api/v1/ids", &json!({"count": 3}))
        .await
        .json();
    let events: Vec<Json> = (0..3)
        .map(|n| json!({"id": ids["ids"][n], "kind": "line", "time": 5, "data": n}))
        .collect();
    let value = json!({"offset": 120, "inode": 7});
    let import = json!({"events": events, "checkpoint": {"key": "/var/log/x", "value": value}});
    let path = "/api/v1/checkpoints?key=%2Fvar%2Flog%2Fx";
    assert_eq!(get(&node, path).await.json()["value"], Json::Null);

    let first = post(&node, "/api/v1/import", &import).await.json();
    let second = post(&node, "/api/v1/import", &import).await.json();

    assert_eq!(first, json!({"version": 1, "stored": 3, "duplicates": 0}));
    assert_eq!(second, json!({"version": 1, "stored": 0, "duplicates": 3}));
    assert_eq!(count(&node, "line").await, 3);
    let kept = get(&node, path).await.json();
    assert_eq!(kept, json!({"version": 1, "value": value}));
    let without = post(&node, "/api/v1/import", &json!({"events": events})).await;
    assert_eq!(without.json()["duplicates"], 3);
    node.shutdown().await;
}

#[tokio::test]
async fn an_import_with_one_bad_event_stores_nothing_and_says_which() {
    let node = start().await;
    let good = json!({"id": "5", "kind": "k"});
    post(
        &node,
        "/api/v1/events",
        &json!({"id": "9", "kind": "there"}),
    )
    .await;
    for (bad, status) in [
        (json!({"kind": "no id"}), 400),
        (json!({"id": "6", "kind": ""}), 400),
        (
            json!({"id": "6", "kind": "k", "data": "x".repeat(1_000_001)}),
            413,
        ),
        (json!({"id": "9", "kind": "another"}), 409),
    ] {
        let checkpoint = json!({"key": "f", "value": 1});
        let import = json!({"events": [good, bad], "checkpoint": checkpoint});

        let answer = post(&node, "/api/v1/import", &import).await;

        assert_eq!(answer.status, status, "{bad:.60}");
        assert_eq!(answer.json()["error"]["index"], 1);
        assert_eq!(count(&node, "k").await, 0);
        let kept = get(&node, "/api/v1/checkpoints?key=f").await.json();
        assert_eq!(kept["value"], Json::Null);
    }
    node.shutdown().await;
}

#[tokio::test]
async fn settings_are_read_and_changed() {
    let node = start().await;

    let changed = put(
        &node,
        "/api/v1/config",
        &json!({"path": "app.workers", "value": 8}),
    )
    .await;

    assert_eq!(changed.status, 200);
    assert_eq!(changed.json(), json!({"version": 1, "revision": 1}));
    let read = get(&node, "/api/v1/config?path=app.workers").await.json();
    assert_eq!(read["value"], 8);
    assert_eq!(read["path"], "app.workers");
    assert!(
        read["origin"]
            .as_str()
            .is_some_and(|origin| !origin.is_empty())
    );
    let all = get(&node, "/api/v1/config").await.json();
    assert_eq!(all["value"]["app"]["workers"], 8);
    assert_eq!(all["value"]["underpin"]["events"]["durability"], "always");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_of_a_setting_is_of_one_revision() {
    let node = start().await;
    put(
        &node,
        "/api/v1/config",
        &json!({"path": "app.n", "value": 1}),
    )
    .await;
    let writer = tokio::spawn({
        let config = node.config().clone();
        async move {
            // The revision is what is written.
            for n in 2_u32..=20_000 {
                config.update("app.n", n).await.expect("it is valid");
            }
        }
    });

    let mut read = 0;
    while !writer.is_finished() {
        let seen = get(&node, "/api/v1/config?path=app.n").await.json();
        assert_eq!(seen["value"], seen["revision"], "{seen}");
        let since = get(&node, "/api/v1/config/diff").await.json();
        assert_eq!(since["changes"][0]["after"], since["revision"], "{since}");
        read += 1;
    }

    writer.await.expect("no panic");
    assert!(read > 0);
    node.shutdown().await;
}

#[tokio::test]
async fn more_changes_than_one_may_make_are_refused_before_they_are_looked_at() {
    let node = start().await;
    let parts = |count: usize| -> Vec<Json> {
        let part = |n: usize| json!({"path": format!("app.n{n}"), "text": "1"});
        (0..count).map(part).collect()
    };

    // The last one is no path, and nobody gets that far.
    let mut many = parts(5_000);
    many.push(json!({"path": "a..b", "text": "1"}));
    let refused = post(
        &node,
        "/api/v1/config/changes",
        &json!({"set": many, "dry_run": true}),
    )
    .await;

    assert_eq!((refused.status, &*refused.code()), (422, "refused"));
    assert!(refused.text().contains("5001"), "{}", refused.text());
    node.shutdown().await;
}

#[tokio::test]
async fn an_explanation_holds_the_newest_changes_of_many() {
    let node = start().await;
    for n in 1..=30_u32 {
        node.config().update("app.n", n).await.expect("it is valid");
    }

    let explained = get(&node, "/api/v1/config/explain?path=app.n").await.json();

    let history = explained["history"].as_array().expect("a list");
    assert_eq!(history.len(), 20);
    assert_eq!(history[0]["revision"], 30);
    node.shutdown().await;
}

/// A program's settings, one of them secret.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
struct Shop {
    token: String,
    port: u16,
}

impl Schema for Shop {
    fn validate(&self) -> Result<(), Invalid> {
        if self.token.starts_with("bad") {
            let words = format!("{} is no token", self.token);
            return Err(Invalid::value("token", words));
        }
        Ok(())
    }

    fn rules() -> Rules {
        Rules::live().secret("token")
    }
}

#[tokio::test]
async fn no_answer_ever_shows_a_secret() {
    let node = builder()
        .app_config::<Shop>()
        .set("app.token=s3cr3t-one")
        .start()
        .await
        .expect("starts");
    let change = |token: &str| json!({"path": "app.token", "value": token});
    let mut answers = vec![
        put(&node, "/api/v1/config", &change("s3cr3t-two")).await,
        put(&node, "/api/v1/config", &change("bad-s3cr3t")).await,
        put(
            &node,
            "/api/v1/config",
            &json!({"path": "app.token", "value": ["s3cr3t"]}),
        )
        .await,
    ];
    eventually("the audit of the change", async || {
        count(&node, "config_updated").await == 1
    })
    .await;

    for path in [
        "/api/v1/config",
        "/api/v1/config?path=app.token",
        "/api/v1/status",
        "/api/v1/tree",
        "/api/v1/events",
        "/metrics",
    ] {
        answers.push(get(&node, path).await);
    }

    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 422, 422, 200, 200, 200, 200, 200, 200]);
    for answer in &answers {
        assert!(!answer.text().contains("s3cr3t"), "{}", answer.text());
    }
    let read = node.app_config::<Shop>().expect("its type");
    assert_eq!(read.load().token, "s3cr3t-two");
    assert!(!format!("{node:?}").contains("s3cr3t"));
    node.shutdown().await;
}

#[tokio::test]
async fn only_requests_that_name_this_machine_are_let_in() {
    let node = start().await;
    let own = format!("Host: {}", address(&node));
    let own_page = format!("Origin: http://{}", address(&node));
    for fields in [
        &[&*own][..],
        &["Host: localhost"],
        &["Host: [::1]:4610"],
        &[&own, &own_page],
        &[&own, "Sec-Fetch-Site: same-origin"],
        &[&own, "Sec-Fetch-Site: none", "Sec-Fetch-Mode: navigate"],
    ] {
        let answer = head(&node, "GET /api/v1/status", fields).await;
        assert_eq!(answer.status, 200, "{fields:?}");
    }

    for (request, fields) in [
        ("GET /livez", &["Host: example.com"][..]),
        ("GET /livez", &["Host: 127.0.0.1.example.com"]),
        ("GET /livez", &["Host: "]),
        ("GET /livez", &[]),
        ("GET /livez", &[&own, "Host: example.com"]),
        ("GET /livez", &[&own, "Origin: http://example.com"]),
        ("GET /livez", &[&own, "Origin: http://127.0.0.1:8080"]),
        ("GET /livez", &[&own, "Origin: null"]),
        (
            "GET /livez",
            &[&own, &own_page, "Origin: http://example.com"],
        ),
        ("GET http://example.com/livez", &[&own]),
        (
            "OPTIONS /api/v1/config",
            &[&own, "Origin: http://example.com"],
        ),
        ("GET /nothing", &["Host: example.com"]),
        // A picture, a script or a link on somebody else's page: no origin is named.
        (
            "GET /api/v1/events/stream",
            &[&own, "Sec-Fetch-Site: cross-site"],
        ),
        ("GET /livez", &[&own, "Sec-Fetch-Site: same-site"]),
        (
            "GET /api/v1/events",
            &[
                &own,
                "Sec-Fetch-Site: cross-site",
                "Sec-Fetch-Mode: navigate",
            ],
        ),
        ("GET /", &[&own, "Sec-Fetch-Site: cross-site"]),
    ] {
        let answer = head(&node, request, fields).await;
        assert_eq!(answer.status, 403, "{request} {fields:?}");
        assert_eq!(answer.code(), "forbidden");
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }

    let link = [
        &*own,
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Mode: navigate",
    ];
    assert_eq!(head(&node, "GET /", &link).await.status, 200);
    node.shutdown().await;
}

#[tokio::test]
async fn addresses_that_others_can_reach_are_refused() {
    for address in ["0.0.0.0:0", "[::]:0", "192.168.0.1:0", "nonsense"] {
        let node = Node::builder().memory().without_environment();
        let refused = node.http(address).start().await;
        assert!(refused.is_err(), "{address}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_a_clear_error_and_holds_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let other = start().await;
    let taken = address(&other);
    let on = |address: SocketAddr| {
        let node = Node::builder()
            .data_dir(folder.path())
            .without_environment();
        node.http(address)
    };

    let refused = on(taken).start().await.expect_err("in use").to_string();

    assert!(refused.contains(&taken.to_string()), "{refused}");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let node = on(any).start().await.expect("the folder is free");
    node.shutdown().await;
    other.shutdown().await;
}

#[tokio::test]
async fn a_connection_serves_several_requests() {
    let node = start().await;
    let mut stream = TcpStream::connect(address(&node)).await.expect("connects");
    let request = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let unread =
        "POST /api/v1/nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello";

    for _ in 0..3 {
        stream.write_all(request.as_bytes()).await.expect("sends");
        assert_eq!(answer(&mut stream, true).await.text(), "ok\n");
        stream.write_all(unread.as_bytes()).await.expect("sends");
        assert_eq!(answer(&mut stream, true).await.status, 404);
    }
    let two = [request, request].concat();
    stream.write_all(two.as_bytes()).await.expect("sends");
    assert_eq!(answer(&mut stream, true).await.status, 200);
    assert_eq!(answer(&mut stream, true).await.status, 200);
    node.shutdown().await;
}

#[tokio::test]
async fn methods_are_answered_as_http_says() {
    let node = start().await;
    let host = ["Host: localhost"];

    let get_like = head(&node, "HEAD /api/v1/status", &host).await;
    let options = head(&node, "OPTIONS /api/v1/events", &host).await;
    let wrong = head(&node, "PATCH /api/v1/config", &host).await;

    assert_eq!(get_like.status, 200);
    assert_eq!(get_like.header("content-type"), Some("application/json"));
    assert_eq!((options.status, wrong.status), (405, 405));
    let allowed = |answer: &Answer| {
        let methods = answer.header("allow").expect("what is allowed");
        methods
            .split(',')
            .map(str::to_owned)
            .collect::<BTreeSet<_>>()
    };
    let methods = |names: [&str; 3]| names.map(str::to_owned).into();
    assert_eq!(allowed(&options), methods(["GET", "HEAD", "POST"]));
    assert_eq!(allowed(&wrong), methods(["GET", "HEAD", "PUT"]));
    node.shutdown().await;
}

#[tokio::test]
async fn the_front_page_lists_every_path_with_the_methods_that_it_takes() {
    let node = start().await;

    let index = get(&node, "/").await.json();

    let paths = index["paths"].as_array().expect("a list");
    assert_eq!(index["version"], 1);
    assert!(paths.len() > 20, "{index:#}");
    for path in paths {
        let does = path["does"].as_object().expect("methods");
        let at = path["path"].as_str().expect("a path").replace("{id}", "7");
        for (method, does) in does {
            // A stream does not end.
            let method = if at.ends_with("/stream") {
                "HEAD"
            } else {
                method
            };
            let request = format!("{method} {at}");
            let refused = head(&node, &request, &["Host: localhost", "Content-Length: 0"]).await;
            // Some are refused without a body; a path that is not there says so.
            assert_ne!(refused.status, 405, "{request}");
            let told = String::from_utf8_lossy(&refused.body);
            assert!(!told.contains("nothing at this path"), "{request}: {told}");
            assert!(does.as_str().is_some_and(|does| !does.is_empty()));
        }
        let other = head(&node, &format!("TRACE {at}"), &["Host: localhost"]).await;
        let allowed: BTreeSet<&str> = other.header("allow").expect("said").split(',').collect();
        let mut listed: BTreeSet<&str> = does.keys().map(String::as_str).collect();
        if listed.contains("GET") {
            listed.insert("HEAD");
        }
        assert_eq!((other.status, allowed), (405, listed), "{at}");
    }
    let nowhere = get(&node, "/nowhere").await;
    assert!(
        nowhere.text().contains("`GET /` lists the paths"),
        "{nowhere:?}"
    );
    node.shutdown().await;
}

/// The specification allows them, and this parser does not.
fn without_units_of_histograms(text: &str) -> String {
    let histograms: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" histogram"))
        .collect();
    let is_unit = |line: &str| {
        let unit = line
            .strip_prefix("# UNIT ")
            .and_then(|unit| unit.split(' ').next());
        unit.is_some_and(|name| histograms.contains(name))
    };
    let kept: Vec<&str> = text.lines().filter(|line| !is_unit(line)).collect();
    kept.join("\n") + "\n"
}

#[tokio::test]
async fn metrics_are_read_by_parsers_of_both_formats() {
    let node = start().await;
    get(&node, "/api/v1/status").await;
    node.telemetry()
        .counter("story_steps", &[("place", "a \"b\"\\\n")])
        .add(3);
    let ask = async |accept: &str| {
        let accept = format!("Accept: {accept}");
        let fields = match accept.len() {
            8 => vec!["Host: localhost"],
            _ => vec!["Host: localhost", &*accept],
        };
        head(&node, "GET /metrics", &fields).await
    };

    for accept in [
        "",
        "*/*",
        "application/openmetrics-text;version=1.0.0",
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3",
    ] {
        let metrics = ask(accept).await;
        let media = metrics.header("content-type").expect("a type");
        assert!(media.starts_with("application/openmetrics-text"), "{media}");
        let text = without_units_of_histograms(metrics.text());
        let parsed = openmetrics_parser::openmetrics::parse_openmetrics(&text);
        let families = parsed.expect("OpenMetrics").families;
        assert!(families.contains_key("story_steps"), "{accept}");
        assert!(families.contains_key("underpin_http_requests"));
    }
    let metrics = ask("text/plain").await;
    let media = metrics.header("content-type").expect("a type");
    assert!(media.starts_with("text/plain"), "{media}");
    let parsed = openmetrics_parser::prometheus::parse_prometheus(metrics.text());
    assert!(parsed.is_ok(), "{parsed:?}");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_says_first_that_it_is_not_ready() {
    let release = Arc::new(Notify::new());
    let (asked, held) = (Arc::new(Notify::new()), Arc::clone(&release));
    let stopping = Arc::clone(&asked);
    let child = ChildSpec::task("slow", move |ctx| {
        let (asked, held) = (Arc::clone(&stopping), Arc::clone(&held));
        async move {
            ctx.cancelled().await;
            asked.notify_one();
            held.notified().await;
            Ok(())
        }
    });
    let node = builder().child(child.shutdown(Shutdown::Timeout(LONG)));
    let node = node.start().await.expect("starts");
    let address = address(&node);
    assert_eq!(send(address, "GET /readyz", "", b"").await.status, 200);

    let shutdown = tokio::spawn(node.shutdown());
    asked.notified().await;

    let ready = send(address, "GET /readyz", "", b"").await;
    assert_eq!(
        (ready.status, ready.text()),
        (503, "the node is stopping\n")
    );
    assert_eq!(send(address, "GET /livez", "", b"").await.status, 200);
    let status = send(address, "GET /api/v1/status", "", b"").await.json();
    assert_eq!(status["health"], "degraded");
    assert_eq!(status["ready"], false);
    release.notify_one();
    let report = timeout(LONG, shutdown).await.expect("in time");
    assert!(report.expect("no panic").is_graceful());
    assert!(TcpStream::connect(address).await.is_err());
}

/// A child that has started when it is told that it has.
struct Slow;

enum Nothing {}
underpin::otp::message!(Nothing);

impl Actor for Slow {
    type Msg = Nothing;
    type State = ();
    type Arguments = Arc<Notify>;

    async fn pre_start(
        &self,
        _: ActorRef<Nothing>,
        go: Arc<Notify>,
    ) -> Result<(), ActorProcessingErr> {
        go.notified().await;
        Ok(())
    }
}

#[tokio::test]
async fn the_tree_can_be_asked_for_in_part_and_tells_what_is_wrong_where() {
    let (go, address) = (Arc::new(Notify::new()), Address::new());
    go.notify_one();
    let held = ChildSpec::actor("held", &address, move |_| (Slow, Arc::clone(&go)));
    let node = builder().child(held).start().await.expect("starts");
    address.sys().suspend(LONG).await.expect("suspended");

    for path in ["node/app/held", "app/held"] {
        let answer = get(&node, &format!("/api/v1/tree?path={path}"))
            .await
            .json();
        let held = &answer["tree"];
        assert_eq!(
            (&held["id"], &held["suspended"]),
            (&json!("held"), &json!(true))
        );
        assert_eq!(held["health"], "degraded");
        assert_eq!(held["reasons"][0]["reason"], "is suspended; resume it");
        assert!(held["reasons"][0]["since"].is_string());
    }
    let top = get(&node, "/api/v1/tree?depth=1&children=2").await.json();
    let shown = top["tree"]["children"].as_array().expect("children");
    assert_eq!((shown.len(), &top["tree"]["unlisted"]), (2, &json!(5)));
    assert_eq!(shown[0]["health"], "healthy");
    let missing = get(&node, "/api/v1/tree?path=app/none").await;
    assert_eq!(
        (missing.status, missing.code()),
        (404, "not_found".to_owned())
    );
    for wrong in ["depth=-1", "children=1001", "depth=x", "deep=1"] {
        let refused = get(&node, &format!("/api/v1/tree?{wrong}")).await;
        assert_eq!(refused.status, 400, "{wrong}");
    }
    node.shutdown().await;
}

#[tokio::test]
async fn a_node_that_starts_says_that_it_is_not_ready() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = port.local_addr().expect("bound");
    drop(port);
    let go = Arc::new(Notify::new());
    let waits = Arc::clone(&go);
    let slow = ChildSpec::actor("slow", &Address::new(), move |_| (Slow, Arc::clone(&waits)));
    let node = Node::builder().memory().without_environment();

    let starting = tokio::spawn(node.http(address).child(slow).start());
    eventually("the interface", async || {
        TcpStream::connect(address).await.is_ok()
    })
    .await;

    let ready = send(address, "GET /readyz", "", b"").await;
    assert_eq!(
        (ready.status, ready.text()),
        (503, "the node is starting\n")
    );
    let status = send(address, "GET /api/v1/status", "", b"").await.json();
    assert_eq!(status["health"], "degraded");
    go.notify_one();
    let node = starting.await.expect("no panic").expect("starts");
    assert_eq!(get(&node, "/readyz").await.status, 200);
    node.shutdown().await;
}

#[tokio::test]
async fn the_interface_comes_back_under_its_address() {
    let node = start().await;
    let before = address(&node);
    let mut kept = TcpStream::connect(before).await.expect("connects");

    node.supervisor()
        .terminate_child("web")
        .await
        .expect("stops");
    let closed = timeout(LONG, kept.read_u8()).await.expect("in time");
    assert!(closed.is_err());
    node.supervisor()
        .restart_child("web")
        .await
        .expect("starts");

    assert_eq!(get(&node, "/livez").await.status, 200);
    assert_eq!(address(&node), before);
    node.shutdown().await;
}
