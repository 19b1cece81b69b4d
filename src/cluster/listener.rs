//! Lets others in, a bounded number at a time.

use std::{
    collections::VecDeque,
    net::{SocketAddr, TcpListener as StdListener},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpStream},
    time,
};
use tokio_util::sync::CancellationToken;

use super::{connect, error::ClusterError, greet::Failed, shared::Shared};
use crate::otp::{BoxError, ChildContext};

/// Bound before anything starts, so that a wrong address is an error of the start; it stays bound while the listener restarts.
#[derive(Debug)]
pub(super) struct Listening {
    socket: StdListener,
    pub(super) address: SocketAddr,
}

impl Listening {
    pub(super) fn bind(address: SocketAddr) -> Result<Self, ClusterError> {
        let listen = |source| ClusterError::Listen { address, source };
        let socket = StdListener::bind(address).map_err(listen)?;
        socket.set_nonblocking(true).map_err(listen)?;
        let address = socket.local_addr().map_err(listen)?;
        Ok(Self { socket, address })
    }
}

/// How long to wait when the system gives no connection, for want of file descriptors for instance.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts nodes until it is told to end. Connections go on without it.
pub(super) async fn listen(
    ctx: ChildContext,
    shared: Arc<Shared>,
    listening: Option<Arc<Listening>>,
) -> Result<(), BoxError> {
    let Some(listening) = listening else {
        ctx.cancelled().await;
        return Ok(());
    };
    listening
        .accept(&ctx, &shared, |stream, from, place| {
            let (shared, life) = (Arc::clone(&shared), shared.life());
            async move {
                tokio::select! {
                    () = life.cancelled() => {}
                    ended = connect::accepted(shared, stream, &place) => told(from, ended),
                }
            }
        })
        .await
}

impl Listening {
    /// Accepts until it is told to end, and has each who comes talked with until it has to make room.
    pub(super) async fn accept<T: Future<Output = ()> + Send + 'static>(
        &self,
        ctx: &ChildContext,
        shared: &Arc<Shared>,
        talk: impl Fn(TcpStream, SocketAddr, Arc<Place>) -> T,
    ) -> Result<(), BoxError> {
        let listener = TcpListener::from_std(self.socket.try_clone()?)?;
        let strangers = Arc::new(Strangers::new(shared.options.greeting_max));
        loop {
            let accepted = tokio::select! {
                () = ctx.cancelled() => return Ok(()),
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, from)) => {
                    let place = Arc::new(strangers.enter(shared));
                    let talk = talk(stream, from, Arc::clone(&place));
                    tokio::spawn(async move {
                        tokio::select! {
                            () = place.evicted.cancelled() => {}
                            () = talk => {}
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "no connection could be accepted");
                    time::sleep(PAUSE).await;
                }
            }
        }
    }
}

fn told(from: SocketAddr, ended: Result<(), Failed>) {
    match ended {
        Ok(()) | Err(Failed::Asked) => {}
        Err(Failed::Refused(refusal)) => tracing::info!(%from, %refusal, "a node was not let in"),
        Err(Failed::Foreign) => tracing::debug!(%from, "somebody connected who is no node"),
        Err(Failed::Io(error)) => {
            tracing::debug!(%from, %error, "a connection ended in its handshake");
        }
    }
}

/// Those who have connected and not proven anything. The newest is let in and the oldest makes room: a node that knows the cookie
/// needs milliseconds, so that whoever is old is none.
struct Strangers {
    max: usize,
    places: Mutex<VecDeque<(u64, CancellationToken)>>,
}

/// The place of one of them, given back when it is dropped.
pub(super) struct Place {
    number: u64,
    strangers: Arc<Strangers>,
    evicted: CancellationToken,
}

impl Strangers {
    fn new(max: usize) -> Self {
        Self {
            max,
            places: Mutex::default(),
        }
    }

    fn enter(self: &Arc<Self>, shared: &Shared) -> Place {
        let (number, evicted) = (shared.number(), CancellationToken::new());
        let mut places = self.places.lock();
        if places.len() >= self.max
            && let Some((_, oldest)) = places.pop_front()
        {
            oldest.cancel();
            shared.figures.evicted.add(1);
        }
        places.push_back((number, evicted.clone()));
        Place {
            number,
            strangers: Arc::clone(self),
            evicted,
        }
    }
}

impl Place {
    /// It has proven who it is.
    pub(super) fn give_back(&self) {
        self.strangers
            .places
            .lock()
            .retain(|(number, _)| *number != self.number);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.give_back();
    }
}
