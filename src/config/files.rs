//! The settings files: reads them, and notices when they are others.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path as FilePath, PathBuf},
    time::SystemTime,
};

use super::{Problem, Sources, layering::FileText};

/// The largest settings file, in bytes. Larger ones are no settings; it keeps a wrong file name from filling the memory.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// What tells one state of the files from another without reading them.
pub(super) type Fingerprint = Vec<(PathBuf, Option<Stamp>)>;

/// A file as it stands behind its name, symbolic links followed. A file that is replaced by a rename is another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    bytes: u64,
    modified: Option<SystemTime>,
    #[cfg(unix)]
    identity: (u64, u64, i64, i64),
}

/// All files of the sources, in the order of the layers.
pub(super) fn read(sources: &Sources) -> Result<Vec<FileText>, Vec<Problem>> {
    let mut texts = Vec::new();
    let mut problems = Vec::new();
    let mut take = |file: &FilePath, may_miss: bool| match read_file(file) {
        Ok(text) => texts.push(FileText {
            file: file.to_owned(),
            text,
        }),
        Err(error) if may_miss && error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => problems.push(unreadable(file, &error)),
    };
    if let Some(file) = &sources.file {
        take(file, sources.file_may_miss);
    }
    let folder = sources
        .folder
        .as_deref()
        .map(|folder| toml_files(folder).map_err(|error| unreadable(folder, &error)));
    match folder.transpose() {
        Ok(files) => files.iter().flatten().for_each(|file| take(file, false)),
        Err(problem) => problems.push(problem),
    }
    if problems.is_empty() {
        Ok(texts)
    } else {
        Err(problems)
    }
}

/// The files as they stand now. Looks at names and stamps only.
pub(super) fn fingerprint(sources: &Sources) -> Fingerprint {
    let listed = sources.folder.as_deref().map(toml_files);
    let listed = listed.and_then(Result::ok).unwrap_or_default();
    let files = sources.file.iter().cloned().chain(listed);
    files
        .map(|file| {
            let stamp = Stamp::of(&file);
            (file, stamp)
        })
        .collect()
}

impl Stamp {
    fn of(file: &FilePath) -> Option<Self> {
        #[cfg(unix)]
        use std::os::unix::fs::MetadataExt as _;
        let found = fs::metadata(file).ok()?;
        Some(Self {
            bytes: found.len(),
            modified: found.modified().ok(),
            #[cfg(unix)]
            identity: (found.dev(), found.ino(), found.ctime(), found.ctime_nsec()),
        })
    }
}

fn read_file(file: &FilePath) -> io::Result<String> {
    let bytes = fs::metadata(file)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(too_large(bytes));
    }
    // What is no plain file does not say beforehand how much comes.
    let mut text = String::new();
    let read = fs::File::open(file)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)?;
    if read as u64 > FILE_BYTES_MAX {
        return Err(too_large("too many"));
    }
    Ok(text)
}

fn too_large(bytes: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!(
        "it has {bytes} bytes, settings files may have {FILE_BYTES_MAX}"
    ))
}

fn toml_files(folder: &FilePath) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<_>>>()?;
    files.retain(|file| {
        let is_toml = file
            .extension()
            .is_some_and(|extension| extension == "toml");
        // What programs keep to themselves, as the locks of an editor, `.#10.toml`, which lead nowhere.
        let is_hidden = file
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        is_toml && !is_hidden
    });
    files.sort();
    Ok(files)
}

fn unreadable(file: &FilePath, error: &io::Error) -> Problem {
    Problem::Unreadable {
        file: file.to_owned(),
        reason: error.to_string(),
    }
}
