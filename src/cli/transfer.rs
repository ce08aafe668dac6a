//! `reprise export` and `reprise import`: answers between any two stores.

use std::{io::Write as _, path::PathBuf};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    app::transfer::{Depot, Moved, TransferFault},
    config::Config,
};

/// Write all answers of the configured store into a file.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct Export {
    /// Where to: a file, which is gone on with if it is there, or - for stdout.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Read answers from a file into the configured store. To be hit they need the store.tenant_key
/// under which they were stored; with another embedding model their prompts are embedded again.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct Import {
    /// What `reprise export` wrote.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Runs it; the bar and the counts go to stderr.
///
/// # Errors
/// The first thing that is wrong.
pub fn export(wanted: &Export, config: &Config) -> Result<(), TransferFault> {
    run(config, async |depot, bar| depot.export(&wanted.file, |at, of| show(bar, at, of)).await)
}

/// Runs it; the bar and the counts go to stderr.
///
/// # Errors
/// The first thing that is wrong.
pub fn import(wanted: &Import, config: &Config) -> Result<(), TransferFault> {
    run(config, async |depot, bar| depot.import(&wanted.file, |at, of| show(bar, at, of)).await)
}

fn run(
    config: &Config,
    work: impl AsyncFnOnce(&Depot, &ProgressBar) -> Result<Moved, TransferFault>,
) -> Result<(), TransferFault> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| TransferFault::Open(error.to_string()))?;
    let moved = runtime.block_on(async {
        let depot = Depot::open(config).await?;
        // Hidden where stderr is no terminal.
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent}% {eta}") {
            bar.set_style(style);
        }
        let moved = work(&depot, &bar).await;
        bar.finish_and_clear();
        // An embedded store writes out what waits when it goes, and blocks meanwhile.
        let _ = tokio::task::spawn_blocking(move || drop(depot)).await;
        moved
    })?;
    let Moved { moved, already, expired, embedded, refused } = moved;
    let _ = writeln!(
        std::io::stderr(),
        "{moved} moved, {already} there already, {expired} past their life, {embedded} embedded \
         again, {refused} too large"
    );
    Ok(())
}

fn show(bar: &ProgressBar, at: u64, of: u64) {
    bar.set_length(of);
    bar.set_position(at);
}
