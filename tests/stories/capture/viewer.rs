//! What viewers of the Trace Event Format see of captured programs.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::{join_all, select};
use serde_json::Value as Json;
use tracing::{Instrument as _, Span, info_span, instrument::WithSubscriber as _};
use underpin::{
    capture::chrome_trace,
    events::Event,
    testing::{in_memory, with_node},
};

use super::{capture_of, captured, field, of_kind};

/// A span as a viewer shows it.
#[derive(Debug)]
struct Slice {
    name: String,
    /// The id of the event that opened it.
    opened: String,
    track: String,
    begins: f64,
    ends: f64,
    depth: usize,
}

/// Reads a trace by the rules of the Trace Event Format, as Perfetto and Chrome do: in the order of its times, and what is of one time in the
/// order of the file; spans on a track for each category and id, where an end has to be that of the innermost span. What a reader would
/// leave out or count as an error fails the story.
fn read(file: &Json) -> Vec<Slice> {
    let unit = &file["displayTimeUnit"];
    assert!(unit == "ns" || unit == "ms", "{unit}");
    let mut events: Vec<&Json> = file["traceEvents"]
        .as_array()
        .expect("a list")
        .iter()
        .collect();
    // Names of processes and threads have no time.
    events.sort_by(|a, b| at(a).total_cmp(&at(b)));
    let (mut tracks, mut slices) = (BTreeMap::<String, Vec<Slice>>::new(), Vec::new());
    let (mut named, mut used) = (BTreeSet::new(), BTreeSet::new());
    for event in events {
        // Perfetto keeps 0 for the machine's idle task.
        let number = |name: &str| {
            event[name]
                .as_u64()
                .filter(|number| (1..=u64::from(u32::MAX)).contains(number))
        };
        let [process, thread] =
            ["pid", "tid"].map(|name| number(name).unwrap_or_else(|| panic!("no {name}: {event}")));
        let name = event["name"].as_str().expect("a name");
        assert!(event["args"].is_object(), "{event}");
        let phase = event["ph"].as_str().expect("a phase");
        if phase == "M" {
            assert!(event["args"]["name"].is_string(), "{event}");
            named.insert((name.to_owned(), process, thread));
            continue;
        }
        assert!(event["ts"].is_number() && at(event) >= 0.0, "{event}");
        let category = event["cat"].as_str().expect("a category");
        used.insert((process, thread));
        match phase {
            "i" => assert!(event["s"] == "t", "{event}"),
            "b" => {
                let track = format!("{category}:{}", event["id"].as_str().expect("an id"));
                let open = tracks.entry(track.clone()).or_default();
                open.push(Slice {
                    name: name.to_owned(),
                    opened: event["args"]["event"]
                        .as_str()
                        .expect("its event")
                        .to_owned(),
                    track,
                    begins: at(event),
                    ends: f64::NAN,
                    depth: open.len(),
                });
            }
            "e" => {
                let track = format!("{category}:{}", event["id"].as_str().expect("an id"));
                let innermost = tracks.get_mut(&track).and_then(Vec::pop);
                let mut slice = innermost.unwrap_or_else(|| panic!("nothing to end: {event}"));
                assert_eq!(slice.name, name, "ends another span than the innermost");
                slice.ends = at(event);
                slices.push(slice);
            }
            other => panic!("no phase of ours: {other}"),
        }
    }
    assert!(
        tracks.values().all(Vec::is_empty),
        "did not end: {tracks:?}"
    );
    for (process, thread) in used {
        assert!(named.contains(&("thread_name".to_owned(), process, thread)));
        assert!(
            named
                .iter()
                .any(|(what, of, _)| what == "process_name" && *of == process)
        );
    }
    slices
}

fn at(event: &Json) -> f64 {
    event["ts"].as_f64().unwrap_or(-1.0)
}

/// That a viewer shows each span once, when it was, and inside whatever shares its track.
fn assert_shows(slices: &[Slice], events: &[Event]) {
    let (first, last) = (&events[0], &events[events.len() - 1]);
    let micros = |event: &Event| {
        let nanos = event.time().as_nanos() - first.time().as_nanos();
        #[expect(clippy::cast_precision_loss, reason = "a story is short")]
        let nanos = nanos as f64;
        nanos / 1000.0
    };
    let opened = of_kind(events, "span.opened");
    assert_eq!(slices.len(), opened.len());
    for opened in opened {
        let id = opened.id().to_string();
        let slice = slices
            .iter()
            .find(|slice| slice.opened == id)
            .expect("shown");
        let closed = of_kind(events, "span.closed");
        let closed = closed
            .into_iter()
            .find(|closed| closed.parent() == Some(opened.id()));
        assert_eq!(field(opened, "name").as_str(), Some(&*slice.name));
        let ends = micros(closed.unwrap_or(last));
        assert!(
            (slice.begins - micros(opened)).abs() < 1e-6 && (slice.ends - ends).abs() < 1e-6,
            "{slice:?}"
        );
        // What it is inside of is what caused it, and lasts as long.
        let around = slices.iter().find(|other| {
            other.track == slice.track
                && other.depth + 1 == slice.depth
                && other.begins <= slice.begins
                && slice.begins <= other.ends
                && opened
                    .parent()
                    .is_some_and(|parent| parent.to_string() == other.opened)
        });
        assert_eq!(
            slice.depth > 0,
            around.is_some(),
            "{slice:?} in {slices:#?}"
        );
        assert!(around.is_none_or(|around| slice.ends <= around.ends));
    }
}

async fn step() {
    tokio::task::yield_now().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_whose_tasks_overlap_on_one_thread_is_shown_by_viewers_span_for_span() {
    with_node(in_memory(), async |node| {
        let (capture, subscriber) = capture_of(node);
        let dispatch = tracing::Dispatch::new(subscriber);
        let _guard = tracing::dispatcher::set_default(&dispatch);
        let leg = |name: &'static str, steps: usize| {
            let work = async move {
                for number in 0..steps {
                    info_span!(target: "shop", "step")
                        .in_scope(|| tracing::info!(target: "shop", number, "on the way"));
                    step().await;
                }
            };
            work.instrument(info_span!(target: "shop", "leg", leg = name))
        };
        let endless = info_span!(target: "shop", parent: None, "elsewhere");

        let outlives = async {
            // Three at once on one thread, of different length; one is given up half-way.
            let given_up = leg("given up", 1000);
            let _ = select(Box::pin(given_up), Box::pin(leg("short", 3))).await;
            join_all([leg("a", 3), leg("b", 5), leg("c", 2)]).await;
            let span = info_span!(target: "shop", "blocking");
            let blocking = {
                let dispatch = dispatch.clone();
                move || {
                    tracing::dispatcher::with_default(&dispatch, || {
                        span.in_scope(|| tracing::warn!(target: "shop", "on another thread"));
                    });
                }
            };
            tokio::task::spawn_blocking(blocking).await.expect("ends");
            let later = async {
                step().await;
                Span::current()
            };
            let later = later.instrument(info_span!(target: "shop", "outlives"));
            tokio::spawn(later.with_subscriber(dispatch.clone()))
                .await
                .expect("ends")
        };
        let outlives = outlives
            .instrument(info_span!(target: "shop", "request"))
            .await;
        tracing::info!(target: "shop", parent: &outlives, "after its parent");
        drop(outlives);

        let events = captured(node, &capture).await;
        drop(endless);
        let slices = read(&chrome_trace(&events));
        assert_shows(&slices, &events);
        let tracks: BTreeSet<&str> = slices
            .iter()
            .filter(|slice| slice.name == "leg")
            .map(|slice| &*slice.track)
            .collect();
        assert!(tracks.len() > 1, "they overlap: {slices:#?}");
        assert!(
            slices
                .iter()
                .any(|slice| slice.name == "step" && slice.depth > 0)
        );
    })
    .await;
}

#[tokio::test]
async fn however_spans_begin_and_end_viewers_show_each_of_them() {
    with_node(in_memory(), async |node| {
        let (capture, subscriber) = capture_of(node);
        let _guard = tracing::subscriber::set_default(subscriber);
        let mut chance = fastrand::Rng::with_seed(9);

        for _ in 0..40 {
            info_span!(target: "shop", parent: None, "program").in_scope(|| {
                let mut open = vec![Span::current()];
                for _ in 0..chance.usize(1..60) {
                    if open.is_empty() || chance.bool() {
                        let parent = open
                            .get(chance.usize(0..open.len().max(1)))
                            .and_then(Span::id);
                        open.push(info_span!(target: "shop", parent: parent, "part"));
                    } else {
                        open.swap_remove(chance.usize(0..open.len()));
                    }
                }
            });
        }

        let mut programs: BTreeMap<String, Vec<Event>> = BTreeMap::new();
        for event in captured(node, &capture).await {
            let program = event.correlation().expect("a trace").to_string();
            programs.entry(program).or_default().push(event);
        }
        assert!(programs.len() >= 40);
        for events in programs.values() {
            assert_shows(&read(&chrome_trace(events)), events);
        }
    })
    .await;
}
