//! A folder that has to stay the one it was.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

/// A folder that is in use for long: under its path another one may stand by now, which is somebody else's.
#[derive(Debug)]
pub(crate) struct HeldFolder {
    path: PathBuf,
    /// While it is open no other folder is given its number. Only Unix lets a folder be opened.
    folder: Option<File>,
}

impl HeldFolder {
    /// Holds a folder that exists.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            folder: cfg!(unix).then(|| File::open(path)).transpose()?,
        })
    }

    /// [`io::ErrorKind::NotFound`] unless it stands under its path.
    pub(crate) fn check(&self) -> io::Result<()> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        match fs::metadata(&self.path) {
            Ok(there) if is_one(&there, &folder.metadata()?) => Ok(()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!(
                    "the folder {} was moved, removed or replaced while it was in use; put it back, or start the program anew",
                    self.path.display()
                ),
            )),
        }
    }
}

#[cfg(unix)]
fn is_one(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(not(unix))]
fn is_one(_: &fs::Metadata, _: &fs::Metadata) -> bool {
    true
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_folder_in_the_place_of_the_one_that_was_opened_is_told_from_it() {
        let around = tempfile::tempdir().expect("a folder for the test");
        let path = around.path().join("data");
        fs::create_dir(&path).expect("it is made");
        let held = HeldFolder::open(&path).expect("it is there");
        let gone = |held: &HeldFolder| held.check().map_err(|error| error.kind());
        assert_eq!(gone(&held), Ok(()));

        let aside = around.path().join("aside");
        fs::rename(&path, &aside).expect("it is moved");
        assert_eq!(gone(&held), Err(io::ErrorKind::NotFound));
        fs::create_dir(&path).expect("another one");
        assert_eq!(gone(&held), Err(io::ErrorKind::NotFound));
        fs::remove_dir(&path).expect("it is empty");
        fs::rename(&aside, &path).expect("it is put back");

        assert_eq!(gone(&held), Ok(()));
    }
}
