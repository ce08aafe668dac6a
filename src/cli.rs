//! The command line.

pub mod check;
pub mod desk;
pub mod eval;
pub mod explain;
pub mod health;
pub mod manual;
pub mod purge;
pub mod stats;
pub mod top;
pub mod transfer;
pub mod warm;

use std::{collections::BTreeMap, path::PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Config, Overrides, Problems};

/// A semantic caching reverse proxy in front of any model server.
#[derive(Debug, Parser)]
#[command(name = "reprise", version, about, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do; without it: serve.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Settings that every command takes.
    #[command(flatten)]
    pub settings: Settings,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub enum Command {
    /// Stand in front of the configured upstreams (the default).
    Serve,
    /// Read the configuration and say everything that is wrong with it.
    Check(check::Check),
    /// Replay labelled questions: hit rate and wrong answers per hit of each policy and level.
    Eval(eval::Eval),
    /// Ask a running Reprise what it would do with a request, and why.
    Explain(explain::Explain),
    /// What a running Reprise does for its users, in numbers.
    Stats(stats::Stats),
    /// The same, live in the terminal.
    Top(top::Top),
    /// Delete answers of a running Reprise, after a look at how many.
    Purge(purge::Purge),
    /// Fill the configured store before anybody asks.
    Warm(warm::Warm),
    /// Write all answers of the configured store into a file.
    Export(transfer::Export),
    /// Read answers from a file into the configured store.
    Import(transfer::Import),
    /// Whether a running Reprise is ready, as an exit code.
    Health(health::Health),
    /// Print completions for a shell.
    Completions(manual::Completions),
    /// Print the man page.
    Man(manual::Man),
}

/// Settings that every command takes.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// A TOML file; what it does not set keeps its default (see config/reprise.toml).
    #[arg(long, short, value_name = "PATH", global = true, env = "REPRISE_CONFIG")]
    pub config: Option<PathBuf>,
    /// The model server to stand in front of; replaces all [[upstream]] sections.
    #[arg(long, value_name = "URL", global = true)]
    pub upstream: Option<String>,
    /// Where clients connect, instead of listen.http.
    #[arg(long, value_name = "ADDR", global = true)]
    pub listen: Option<String>,
    /// Where metrics and health are served, instead of listen.admin.
    #[arg(long, value_name = "ADDR", global = true)]
    pub admin: Option<String>,
    /// Also serve TLS (listen.https, else 127.0.0.1:8443) with a certificate made at start.
    #[arg(long, global = true)]
    pub tls_self_signed: bool,
}

impl Settings {
    /// The checked configuration.
    ///
    /// # Errors
    /// Everything that is wrong with any source.
    pub fn load(&self) -> Result<Config, Problems> {
        let environment: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let overrides = Overrides {
            upstream: self.upstream.clone(),
            listen: self.listen.clone(),
            admin: self.admin.clone(),
            tls_self_signed: self.tls_self_signed,
        };
        config::load(self.config.as_deref(), &environment, &overrides)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_command_means_serve_and_flags_go_anywhere() {
        let cli = Cli::parse_from(["reprise", "--upstream", "http://h:1"]);
        assert_eq!(cli.command, None);
        let cli = Cli::parse_from(["reprise", "check", "--upstream", "http://h:1"]);
        assert_eq!(cli.command, Some(Command::Check(check::Check::default())));
        assert_eq!(cli.settings.upstream.as_deref(), Some("http://h:1"));
    }
}
