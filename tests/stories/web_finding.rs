//! Finding and following events over HTTP.

use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use underpin::{
    events::{EventBuilder, StateChange, Timestamp},
    ids::{CorrelationId, EventId},
    node::Node,
    value::Value,
};

use super::web::{LONG, address, get, raw, start};

fn id(id: u64) -> EventId {
    EventId::new(id).expect("valid")
}

async fn store(node: &Node, number: u64, kind: &str, parent: Option<u64>) {
    let mut event = EventBuilder::new(id(number), kind)
        .time(Timestamp::from_nanos(i64::try_from(number).expect("small")))
        .correlation(CorrelationId::new("req-1").expect("short"))
        .data(Value::from([("n", number)]));
    if let Some(parent) = parent {
        event = event.parent(id(parent));
    }
    let event = event.build().expect("valid");
    node.events().store(event).await.expect("stored");
}

fn ids(events: &Json) -> Vec<&str> {
    let events = events.as_array().expect("a list").iter();
    events
        .map(|event| event["id"].as_str().expect("text"))
        .collect()
}

#[tokio::test]
async fn a_query_may_be_text_and_what_is_wrong_with_it_is_pointed_at() {
    let node = start().await;
    for number in 1..=9 {
        store(
            &node,
            number,
            if number % 2 == 0 { "k.even" } else { "k.odd" },
            None,
        )
        .await;
    }

    let found = get(&node, "/api/v1/events?q=kind=k.*%20data.n%3E5%20order=-id").await;
    let found: Vec<_> = found
        .lines()
        .iter()
        .map(|event| event["id"].clone())
        .collect();
    assert_eq!(found, ["9", "8", "7", "6"]);
    let both = get(&node, "/api/v1/events?q=data.n%3E=5&kind=k.even&limit=1").await;
    assert_eq!(both.lines()[0]["id"], "6");

    let wrong = get(&node, "/api/v1/events?q=kind=k.*%20limt=5").await;
    assert_eq!((wrong.status, wrong.code().as_str()), (400, "malformed"));
    let error = &wrong.json()["error"];
    let message = error["message"].as_str().expect("text");
    assert!(message.contains("did you mean `limit`?"), "{message}");
    assert_eq!(error["pointer"], "kind=k.* limt=5\n         ^^^^");
    for refused in ["q=a&q=b", "q=limit=5&limit=5", "node=5000", "as_of=soon"] {
        let answer = get(&node, &format!("/api/v1/events?{refused}")).await;
        assert_eq!(answer.status, 400, "{refused}: {answer:?}");
    }
}

/// Whoever writes a comparison into a URL as it would stand in a query was answered with nothing.
#[tokio::test]
async fn an_operator_in_a_url_counts_as_one() {
    let node = start().await;
    for number in 1..=9 {
        store(&node, number, "k", None).await;
    }

    for (asked, expected) in [
        ("data.n%3E=8", vec!["8", "9"]),
        ("data.n%3E8", vec!["9"]),
        ("kind=k&data.n%3C3", vec!["1", "2"]),
        ("kind=k&data.n!=5&id%3E4&id%3C=6", vec!["6"]),
        ("time%3E%3D1970-01-01T00:00:00.000000008Z", vec!["8", "9"]),
    ] {
        let found = get(&node, &format!("/api/v1/events?{asked}")).await.lines();
        assert_eq!(ids(&Json::from(found)), expected, "{asked}");
    }
    let wrong = get(&node, "/api/v1/events?dtaa%3E=5").await;
    assert_eq!(wrong.status, 400);
    assert_eq!(wrong.json()["error"]["pointer"], "dtaa>=5\n^^^^");
}

/// They were left out in silence.
#[tokio::test]
async fn an_event_that_cannot_be_read_has_a_line_that_says_so() {
    let folder = tempfile::tempdir().expect("folder for the test");
    let node = Node::builder()
        .data_dir(folder.path())
        .without_environment()
        .http("127.0.0.1:0")
        .set("underpin.events.hot_bytes=1048576");
    let node = node.start().await.expect("starts");
    // So large that the first ones leave memory.
    for number in 1..=9 {
        let event = EventBuilder::new(id(number), "k").source("here");
        let event = event.data("x".repeat(300_000)).build().expect("valid");
        node.events().store(event).await.expect("stored");
    }
    let logs = std::fs::read_dir(folder.path().join("events")).expect("readable");
    let log = logs
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .expect("a log");
    let mut bytes = std::fs::read(&log).expect("readable");
    let at = bytes.windows(4).position(|part| part == b"here");
    bytes[at.expect("an event")] ^= 1;
    std::fs::write(&log, bytes).expect("writable");

    let lines = get(&node, "/api/v1/events?kind=k").await.lines();
    let damaged: Vec<_> = lines
        .iter()
        .filter(|line| line["unreadable"].is_string())
        .collect();
    assert_eq!(damaged, [&json!({ "version": 1, "unreadable": "1" })]);
    assert_eq!(lines.len(), 9);
}

/// A client that goes away takes its query with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_whose_client_has_gone_stops_its_work() {
    let node = start().await;
    let events: Vec<_> = (1..=40_000)
        .map(|number| {
            let event = EventBuilder::new(id(number), "k").data(number);
            event.build().expect("valid")
        })
        .collect();
    for batch in events.chunks(10_000) {
        let stored = node.events().store_batch(batch.to_vec()).await;
        stored.expect("stored");
    }
    let figure = |name: &str| node.telemetry().counter(name, &[]).value();
    let begin = Instant::now();

    // Compares the data of every event, and finds none. On a machine that has other things to do, one may have come to its end before it
    // was seen that its client has gone.
    while figure("underpin_events_queries_cancelled") == 0 {
        assert!(begin.elapsed() < LONG, "no search stops");
        let asked = figure("underpin_events_queries");
        let mut stream = TcpStream::connect(address(&node)).await.expect("connects");
        let request = format!(
            "GET /api/v1/events/count?data%3C-1 HTTP/1.1\r\nHost: {}\r\n\r\n",
            address(&node)
        );
        stream.write_all(request.as_bytes()).await.expect("sent");
        super::events::support::until("it is asked", || figure("underpin_events_queries") > asked)
            .await;
        drop(stream);
        let running = tokio::time::sleep(Duration::from_millis(50));
        tokio::select! {
            () = running => {}
            () = super::events::support::until("the search stops", || {
                figure("underpin_events_queries_cancelled") > 0
            }) => {}
        }
    }
}

#[tokio::test]
async fn who_accepts_an_object_gets_a_page_with_a_cursor() {
    let node = start().await;
    for number in 1..=5 {
        store(&node, number, "k", None).await;
    }
    let page = async |more: &str| {
        let address = address(&node);
        let request = format!(
            "GET /api/v1/events?limit=2{more} HTTP/1.1\r\nHost: {address}\r\nAccept: application/json\r\n\r\n"
        );
        raw(address, request.as_bytes()).await.json()
    };

    let first = page("").await;
    let cursor = first["next"].as_str().expect("there are more");
    let second = page(&format!("&after={cursor}")).await;
    let cursor = second["next"].as_str().expect("there are more");
    let last = page(&format!("&after={cursor}")).await;

    assert_eq!(ids(&first["events"]), ["1", "2"]);
    assert_eq!(ids(&second["events"]), ["3", "4"]);
    assert_eq!(
        (ids(&last["events"]), &last["next"]),
        (vec!["5"], &Json::Null)
    );
}

#[tokio::test]
async fn counts_and_plans_can_be_asked_for() {
    let node = start().await;
    for number in 1..=5 {
        store(&node, number, "k", None).await;
    }

    let count = get(&node, "/api/v1/events/count?kind=k&limit=2")
        .await
        .json();
    let plan = get(&node, "/api/v1/events/explain?kind=k&correlation=req-1")
        .await
        .json();

    assert_eq!(count, json!({ "version": 1, "count": 5 }));
    assert_eq!(plan["explanation"]["found"], 5);
    assert!(
        plan["text"].as_str().expect("text").contains("by "),
        "{plan}"
    );
}

#[tokio::test]
async fn causes_and_effects_are_told_as_far_as_they_are_stored() {
    let node = start().await;
    store(&node, 1, "order", None).await;
    store(&node, 2, "paid", Some(1)).await;
    store(&node, 3, "shipped", Some(2)).await;

    let why = get(&node, "/api/v1/events/3/causes").await.json();
    assert_eq!(ids(&why["events"]), ["3", "2", "1"]);
    assert_eq!(why["end"], json!({ "end": "root" }));
    let effects = get(&node, "/api/v1/events/1/effects").await.json();
    assert_eq!(effects["effects"][1]["event"]["id"], "3");
    assert_eq!(
        (&effects["effects"][1]["depth"], &effects["complete"]),
        (&json!(1), &json!(true))
    );
    for path in ["77/causes", "77/effects"] {
        assert_eq!(
            get(&node, &format!("/api/v1/events/{path}")).await.status,
            404
        );
    }
}

#[tokio::test]
async fn states_are_told_for_a_time_and_between_two() {
    let node = start().await;
    for (number, left) in [(1, 9), (2, 7)] {
        let tea = |n: i64| Value::from([("tea", n)]);
        let change = StateChange::new("take", tea(9), tea(left))
            .event(id(number), "shelf")
            .time(Timestamp::from_nanos(
                i64::try_from(number).expect("small") * 1_000,
            ));
        node.events()
            .store(change.build().expect("valid"))
            .await
            .expect("stored");
    }

    let then = get(
        &node,
        "/api/v1/timeline?source=shelf&at=1970-01-01T00:00:00.0000015Z",
    )
    .await
    .json();
    assert_eq!(then["states"][0]["state"], json!({ "tea": 9 }));
    // `until` was put out of force by `at`, also where that was not said.
    let early = "until=1970-01-01T00:00:00.0000015Z";
    let early = get(&node, &format!("/api/v1/timeline?source=shelf&{early}")).await;
    assert_eq!(early.json()["states"][0]["state"], json!({ "tea": 9 }));
    let now = get(&node, "/api/v1/timeline?source=shelf").await.json();
    assert_eq!(
        (
            &now["states"][0]["state"]["tea"],
            &now["states"][0]["event"]
        ),
        (&json!(7), &json!("2"))
    );
    let range = "from=1970-01-01T00:00:00.000001Z&to=1970-01-01T00:00:00.000003Z";
    let between = get(&node, &format!("/api/v1/timeline?source=shelf&{range}"))
        .await
        .json();
    let difference = json!({ "source": "shelf", "path": "tea", "before": 9, "after": 7 });
    assert_eq!(between["differences"], json!([difference]));
    // Its day began where it ended, and nothing had changed within it.
    let day = "from=1970-01-01&to=1970-01-01";
    let within = get(&node, &format!("/api/v1/timeline?source=shelf&{day}"))
        .await
        .json();
    let first = json!({ "source": "shelf", "path": "", "before": null, "after": { "tea": 7 } });
    assert_eq!(within["differences"], json!([first]));

    // What happens at midnight belongs to the day that it begins, and to no other.
    let tea = |n: i64| Value::from([("tea", n)]);
    let midnight = StateChange::new("take", tea(7), tea(6))
        .event(id(3), "shelf")
        .time(Timestamp::from_nanos(86_400_000_000_000));
    let midnight = midnight.build().expect("valid");
    node.events().store(midnight).await.expect("stored");
    let taken = json!({ "source": "shelf", "path": "tea", "before": 7, "after": 6 });
    for (day, differences) in [
        ("1970-01-01", json!([first])),
        ("1970-01-02", json!([taken])),
        ("1970-01-03", json!([])),
    ] {
        let path = format!("/api/v1/timeline?source=shelf&from={day}&to={day}");
        let within = get(&node, &path).await.json();
        assert_eq!(within["differences"], differences, "{day}");
    }
    for refused in [
        "to=1h",
        "at=1h&from=2h",
        "at=1h&at=2h",
        "at=20261123",
        "kind=other",
        "limit=5",
        "from=1h&to=2h",
    ] {
        let answer = get(&node, &format!("/api/v1/timeline?{refused}")).await;
        assert_eq!(answer.status, 400, "{refused}");
    }
}

/// A client that follows, as a browser does.
struct Follower {
    stream: TcpStream,
    text: String,
    last_id: String,
    has_ended: bool,
}

impl Follower {
    async fn open(node: &Node, path: &str, last_id: Option<&str>) -> Self {
        let address = address(node);
        let last = last_id.map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{last}\r\n");
        let mut stream = TcpStream::connect(address).await.expect("connects");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a head"));
        }
        let head = String::from_utf8(head).expect("text");
        assert!(
            head.starts_with("HTTP/1.1 200") && head.contains("text/event-stream"),
            "{head}"
        );
        let mut follower = Self {
            stream,
            text: String::new(),
            last_id: String::new(),
            has_ended: false,
        };
        // The first message only says where it begins.
        assert_eq!(follower.message().await, None);
        follower
    }

    /// The data of the next message that is not a sign of life.
    async fn message(&mut self) -> Option<Json> {
        loop {
            if let Some((message, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| message.lines().find_map(|line| line.strip_prefix(name));
                let id = field("id: ").map(str::to_owned);
                let data = field("data: ").map(|data| serde_json::from_str(data).expect("JSON"));
                let rest = rest.to_owned();
                self.last_id = id.expect("an id");
                self.text = rest;
                return data;
            }
            let chunk = timeout(LONG, self.chunk()).await.expect("something comes");
            self.text.push_str(&chunk.expect("the stream goes on"));
        }
    }

    async fn events(&mut self, count: usize) -> Vec<String> {
        let mut ids = Vec::new();
        while ids.len() < count {
            let event = self.message().await.expect("an event");
            ids.push(event["id"].as_str().expect("text").to_owned());
        }
        ids
    }

    /// Whether it comes to an end, rather than being cut off. What the node says of its own end may still have come.
    async fn ends(&mut self) -> bool {
        while self.chunk().await.is_some() {}
        self.has_ended
    }

    /// What comes next; `None` at the end.
    async fn chunk(&mut self) -> Option<String> {
        let mut size = String::new();
        while !size.ends_with("\r\n") {
            size.push(self.stream.read_u8().await.ok()?.into());
        }
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        let mut chunk = vec![0; size + 2];
        self.stream.read_exact(&mut chunk).await.ok()?;
        chunk.truncate(size);
        self.has_ended = size == 0;
        (size > 0).then(|| String::from_utf8(chunk).expect("text"))
    }
}

#[tokio::test]
async fn a_follower_that_reconnects_goes_on_where_it_was() {
    let node = start().await;
    store(&node, 1, "k.early", None).await;
    let follower = Follower::open(&node, "/api/v1/events/stream?q=kind=k.*", None).await;
    // It is cut off before it got anything, and yet it misses nothing.
    let begun = follower.last_id.clone();
    drop(follower);
    for number in 2..=4 {
        store(
            &node,
            number,
            if number == 3 { "other" } else { "k.late" },
            None,
        )
        .await;
    }

    let path = "/api/v1/events/stream?q=kind=k.*";
    let mut follower = Follower::open(&node, path, Some(&begun)).await;
    assert_eq!(follower.events(2).await, ["2", "4"]);
    let bookmark = follower.last_id.clone();
    drop(follower);
    store(&node, 5, "k.late", None).await;
    let mut follower = Follower::open(&node, path, Some(&bookmark)).await;
    assert_eq!(follower.events(1).await, ["5"]);

    let mut all = Follower::open(
        &node,
        "/api/v1/events/stream?from=beginning&correlation=req-1",
        None,
    )
    .await;
    assert_eq!(all.events(5).await, ["1", "2", "3", "4", "5"]);
    let mut after = Follower::open(
        &node,
        "/api/v1/events/stream?from=3&correlation=req-1",
        None,
    )
    .await;
    assert_eq!(after.events(2).await, ["4", "5"]);
    for (from, status) in [("99", 410), ("yesterday", 400), ("now&limit=5", 400)] {
        let refused = get(&node, &format!("/api/v1/events/stream?from={from}")).await;
        assert_eq!(refused.status, status, "{from}");
    }
}

#[tokio::test]
async fn followers_do_not_hold_up_a_node_that_stops() {
    let node = start().await;
    let mut follower = Follower::open(&node, "/api/v1/events/stream", None).await;

    let report = node.shutdown().await;

    assert!(report.is_graceful());
    // It has an end of its own: a stream that is still open after the drain is cut off.
    assert!(timeout(LONG, follower.ends()).await.expect("it ends"));
}
