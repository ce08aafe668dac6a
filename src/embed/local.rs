//! The model inside the process: fastembed on ONNX Runtime, on threads of its own.
//!
//! Each thread owns a session with one computing thread inside, so that `threads` is the number of
//! cores that embedding may take, no more; a queue of bounded length stands before them. A thread
//! takes what waits when it is free and computes it together; it never waits for company.
//!
//! What it does not do: cut a text, or pass over a part of it. One that the model does not see all of
//! has no vector.

mod model;
mod provider;
mod queue;
mod runtime;
mod source;
mod window;
mod worker;

#[cfg(test)]
mod tests;

use std::{
    io,
    path::PathBuf,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use futures_util::future::BoxFuture;
use ort::{environment::Environment, ep::ExecutionProviderDispatch};

pub use self::provider::Provider;
use self::{
    model::Model,
    queue::{LATE, Priority, Queue, Seat},
    source::Source,
    worker::Answer,
};
use super::{EmbedFault, Embedded, Embedder, Identity, Workload};

/// A longer text is beyond any window that we know of and not worth a thread's time.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// How long a dropped [`Local`] waits for its threads. A batch takes a tenth of it on a slow machine.
const JOIN_PATIENCE: Duration = Duration::from_secs(2);

/// Cores are used by sessions side by side. A second thread inside one gave a short text nothing (9
/// tokens, on a busy machine with two cores: 1.9 ms with one, 2.1 ms with two).
const INTRA_THREADS: usize = 1;

/// How to open a [`Local`].
#[derive(Clone, Debug)]
pub struct LocalOptions {
    /// A folder with the model's files, or (in a build with the feature `hub`) the name of a model
    /// that fastembed knows: `BAAI/bge-small-en-v1.5`.
    pub model: String,
    /// ONNX Runtime's shared library. Without it: `ORT_DYLIB_PATH`, then `assets/onnxruntime/` in the
    /// working directory and around the executable.
    pub ort_dylib: Option<PathBuf>,
    /// Embedding threads, each with a session of its own. 0: half of the cores, at least one.
    pub threads: usize,
    /// Most texts that may wait; one more is [`EmbedFault::Busy`].
    pub queue: usize,
    /// Most texts that are computed together.
    pub max_batch: usize,
    /// What computes.
    pub provider: Provider,
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self {
            model: "assets/all-MiniLM-L6-v2".to_owned(),
            ort_dylib: None,
            threads: 0,
            queue: 256,
            max_batch: 8,
            provider: Provider::Cpu,
        }
    }
}

/// Why a local model could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum EmbedOpenError {
    /// No ONNX Runtime where it was looked for.
    #[error(
        "no ONNX Runtime library at {}: run `make assets` (scripts/fetch-assets), or name the \
         library in ORT_DYLIB_PATH",
        .tried.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    NoRuntime {
        /// Where it was looked for.
        tried: Vec<PathBuf>,
    },
    /// The library is none, or too old.
    #[error("cannot use ONNX Runtime at {}: {reason}", .path.display())]
    BadRuntime {
        /// The library.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },
    /// Neither a folder nor a known name.
    #[error(
        "no embedding model `{model}`: no folder of that path, {}. Run `make assets` \
         (scripts/fetch-assets) for assets/all-MiniLM-L6-v2",
        if cfg!(feature = "hub") { "no model that fastembed knows by that name" }
        else { "and this build (without the feature `hub`) fetches none by name" }
    )]
    NoModel {
        /// What was asked for.
        model: String,
    },
    /// A file of the model is missing or unreadable.
    #[error("cannot read {}: {source} (scripts/fetch-assets makes a complete folder)", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The model's files are not what they should be.
    #[error("cannot use the embedding model {}: {reason}", .path.display())]
    BadModel {
        /// The folder or name.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system gave no thread, or it ended while it was opening.
    #[error("cannot start an embedding thread: {0}")]
    Thread(io::Error),
}

/// An embedding model on this machine. Dropping it ends and joins its threads (a batch's time).
#[derive(Debug)]
pub struct Local {
    identity: Identity,
    crew: Crew,
}

/// What a session is made with.
#[derive(Clone)]
struct Engine {
    environment: Environment,
    providers: Vec<ExecutionProviderDispatch>,
    /// Computing threads inside one session.
    threads: usize,
}

/// The threads, with what ends them; apart from [`Local`] because an opening that fails halfway has
/// threads to end but no identity yet.
#[derive(Debug)]
struct Crew {
    queue: Arc<Queue>,
    threads: Vec<JoinHandle<()>>,
}

// === impl Local ===

impl Local {
    /// Loads ONNX Runtime (once in a process: later calls keep the first library) and the model, once
    /// a thread, and runs each once. Blocking, about 0.4 s.
    pub fn open(options: LocalOptions) -> Result<Self, EmbedOpenError> {
        let source = Source::find(options.model)?;
        let variable = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
        let executable = std::env::current_exe().ok();
        let library = runtime::find(options.ort_dylib, variable, executable.as_deref())?;
        let environment = runtime::environment(&library)?;
        let providers = options.provider.dispatch(&library)?;
        let engine = Engine { environment, providers, threads: INTRA_THREADS };
        // Otherwise the tokenizer hands each batch to a process-wide pool with a thread per core.
        tokenizers::utils::parallelism::set_parallelism(false);

        let queue = Arc::new(Queue::new(options.queue, options.max_batch, LATE));
        let mut crew = Crew { queue: Arc::clone(&queue), threads: Vec::new() };
        let threads = thread_count(options.threads);
        let (ready, opened) = mpsc::sync_channel(threads);
        for n in 0..threads {
            let (source, engine) = (source.clone(), engine.clone());
            let (seat, ready) = (queue.seat(), ready.clone());
            let handle = thread::Builder::new()
                .name(format!("embed-{n}"))
                .spawn(move || work(&source, &engine, &seat, ready))
                .map_err(EmbedOpenError::Thread)?;
            crew.threads.push(handle);
        }
        drop(ready);
        let mut identity = None;
        for _ in 0..threads {
            let ended = || EmbedOpenError::Thread(io::Error::other("it ended while loading"));
            identity = Some(opened.recv().map_err(|_| ended())??);
        }
        let identity = identity.ok_or_else(|| EmbedOpenError::Thread(io::Error::other("none")))?;
        Ok(Self { identity, crew })
    }

    async fn queued(&self, text: Arc<str>, priority: Priority) -> Answer {
        if text.len() > TEXT_BYTES_MAX {
            return Ok(Embedded::BeyondWindow { tokens: self.identity.window_tokens + 1 });
        }
        let answered = self.crew.queue.push(text, priority)?;
        answered.await.unwrap_or(Err(EmbedFault::Dead))
    }
}

impl Embedder for Local {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn embed(&self, text: Arc<str>) -> BoxFuture<'_, Result<Embedded, EmbedFault>> {
        Box::pin(self.queued(text, Priority::Interactive))
    }

    fn embed_later(&self, text: Arc<str>) -> BoxFuture<'_, Result<Embedded, EmbedFault>> {
        Box::pin(self.queued(text, Priority::Background))
    }

    fn workload(&self) -> Workload {
        Workload { threads: self.crew.threads.len(), queued: self.crew.queue.len() }
    }
}

fn thread_count(asked: usize) -> usize {
    match asked {
        0 => thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1)),
        _ => asked,
    }
}

/// What [`Local::open`] will find this model's identity to be, where its files tell: a hint that a store may be
/// opened by meanwhile, no promise. Blocking: reads the files.
pub fn foresee(model: &str) -> Option<Identity> {
    Source::find(model.to_owned()).ok()?.foresee()
}

/// The life of an embedding thread.
fn work(
    source: &Source,
    engine: &Engine,
    seat: &Seat,
    ready: mpsc::SyncSender<Result<Identity, EmbedOpenError>>,
) {
    let load = || source.load(engine.clone());
    let (model, identity) = match load() {
        Ok(loaded) => loaded,
        Err(error) => return drop(ready.send(Err(error))),
    };
    drop(ready.send(Ok(identity.clone())));
    // `open` counts answers; one that never comes must look like an ended thread.
    drop(ready);
    worker::serve(seat, embedder(model), || match load() {
        Ok((model, again)) if again == identity => Some(embedder(model)),
        Ok(_) => {
            tracing::error!(
                "the model's files have changed since the start: an embedding thread ends"
            );
            None
        }
        Err(error) => {
            tracing::error!(%error, "an embedding thread ends");
            None
        }
    });
}

fn embedder(mut model: Model) -> impl FnMut(&[Arc<str>]) -> Vec<Answer> {
    move |texts| model.embed(texts)
}

// === impl Crew ===

impl Drop for Crew {
    fn drop(&mut self) {
        self.queue.close();
        if !self.queue.wait_until_empty(JOIN_PATIENCE) {
            tracing::warn!("embedding threads still compute, leaving them behind");
            return;
        }
        for thread in self.threads.drain(..) {
            // A panic has been answered and logged where it happened.
            drop(thread.join());
        }
    }
}
