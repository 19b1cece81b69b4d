//! Mutual TLS: both sides show a certificate of the same authority, or nothing is said.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use parking_lot::Mutex;
use tokio::{net::TcpStream, task};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{
        AlertDescription, ClientConfig, Error, RootCertStore, ServerConfig, crypto,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
        server::WebPkiClientVerifier,
        version::TLS13,
    },
};

use super::{error::TlsError, greet::Wires};

/// The certificate of a node, its key, and the authority that has signed those of all nodes; PEM files, read again when they change.
///
/// The certificate has to name the host or the address at which others dial the node, and to be good for both ends of a connection
/// (extended key usage: server and client). TLS 1.3 alone is spoken.
#[derive(Clone)]
pub struct Tls {
    files: Arc<Files>,
    current: Arc<Mutex<Current>>,
}

#[derive(Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    authority: PathBuf,
}

struct Current {
    stamps: [Stamp; 3],
    ends: Ends,
}

#[derive(Clone)]
struct Ends {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

/// By which a changed file is told.
type Stamp = Option<(SystemTime, u64)>;

impl Tls {
    /// Reads the files. Blocks the thread.
    ///
    /// # Errors
    ///
    /// [`TlsError`].
    pub fn from_files(
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
        authority: impl Into<PathBuf>,
    ) -> Result<Self, TlsError> {
        let files = Files {
            certificate: certificate.into(),
            key: key.into(),
            authority: authority.into(),
        };
        let stamps = files.stamps();
        let current = Current {
            stamps,
            ends: files.load()?,
        };
        Ok(Self {
            files: Arc::new(files),
            current: Arc::new(Mutex::new(current)),
        })
    }

    /// What holds for the next connection.
    async fn ends(&self) -> io::Result<Ends> {
        // Files may be on a disk that is slow, or on none that answers.
        let tls = self.clone();
        let ends = task::spawn_blocking(move || tls.look_again()).await;
        ends.map_err(io::Error::other)
    }

    /// Files that changed and cannot be used leave what held before.
    fn look_again(&self) -> Ends {
        let mut current = self.current.lock();
        let stamps = self.files.stamps();
        if stamps != current.stamps {
            match self.files.load() {
                Ok(ends) => {
                    tracing::info!(files = ?self.files, "certificates were read again");
                    current.ends = ends;
                }
                Err(error) => {
                    tracing::error!(%error, "changed certificates cannot be used; those before are kept");
                }
            }
            current.stamps = stamps;
        }
        current.ends.clone()
    }

    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<Wires> {
        let stream = self.ends().await?.acceptor.accept(stream).await?;
        let (read, write) = tokio::io::split(stream);
        Ok(Wires {
            read: Box::new(read),
            write: Box::new(write),
        })
    }

    /// `address` is what was dialled, as `host:port`.
    pub(super) async fn connect(&self, stream: TcpStream, address: &str) -> io::Result<Wires> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let name = ServerName::try_from(host)
            .map_err(|_| io::Error::other("the host is no name that a certificate could have"))?;
        let stream = self.ends().await?.connector.connect(name, stream).await?;
        let (read, write) = tokio::io::split(stream);
        Ok(Wires {
            read: Box::new(read),
            write: Box::new(write),
        })
    }
}

impl Files {
    fn stamps(&self) -> [Stamp; 3] {
        [&self.certificate, &self.key, &self.authority].map(|file| {
            let found = fs::metadata(file).ok()?;
            Some((found.modified().ok()?, found.len()))
        })
    }

    fn load(&self) -> Result<Ends, TlsError> {
        let certificates = certificates(&self.certificate)?;
        let mut authority = RootCertStore::empty();
        for certificate in self::certificates(&self.authority)? {
            let added = authority.add(certificate);
            added.map_err(|error| unusable(&self.authority, &error))?;
        }
        let authority = Arc::new(authority);
        let key =
            PrivateKeyDer::from_pem_file(&self.key).map_err(|error| unusable(&self.key, &error))?;
        let provider = Arc::new(crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(
            Arc::clone(&authority),
            Arc::clone(&provider),
        )
        .build()
        .map_err(|error| unusable(&self.authority, &error))?;
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .and_then(|config| {
                let config = config.with_client_cert_verifier(verifier);
                config.with_single_cert(certificates.clone(), key.clone_key())
            })
            .map_err(|error| unusable(&self.certificate, &error))?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .and_then(|config| {
                let config = config.with_root_certificates(authority);
                config.with_client_auth_cert(certificates, key)
            })
            .map_err(|error| unusable(&self.certificate, &error))?;
        Ok(Ends {
            acceptor: TlsAcceptor::from(Arc::new(server)),
            connector: TlsConnector::from(Arc::new(client)),
        })
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(file).map_err(|error| unusable(file, &error))?;
    let certificates: Vec<_> = read
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(file, &error))?;
    if certificates.is_empty() {
        return Err(unusable(file, &"there is no certificate in it"));
    }
    Ok(certificates)
}

fn unusable(file: &Path, why: &dyn fmt::Display) -> TlsError {
    TlsError {
        file: file.to_owned(),
        why: why.to_string(),
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls")
            .field(&self.files)
            .finish_non_exhaustive()
    }
}
/// What two sides do not agree on.
pub(super) enum Disagreement {
    /// The other side does not speak TLS.
    NotTls,
    /// One of them does not take the certificate of the other; why not.
    Certificate(String),
}

/// What an error of a connection says about TLS, if anything.
pub(super) fn disagreement(error: &io::Error) -> Option<Disagreement> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    match error {
        Error::InvalidMessage(_) => Some(Disagreement::NotTls),
        Error::InvalidCertificate(_)
        | Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::DecryptError
            | AlertDescription::CertificateRequired,
        ) => Some(Disagreement::Certificate(error.to_string())),
        _ => None,
    }
}
