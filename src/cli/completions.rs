//! `deepforcing completions` and `deepforcing man`: generated from the definitions that parse the command line.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{Failure, PROGRAM, definition, printer::print_result, values};

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  deepforcing completions bash \\
    > ~/.local/share/bash-completion/completions/deepforcing
  deepforcing completions zsh > ~/.zfunc/_deepforcing
  deepforcing completions fish > ~/.config/fish/completions/deepforcing.fish

For zsh, `fpath+=~/.zfunc` stands in ~/.zshrc before `compinit`.";

#[derive(Args)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub(super) struct Completions {
    /// Shell that is to complete
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut values::completed(definition()), PROGRAM, &mut script);
        print_result(&script)
    }
}

const MAN_EXAMPLES: &str = "\
Examples:
  deepforcing man | man -l -
  deepforcing man generate | man -l -
  deepforcing man --out ~/.local/share/man/man1";

#[derive(Args)]
#[command(after_help = MAN_EXAMPLES)]
pub(super) struct ManPages {
    /// Command whose page is printed, for example `config show` [default: the program itself]
    #[arg(value_name = "COMMAND", conflicts_with = "out")]
    command: Vec<String>,
    /// Write the pages of all commands into this folder, which is made if need be
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl ManPages {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let pages = pages()?;
        if let Some(folder) = &self.out {
            return Ok(write_all(folder, &pages)?);
        }
        let name = [PROGRAM].into_iter().chain(self.command.iter().map(String::as_str));
        let name = name.collect::<Vec<_>>().join("-");
        match pages.iter().find(|page| page.name == name) {
            Some(page) => print_result(&page.text),
            None => {
                let words = self.command.join(" ");
                let known: Vec<_> = pages[1..].iter().map(Page::words).collect();
                let hint = crate::text::nearest::hint(&words, known.iter().map(String::as_str));
                Err(Failure::Failed(anyhow::anyhow!("there is no command `{words}`{hint}")))
            }
        }
    }
}

struct Page {
    /// `deepforcing-config-show`.
    name: String,
    text: Vec<u8>,
}

impl Page {
    /// `config show`.
    fn words(&self) -> String {
        let rest = self.name.strip_prefix(PROGRAM).unwrap_or(&self.name);
        rest.trim_start_matches('-').replace('-', " ")
    }
}

/// The page of the program, then those of its commands.
fn pages() -> anyhow::Result<Vec<Page>> {
    let mut program = definition().disable_help_subcommand(true);
    program.build();
    let mut pages = Vec::new();
    collect(&program, PROGRAM.into(), &mut pages).context("cannot render the man pages")?;
    Ok(pages)
}

fn collect(command: &Command, name: String, pages: &mut Vec<Page>) -> io::Result<()> {
    let page = command.clone().display_name(name.clone());
    let mut text = Vec::new();
    Man::new(page).manual("deepforcing manual").render(&mut text)?;
    pages.push(Page {
        name: name.clone(),
        text,
    });
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        collect(inner, format!("{name}-{}", inner.get_name()), pages)?;
    }
    Ok(())
}

fn write_all(folder: &Path, pages: &[Page]) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder `{}`", folder.display()))?;
    for page in pages {
        let path = folder.join(format!("{}.1", page.name));
        fs::write(&path, &page.text).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    Ok(())
}
