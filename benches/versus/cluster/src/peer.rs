//! The other process of a side.

use std::{
    env,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};

/// It does not outlive this.
pub(crate) struct Peer {
    process: Child,
    pub(crate) address: String,
}

impl Peer {
    pub(crate) fn start(who: &str) -> Result<Self> {
        let mut process = Command::new(env::current_exe()?)
            .args(["peer", who])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the other process")?;
        let output = process.stdout.take().context("its output is piped")?;
        let mut address = String::new();
        BufReader::new(output).read_line(&mut address)?;
        let address = address.trim().to_owned();
        ensure!(!address.is_empty(), "the other process ended");
        Ok(Self { process, address })
    }

    pub(crate) fn kill(&mut self) -> Result<()> {
        Ok(self.process.kill()?)
    }

    /// It goes on to exist and does nothing more.
    pub(crate) fn freeze(&self) -> Result<()> {
        let stopped = Command::new("kill")
            .args(["-STOP", &self.process.id().to_string()])
            .status()?;
        ensure!(stopped.success(), "it could not be stopped");
        Ok(())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
