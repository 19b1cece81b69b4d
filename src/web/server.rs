//! Takes connections, as many as are allowed, and hands their requests to the routes.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time,
};
use tokio_util::sync::CancellationToken;

use super::{guard, patience::Patient};

/// What the server allows its clients.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// How many connections are open at once; further ones wait in the system's queue.
    pub(super) connections: usize,
    /// How long a client may take to send the head of a request, or its next one, so that silent ones do not hold a place.
    pub(super) head: Duration,
    /// How long a client may leave an answer unread.
    pub(super) unread: Duration,
    /// How long requests under way may take when the server stops.
    pub(super) drain: Duration,
}

impl Default for Limits {
    /// A person, a scraper and some scripts need a dozen connections; 256 leave room, and each costs some kilobytes. The drain
    /// ends before the 5 s after which a supervisor cuts its child off.
    fn default() -> Self {
        Self {
            connections: 256,
            head: Duration::from_secs(10),
            unread: Duration::from_secs(30),
            drain: Duration::from_secs(3),
        }
    }
}

/// How long to wait after a failed accept; it fails when the process is out of file handles, and at once again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound address of the interface. It stays bound while the server restarts.
#[derive(Debug, Clone)]
pub struct Listening {
    listener: Arc<std::net::TcpListener>,
    address: SocketAddr,
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Others could reach it.
    #[error(
        "{0} can be reached from other machines, and the interface has no encryption and no password; listen on 127.0.0.1 or [::1]"
    )]
    NotLoopback(SocketAddr),
    /// The system refuses it.
    #[error(
        "cannot listen on {address}: {source}; name another address, with port 0 for any that is free"
    )]
    Refused {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

impl Listening {
    /// Binds an address of this machine that no other machine can reach. Port 0 takes any that is free.
    ///
    /// # Errors
    ///
    /// [`ListenError::NotLoopback`], or [`ListenError::Refused`] when the port is in use.
    pub fn bind(address: SocketAddr) -> Result<Self, ListenError> {
        if !guard::is_loopback(address) {
            return Err(ListenError::NotLoopback(address));
        }
        let refused = |source| ListenError::Refused { address, source };
        let listener = std::net::TcpListener::bind(address).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Self {
            listener: Arc::new(listener),
            address,
        })
    }

    /// The address, with the port that was taken.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Serves until `stop`, then lets requests under way end.
pub(super) async fn serve(
    listening: &Listening,
    routes: Router,
    limits: Limits,
    stop: CancellationToken,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listening.listener.try_clone()?)?;
    let open = GracefulShutdown::new();
    // Dropped with the server, also when that is killed: no connection outlives it.
    let mut connections = JoinSet::new();
    while let Some(stream) = next(&listener, &mut connections, limits.connections, &stop).await {
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(routes.clone());
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head)
            .serve_connection(TokioIo::new(Patient::new(stream, limits.unread)), service);
        let connection = open.watch(connection);
        connections.spawn(async move {
            // A client that goes away in the middle is no news.
            let _ = connection.await;
        });
    }
    if time::timeout(limits.drain, open.shutdown()).await.is_err() {
        tracing::warn!("requests were still under way when the server stopped");
    }
    Ok(())
}

/// The next connection, once there is a place for it; `None` when the server is to stop.
async fn next(
    listener: &TcpListener,
    connections: &mut JoinSet<()>,
    places: usize,
    stop: &CancellationToken,
) -> Option<TcpStream> {
    loop {
        while connections.try_join_next().is_some() {}
        let full = connections.len() >= places;
        tokio::select! {
            biased;
            () = stop.cancelled() => return None,
            _ = connections.join_next(), if full => {}
            accepted = listener.accept(), if !full => match accepted {
                Ok((stream, _)) => return Some(stream),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future, time::Instant};

    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        task::JoinHandle,
    };

    use super::*;

    const SHORT: Duration = Duration::from_millis(100);
    /// Above what a busy machine needs for anything here.
    const LONG: Duration = Duration::from_secs(20);

    struct Running {
        address: SocketAddr,
        stop: CancellationToken,
        server: JoinHandle<io::Result<()>>,
    }

    fn limits() -> Limits {
        Limits {
            connections: 2,
            head: LONG,
            unread: LONG,
            drain: SHORT,
        }
    }

    fn start(limits: Limits) -> Running {
        let routes = Router::new()
            .route("/", get(async || "here"))
            .route("/never", get(async || future::pending::<()>().await))
            .route("/large", get(async || "x".repeat(64 << 20)));
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listening = Listening::bind(any).expect("a free port");
        let stop = CancellationToken::new();
        Running {
            address: listening.address(),
            stop: stop.clone(),
            server: tokio::spawn(async move { serve(&listening, routes, limits, stop).await }),
        }
    }

    async fn open(running: &Running, sends: &str) -> TcpStream {
        let mut stream = TcpStream::connect(running.address).await.expect("connects");
        stream.write_all(sends.as_bytes()).await.expect("sends");
        stream
    }

    /// Everything until the server closes the connection.
    async fn rest(mut stream: TcpStream) -> String {
        let mut text = Vec::new();
        let read = time::timeout(LONG, stream.read_to_end(&mut text)).await;
        // A connection that is reset is closed as well.
        let _ = read.expect("the server closes the connection");
        String::from_utf8_lossy(&text).into_owned()
    }

    const ONCE: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    const KEPT: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

    #[tokio::test]
    async fn a_client_that_dawdles_over_its_head_is_cut_off() {
        let running = start(Limits {
            head: SHORT,
            ..limits()
        });
        let silent = open(&running, "").await;
        let slow = open(&running, "GET / HTTP/1.1\r\nHo").await;

        let (silent, slow) = tokio::join!(rest(silent), rest(slow));

        assert!(!silent.contains("here") && !slow.contains("here"));
        assert!(rest(open(&running, ONCE).await).await.ends_with("here"));
    }

    #[tokio::test]
    async fn a_kept_connection_that_asks_nothing_more_is_closed() {
        let running = start(Limits {
            head: SHORT,
            ..limits()
        });

        let answers = rest(open(&running, KEPT).await).await;

        assert!(answers.ends_with("here"));
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_its_answer_is_cut_off() {
        let running = start(Limits {
            unread: SHORT,
            connections: 1,
            ..limits()
        });
        let _unread = open(&running, "GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n").await;

        let next = rest(open(&running, ONCE).await).await;

        assert!(next.ends_with("here"));
    }

    #[tokio::test]
    async fn connections_beyond_the_limit_wait_and_those_within_are_served() {
        let running = start(limits());
        let mut kept = open(&running, KEPT).await;
        let mut begun = [0; 12];
        kept.read_exact(&mut begun).await.expect("an answer");
        let other = open(&running, "").await;
        let beyond = open(&running, ONCE).await;

        kept.write_all(ONCE.as_bytes()).await.expect("sends");
        assert!(rest(kept).await.ends_with("here"));

        assert!(rest(beyond).await.ends_with("here"));
        drop(other);
    }

    #[tokio::test]
    async fn a_full_house_does_not_hold_up_the_stop() {
        let running = start(limits());
        let asking = "GET /never HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let (one, two) = (open(&running, asking).await, open(&running, asking).await);
        let begin = Instant::now();

        running.stop.cancel();
        let ended = time::timeout(LONG, running.server).await;

        let ended = ended.expect("it ends").expect("no panic");
        assert!(ended.is_ok() && begin.elapsed() < LONG);
        assert_eq!((rest(one).await, rest(two).await), Default::default());
    }

    #[tokio::test]
    async fn a_server_that_is_killed_takes_its_connections_along() {
        let running = start(limits());
        let asking = open(&running, "GET /never HTTP/1.1\r\nHost: localhost\r\n\r\n").await;

        running.server.abort();

        assert_eq!(rest(asking).await, "");
    }
}
