//! `reprise eval`: replays a file of labelled questions through the code that serves.

mod bars;
mod fit;
mod settings;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;

use self::bars::Bars;
use crate::{
    cache::verdict::{first_prior::first_prior, posterior::Belief},
    config::Config,
    embed::{
        Embedded, Embedder as _,
        local::{Local, LocalOptions},
    },
    eval::{
        Dataset, EvalError, Plan, Row, Vectors, advice, evaluate, json, kinds, markdown,
        read_prior, svg, table,
    },
};

/// Texts that are embedded at once.
const TOGETHER: usize = 16;

/// What to replay, and where to write what it says.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct Eval {
    /// JSON lines: {prompt, class}, {a, b, same}, or {prompt, answer}.
    #[arg(required = true, value_name = "FILE.jsonl")]
    pub files: Vec<PathBuf>,
    /// Write the rows as JSON.
    #[arg(long, value_name = "OUT")]
    pub json: Option<PathBuf>,
    /// Write the tables as Markdown.
    #[arg(long, value_name = "OUT")]
    pub markdown: Option<PathBuf>,
    /// Write the curve of wrong answers against hits as SVG.
    #[arg(long, value_name = "OUT")]
    pub svg: Option<PathBuf>,
    /// Random orders of a stream, each from an empty cache.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    pub orders: u16,
    /// Ask a stream's questions as the file has them, as often as --orders says with other audits: for
    /// a log of what was really asked.
    #[arg(long)]
    pub as_recorded: bool,
    /// Policies to try: verified, threshold, vcache. Default: verified and threshold.
    #[arg(long, value_name = "P")]
    pub policy: Vec<String>,
    /// Levels to try: bounds for verified and vcache, similarities for threshold. With one policy
    /// all are its own; with several the first is the first one's, and so on.
    #[arg(long, value_name = "X")]
    pub level: Vec<f64>,
    /// Guards in force, by name and separated by commas, or none. Default: as configured.
    #[arg(long, value_name = "LIST")]
    pub guards: Option<String>,
    /// Name the setting that keeps wrong answers per hit below this; may be said more than once.
    #[arg(long, value_name = "SHARE", default_value = "0.01")]
    pub bound: Vec<f64>,
    /// Begin with this first prior instead of the one compiled in: a file of --fit-prior, or flat.
    #[arg(long, value_name = "FILE", hide = true)]
    pub prior: Option<PathBuf>,
    /// Instead of replaying: fit a first prior of the embedding model on these files and write it
    /// here, with what it was fitted on (see scripts/fit-prior).
    #[arg(long, value_name = "OUT", hide = true)]
    pub fit_prior: Option<PathBuf>,
    /// With --fit-prior: each file's share beside the others, in their order. Default: equal.
    #[arg(long, value_name = "W", hide = true)]
    pub weight: Vec<f32>,
}

/// Why there is no evaluation.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A policy or level that does not exist.
    #[error("{0}")]
    Usage(String),
    /// A file that cannot be read or written.
    #[error("{path}: {source}", path = .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file's content, or the embedding.
    #[error("{path}: {source}", path = .path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// Why.
        source: EvalError,
    },
    /// No embedding model.
    #[error("{0}")]
    Embedder(String),
}

/// Runs it; tables go to stdout, progress to a terminal's stderr.
///
/// # Errors
/// The first thing that is wrong.
pub fn run(eval: &Eval, config: &Config) -> Result<(), Fault> {
    let settings = settings::of(eval, &config.cache.semantic)?;
    let options = LocalOptions {
        model: config.embed.model.clone(),
        ort_dylib: config.embed.ort_dylib.clone(),
        threads: config.embed.threads,
        queue: config.embed.queue.max(TOGETHER),
        max_batch: config.embed.max_batch,
        provider: config.embed.provider,
    };
    let local = Local::open(options).map_err(|error| Fault::Embedder(error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Fault::Embedder(error.to_string()))?;
    let embed = |texts: &[String]| runtime.block_on(vectors(&local, texts));
    let model = local.identity().name.clone();
    if let Some(out) = &eval.fit_prior {
        return fit::run(eval, &model, embed, out);
    }
    let prior = prior(eval, &model)?;
    let mut rows = Vec::new();
    for file in &eval.files {
        let (dataset, _) = read(file)?;
        let name = name_of(file);
        let mut bars = Bars::of(&name);
        let (settings, prior) = (settings.clone(), prior.clone());
        let orders = usize::from(eval.orders);
        let plan = Plan { file: name, settings, orders, recorded: eval.as_recorded, prior };
        let evaluated = evaluate(&dataset, &plan, embed, |at| bars.show(at))
            .map_err(|source| Fault::Content { path: file.clone(), source })?;
        rows.extend(evaluated);
    }
    report(eval, &rows)
}

fn report(eval: &Eval, rows: &[Row]) -> Result<(), Fault> {
    let mut out = std::io::stdout().lock();
    // A closed pipe is the reader's choice.
    let _ = writeln!(out, "{}", table(rows));
    for row in rows.iter().filter(|row| !row.kinds.is_empty()) {
        let _ = writeln!(out, "{}", kinds(row));
    }
    let _ = write!(out, "{}", advice(rows, &eval.bound));
    if let Some(path) = &eval.json {
        let text = json(rows).map_err(std::io::Error::other);
        write(path, text.map_err(|source| Fault::File { path: path.clone(), source })?)?;
    }
    if let Some(path) = &eval.markdown {
        write(path, markdown(rows))?;
    }
    if let Some(path) = &eval.svg {
        write(path, svg(rows, &eval.bound))?;
    }
    Ok(())
}

/// What is believed before the first question.
fn prior(eval: &Eval, model: &str) -> Result<Belief, Fault> {
    let Some(path) = &eval.prior else { return Ok(first_prior(model)) };
    if path == Path::new("flat") {
        return Ok(Belief::flat());
    }
    let text =
        fs::read_to_string(path).map_err(|source| Fault::File { path: path.clone(), source })?;
    read_prior(&text).ok_or_else(|| {
        Fault::Usage(format!("--prior {}: not a file that --fit-prior wrote", path.display()))
    })
}

/// Texts that the embedder gives no vector (too long, unknown words) get one that is near to none:
/// the live path never matches them by meaning.
async fn vectors(local: &Local, texts: &[String]) -> Result<Vectors, EvalError> {
    let width = local.identity().dimension;
    let mut flat = Vec::with_capacity(texts.len() * width);
    for some in texts.chunks(TOGETHER) {
        let asked = some.iter().map(|text| local.embed(Arc::from(text.as_str())));
        for embedded in futures_util::future::join_all(asked).await {
            match embedded.map_err(|fault| EvalError::Embed(fault.to_string()))? {
                Embedded::Vector(vector) => flat.extend_from_slice(&vector),
                Embedded::BeyondWindow { .. } | Embedded::UnknownWords { .. } => {
                    flat.resize(flat.len() + width, 0.0);
                }
            }
        }
    }
    Vectors::new(flat, width).ok_or_else(|| EvalError::Embed("vectors of several widths".into()))
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A file's rows, and its content's BLAKE3.
fn read(path: &Path) -> Result<(Dataset, String), Fault> {
    let path = path.to_owned();
    let text =
        fs::read_to_string(&path).map_err(|source| Fault::File { path: path.clone(), source })?;
    let digest = blake3::hash(text.as_bytes()).to_hex().to_string();
    match Dataset::read(&text) {
        Ok(dataset) => Ok((dataset, digest)),
        Err(source) => Err(Fault::Content { path, source }),
    }
}

fn write(path: &Path, text: String) -> Result<(), Fault> {
    fs::write(path, text).map_err(|source| Fault::File { path: path.to_owned(), source })
}
