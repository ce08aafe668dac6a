//! A simulated model server: what `make run` puts behind the proxy when there is no real one, and
//! what the tests and benches measure against.
//!
//! It speaks OpenAI's chat completions (whole and streamed, tools, `n`, `logprobs`, formats), plain
//! completions, embeddings and models, and in [`apis`] what others speak, at a settable time to first token and token rate. Every
//! answer carries `[sim:HASH]`, a hash of the request and the credential that asked ([`stamp`]), so
//! a cache that hands one client's answer to another is caught and not guessed at. Markers in the
//! prompt ([`script`]) make it misbehave on demand, and `/sim/stats` says what really arrived.
//!
//! In reading order: [`server`] routes, [`ask`] checks a request, [`script`] reads its markers,
//! [`answer`] has [`reply`] compose the answer and [`render`] write it in OpenAI's shapes, [`paced`]
//! sends it at its pace, [`stats`] keeps count.

mod answer;
mod api_error;
mod apis;
mod ask;
mod completions;
mod embeddings;
mod paced;
mod render;
mod reply;
mod responses;
mod schema;
mod script;
mod server;
mod stamp;
mod stats;
mod tools;

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::Parser;
use tokio::net::{TcpListener, UnixListener};

use crate::server::Server;

/// A simulated model server with a settable pace.
#[derive(Parser)]
#[command(name = "simulated", after_long_help = script::HELP)]
struct Args {
    /// Where to listen; port 0 takes a free one (the ready line names it).
    #[arg(long, default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// Also listen on this unix socket.
    #[arg(long)]
    unix: Option<PathBuf>,
    /// Time from the request to the first token.
    #[arg(long, default_value = "150ms", value_parser = humantime::parse_duration)]
    first_token: Duration,
    /// Tokens a second after the first; 0 sends them as fast as the reader takes them.
    #[arg(long, default_value_t = 80.0, value_parser = script::rate)]
    token_rate: f64,
    /// Tokens of an answer that no limit or marker makes shorter or longer.
    #[arg(long, default_value_t = 48)]
    tokens: usize,
    /// The model that `/v1/models` lists, and the start of `system_fingerprint`.
    #[arg(long, default_value = "sim")]
    name: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The stream is all that is left to say it on; if it is closed there is nobody to tell.
            drop(writeln!(io::stderr(), "simulated: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Binds, says so on standard output, and serves until interrupted or terminated.
async fn run(args: Args) -> io::Result<()> {
    let tcp = TcpListener::bind(args.listen).await?;
    let unix = args.unix.as_ref().map(UnixListener::bind).transpose()?;
    let address = tcp.local_addr()?;
    let server = Arc::new(Server::new(server::Settings {
        pace: paced::Pace { first_token: args.first_token, token_rate: args.token_rate },
        tokens: args.tokens,
        name: args.name,
    }));

    // Whoever started this process waits for the line, so it must leave the buffer now.
    let mut stdout = io::stdout();
    writeln!(stdout, "listening on http://{address}")?;
    stdout.flush()?;

    tokio::select! {
        ended = Arc::clone(&server).accept_tcp(tcp) => ended,
        ended = accept_unix(server, unix) => ended,
        asked = stop_asked() => asked,
    }
}

/// Serves the unix socket where there is one; otherwise waits for ever, so that `select!` above
/// goes on with the others.
async fn accept_unix(server: Arc<Server>, unix: Option<UnixListener>) -> io::Result<()> {
    match unix {
        Some(listener) => server.accept_unix(listener).await,
        None => std::future::pending().await,
    }
}

/// Returns on SIGINT or SIGTERM.
async fn stop_asked() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}
