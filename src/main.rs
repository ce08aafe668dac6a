//! The life of the process, in order: parse, configure (bad configuration ends here with exit code
//! 64, before a port is bound), log, build, serve, drain.

use std::{io::Write as _, process::ExitCode};

use clap::Parser as _;
use reprise::{
    app,
    cli::{self, Cli, Command},
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
    let mut settings = cli.settings;
    if matches!(cli.command, Some(Command::Eval(_) | Command::Explain(_))) {
        // They ask no upstream; a placeholder satisfies the check.
        settings.upstream.get_or_insert("http://127.0.0.1:1".into());
    }
    let config = match settings.load() {
        Ok(config) => config,
        Err(problems) => {
            say(&format!("reprise: the configuration is wrong:\n{problems}"));
            return EX_USAGE.into();
        }
    };
    match cli.command.unwrap_or(Command::Serve) {
        Command::Check => {
            say("reprise: the configuration is good\n");
            ExitCode::SUCCESS
        }
        Command::Serve => serve(config),
        Command::Eval(wanted) => match cli::eval::run(&wanted, &config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(fault) => {
                say(&format!("reprise eval: {fault}\n"));
                EX_USAGE.into()
            }
        },
        Command::Explain(wanted) => match cli::explain::run(&wanted, &config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(fault) => {
                say(&format!("reprise explain: {fault}\n"));
                EX_UNAVAILABLE.into()
            }
        },
    }
}

fn serve(config: Config) -> ExitCode {
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
    match runtime.block_on(app::run(config, lines.dropped())) {
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
