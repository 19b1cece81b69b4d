use std::{io, path::PathBuf};

use crate::{
    config::ConfigError,
    ids::{IdError, IdentityError},
    otp::SupervisorError,
};

/// Why a node did not start. Nothing of it is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The name is not one.
    #[error(transparent)]
    Name(#[from] IdError),
    /// The data folder cannot be made or used.
    #[error("the data folder {} cannot be used: {source}; make it writable, or name another", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The data folder's identity cannot be taken, most often because another node has it.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The settings are wrong.
    #[error("the settings are wrong: {0}")]
    Settings(#[from] ConfigError),
    /// The HTTP interface cannot listen.
    #[cfg(feature = "web")]
    #[error(transparent)]
    Listen(#[from] crate::web::ListenError),
    /// The options of its capture make no sense.
    #[cfg(feature = "capture")]
    #[error("the options of the capture cannot be used: {0}")]
    Capture(#[from] crate::capture::CaptureError),
    /// The node cannot be in a cluster as its options say.
    #[cfg(feature = "cluster")]
    #[error(transparent)]
    Cluster(#[from] crate::cluster::ClusterError),
    /// One of the node's parts did not start.
    #[error(transparent)]
    Part(#[from] SupervisorError),
    /// The program is built so that a panic ends the process: nothing could be healed.
    #[error(
        "this program is built with panic = \"abort\", so that supervision cannot heal anything; build it with panic = \"unwind\", or say allow_panic_abort()"
    )]
    PanicAborts,
    /// The runtime is shutting down.
    #[error("the async runtime is shutting down")]
    RuntimeGone,
}
