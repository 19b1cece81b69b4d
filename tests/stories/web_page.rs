//! The page that a node shows in a browser.
//!
//! Where `UNDERPIN_BROWSER` names a Chromium, as `.ci/run` does when there is one, that browser has to show it; else what a browser is
//! given is looked at.

use std::{env, io::Write as _, process::Command};

use underpin::{node::Node, value::Value};

use super::web::{address, raw, start};

async fn asked(node: &Node, path: &str, accept: &str) -> super::web::Answer {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n");
    raw(address(node), request.as_bytes()).await
}

const BROWSER: &str = "text/html,application/xhtml+xml,*/*;q=0.8";

#[tokio::test]
async fn a_browser_gets_a_page_of_this_node_alone_and_a_program_the_list_of_paths() {
    let node = start().await;

    let html = asked(&node, "/", BROWSER).await;
    let css = asked(&node, "/page.css", "text/css").await;
    let js = asked(&node, "/page.js", "*/*").await;
    let list = asked(&node, "/", "*/*").await.json();

    for (file, media) in [
        (&html, "text/html"),
        (&css, "text/css"),
        (&js, "text/javascript"),
    ] {
        assert_eq!(file.status, 200);
        assert_eq!(
            file.header("content-type"),
            Some(&*format!("{media}; charset=utf-8"))
        );
        assert_eq!(file.header("x-content-type-options"), Some("nosniff"));
        let policy = file.header("content-security-policy").expect("a policy");
        assert!(
            policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"),
            "{policy}"
        );
        let elsewhere = file.text().replace("http://www.w3.org/2000/svg", "");
        assert!(
            !elsewhere.contains("http://") && !elsewhere.contains("https://"),
            "{media} names another place"
        );
    }
    // Whatever an event says is put in as text.
    for risky in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
    ] {
        assert!(!js.text().contains(risky), "{risky}");
    }
    let paths: Vec<&str> = list["paths"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|path| path["path"].as_str())
        .collect();
    let quoted = js
        .text()
        .split(['"', '`'])
        .filter(|word| word.starts_with('/'));
    let asked_for: Vec<&str> = quoted
        .map(|path| path.split('?').next().unwrap_or(path))
        .collect();
    assert!(asked_for.len() > 6, "{asked_for:?}");
    for path in asked_for {
        assert!(
            paths.contains(&path),
            "the page asks for {path:?}, which is not there: {paths:?}"
        );
    }
    let parts = js
        .text()
        .split("at(\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next());
    for part in parts {
        assert!(
            html.text().contains(&format!("id=\"{part}\"")),
            "the page has no {part:?}"
        );
    }
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_shows_health_tree_events_settings_and_metrics_and_runs_nothing_that_an_event_says()
 {
    let Ok(browser) = env::var("UNDERPIN_BROWSER") else {
        // Not through `eprintln`, which a passing test does not show.
        let skipped = "\nSKIPPED, the page in a browser: UNDERPIN_BROWSER names none; .ci/run does where there is one\n";
        std::io::stderr()
            .write_all(skipped.as_bytes())
            .expect("written");
        return;
    };
    let node = start().await;
    let hostile = Value::from("<img src=x onerror='document.title=1'>tea");
    let event = node
        .events()
        .event("shop.sold")
        .data(Value::from([("what", hostile)]));
    node.events()
        .store(event.build().expect("valid"))
        .await
        .expect("stored");
    node.config()
        .update("app.greeting", "good day")
        .await
        .expect("valid");
    node.telemetry().counter("shop_teas", &[]).add(4711);
    let url = format!("http://{}/", address(&node));

    let shown = tokio::task::spawn_blocking(move || {
        let profile = tempfile::tempdir().expect("a folder");
        let output = Command::new(browser)
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--virtual-time-budget=5000",
                "--dump-dom",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(url)
            .output();
        String::from_utf8(output.expect("runs").stdout).expect("UTF-8")
    });
    let shown = shown.await.expect("ends");

    let title = shown
        .split("<title>")
        .nth(1)
        .and_then(|rest| rest.split("</title>").next());
    assert_eq!(title, Some("underpin: healthy"), "{shown}");
    for words in [
        "telemetry",
        "wiring",
        "shop.sold",
        "&lt;img src=x",
        "app.greeting",
        "good day",
        "4,711",
    ] {
        assert!(shown.contains(words), "no {words:?}: {shown}");
    }
    assert!(
        !shown.contains("<img") && !shown.contains("could not be drawn"),
        "{shown}"
    );
    node.shutdown().await;
}
