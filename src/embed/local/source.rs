//! Where a model comes from: a folder of files, or (feature `hub`) a name.

#[cfg(feature = "hub")]
mod hub;

use std::{io::BufRead, path::PathBuf};

use fastembed::{
    InitOptionsUserDefined, Pooling, TextEmbedding, TokenizerFiles, UserDefinedEmbeddingModel,
};
use serde_json::Value;

use crate::embed::{
    Identity,
    local::{
        EmbedOpenError, Engine,
        model::{Company, Model},
    },
};

/// The window of a model whose files name none: what BERT's descendants have.
const WINDOW_TOKENS_DEFAULT: usize = 512;

/// The operator that scales activations over everything it is given.
const DYNAMIC_QUANTIZATION: &[u8] = b"DynamicQuantizeLinear";

/// What every thread loads its own copy from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Folder(Folder),
    #[cfg(feature = "hub")]
    Hub(hub::Known),
}

/// A folder with `model.onnx`, `tokenizer.json`, `config.json`, `special_tokens_map.json` and
/// `tokenizer_config.json`; optionally sentence-transformers' `sentence_bert_config.json` (the
/// window) and `1_Pooling/config.json`.
#[derive(Clone, Debug)]
pub(super) struct Folder(PathBuf);

/// All that determines a folder's vectors.
struct Files {
    onnx: Vec<u8>,
    tokenizer: TokenizerFiles,
    window: usize,
    pooling: Pooling,
    digest: String,
}

// === impl Source ===

impl Source {
    /// A folder of that path, else a known name.
    pub(super) fn find(model: String) -> Result<Self, EmbedOpenError> {
        let path = PathBuf::from(&model);
        if path.is_dir() {
            return Ok(Self::Folder(Folder(path)));
        }
        #[cfg(feature = "hub")]
        if let Some(known) = hub::Known::find(&model) {
            return Ok(Self::Hub(known));
        }
        Err(EmbedOpenError::NoModel { model })
    }

    /// Makes a session of `intra_threads` threads and runs it once. Blocking; by name, the first time
    /// on a machine, as long as the download takes.
    pub(super) fn load(&self, engine: Engine) -> Result<(Model, Identity), EmbedOpenError> {
        match self {
            Self::Folder(folder) => folder.load(engine),
            #[cfg(feature = "hub")]
            Self::Hub(known) => known.load(engine),
        }
    }

    /// What `load` will find the identity to be, if the files tell without running the model.
    pub(super) fn foresee(&self) -> Option<Identity> {
        match self {
            Self::Folder(folder) => folder.foresee(),
            #[cfg(feature = "hub")]
            Self::Hub(_) => None,
        }
    }
}

// === impl Folder ===

impl Folder {
    fn load(&self, engine: Engine) -> Result<(Model, Identity), EmbedOpenError> {
        let Files { onnx, tokenizer, window, pooling, digest } = self.files()?;
        let company = match contains(&onnx, DYNAMIC_QUANTIZATION) {
            true => Company::None,
            false => Company::Any,
        };
        let options = InitOptionsUserDefined::new()
            .with_environment(engine.environment)
            .with_execution_providers(engine.providers)
            .with_max_length(window)
            .with_intra_threads(engine.threads);
        let model = UserDefinedEmbeddingModel::new(onnx, tokenizer).with_pooling(pooling);
        let embedding = TextEmbedding::try_new_from_user_defined(model, options)
            .map_err(|error| self.bad(error.to_string()))?;
        let mut model =
            Model::new(embedding, window, company).map_err(|reason| self.bad(reason))?;
        let dimension = model.warm().map_err(|reason| self.bad(reason))?;
        Ok((model, Identity { name: self.name(), digest, dimension, window_tokens: window }))
    }

    /// The dimension is the hidden layer's where the folder is a transformer with a pooling and no more.
    fn foresee(&self) -> Option<Identity> {
        let Files { tokenizer, window, digest, .. } = self.files().ok()?;
        let config = self.parse("config.json", &tokenizer.config_file).ok()?;
        let dimension = usize::try_from(config["hidden_size"].as_u64()?).ok()?;
        Some(Identity { name: self.name(), digest, dimension, window_tokens: window })
    }

    fn files(&self) -> Result<Files, EmbedOpenError> {
        let onnx = self.read("model.onnx")?;
        let tokenizer = TokenizerFiles {
            tokenizer_file: self.read("tokenizer.json")?,
            config_file: self.read("config.json")?,
            special_tokens_map_file: self.read("special_tokens_map.json")?,
            tokenizer_config_file: self.read("tokenizer_config.json")?,
        };
        let (window, pooling) = (self.window(&tokenizer)?, self.pooling()?);
        let digest = digest(&onnx, &tokenizer, &pooling, window);
        Ok(Files { onnx, tokenizer, window, pooling, digest })
    }

    fn name(&self) -> String {
        self.0.file_name().unwrap_or(self.0.as_os_str()).to_string_lossy().into_owned()
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, EmbedOpenError> {
        let path = self.0.join(name);
        std::fs::read(&path).map_err(|source| EmbedOpenError::File { path, source })
    }

    /// A file that need not be there.
    fn read_optional(&self, name: &str) -> Result<Option<Value>, EmbedOpenError> {
        match self.read(name) {
            Ok(bytes) => self.parse(name, &bytes).map(Some),
            Err(EmbedOpenError::File { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn parse(&self, name: &str, bytes: &[u8]) -> Result<Value, EmbedOpenError> {
        serde_json::from_slice(bytes).map_err(|error| self.bad(format!("{name}: {error}")))
    }

    /// The least of what the files say: the tokenizer's limit may be 10^30, the position table's
    /// length is more than a RoBERTa can use, and sentence-transformers' is what was trained with.
    fn window(&self, files: &TokenizerFiles) -> Result<usize, EmbedOpenError> {
        let trained = self.read_optional("sentence_bert_config.json")?;
        let tokenizer = self.parse("tokenizer_config.json", &files.tokenizer_config_file)?;
        let config = self.parse("config.json", &files.config_file)?;
        let limits = [
            trained.as_ref().map(|file| &file["max_seq_length"]),
            Some(&tokenizer["model_max_length"]),
            Some(&config["max_position_embeddings"]),
        ];
        let least = limits
            .into_iter()
            .flatten()
            .filter_map(Value::as_f64)
            .map(|limit| limit as usize) // saturates
            .min()
            .unwrap_or(WINDOW_TOKENS_DEFAULT);
        if least < 8 {
            return Err(self.bad(format!("a window of {least} tokens")));
        }
        Ok(least)
    }

    fn pooling(&self) -> Result<Pooling, EmbedOpenError> {
        let Some(config) = self.read_optional("1_Pooling/config.json")? else {
            return Ok(Pooling::Mean);
        };
        match (&config["pooling_mode_mean_tokens"], &config["pooling_mode_cls_token"]) {
            (Value::Bool(true), _) => Ok(Pooling::Mean),
            (_, Value::Bool(true)) => Ok(Pooling::Cls),
            _ => Err(self.bad("1_Pooling/config.json: neither mean nor cls pooling".to_owned())),
        }
    }

    fn bad(&self, reason: String) -> EmbedOpenError {
        EmbedOpenError::BadModel { path: self.0.clone(), reason }
    }
}

/// First 16 hex digits of BLAKE3 over all that determines a vector, each part behind its length.
fn digest(onnx: &[u8], files: &TokenizerFiles, pooling: &Pooling, window: usize) -> String {
    let settings = format!("{pooling:?} {window}");
    let mut hasher = blake3::Hasher::new();
    for part in [
        onnx,
        &files.tokenizer_file,
        &files.config_file,
        &files.special_tokens_map_file,
        &files.tokenizer_config_file,
        settings.as_bytes(),
    ] {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

/// By hops from one first byte to the next, which the standard library finds many at a time.
fn contains(mut haystack: &[u8], needle: &[u8]) -> bool {
    let Some((&first, rest)) = needle.split_first() else {
        return true;
    };
    while let Ok(1..) = haystack.skip_until(first) {
        if haystack.starts_with(rest) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::contains;

    proptest! {
        #[test]
        fn contains_agrees_with_the_standard_library(
            haystack in "[ab]{0,12}",
            needle in "[ab]{2,4}",
        ) {
            let found = contains(haystack.as_bytes(), needle.as_bytes());
            prop_assert_eq!(found, haystack.contains(&needle));
        }
    }
}
