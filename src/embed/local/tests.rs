//! With the real model and library where scripts/fetch-assets has put them; the threads' behaviour
//! around the model needs neither and is tested in `worker`.

use std::{fs, path::Path, sync::Arc};

use futures_util::future::join_all;
use parking_lot::Mutex;

use super::{EmbedOpenError, Local, LocalOptions, Priority, TEXT_BYTES_MAX, foresee, runtime};
use crate::embed::{EmbedFault, Embedded, Embedder, Vector, cosine};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/all-MiniLM-L6-v2");

/// Cosines that the float32 weights give (computed with ONNX Runtime from the unquantized graph).
const TEXTS: [&str; 6] = [
    "What is the capital of France?",
    "Tell me France's capital city",
    "How do I undo the last commit in git without losing my changes?",
    "Keep my work but revert the most recent git commit",
    "Is it safe to take ibuprofen with alcohol?",
    "Quelle est la capitale du Japon ?",
];
const GOLDEN: [(usize, usize, f32); 6] = [
    (0, 1, 0.9092),
    (2, 3, 0.8449),
    (0, 2, 0.0084),
    (0, 5, 0.5474),
    (2, 4, -0.0430),
    (4, 5, 0.0072),
];

/// One model for all tests that only ask it something: loading takes most of a test's time.
static SHARED: Mutex<Option<Arc<Local>>> = Mutex::new(None);

fn options() -> Option<LocalOptions> {
    let options = LocalOptions { model: MODEL.to_owned(), threads: 1, ..LocalOptions::default() };
    if Path::new(MODEL).is_dir() {
        return Some(options);
    }
    eprintln!("skipped: no {MODEL}, run scripts/fetch-assets");
    None
}

fn shared() -> Option<Arc<Local>> {
    let mut shared = SHARED.lock();
    if shared.is_none() {
        *shared = Some(Arc::new(Local::open(options()?).unwrap()));
    }
    shared.clone()
}

async fn vector(local: &Local, text: &str) -> Vector {
    match local.embed(text.into()).await {
        Ok(Embedded::Vector(vector)) => vector,
        other => panic!("{text:?}: {other:?}"),
    }
}

/// `None` for a vector, else how many tokens are said to be there.
async fn beyond(local: &Local, text: &str) -> Option<usize> {
    match local.embed(text.into()).await.unwrap() {
        Embedded::Vector(_) => None,
        Embedded::BeyondWindow { tokens } => Some(tokens),
        unknown @ Embedded::UnknownWords { .. } => panic!("{text:?}: {unknown:?}"),
    }
}

async fn unknown(local: &Local, text: &str) -> Option<usize> {
    match local.embed(text.into()).await.unwrap() {
        Embedded::UnknownWords { unknown } => Some(unknown),
        Embedded::Vector(_) | Embedded::BeyondWindow { .. } => None,
    }
}

fn assert_same(alone: &Vector, together: &Vector, text: &str) {
    let same = cosine(alone, together);
    assert!(same >= 0.99999, "{text:?} alone and in company: cosine {same}");
}

#[tokio::test]
async fn the_identity_names_what_was_loaded() {
    let Some(local) = shared() else { return };
    let identity = local.identity();
    assert_eq!(identity.name, "all-MiniLM-L6-v2");
    assert_eq!((identity.dimension, identity.window_tokens), (384, 256));
    assert_eq!(identity.digest.len(), 16);
    assert!(identity.digest.bytes().all(|digit| digit.is_ascii_hexdigit()));
    assert_eq!(foresee(MODEL).as_ref(), Some(identity), "the files tell it");
}

#[tokio::test]
async fn cosines_are_those_of_the_float32_model() {
    let Some(local) = shared() else { return };
    for (a, b, golden) in GOLDEN {
        let got = cosine(&vector(&local, TEXTS[a]).await, &vector(&local, TEXTS[b]).await);
        assert!((got - golden).abs() < 0.02, "{} / {}: {got}, not {golden}", TEXTS[a], TEXTS[b]);
    }
}

#[tokio::test]
async fn every_text_has_a_unit_vector() {
    let Some(local) = shared() else { return };
    for text in TEXTS.into_iter().chain(["", " \t\n", "[CLS] [SEP]", "\0\u{feff}", "a"]) {
        let vector = vector(&local, text).await;
        assert_eq!(vector.len(), 384, "{text:?}");
        let square = cosine(&vector, &vector);
        assert!((square - 1.0).abs() < 1e-4, "{text:?}: squared norm {square}");
    }
}

#[test]
fn a_provider_that_the_library_lacks_is_an_error_that_says_what_to_do() {
    let Some(options) = options() else { return };
    let asked = LocalOptions { provider: super::Provider::CoreMl, ..options };
    let error = Local::open(asked).unwrap_err().to_string();
    assert!(error.contains("coreml") && error.contains("embed.ort_dylib"), "{error}");
}

/// The property that rules out dynamic quantization, and blocks of 128 weights.
#[test]
fn a_vector_does_not_depend_on_the_batch() {
    let Some(options) = options() else { return };
    let source = super::source::Source::find(options.model).unwrap();
    let library = runtime::find(None, None, None).unwrap();
    let environment = runtime::environment(&library).unwrap();
    let (mut model, _) =
        source.load(super::Engine { environment, providers: Vec::new(), threads: 1 }).unwrap();
    let long = "one two three four five six seven ".repeat(30);
    // Odd and even numbers of tokens, batches of odd and even size.
    let texts: Vec<Arc<str>> = TEXTS.into_iter().chain(["x", &long]).map(Arc::from).collect();
    let take = |answers: Vec<super::Answer>| -> Vec<Vector> {
        let vector = |answer: super::Answer| match answer.unwrap() {
            Embedded::Vector(vector) => vector,
            other => panic!("{other:?}"),
        };
        answers.into_iter().map(vector).collect()
    };
    let alone: Vec<Vector> =
        texts.iter().flat_map(|text| take(model.embed(std::slice::from_ref(text)))).collect();
    for size in [2, 3, 5, texts.len()] {
        for start in 0..=texts.len() - size {
            let batch = &texts[start..start + size];
            for (at, vector) in take(model.embed(batch)).iter().enumerate() {
                assert_same(&alone[start + at], vector, &batch[at]);
            }
        }
    }
}

#[tokio::test]
async fn many_callers_at_once_each_get_their_own_vector() {
    let Some(local) = shared() else { return };
    let mut alone = Vec::new();
    for text in TEXTS {
        alone.push(vector(&local, text).await);
    }
    let together = join_all(TEXTS.iter().cycle().take(30).map(|text| vector(&local, text))).await;
    for (n, vector) in together.iter().enumerate() {
        assert_same(&alone[n % TEXTS.len()], vector, TEXTS[n % TEXTS.len()]);
    }
}

#[tokio::test]
async fn a_text_that_fills_the_window_fits_and_one_more_token_does_not() {
    let Some(local) = shared() else { return };
    let window = local.identity().window_tokens;
    // One token each, of one, two and three bytes; two tokens are special.
    for word in ["a ", "yes ", "?", "é ", "日"] {
        let (full, over) = (word.repeat(window - 2), word.repeat(window - 1));
        assert_eq!(beyond(&local, &full).await, None, "{word:?}");
        assert_eq!(beyond(&local, &over).await, Some(window + 1), "{word:?}");
    }
    assert_eq!(beyond(&local, &" ".repeat(50_000)).await, None);
    // Canonical decomposition makes three tokens of this one character.
    assert_eq!(beyond(&local, &"각 ".repeat(200)).await, Some(602));
}

/// Two such texts would have the same vector: cosine 1 for different questions.
#[tokio::test]
async fn a_text_with_words_that_the_model_does_not_know_has_no_vector() {
    let Some(local) = shared() else { return };
    assert_eq!(unknown(&local, "🙂 😡").await, Some(2));
    assert_eq!(unknown(&local, "Ask ᚠᚢᚦ 🙂").await, Some(2));
    let decode = |word: &str| format!("decode {}", word.repeat(101));
    assert_eq!(unknown(&local, &decode("x")).await, Some(1));
    assert_eq!(unknown(&local, &decode("y")).await, Some(1));
    assert_eq!(unknown(&local, &format!("decode {}", "x".repeat(100))).await, None);
    assert_eq!(unknown(&local, "“Où est-il né — à Zürich?” 東京 → € naïve").await, None);
}

/// Who compares questions compares their emoji apart.
#[tokio::test]
async fn emoji_that_the_model_does_not_know_are_left_out() {
    let Some(local) = shared() else { return };
    let vector = async |text: &str| match local.embed(text.into()).await.unwrap() {
        Embedded::Vector(vector) => vector,
        other => panic!("{text:?}: {other:?}"),
    };
    let plain = vector("How do I reset my password?").await;
    for adorned in ["How do I reset my password?🙂", "🤗 How do I reset my password?"] {
        assert_eq!(vector(adorned).await, plain, "{adorned}");
    }
}

#[tokio::test]
async fn a_huge_text_is_beyond_any_window() {
    let Some(local) = shared() else { return };
    assert_eq!(beyond(&local, &"prose is long ".repeat(3000)).await, Some(257));
    assert_eq!(beyond(&local, &" ".repeat(TEXT_BYTES_MAX + 1)).await, Some(257));
}

#[tokio::test]
async fn dropping_ends_and_joins_the_threads() {
    let Some(options) = options() else { return };
    let local = Local::open(LocalOptions { threads: 2, ..options }).unwrap();
    assert_eq!(local.workload().threads, 2);
    assert_eq!(vector(&local, "still here").await.len(), 384);
    let queue = Arc::clone(&local.crew.queue);
    drop(local);
    assert!(queue.wait_until_empty(std::time::Duration::ZERO), "threads outlive their owner");
    assert_eq!(queue.push("too late".into(), Priority::Interactive).unwrap_err(), EmbedFault::Dead);
    assert_eq!(Arc::strong_count(&queue), 1, "a thread still holds the queue");
}

#[test]
fn a_missing_model_names_the_remedy() {
    let missing = LocalOptions { model: "no/such/folder".to_owned(), ..LocalOptions::default() };
    let message = Local::open(missing).unwrap_err().to_string();
    assert!(message.contains("`no/such/folder`"), "{message}");
    assert!(message.contains("make assets"), "{message}");
}

#[test]
fn an_incomplete_or_broken_folder_names_the_file() {
    let Some(options) = options() else { return };
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let model = folder.path().to_string_lossy().into_owned();
        Local::open(LocalOptions { model, ..options.clone() }).unwrap_err().to_string()
    };
    assert!(open().contains("model.onnx"), "{}", open());
    for file in
        ["tokenizer.json", "config.json", "special_tokens_map.json", "tokenizer_config.json"]
    {
        fs::copy(Path::new(MODEL).join(file), folder.path().join(file)).unwrap();
    }
    fs::write(folder.path().join("model.onnx"), "no protobuf").unwrap();
    let message = open();
    assert!(message.contains(&*folder.path().to_string_lossy()), "{message}");
    fs::write(folder.path().join("config.json"), "{").unwrap();
    assert!(open().contains("config.json"), "{}", open());
}

#[test]
fn a_library_that_was_asked_for_must_be_there() {
    let asked = runtime::find(Some("/no/lib.so".into()), None, None).unwrap_err().to_string();
    assert!(asked.contains("/no/lib.so") && asked.contains("make assets"), "{asked}");
    let variable = runtime::find(None, Some("/no/env.so".into()), None).unwrap_err().to_string();
    assert!(variable.contains("/no/env.so"), "{variable}");
}

#[test]
fn the_library_is_found_around_the_executable() {
    let root = tempfile::tempdir().unwrap();
    let executable = root.path().join("bin/reprise");
    let name = if cfg!(target_os = "macos") { "libonnxruntime.dylib" } else { "libonnxruntime.so" };
    let library = root.path().join("assets/onnxruntime").join(name);
    fs::create_dir_all(library.parent().unwrap()).unwrap();
    fs::write(&library, "").unwrap();
    let found = runtime::find(None, Some("".into()), Some(&executable)).unwrap();
    // The working directory's own assets come first where they exist.
    assert!(found == library || found.starts_with(env!("CARGO_MANIFEST_DIR")), "{found:?}");
}

#[test]
fn a_file_that_is_no_library_is_an_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let found = runtime::find(Some(file.path().into()), None, None).unwrap();
    match runtime::environment(&found) {
        Err(EmbedOpenError::BadRuntime { path, .. }) => assert_eq!(path, file.path()),
        // Another test has loaded the real library already, which stays for the process.
        Ok(_) => assert!(Path::new(MODEL).is_dir()),
        Err(other) => panic!("{other}"),
    }
}
