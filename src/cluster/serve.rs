//! The two loops of a connection: one writes what waits, one reads what comes and has it dealt with by the [`Reader`].

use std::{
    io,
    sync::{Arc, atomic::Ordering},
};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::{link::Link, message::Message, reader::Reader, shared::Shared, state::LostWhy};

pub(super) type ReadHalf = Box<dyn AsyncRead + Send + Unpin>;
pub(super) type WriteHalf = Box<dyn AsyncWrite + Send + Unpin>;

/// A buffer that a large frame made longer than this is given back.
pub(super) const BUFFER_KEPT: usize = 1 << 20;

/// Runs a connection until it ends, and says that it did.
pub(super) async fn run(shared: Arc<Shared>, link: Arc<Link>, read: ReadHalf, write: WriteHalf) {
    let mut ending = Ending {
        shared: &shared,
        link: &link,
        why: LostWhy::Closed,
    };
    let mut reader = Reader::new(&shared, &link);
    let reading = reader.run(read);
    let writing = write_all(&link, write);
    ending.why = tokio::select! {
        biased;
        () = link.closing.cancelled() => LostWhy::Closed,
        why = reading => why,
        () = writing => LostWhy::Closed,
    };
}

/// Closes the connection and tells the membership, whatever ends its task.
struct Ending<'a> {
    shared: &'a Shared,
    link: &'a Link,
    why: LostWhy,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.link.close(self.why);
        self.shared.tell(Message::Lost {
            link: self.link.number(),
            why: self.link.why().unwrap_or(self.why),
        });
    }
}

/// Ends when all is written and nothing more is to come, or when the peer does not take it.
async fn write_all(link: &Link, mut write: WriteHalf) {
    let mut buffer = Vec::new();
    while link.outbox.next(&mut buffer).await {
        if write_out(&mut write, &buffer).await.is_err() {
            return;
        }
        link.traffic
            .bytes_sent
            .fetch_add(buffer.len() as u64, Ordering::Relaxed);
        if buffer.capacity() > BUFFER_KEPT {
            buffer = Vec::new();
        }
    }
    let _ = write.shutdown().await;
}

async fn write_out(write: &mut WriteHalf, bytes: &[u8]) -> io::Result<()> {
    write.write_all(bytes).await?;
    write.flush().await
}
