//! What is wrong with a secret, or beside one, is told without it.

use std::{collections::BTreeMap, fs};

use serde::{Deserialize, Serialize};
use underpin::{
    config::{Configuration, FreeTable, Invalid, Options, Rules, Schema, Secret, Sources, load},
    otp::{Intensity, Supervisor, SupervisorSpec},
    telemetry::{self, Telemetry},
    value::{Limits, Value},
};

const SECRET: &str = "hunter2";

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Account {
    name: String,
    password: Secret<String>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Auth {
    #[default]
    Off,
    Basic {
        user: String,
        password: Secret<String>,
    },
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Vault {
    token: Secret<String>,
    pin: Secret<u32>,
    accounts: BTreeMap<String, Account>,
    old: Vec<Account>,
    auth: Auth,
    url: String,
}

impl Schema for Vault {
    fn validate(&self) -> Result<(), Invalid> {
        if self.url == "bad" {
            return Err(Invalid::failed("url", format!("not good: {self:?}")));
        }
        if self.token.expose().ends_with("short") {
            let reason = format!("{} is too short", self.token.expose());
            return Err(Invalid::failed("token", reason));
        }
        Ok(())
    }

    fn rules() -> Rules {
        let rules = Rules::live()
            .secret("accounts.*.password")
            .secret("old.*.password");
        rules.secret("auth.basic.password")
    }
}

fn sources() -> Sources {
    Sources::new::<FreeTable, Vault>()
}

/// What is said of sources that are wrong.
fn said_of(sources: Sources) -> String {
    let refused = load(sources).expect_err("it is wrong");
    format!("{refused} {refused:?}")
}

#[test]
fn what_is_wrong_with_a_secret_in_the_sources_is_told_without_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("node.toml");
    let of_file = |text: &str| {
        fs::write(&file, text).expect("it is written");
        said_of(sources().file(&file))
    };
    let of_variable = |name: &str, text: &str| {
        said_of(sources().environment([(format!("UNDERPIN__APP__{name}"), text)]))
    };

    let said = [
        of_file("[app]\npin = 'hunter2'\n"),
        of_file("[app]\ntoken = ['hunter2']\n"),
        of_file("[app.token]\nhunter2 = 1\n"),
        of_file("[app]\ntoken = 'hunter2\n"),
        of_file("[app]\ntoken = hunter2\n"),
        of_file("[app]\ntoken = \"hunter2\\q\"\n"),
        of_file("[app]\ntoken = \"\"\"hunter2"),
        of_file("[app]\npin = 0xhunter2\n"),
        of_file("[app]\ntoken = 'hunter2short'\n"),
        of_file("[app]\nurl = 'bad'\ntoken = 'hunter2'\n"),
        of_file("[[app.old]]\npassword = ['hunter2']\n"),
        of_file("[app]\nold = ['hunter2']\n"),
        of_file("[app]\naccounts = 'hunter2'\n"),
        of_file("[app]\nauth = 'hunter2'\n"),
        of_file("[app.auth.basic]\nuser = 'a'\npassword = ['hunter2']\n"),
        of_variable("PIN", "hunter2"),
        of_variable("OLD", "hunter2"),
        of_variable("OLD__0__PASSWORD", "[\"hunter2\"]"),
        of_variable("ACCOUNTS__ANN", "hunter2"),
        of_variable("AUTH__BASIC", "hunter2"),
        said_of(sources().set("app.pin=hunter2")),
        said_of(sources().set("app.token hunter2")),
        said_of(sources().set("app.token: hunter2")),
    ];

    for said in said {
        assert!(!said.contains(SECRET), "{said}");
    }
}

async fn start() -> (Configuration, Supervisor) {
    let telemetry = Telemetry::new(telemetry::Options::default());
    let loaded = load(sources()).expect("the sources are valid");
    let config = Configuration::new(loaded, Options::default(), &telemetry);
    let intensity = Intensity::new(3, std::time::Duration::from_secs(5));
    let spec = SupervisorSpec::new("tree", intensity).child(config.child_spec());
    (config, Supervisor::start(spec).await.expect("it starts"))
}

#[tokio::test]
async fn what_is_wrong_with_a_secret_that_is_written_is_told_without_it() {
    let (config, _tree) = start().await;
    let json = |text: &str| Value::from_json(text, Limits::CONFIG).expect("it is valid");
    let writes = [
        ("app.pin", Value::from(SECRET)),
        ("app.token", json(r#"{"hunter2": 1}"#)),
        ("app.token", json(r#"["hunter2"]"#)),
        ("app.token", Value::from("hunter2short")),
        ("app.accounts", Value::from(SECRET)),
        ("app.accounts.ann", Value::from(SECRET)),
        ("app.accounts.ann.password", json(r#"["hunter2"]"#)),
        ("app.old", json(r#"["hunter2"]"#)),
        ("app.old", json(r#"[{"password": {"hunter2": 1}}]"#)),
        ("app.auth", Value::from(SECRET)),
        (
            "app.auth",
            json(r#"{"basic": {"user": "a", "password": ["hunter2"]}}"#),
        ),
        ("app", Value::from(SECRET)),
        ("app", json(r#"{"pin": "hunter2"}"#)),
        ("app", json(r#"{"url": "bad", "token": "hunter2"}"#)),
    ];

    for (path, value) in writes {
        let preview = config.propose().set(path, value.clone()).dry_run().await;
        let preview = preview.expect("it is looked at");
        let refused = config.update(path, value).await.expect_err("it is wrong");
        let breaks: Vec<_> = preview.breaks.iter().map(ToString::to_string).collect();
        let said = format!("{refused} {refused:?} {preview:?} {breaks:?}");
        assert!(!said.contains(SECRET), "{path}: {said}");
    }

    let accounts = json(r#"{"ann": {"name": "ann", "password": "hunter2"}}"#);
    config
        .update("app.accounts", accounts)
        .await
        .expect("it is valid");
    for path in [
        "app",
        "app.accounts",
        "app.accounts.ann",
        "app.accounts.ann.password",
    ] {
        let mistyped = config
            .get::<BTreeMap<String, u8>>(path)
            .expect_err("it is no such table");
        let said = format!(
            "{mistyped} {:?} {:?}",
            config.explain(path),
            config.shown(path)
        );
        assert!(!said.contains(SECRET), "{path}: {said}");
    }
}
