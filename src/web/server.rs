//! Takes connections, as many as are allowed, and hands their requests to the routes.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore, time};
use tokio_util::sync::CancellationToken;

use super::guard;

/// How many connections are open at once. A person, a scraper and some scripts need a dozen; 256 leaves room, and each
/// costs some kilobytes. Further ones wait in the system's queue.
const CONNECTIONS_MAX: usize = 256;
/// How long a client may take to send the head of a request, so that silent ones do not hold a place.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long requests under way may take when the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);
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
    stop: CancellationToken,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listening.listener.try_clone()?)?;
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let open = GracefulShutdown::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            break;
        };
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(routes.clone());
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        let connection = open.watch(connection);
        tokio::spawn(async move {
            // A client that goes away in the middle is no news.
            let _ = connection.await;
            drop(place);
        });
    }
    if time::timeout(DRAIN_TIMEOUT, open.shutdown()).await.is_err() {
        tracing::warn!("requests were still under way when the server stopped");
    }
    Ok(())
}
