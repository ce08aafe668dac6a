//! `reprise completions` and `reprise man`: made from the command line's own definition.

use std::{fs, io, path::PathBuf};

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, desk::print};

/// For which shell.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct Completions {
    /// bash, elvish, fish, powershell or zsh.
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// Where to.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct Man {
    /// Write one page for each command into this folder, instead of the first to the terminal.
    #[arg(long, value_name = "FOLDER")]
    pub dir: Option<PathBuf>,
}

/// Prints the shell's completions: `reprise completions bash > /etc/bash_completion.d/reprise`.
///
/// # Errors
/// Standard output cannot be written.
pub fn completions(wanted: &Completions) -> io::Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(wanted.shell, &mut Cli::command(), "reprise", &mut text);
    print(&String::from_utf8_lossy(&text)).map_err(io::Error::other)
}

/// Prints the man page: `reprise man | man -l -`.
///
/// # Errors
/// Standard output or the folder cannot be written.
pub fn man(wanted: &Man) -> io::Result<()> {
    if let Some(folder) = &wanted.dir {
        fs::create_dir_all(folder)?;
        return clap_mangen::generate_to(Cli::command(), folder);
    }
    let mut text = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut text)?;
    print(&String::from_utf8_lossy(&text)).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_its_page() {
        let folder = tempfile::tempdir().unwrap();
        man(&Man { dir: Some(folder.path().to_owned()) }).unwrap();
        for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let page = folder.path().join(format!("reprise-{}.1", command.get_name()));
            assert!(page.is_file(), "{}", page.display());
        }
    }

    #[test]
    fn completions_know_the_commands() {
        let mut text = Vec::new();
        clap_complete::generate(Shell::Bash, &mut Cli::command(), "reprise", &mut text);
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("purge") && text.contains("--dry-run"));
    }
}
