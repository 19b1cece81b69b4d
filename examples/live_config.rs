//! A program that follows its settings while a file, the environment and the API change them.
//!
//! ```sh
//! cargo run --example live_config
//! ```

use std::{
    env,
    ffi::OsString,
    fs, process,
    sync::{Arc, Mutex},
};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use underpin::{
    config::{Config, Invalid, Rules, Schema, Secret},
    node::Node,
};

#[derive(Debug, Serialize, Deserialize)]
#[serde(default)]
struct Settings {
    rate: u32,
    listen: String,
    token: Secret<Option<String>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rate: 1,
            listen: "127.0.0.1:80".into(),
            token: Secret::default(),
        }
    }
}

impl Schema for Settings {
    fn validate(&self) -> Result<(), Invalid> {
        if self.rate == 0 {
            return Err(Invalid::range(
                "rate",
                "nothing would be done; use 1 or more",
            ));
        }
        Ok(())
    }

    fn rules() -> Rules {
        // `token` is secret by its type.
        Rules::live()
            .fix("listen")
            .describe("rate", "How many are done a second.")
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = env::temp_dir().join(format!("underpin-live-config-{}", process::id()));
    fs::create_dir_all(&folder)?;
    let told = story(&folder.join("live.toml")).await;
    fs::remove_dir_all(&folder)?;
    told
}

async fn story(file: &std::path::Path) -> anyhow::Result<()> {
    fs::write(file, "[app]\nrate = 2\ntoken = \"hunter2\"\n")?;

    // The environment is looked at anew by each reload. This one can be changed from here; a program's own is the default.
    let variables = Arc::new(Mutex::new(Vec::new()));
    let look = Arc::clone(&variables);
    let (seen, mut changes) = mpsc::unbounded_channel();
    let node = Node::builder()
        .memory()
        .config_file(file)
        .environment_from(move || look.lock().expect("nobody panics").clone())
        .app_config::<Settings>()
        .child_with(move |services| {
            let follow = services
                .config
                .calling("follower", "app.rate", move |notice| {
                    drop(seen.send(notice.value));
                });
            follow.expect("the path is well formed")
        })
        .start()
        .await?;
    let settings: Config<Settings> = node.app_config().expect("they have this type");
    let mut rate = async || {
        changes.recv().await;
        let origin = settings.configuration().origin("app.rate")?.to_string();
        let origin = origin
            .split("live.toml")
            .last()
            .unwrap_or_default()
            .to_owned();
        anyhow::Ok(format!(
            "{} a second ({})",
            settings.load().rate,
            origin.trim_start_matches(", ")
        ))
    };
    println!("The file says: {}.", rate().await?);

    // A watched file is taken over some time after it was saved.
    fs::write(file, "[app]\nlisten = \"127.0.0.1:81\"\nrate = 3\n")?;
    println!("The file has changed: {}.", rate().await?);
    let waiting = node.config().status().restart_needed;
    println!("From the next start on: {}.", waiting[0]);

    let variable = (OsString::from("UNDERPIN__APP__RATE"), OsString::from("4"));
    variables.lock().expect("nobody panics").push(variable);
    node.config().reload("example").await?;
    println!("The environment is stronger: {}.", rate().await?);

    let change = settings
        .propose()
        .set("rate", 5)
        .by("ann")
        .because("more load");
    let record = change.apply().await?;
    let now = rate().await?;
    let now = now.split(',').next().unwrap_or_default();
    println!("Ann is stronger still: {now}).");

    let preview = settings.propose().set("rate", 0).dry_run().await?;
    println!("With 0 it would break: {}.", preview.breaks[0]);
    let refused = settings
        .update("rate", 0)
        .await
        .expect_err("it is not valid");
    println!("So that is refused: {refused}.");
    settings.update_with(|settings| settings.rate *= 2).await?;
    rate().await?;
    println!("Twice as many: {}.", settings.load().rate);
    node.config().rollback(record.revision).await?;
    rate().await?;
    println!("And back: {}.", settings.load().rate);

    fs::write(file, "[app]\nrat = 7\n")?;
    let broken = node
        .config()
        .reload("example")
        .await
        .expect_err("there is no such setting");
    let broken = broken.to_string();
    let hint = broken.split("; ").last().unwrap_or_default();
    println!(
        "A broken file changes nothing ({hint}), and is in the node's health: {:?}.",
        node.health().health
    );

    println!(
        "The settings, as they may be shown: {}",
        node.config().shown("app")?.to_json()
    );
    println!("Who changed what:");
    for record in node.config().history(10).iter().rev() {
        let changes: Vec<String> = record
            .changes
            .iter()
            .map(|change| change.path.to_string())
            .collect();
        println!(
            "  {} {} {}",
            record.kind,
            changes.join(" "),
            record.author.by
        );
    }
    node.shutdown().await;
    Ok(())
}
