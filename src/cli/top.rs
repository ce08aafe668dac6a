//! `reprise top`: a running Reprise in a terminal, each second.

mod view;

use std::time::{Duration, Instant};

use clap::Args;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use self::view::View;
use super::desk::{Address, Desk, DeskFault};
use crate::config::Config;

/// Of whom.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct Top {
    /// Where the running Reprise is.
    #[command(flatten)]
    pub address: Address,
    /// How often it is asked.
    #[arg(long, value_name = "SPAN", default_value = "1s", value_parser = humantime::parse_duration)]
    pub every: Duration,
}

/// Shows it until `q`, Esc or Ctrl-C.
///
/// # Errors
/// Nobody answers at the start, or the terminal cannot be used. A Reprise that goes away later is
/// shown as gone, and found again.
pub fn run(wanted: &Top, config: &Config) -> Result<(), DeskFault> {
    let desk = Desk::new(&wanted.address, config)?;
    let mut view = View::new(desk.base().to_owned(), desk.get("/api/v1/stats")?);
    let mut terminal = ratatui::try_init()?;
    let ended = watch(&desk, wanted.every, &mut view, &mut terminal);
    ratatui::try_restore()?;
    ended
}

fn watch(
    desk: &Desk,
    every: Duration,
    view: &mut View,
    terminal: &mut ratatui::DefaultTerminal,
) -> Result<(), DeskFault> {
    loop {
        terminal.draw(|frame| view.draw(frame))?;
        let next = Instant::now() + every;
        while let Some(left) = next.checked_duration_since(Instant::now()) {
            if !event::poll(left)? {
                break;
            }
            match event::read()? {
                Event::Key(key) if key.kind == KeyEventKind::Press => match key.code {
                    KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
                    KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                        return Ok(());
                    }
                    _ => {}
                },
                Event::Resize(..) => break,
                _ => {}
            }
        }
        match desk.get("/api/v1/stats") {
            Ok(stats) => view.update(stats),
            Err(fault) => view.lost(fault.to_string()),
        }
    }
}
