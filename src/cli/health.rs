//! `reprise health`: whether a running Reprise is ready, as an exit code: what a container without a
//! shell or curl uses for its health check.

use clap::Args;

use super::desk::{Address, Desk, DeskFault, print};
use crate::config::Config;

/// Of whom.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct Health {
    /// Where the running Reprise is.
    #[command(flatten)]
    pub address: Address,
}

/// Prints what `/readyz?verbose` says.
///
/// # Errors
/// Not ready, or nobody answers.
pub fn run(wanted: &Health, config: &Config) -> Result<(), DeskFault> {
    let (ready, said) = Desk::new(&wanted.address, config)?.readiness()?;
    match ready {
        true => print(&said),
        false => Err(DeskFault::Refused(said.trim().to_owned())),
    }
}
