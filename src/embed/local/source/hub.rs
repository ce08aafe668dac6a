//! Models by name, fetched by fastembed from a hub (`HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN`) and kept
//! in its cache (`FASTEMBED_CACHE_DIR`).

use fastembed::{
    EmbeddingModel, ModelInfo, ModelTrait, QuantizationMode, TextEmbedding, TextInitOptions,
};

use super::WINDOW_TOKENS_DEFAULT;
use crate::embed::{
    Identity,
    local::{
        EmbedOpenError, Engine,
        model::{Company, Model},
    },
};

/// A model that fastembed knows.
#[derive(Clone, Debug)]
pub(in crate::embed::local) struct Known {
    model: EmbeddingModel,
    name: String,
}

// === impl Known ===

impl Known {
    /// By repository (`Xenova/bge-small-en-v1.5`), by fastembed's own name (`BGESmallENV15`), or by
    /// the last part of the repository's name, whoever publishes it (`BAAI/bge-small-en-v1.5`).
    /// Where a repository has several, the one whose vectors do not depend on the batch.
    pub(in crate::embed::local) fn find(name: &str) -> Option<Self> {
        let rank = |info: &ModelInfo<EmbeddingModel>| {
            let own = format!("{:?}", info.model);
            let part = last_part(&info.model_code);
            let likeness = [info.model_code.as_str(), own.as_str(), part]
                .iter()
                .zip([name, name, last_part(name)])
                .position(|(known, asked)| known.eq_ignore_ascii_case(asked))?;
            Some((likeness, is_dynamic(&info.model), own))
        };
        let found = TextEmbedding::list_supported_models()
            .into_iter()
            .filter_map(|info| Some((rank(&info)?, info)))
            .min_by(|(one, _), (other, _)| one.cmp(other));
        found.map(|(_, info)| Self { model: info.model, name: info.model_code })
    }

    pub(super) fn load(&self, engine: Engine) -> Result<(Model, Identity), EmbedOpenError> {
        let bad =
            |reason: String| EmbedOpenError::BadModel { path: self.name.clone().into(), reason };
        let options = TextInitOptions::new(self.model.clone())
            .with_environment(engine.environment)
            .with_execution_providers(engine.providers)
            .with_max_length(WINDOW_TOKENS_DEFAULT)
            .with_intra_threads(engine.threads)
            .with_show_download_progress(false);
        let embedding = TextEmbedding::try_new(options).map_err(|error| bad(error.to_string()))?;
        // fastembed has taken the tokenizer's own limit into account.
        let window = embedding
            .tokenizer
            .get_truncation()
            .map_or(WINDOW_TOKENS_DEFAULT, |truncation| truncation.max_length);
        let company = if is_dynamic(&self.model) { Company::None } else { Company::Any };
        let mut model = Model::new(embedding, window, company).map_err(bad)?;
        let dimension = model.warm().map_err(bad)?;
        // fastembed does not show the files: repository and file name stand for the weights.
        let file = EmbeddingModel::get_model_info(&self.model).map(|info| info.model_file.as_str());
        let described = format!("{} {} {window}", self.name, file.unwrap_or_default());
        let digest = blake3::hash(described.as_bytes()).to_hex()[..16].to_owned();
        Ok((model, Identity { name: self.name.clone(), digest, dimension, window_tokens: window }))
    }
}

fn is_dynamic(model: &EmbeddingModel) -> bool {
    TextEmbedding::get_quantization_mode(model) == QuantizationMode::Dynamic
}

fn last_part(name: &str) -> &str {
    let part = name.rsplit('/').next().unwrap_or(name);
    part.strip_suffix("-onnx").unwrap_or(part)
}

#[cfg(test)]
mod tests {
    use super::Known;

    #[test]
    fn names_of_publishers_and_of_fastembed_find_the_same_model() {
        for name in ["BAAI/bge-small-en-v1.5", "xenova/bge-small-en-v1.5", "BGESmallENV15"] {
            let known = Known::find(name);
            assert_eq!(known.map(|known| known.name).as_deref(), Some("Xenova/bge-small-en-v1.5"));
        }
        assert!(Known::find("nobody/nothing").is_none());
    }
}
