//! `reprise eval`: replays a file of labelled questions through the code that serves.

use std::{
    fs,
    io::{IsTerminal as _, Write as _},
    path::PathBuf,
    sync::Arc,
};

use clap::Args;

use crate::{
    cache::{
        guards::{Guard, GuardSet},
        verdict::{Policy, Settings, first_prior::first_prior},
    },
    config::Config,
    embed::{
        Embedded, Embedder as _,
        local::{Local, LocalOptions},
    },
    eval::{
        Dataset, EvalError, Plan, Progress, Row, Source, Vectors, advice, evaluate, fit_prior,
        json, markdown, prior_file, svg, table,
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
    /// Write the table as Markdown.
    #[arg(long, value_name = "OUT")]
    pub markdown: Option<PathBuf>,
    /// Write the curve of precision against hit rate as SVG.
    #[arg(long, value_name = "OUT")]
    pub svg: Option<PathBuf>,
    /// Random orders of a stream, each from an empty cache.
    #[arg(long, default_value_t = 3)]
    pub orders: usize,
    /// Policies to try: verified, threshold, vcache. Default: verified and threshold.
    #[arg(long, value_name = "P")]
    pub policy: Vec<String>,
    /// Levels to try: bounds for verified and vcache, similarities for threshold.
    #[arg(long, value_name = "X")]
    pub level: Vec<f64>,
    /// Name the setting that keeps wrong answers per hit below this.
    #[arg(long, value_name = "SHARE", default_value_t = 0.01)]
    pub bound: f64,
    /// Instead of replaying: fit a first prior of the embedding model on these files, all of one
    /// weight, and write it here.
    #[arg(long, value_name = "OUT", hide = true)]
    pub fit_prior: Option<PathBuf>,
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
    let settings = settings(eval, config)?;
    let options = LocalOptions {
        model: config.embed.model.clone(),
        ort_dylib: config.embed.ort_dylib.clone(),
        threads: config.embed.threads,
        queue: config.embed.queue.max(TOGETHER),
        max_batch: config.embed.max_batch,
    };
    let local = Local::open(options).map_err(|error| Fault::Embedder(error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Fault::Embedder(error.to_string()))?;
    let embed = |texts: &[String]| runtime.block_on(vectors(&local, texts));
    let model = local.identity().name.clone();
    if let Some(out) = &eval.fit_prior {
        return fit(eval, &model, embed, out);
    }
    let mut rows = Vec::new();
    for file in &eval.files {
        let dataset = read(file)?;
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let prior = first_prior(&model);
        let plan = Plan { file: name, settings: settings.clone(), orders: eval.orders, prior };
        let evaluated = evaluate(&dataset, &plan, embed, show)
            .map_err(|source| Fault::Content { path: file.clone(), source })?;
        rows.extend(evaluated);
    }
    report(eval, &rows)
}

fn report(eval: &Eval, rows: &[Row]) -> Result<(), Fault> {
    let mut out = std::io::stdout().lock();
    // A closed pipe is the reader's choice.
    let _ = writeln!(out, "{}\n{}", table(rows), advice(rows, eval.bound));
    if let Some(path) = &eval.json {
        let text = json(rows).map_err(std::io::Error::other);
        write(path, text.map_err(|source| Fault::File { path: path.clone(), source })?)?;
    }
    if let Some(path) = &eval.markdown {
        write(path, markdown(rows))?;
    }
    if let Some(path) = &eval.svg {
        write(path, svg(rows, "Precision against hit rate"))?;
    }
    Ok(())
}

fn fit(
    eval: &Eval,
    model: &str,
    embed: impl Fn(&[String]) -> Result<Vectors, EvalError>,
    out: &PathBuf,
) -> Result<(), Fault> {
    let mut sources = Vec::new();
    for file in &eval.files {
        let dataset = read(file)?;
        let vectors = embed(&dataset.texts)
            .map_err(|source| Fault::Content { path: file.clone(), source })?;
        sources.push(Source { dataset, vectors, weight: 1.0 });
    }
    let wrong = |source| Fault::Content { path: out.clone(), source };
    let prior = fit_prior(&sources).map_err(wrong)?;
    let names: Vec<_> = eval.files.iter().map(|file| file.display().to_string()).collect();
    write(out, prior_file(&prior, model, &names.join(" + ")))
}

/// One setting for each policy and level asked for.
fn settings(eval: &Eval, config: &Config) -> Result<Vec<Settings>, Fault> {
    let names = if eval.policy.is_empty() {
        vec!["verified".to_owned(), "threshold".to_owned()]
    } else {
        eval.policy.clone()
    };
    let semantic = &config.cache.semantic;
    let guards: Vec<_> = semantic.guards.iter().filter_map(|name| Guard::from_name(name)).collect();
    let mut all = Vec::new();
    for name in names {
        let policy = Policy::from_name(&name).filter(|policy| *policy != Policy::Off);
        let policy = policy.ok_or_else(|| {
            Fault::Usage(format!("--policy: verified, threshold or vcache, not `{name}`"))
        })?;
        let usual: &[f64] = match policy {
            Policy::Threshold => &[0.80, 0.85, 0.90, 0.95, 0.98],
            Policy::Verified | Policy::Vcache | Policy::Off => &[0.01, 0.02, 0.05],
        };
        let levels = if eval.level.is_empty() { usual } else { &eval.level };
        for &level in levels {
            let top = if policy == Policy::Threshold { 1.0 } else { 0.999_999 };
            if !(level > 0.0 && level <= top) {
                return Err(Fault::Usage(format!("--level {level} is no level of {name}: (0, 1]")));
            }
            let mut settings = Settings {
                policy,
                audit: semantic.audit,
                guards: GuardSet::of(&guards),
                ..Settings::default()
            };
            match policy {
                Policy::Threshold => settings.min_similarity = level as f32,
                Policy::Verified | Policy::Vcache | Policy::Off => settings.max_wrong_hits = level,
            }
            all.push(settings);
        }
    }
    Ok(all)
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

fn read(path: &PathBuf) -> Result<Dataset, Fault> {
    let text =
        fs::read_to_string(path).map_err(|source| Fault::File { path: path.clone(), source })?;
    Dataset::read(&text).map_err(|source| Fault::Content { path: path.clone(), source })
}

fn write(path: &PathBuf, text: String) -> Result<(), Fault> {
    fs::write(path, text).map_err(|source| Fault::File { path: path.clone(), source })
}

/// One line that rewrites itself, on a terminal only.
fn show(progress: Progress) {
    let mut out = std::io::stderr().lock();
    if !out.is_terminal() {
        return;
    }
    let Progress { stage, done, total } = progress;
    let full = (done * 30).checked_div(total).unwrap_or(30).min(30);
    let end = if done >= total { "\n" } else { "" };
    let _ = write!(
        out,
        "\r{stage:<8} [{}{}] {done}/{total}{end}",
        "#".repeat(full),
        " ".repeat(30 - full)
    );
}
