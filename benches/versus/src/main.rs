//! underpin beside the crates that a program would use instead, and beside what the machine allows at best.
//!
//! Every figure is measured for all its sides in one run, in rounds whose order rotates, and only the ratios within one
//! run mean anything. `src/<room>` holds the figures of a room of the crate; each says what is not equal between its sides.

mod capture;
mod cluster;
mod config;
mod events;
mod figure;
mod ids;
mod measure;
mod node;
mod otp;
mod program;
mod report;
mod rounds;
mod telemetry;

use std::{env, fs, panic, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, bail};
use clap::Parser;

use figure::{Figure, Sides};
use report::Tsv;
use rounds::{Measured, Rounds};

/// Measures underpin beside its peers and the physical limit.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  cargo run --release --manifest-path benches/versus/Cargo.toml -- --tsv all.tsv
  cargo run --release --manifest-path benches/versus/Cargo.toml -- otp.call ids --quick

UNDERPIN_BIN names the underpin program that node.start measures; without it, it is built.
Exit status: 0 all was measured, 1 something could not be, 2 usage.")]
struct Arguments {
    /// Only figures whose name begins with one of these
    filter: Vec<String>,
    /// Three short rounds instead of five of 0.2 s
    #[arg(long)]
    quick: bool,
    /// Write `figure<TAB>who<TAB>value<TAB>unit` lines here, and to FILE.spread with min and max
    #[arg(long, value_name = "FILE")]
    tsv: Option<PathBuf>,
    /// Folder on the disk that durable figures are measured on [default: where this program is]
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Only this side, to look at it with a profiler: underpin, limit or a peer
    #[arg(long, value_name = "WHO")]
    only: Option<String>,
    /// Only print the names of the figures
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(all) => ExitCode::from(u8::from(!all)),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether all that was wanted could be measured.
fn run(arguments: &Arguments) -> Result<bool> {
    let wanted = wanted(&arguments.filter)?;
    if arguments.list {
        for figure in wanted {
            println!("{}", figure.name);
        }
        return Ok(true);
    }
    silence_wanted_panics();
    let rounds = if arguments.quick {
        Rounds::QUICK
    } else {
        Rounds::FULL
    };
    let folder = folder(arguments.folder.clone())?;
    let only = arguments.only.as_deref();
    let (mut tsv, mut all) = (Tsv::default(), true);
    for figure in wanted {
        match measure(figure, rounds, folder.clone(), only) {
            Ok(measured) => {
                println!("{}", report::table(figure, &measured));
                tsv.add(figure, &measured);
            }
            Err(error) => {
                all = false;
                eprintln!("{}  was not measured: {error:#}\n", figure.name);
            }
        }
    }
    if let Some(file) = &arguments.tsv {
        tsv.write(file)
            .with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(all)
}

fn measure(
    figure: &Figure,
    rounds: Rounds,
    folder: PathBuf,
    only: Option<&str>,
) -> Result<Vec<Measured>> {
    let mut sides = Sides::new(folder);
    (figure.sides)(&mut sides)?;
    sides
        .all
        .retain(|side| only.is_none_or(|who| who == side.who));
    rounds.run(&mut sides.all)
}

fn figures() -> impl Iterator<Item = &'static Figure> {
    [
        capture::FIGURES,
        cluster::FIGURES,
        config::FIGURES,
        events::FIGURES,
        ids::FIGURES,
        node::FIGURES,
        otp::FIGURES,
        telemetry::FIGURES,
    ]
    .into_iter()
    .flatten()
}

fn wanted(filters: &[String]) -> Result<Vec<&'static Figure>> {
    for filter in filters {
        if !figures().any(|figure| figure.name.starts_with(filter.as_str())) {
            bail!("no figure begins with {filter:?}; --list names them");
        }
    }
    let fits = |figure: &&Figure| {
        filters.is_empty()
            || filters
                .iter()
                .any(|filter| figure.name.starts_with(filter.as_str()))
    };
    Ok(figures().filter(fits).collect())
}

/// Beside the program: a temporary folder of the system is often not a disk.
fn folder(wanted: Option<PathBuf>) -> Result<PathBuf> {
    let folder = if let Some(folder) = wanted {
        folder
    } else {
        let program = env::current_exe().context("looking for a folder to measure in")?;
        let folder = program.parent().context("the program has no folder")?;
        folder.to_owned()
    };
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    Ok(folder)
}

/// Actors that are restarted panic by the thousand; printing each would be what is measured.
fn silence_wanted_panics() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if info.payload().downcast_ref::<&str>() != Some(&otp::BOOM) {
            usual(info);
        }
    }));
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_filter_is_a_prefix_and_one_that_fits_nothing_is_refused() {
        let names = |filter: &str| {
            let figures = wanted(&[filter.to_owned()]).expect("fits some");
            figures.iter().map(|figure| figure.name).collect::<Vec<_>>()
        };
        assert_eq!(names("otp.cast"), ["otp.cast", "otp.cast.1w"]);
        assert!(wanted(&["cast".to_owned()]).is_err());
    }

    #[test]
    fn every_name_is_given_once() {
        let mut names = HashSet::new();
        assert!(figures().all(|figure| names.insert(figure.name)));
    }
}
