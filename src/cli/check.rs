//! `reprise check`: what is wrong with the configuration, and with what it names.

use std::io::Write as _;

use clap::Args;

use crate::{
    app::transfer::{Depot, TransferFault},
    config::Config,
};

/// Read the configuration and say everything that is wrong with it.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Check {
    /// Also open the embedder and the store, and compare what is configured with what is there.
    #[arg(long)]
    pub store: bool,
}

/// Why the store is not what the configuration says.
#[derive(Debug, thiserror::Error)]
pub enum CheckFault {
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] TransferFault),
    /// It is open and will not be used.
    #[error("the store {collection} will not be used: {trouble}")]
    Trouble {
        /// The collection's name.
        collection: String,
        /// Why not.
        trouble: String,
    },
}

/// Says what it found to stderr.
///
/// # Errors
/// What is wrong with the store, where that was asked for.
pub fn run(wanted: Check, config: &Config) -> Result<(), CheckFault> {
    say("reprise: the configuration is good\n");
    if !wanted.store {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| TransferFault::Open(error.to_string()))?;
    let (report, others) = runtime.block_on(async {
        let depot = Depot::open(config).await?;
        let found = (depot.report(), depot.others().await);
        // An embedded store blocks while it closes.
        let _ = tokio::task::spawn_blocking(move || drop(depot)).await;
        Ok::<_, TransferFault>(found)
    })?;
    if let Some(trouble) = report.trouble {
        return Err(CheckFault::Trouble { collection: report.collection, trouble });
    }
    let (kind, collection, records) = (report.kind, report.collection, report.records);
    say(&format!("reprise: the {kind} store {collection} holds {records} records\n"));
    for other in others {
        say(&format!("reprise: beside it lies {other}, of another model or schema: not used\n"));
    }
    Ok(())
}

/// To the person at the terminal; a closed terminal is no reason to fail.
fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
