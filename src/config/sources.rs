use std::{
    ffi::{OsStr, OsString},
    fmt,
    path::PathBuf,
    sync::Arc,
};

use super::{
    Disk, Folder, Schema,
    table::{Table, Tables},
};

/// Where the settings come from, lowest layer first: the defaults of the types, a TOML file, the files of a `conf.d` folder by
/// name, environment variables, `--set` flags, and what was changed while running.
///
/// The document has two tables, and paths start with one of them: `underpin` holds the node's own settings, `app` the program's.
///
/// | source | `underpin.events.durability` | `app.http.port` |
/// |---|---|---|
/// | file | `[underpin.events]` `durability = "always"` | `[app.http]` `port = 80` |
/// | variable | `UNDERPIN__EVENTS__DURABILITY=always` | `UNDERPIN__APP__HTTP__PORT=80` |
/// | flag | `--set underpin.events.durability=always` | `--set app.http.port=80` |
///
/// `UNDERPIN__APP={…}` is the whole table of the program. Two variables that say something else of the same setting, such as one in
/// another case or with the program's own prefix, are refused.
///
/// A value that is given as text (variable or flag) is text where text stands, otherwise what TOML makes of it: `true`, `12`,
/// `[1, 2]`, `{a = 1}`, or a list or table in JSON; `a, b` are the items of a list where the defaults or a file have a list, and `a`
/// is its only one. When that does not fit the type, the other readings are tried: text, items that are texts, and where nothing
/// stands yet also a list.
///
/// A variable or flag (`--set app.x=`) that is empty is given all the same: it is an empty text or list where one of these stands, and
/// nothing where the type is an `Option` of something that no empty text can be; a secret it does not take away, it is refused there.
/// What a file says there does not hold then; to let it hold, unset the variable.
///
/// A list can also be given item by item, numbered from 0: `UNDERPIN__APP__SERVERS__0__HOST=a`, `UNDERPIN__APP__SERVERS__0__PORT=80`,
/// `UNDERPIN__APP__SERVERS__1__HOST=b`. Together they are the whole list, in the place of the one that files or defaults have.
pub struct Sources {
    pub(super) tables: Tables,
    pub(super) file: Option<PathBuf>,
    pub(super) file_may_miss: bool,
    pub(super) folder: Option<PathBuf>,
    variables: Variables,
    environment: Option<Environment>,
    pub(super) prefix: String,
    pub(super) app_prefix: Option<String>,
    pub(super) sets: Vec<String>,
    pub(super) disk: Option<Arc<dyn Disk>>,
    pub(super) broken_files: BrokenFiles,
}

/// Environment variables, ours among them.
#[derive(Clone, Default)]
pub(super) struct Variables {
    pub(super) texts: Vec<Variable>,
    /// Those that are not UTF-8.
    pub(super) unreadable: Vec<String>,
}

/// One variable. Of several with one name the last one is left.
#[derive(Clone)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) text: String,
    /// Which environment it is of: each is laid over the one before.
    pub(super) environment: usize,
}

/// Gives the variables of the moment.
type Environment = Arc<dyn Fn() -> Vec<(OsString, OsString)> + Send + Sync>;

/// What to do when the settings files are broken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BrokenFiles {
    /// Refuse to load. Default: a person who starts a program wants to be told.
    #[default]
    Refuse,
    /// Go on with what the files said when they were last good, and raise an alarm. Refuses when that is not known. For a node
    /// that restarts by itself.
    UseLastGood,
}

impl Sources {
    /// The defaults alone: `N` is the table `underpin`, `A` the table `app`.
    #[must_use]
    pub fn new<N: Schema, A: Schema>() -> Self {
        Self {
            tables: Tables(vec![Table::of::<N>(Self::NODE), Table::of::<A>(Self::APP)]),
            file: None,
            file_may_miss: false,
            folder: None,
            variables: Variables::default(),
            environment: None,
            prefix: "UNDERPIN".to_owned(),
            app_prefix: None,
            sets: Vec::new(),
            disk: None,
            broken_files: BrokenFiles::Refuse,
        }
    }

    /// The name of the table with the node's own settings.
    pub const NODE: &str = "underpin";
    /// The name of the table with the program's settings.
    pub const APP: &str = "app";

    /// A settings file that must be there.
    #[must_use]
    pub fn file(mut self, file: impl Into<PathBuf>) -> Self {
        self.file = Some(file.into());
        self.file_may_miss = false;
        self
    }

    /// A settings file that need not be there.
    #[must_use]
    pub fn file_if_present(mut self, file: impl Into<PathBuf>) -> Self {
        self.file = Some(file.into());
        self.file_may_miss = true;
        self
    }

    /// A folder whose `*.toml` files are laid over the file, in the order of their names; hidden ones (`.…`) are not looked at. It
    /// need not be there.
    #[must_use]
    pub fn conf_d(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// The environment, as `std::env::vars_os()` gives it. Only variables with the prefix and `__` after it are looked at.
    #[must_use]
    pub fn environment<K: AsRef<OsStr>, V: AsRef<OsStr>>(
        mut self,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.variables.add(variables);
        self
    }

    /// An environment that is looked at anew by each reload, such as `std::env::vars_os`. It is laid over the one that
    /// [`environment`](Self::environment) gives.
    #[must_use]
    pub fn environment_from<I>(mut self, look: impl Fn() -> I + Send + Sync + 'static) -> Self
    where
        I: IntoIterator<Item = (OsString, OsString)>,
    {
        self.environment = Some(Arc::new(move || look().into_iter().collect()));
        self
    }

    /// The variables as they are now.
    pub(super) fn variables_now(&self) -> Variables {
        let mut variables = self.variables.clone();
        if let Some(look) = &self.environment {
            variables.add(look());
        }
        variables
    }

    /// Another prefix than `UNDERPIN` for the variables of both tables.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// A prefix of the program's own: with `SHOP`, the variable `SHOP__HTTP__PORT` is `app.http.port`.
    #[must_use]
    pub fn app_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.app_prefix = Some(prefix.into());
        self
    }

    /// A setting from the command line, `path=value`. Later ones win.
    #[must_use]
    pub fn set(mut self, setting: impl Into<String>) -> Self {
        self.sets.push(setting.into());
        self
    }

    /// Keeps what is changed while running in this folder, and starts with what is kept there. Without one, changes are gone when
    /// the node stops.
    #[must_use]
    pub fn keep_in(self, folder: impl Into<PathBuf>) -> Self {
        self.keep_on(Arc::new(Folder::new(folder)))
    }

    /// Keeps what is changed while running on this disk.
    #[must_use]
    pub fn keep_on(mut self, disk: Arc<dyn Disk>) -> Self {
        self.disk = Some(disk);
        self
    }

    /// What to do when the settings files are broken.
    #[must_use]
    pub fn broken_files(mut self, choice: BrokenFiles) -> Self {
        self.broken_files = choice;
        self
    }
}

impl Variables {
    fn add<K: AsRef<OsStr>, V: AsRef<OsStr>>(&mut self, more: impl IntoIterator<Item = (K, V)>) {
        let environment = self.texts.last().map_or(0, |last| last.environment + 1);
        for (name, value) in more {
            let Some(name) = name.as_ref().to_str() else {
                continue;
            };
            self.texts.retain(|known| known.name != name);
            self.unreadable.retain(|known| known != name);
            match value.as_ref().to_str() {
                Some(value) => self.texts.push(Variable {
                    name: name.to_owned(),
                    text: value.to_owned(),
                    environment,
                }),
                None => self.unreadable.push(name.to_owned()),
            }
        }
    }
}

impl fmt::Debug for Sources {
    /// Without the variables' and flags' values, some of which are secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("file", &self.file)
            .field("conf_d", &self.folder)
            .field("prefix", &self.prefix)
            .field("broken_files", &self.broken_files)
            .finish_non_exhaustive()
    }
}
