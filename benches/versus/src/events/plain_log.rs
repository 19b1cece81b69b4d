//! The limit on the disk: a file that ready bytes are appended to, and synced.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// One append is one write and one `fdatasync`.
#[derive(Debug)]
pub(super) struct PlainLog {
    file: File,
    joined: Vec<u8>,
}

impl PlainLog {
    pub(super) fn create(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            file: File::create_new(folder.join("plain.log"))?,
            joined: Vec::new(),
        })
    }

    pub(super) fn append<'a>(
        &mut self,
        records: impl IntoIterator<Item = &'a [u8]>,
    ) -> io::Result<()> {
        self.joined.clear();
        for record in records {
            self.joined.extend_from_slice(record);
        }
        self.write()
    }

    fn write(&mut self) -> io::Result<()> {
        self.file.write_all(&self.joined)?;
        self.file.sync_data()
    }
}

/// A group commit made by hand: callers add to a shared batch, one thread takes it whole, writes and syncs it, and wakes all
/// that are in it.
#[derive(Debug, Clone)]
pub(super) struct GroupCommit {
    batch: Arc<Mutex<Batch>>,
    /// Wakes the writer; a word is in it whenever the batch is not empty.
    work: mpsc::Sender<()>,
}

#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    callers: Vec<oneshot::Sender<()>>,
}

impl GroupCommit {
    /// Starts the writer; it ends when the last handle goes.
    pub(super) fn start(mut log: PlainLog) -> (Self, JoinHandle<io::Result<()>>) {
        let batch = Arc::new(Mutex::new(Batch::default()));
        let (work, waiting) = mpsc::channel();
        let shared = batch.clone();
        let writer = thread::spawn(move || {
            let mut callers = Vec::new();
            while waiting.recv().is_ok() {
                {
                    let mut batch = shared.lock();
                    log.joined.clear();
                    std::mem::swap(&mut batch.bytes, &mut log.joined);
                    std::mem::swap(&mut batch.callers, &mut callers);
                }
                log.write()?;
                for caller in callers.drain(..) {
                    let _ = caller.send(());
                }
            }
            Ok(())
        });
        (Self { batch, work }, writer)
    }

    pub(super) async fn append(&self, record: &[u8]) {
        let (caller, synced) = oneshot::channel();
        let first = {
            let mut batch = self.batch.lock();
            batch.bytes.extend_from_slice(record);
            batch.callers.push(caller);
            batch.callers.len() == 1
        };
        if first {
            self.work.send(()).expect("the writer lives");
        }
        synced.await.expect("the writer lives");
    }
}
