//! The life of the process, in order: parse, configure (bad configuration ends here with exit code
//! 64, before a port is bound), log, build, serve, drain.

use std::{io::Write as _, process::ExitCode};

use clap::Parser as _;
use reprise::{
    app,
    cli::{self, Cli, Command, Settings},
    config::Config,
    observe,
};

/// `EX_USAGE` of sysexits.h: the command line or the configuration is wrong.
const EX_USAGE: u8 = 64;
/// `EX_UNAVAILABLE`: a port is taken, a certificate cannot be read.
const EX_UNAVAILABLE: u8 = 69;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(told) => {
            // Help and version go to stdout and are no failure.
            let _ = told.print();
            return if told.use_stderr() { EX_USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    let settings = cli.settings;
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => {
            let again = settings.clone();
            configured(settings, |config| serve(config, Box::new(move || again.load())))
        }
        Command::Check(wanted) => configured(settings, |config| {
            told("check", EX_UNAVAILABLE, cli::check::run(wanted, &config))
        }),
        Command::Eval(wanted) => without_upstream(settings, |config| {
            told("eval", EX_USAGE, cli::eval::run(&wanted, &config))
        }),
        Command::Explain(wanted) => without_upstream(settings, |config| {
            told("explain", EX_UNAVAILABLE, cli::explain::run(&wanted, &config))
        }),
        Command::Stats(wanted) => without_upstream(settings, |config| {
            told("stats", EX_UNAVAILABLE, cli::stats::run(&wanted, &config))
        }),
        Command::Top(wanted) => without_upstream(settings, |config| {
            told("top", EX_UNAVAILABLE, cli::top::run(&wanted, &config))
        }),
        Command::Purge(wanted) => without_upstream(settings, |config| {
            told("purge", EX_UNAVAILABLE, cli::purge::run(&wanted, &config))
        }),
        Command::Health(wanted) => without_upstream(settings, |config| {
            told("health", EX_UNAVAILABLE, cli::health::run(&wanted, &config))
        }),
        Command::Warm(wanted) => configured(settings, |config| {
            told("warm", EX_UNAVAILABLE, cli::warm::run(&wanted, &config))
        }),
        Command::Export(wanted) => without_upstream(settings, |config| {
            told("export", EX_UNAVAILABLE, cli::transfer::export(&wanted, &config))
        }),
        Command::Import(wanted) => without_upstream(settings, |config| {
            told("import", EX_UNAVAILABLE, cli::transfer::import(&wanted, &config))
        }),
        Command::Completions(wanted) => {
            told("completions", EX_UNAVAILABLE, cli::manual::completions(&wanted))
        }
        Command::Man(wanted) => told("man", EX_UNAVAILABLE, cli::manual::man(&wanted)),
    }
}

/// Reads the configuration first, and ends here if it is wrong.
fn configured(settings: Settings, run: impl FnOnce(Config) -> ExitCode) -> ExitCode {
    match settings.load() {
        Ok(config) => run(config),
        Err(problems) => {
            say(&format!("reprise: the configuration is wrong:\n{problems}"));
            EX_USAGE.into()
        }
    }
}

/// The same for commands that ask no upstream: a placeholder satisfies the check.
fn without_upstream(mut settings: Settings, run: impl FnOnce(Config) -> ExitCode) -> ExitCode {
    settings.upstream.get_or_insert("http://127.0.0.1:1".into());
    configured(settings, run)
}

fn told<E: std::fmt::Display>(command: &str, code: u8, done: Result<(), E>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            say(&format!("reprise {command}: {fault}\n"));
            code.into()
        }
    }
}

fn serve(config: Config, reread: app::Reread) -> ExitCode {
    // Keeps the log's thread alive to the end, when what is left in its buffer is written.
    let lines = match observe::log::init(&config.log) {
        Ok(lines) => lines,
        Err(fault) => {
            say(&format!("reprise: {fault}\n"));
            return EX_USAGE.into();
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&format!("reprise: cannot start its threads: {error}\n"));
            return EX_UNAVAILABLE.into();
        }
    };
    match runtime.block_on(app::run(config, reread, lines.dropped())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            tracing::error!(%fault, "cannot serve");
            EX_UNAVAILABLE.into()
        }
    }
}

/// To the person at the terminal; a closed terminal is no reason to fail.
fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
