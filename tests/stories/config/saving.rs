//! The ways in which programs put a settings file in place.
#![cfg(unix)]

use std::{fs, os::unix::fs::symlink, path::Path as FilePath};

use underpin::{
    config::{Configuration, FreeTable, Options, Sources, load},
    otp::{Intensity, Supervisor, SupervisorSpec},
    telemetry::{self, Telemetry},
};

async fn watching(sources: Sources) -> (Configuration, Supervisor) {
    let telemetry = Telemetry::new(telemetry::Options::default());
    let loaded = load(sources).expect("the sources are valid");
    let config = Configuration::new(loaded, Options::default(), &telemetry);
    let intensity = Intensity::new(3, std::time::Duration::from_secs(5));
    let spec = SupervisorSpec::new("tree", intensity)
        .child(config.child_spec())
        .child(config.watch_spec());
    (config, Supervisor::start(spec).await.expect("it starts"))
}

fn sources() -> Sources {
    Sources::new::<FreeTable, FreeTable>()
}

fn say(file: &FilePath, x: i64) {
    fs::write(file, format!("[app]\nx = {x}\n")).expect("it is written");
}

async fn until_it_is(config: &Configuration, wanted: i64) {
    let mut subscriber = config.subscribe("app.x").expect("a path");
    let wait = async {
        while subscriber.recv().await.expect("the node is there").value != Some(wanted.into()) {}
    };
    let soon = Options::default().watch_every * 100; // the clock is paused
    let seen = tokio::time::timeout(soon, wait).await;
    seen.unwrap_or_else(|_| panic!("{wanted} is not taken over: {:?}", config.status().alarms));
}

async fn until_an_alarm(config: &Configuration) {
    while config.status().alarms.is_empty() {
        tokio::time::sleep(Options::default().watch_every).await; // the clock is paused
    }
}

#[tokio::test(start_paused = true)]
async fn however_a_file_is_saved_it_is_taken_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let file = at("node.toml");
    say(&file, 1);
    let (config, _tree) = watching(sources().file(&file)).await;

    // Beside it, then in its place, with the time of the old one.
    let time = fs::metadata(&file).and_then(|found| found.modified());
    say(&at("new"), 2);
    let new = fs::File::options().write(true).open(at("new"));
    let new = new.expect("it is there");
    new.set_modified(time.expect("files have times"))
        .expect("it can be set");
    fs::rename(at("new"), &file).expect("it is put in place");
    until_it_is(&config, 2).await;

    // The old one is put aside first.
    fs::rename(&file, at("node.toml~")).expect("it is put aside");
    say(&file, 3);
    until_it_is(&config, 3).await;

    // The old one is kept under another name of the same file.
    fs::hard_link(&file, at("node.toml.bak")).expect("it is linked");
    say(&file, 4);
    until_it_is(&config, 4).await;

    // Gone for so long that it is told, and then a link.
    fs::remove_file(&file).expect("it is there");
    until_an_alarm(&config).await;
    assert_eq!(config.get("app.x"), Ok(4));
    say(&at("a"), 5);
    symlink(at("a"), &file).expect("it is linked");
    until_it_is(&config, 5).await;
    assert!(config.status().alarms.is_empty());

    // Another link in its place, and then what it leads to is written.
    say(&at("b"), 6);
    symlink(at("b"), at("link")).expect("it is linked");
    fs::rename(at("link"), &file).expect("it is put in place");
    until_it_is(&config, 6).await;
    say(&at("b"), 7);
    until_it_is(&config, 7).await;
}

/// As Kubernetes mounts a config map: each file is a link through `..data`, which is the only one that is put in place anew.
#[tokio::test(start_paused = true)]
async fn a_config_map_is_taken_over_when_its_link_leads_elsewhere() {
    let mount = tempfile::tempdir().expect("a folder");
    let at = |name: &str| mount.path().join(name);
    let publish = |version: &str, x: i64| {
        fs::create_dir(at(version)).expect("it is made");
        say(&at(version).join("10.toml"), x);
        symlink(version, at("..data_tmp")).expect("it is linked");
        fs::rename(at("..data_tmp"), at("..data")).expect("it is put in place");
    };
    publish("..2026_1", 1);
    symlink("..data/10.toml", at("10.toml")).expect("it is linked");
    let (folder, _folder_tree) = watching(sources().conf_d(mount.path())).await;
    let (file, _file_tree) = watching(sources().file(at("10.toml"))).await;

    publish("..2026_2", 2);
    fs::remove_dir_all(at("..2026_1")).expect("it was there");

    until_it_is(&folder, 2).await;
    until_it_is(&file, 2).await;
}
