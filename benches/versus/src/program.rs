//! Programs that are measured as processes of their own.

use std::{
    env,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};

/// Builds a program of this checkout; answers where it is.
pub fn build(manifest: &str, program: &str) -> Result<PathBuf> {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--quiet", "--bin", program])
        .args([
            "--message-format=json-render-diagnostics",
            "--manifest-path",
            manifest,
        ])
        .stderr(Stdio::inherit())
        .output()
        .context("starting cargo")?;
    ensure!(built.status.success(), "{program} was not built");
    let output = String::from_utf8(built.stdout)?;
    executable(&output).context("cargo named no program")
}

/// The program in cargo's messages, which are JSON, one a line.
fn executable(messages: &str) -> Option<PathBuf> {
    const FIELD: &str = "\"executable\":\"";
    let (_, rest) = messages.rsplit_once(FIELD)?;
    let (path, _) = rest.split_once('"')?;
    Some(PathBuf::from(path))
}

/// A process that does not outlive its measurement.
pub struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_in_what_cargo_says() {
        let said = r#"{"reason":"compiler-artifact","executable":null}
{"reason":"compiler-artifact","executable":"/t/release/underpin","fresh":true}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(said), Some(PathBuf::from("/t/release/underpin")));
    }
}
