//! `run`: a node of this process.

use std::{
    env,
    io::{self, IsTerminal},
    net::SocketAddr,
    pin::pin,
    time::Duration,
};

use tracing_subscriber::EnvFilter;
use underpin::{
    node::{Node, NodeBuilder},
    otp::{ShutdownReport, StopKind},
};

use super::{
    arguments::{LogForm, Run},
    failure::Failure,
    output::Output,
    span,
};

/// Starts a node, says that it is ready, and runs it until it is told to end.
pub(super) fn run(arguments: &Run, out: &mut Output) -> Result<(), Failure> {
    log(arguments.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            Failure::refused("system", format!("cannot start threads: {error}; free some memory or raise the limit of processes"))
        })?;
    runtime.block_on(async {
        let builder = builder(arguments);
        #[cfg(feature = "cluster")]
        let builder = super::cluster::join(builder, &arguments.joining)?;
        let node = builder
            .start()
            .await
            .map_err(|error| Failure::refused("start", error.to_string()))?;
        let address = node.http_addr();
        let mut running = pin!(node.run_until_signal());
        // Listens for signals first: whoever reads the line may send one at once.
        let ended_early = tokio::select! {
            biased;
            report = &mut running => Some(report),
            () = async { ready(address, arguments.json, out) } => None,
        };
        let report = match ended_early {
            Some(report) => report,
            None => running.await,
        };
        let report = report.map_err(|error| {
            Failure::refused(
                "system",
                format!("cannot listen for signals: {error}; try again"),
            )
        })?;
        ended(&report);
        Ok(())
    })
}

fn builder(arguments: &Run) -> NodeBuilder {
    let mut builder = Node::builder().name(&arguments.name);
    builder = if arguments.memory {
        builder.memory()
    } else {
        builder.data_dir(&arguments.data)
    };
    builder = match arguments.http {
        Some(address) => builder.http(address),
        None => builder.serve_http(),
    };
    if let Some(file) = &arguments.config {
        builder = builder.config_file(file);
    }
    if let Some(folder) = &arguments.conf_d {
        builder = builder.conf_d(folder);
    }
    arguments.sets.iter().fold(builder, NodeBuilder::set)
}

/// Logs to stderr. RUST_LOG chooses; without it, what is worth knowing.
fn log(form: LogForm) -> Result<(), Failure> {
    let wanted = env::var("RUST_LOG").unwrap_or_default();
    let wanted = if wanted.is_empty() { "info" } else { &wanted };
    let filter = EnvFilter::try_new(wanted).map_err(|error| {
        Failure::Usage(format!(
            "RUST_LOG={wanted}: {error}; say RUST_LOG=info or unset it"
        ))
    })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // What cannot be written is lost; said on the same stderr, that would be a panic of whoever logs.
        .log_internal_errors(false);
    match form {
        LogForm::Text => log.with_ansi(io::stderr().is_terminal()).init(),
        LogForm::Json => log.json().init(),
    }
    Ok(())
}

/// The one line on stdout. Whoever started the node may have closed it; the node runs all the same.
fn ready(address: Option<SocketAddr>, json: bool, out: &mut Output) {
    let Some(address) = address else {
        return;
    };
    let url = format!("http://{address}");
    let told = if json {
        out.line(format_args!("{{\"version\":1,\"ready\":\"{url}\"}}"))
    } else {
        out.line(format_args!("ready {url}"))
    };
    if told.and_then(|()| out.flush()).is_err() {
        tracing::warn!(%url, "ready, but nobody reads standard output");
    }
}

/// Says how the stop went. A part that had to be killed is a warning: what was acknowledged is stored all the same.
fn ended(report: &ShutdownReport) {
    for child in report
        .walk()
        .filter(|child| child.how != StopKind::Graceful)
    {
        tracing::warn!(
            child = &*child.id,
            how = ?child.how,
            took = span::readable(millis(child.took)),
            "did not end when asked"
        );
    }
    tracing::info!(
        took = span::readable(millis(report.took)),
        in_order = report.is_graceful(),
        "stopped"
    );
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
