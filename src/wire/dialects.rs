//! Which dialect a request is in: by the family that its upstream speaks, and its path.
//!
//! Model servers speak several dialects at once, told apart by path, so an upstream is not of one
//! dialect but of a family of them; `auto` is all families, which no two paths of which collide.

use std::sync::Arc;

use serde::{Deserialize, Deserializer};

use super::{
    Dialect,
    anthropic::{self, Anthropic},
    bedrock::Bedrock,
    cohere::{self, Cohere},
    custom::Custom,
    gemini::{self, Gemini},
    kserve::{self, Generate, Infer, ModelInfer, ModelStreamInfer},
    llamacpp::LlamaCpp,
    ollama::{self, Ollama},
    openai::{self, Chat, Completions, Embeddings, Responses},
    tgi::Tgi,
};

/// What `[[upstream]] dialect` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// All that are built in: the path decides.
    #[default]
    Auto,
    /// OpenAI's: chat, completions, responses, embeddings, moderations, rerank.
    Openai,
    /// Anthropic's messages.
    Anthropic,
    /// Gemini's, on the AI API and on Vertex.
    Gemini,
    /// Ollama's own API.
    Ollama,
    /// Cohere's v2.
    Cohere,
    /// Text Generation Inference's own API.
    Tgi,
    /// llama.cpp's own API.
    Llamacpp,
    /// Amazon Bedrock's Converse.
    Bedrock,
    /// KServe's, as Triton and ONNX Runtime servers speak it.
    Kserve,
    /// One that a `[dialect.NAME]` section describes, and all that are built in.
    Custom(Box<Custom>),
}

impl Family {
    /// Those that are built in, by name.
    pub const ALL: [(&'static str, Self); 10] = [
        ("auto", Self::Auto),
        ("openai", Self::Openai),
        ("anthropic", Self::Anthropic),
        ("gemini", Self::Gemini),
        ("ollama", Self::Ollama),
        ("cohere", Self::Cohere),
        ("tgi", Self::Tgi),
        ("llamacpp", Self::Llamacpp),
        ("bedrock", Self::Bedrock),
        ("kserve", Self::Kserve),
    ];

    /// Stable name for logs and metrics.
    pub fn name(&self) -> &str {
        if let Self::Custom(custom) = self {
            return &custom.name;
        }
        let known = Self::ALL.iter().find(|(_, family)| family == self);
        known.map_or("auto", |(name, _)| name)
    }
}

impl<'de> Deserialize<'de> for Family {
    /// Whether a name that is not built in has its section is for the configuration's check.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let known = Self::ALL.into_iter().find(|(name, _)| *name == text);
        let described =
            || Self::Custom(Box::new(Custom { name: text.clone(), ..Custom::default() }));
        Ok(known.map_or_else(described, |(_, family)| family))
    }
}

/// The dialects of one upstream, in the order in which they are asked.
#[derive(Clone)]
pub struct Dialects {
    spoken: Vec<Arc<dyn Dialect>>,
}

impl Dialects {
    /// Those of this family.
    pub fn of(family: &Family) -> Self {
        let spoken = match family {
            Family::Auto => built_in(),
            Family::Custom(custom) => {
                let custom: Arc<dyn Dialect> = Arc::new(Custom::clone(custom));
                [vec![custom], built_in()].concat()
            }
            Family::Openai => openai(),
            Family::Anthropic => anthropic(),
            Family::Gemini => gemini(),
            Family::Ollama => ollama(),
            Family::Cohere => {
                [cohere(), vec![Arc::new(openai::RERANK) as Arc<dyn Dialect>]].concat()
            }
            Family::Tgi => tgi(),
            Family::Llamacpp => llamacpp(),
            Family::Bedrock => bedrock(),
            Family::Kserve => kserve(),
        };
        Self { spoken }
    }

    /// The dialect of a POST to this path (no query).
    pub fn at(&self, path: &str) -> Option<&Arc<dyn Dialect>> {
        self.spoken.iter().find(|dialect| dialect.claims(path))
    }

    /// In whose shape errors are told where no dialect claims the path: the family's first.
    pub fn first(&self) -> Option<&Arc<dyn Dialect>> {
        self.spoken.first()
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Arc<dyn Dialect>> {
        self.spoken.iter()
    }
}

fn built_in() -> Vec<Arc<dyn Dialect>> {
    let hosted = [openai(), anthropic(), gemini(), cohere(), bedrock()].concat();
    [hosted, ollama(), tgi(), llamacpp(), kserve()].concat()
}

fn openai() -> Vec<Arc<dyn Dialect>> {
    vec![
        Arc::new(Chat),
        Arc::new(Completions),
        Arc::new(Responses),
        Arc::new(Embeddings),
        Arc::new(openai::MODERATIONS),
        Arc::new(openai::RERANK),
    ]
}

fn anthropic() -> Vec<Arc<dyn Dialect>> {
    vec![Arc::new(Anthropic), Arc::new(anthropic::COUNT_TOKENS)]
}

fn gemini() -> Vec<Arc<dyn Dialect>> {
    vec![
        Arc::new(Gemini),
        Arc::new(gemini::COUNT_TOKENS),
        Arc::new(gemini::EMBED),
        Arc::new(gemini::EMBED_BATCH),
    ]
}

fn ollama() -> Vec<Arc<dyn Dialect>> {
    vec![Arc::new(Ollama::Chat), Arc::new(Ollama::Generate), Arc::new(ollama::EMBED)]
}

fn cohere() -> Vec<Arc<dyn Dialect>> {
    vec![Arc::new(Cohere), Arc::new(cohere::EMBED)]
}

fn tgi() -> Vec<Arc<dyn Dialect>> {
    vec![Arc::new(Tgi)]
}

fn llamacpp() -> Vec<Arc<dyn Dialect>> {
    vec![Arc::new(LlamaCpp)]
}

fn bedrock() -> Vec<Arc<dyn Dialect>> {
    vec![Arc::new(Bedrock)]
}

fn kserve() -> Vec<Arc<dyn Dialect>> {
    vec![
        Arc::new(Infer),
        Arc::new(ModelInfer),
        Arc::new(ModelStreamInfer),
        Arc::new(Generate),
        Arc::new(kserve::PREDICT),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each path of each API, and who reads it.
    const PATHS: [(&str, &str); 34] = [
        ("/inference.GRPCInferenceService/ModelStreamInfer", "kserve_grpc_stream"),
        ("/inference.GRPCInferenceService/ModelInfer", "kserve_grpc"),
        ("/v1/chat/completions", "openai"),
        ("/openai/deployments/gpt/chat/completions", "openai"),
        ("/v1/completions", "openai_completions"),
        ("/openai/deployments/gpt/completions", "openai_completions"),
        ("/v1/responses", "openai_responses"),
        ("/openai/v1/responses", "openai_responses"),
        ("/v1/embeddings", "openai_embeddings"),
        ("/openai/deployments/gpt/embeddings", "openai_embeddings"),
        ("/v1/moderations", "openai_moderations"),
        ("/v1/rerank", "rerank"),
        ("/v2/rerank", "rerank"),
        ("/v1/messages", "anthropic"),
        ("/v1/messages/count_tokens", "anthropic_count_tokens"),
        ("/v1beta/models/g:generateContent", "gemini"),
        ("/v1/projects/p/locations/l/publishers/google/models/g:streamGenerateContent", "gemini"),
        ("/v1beta/models/g:countTokens", "gemini_count_tokens"),
        ("/v1beta/models/g:batchEmbedContents", "gemini_embed_batch"),
        ("/api/chat", "ollama_chat"),
        ("/api/generate", "ollama_generate"),
        ("/api/embed", "ollama_embed"),
        ("/v2/chat", "cohere"),
        ("/v2/embed", "cohere_embed"),
        ("/generate", "tgi"),
        ("/generate_stream", "tgi"),
        ("/completion", "llamacpp"),
        ("/model/meta.llama3%3A0/converse", "bedrock"),
        ("/model/meta.llama3%3A0/converse-stream", "bedrock"),
        ("/v2/models/m/infer", "kserve_infer"),
        ("/v2/models/m/versions/1/infer", "kserve_infer"),
        ("/v2/models/m/generate", "triton_generate"),
        ("/v2/models/m/generate_stream", "triton_generate"),
        ("/v1/models/m:predict", "kserve_predict"),
    ];

    #[test]
    fn a_path_has_one_dialect() {
        let all = Dialects::of(&Family::Auto);
        for (path, name) in PATHS {
            let claims: Vec<_> =
                all.all().filter(|one| one.claims(path)).map(|one| one.name().to_owned()).collect();
            assert_eq!(claims, [name], "{path}");
        }
    }

    #[test]
    fn what_is_no_call_has_none() {
        let all = Dialects::of(&Family::Auto);
        for path in [
            "/",
            "/v1/models",
            "/v1/images/generations",
            "/v1/audio/speech",
            "/v1/files",
            "/v1/threads/t/messages",
            "/v1/messages/batches",
            "/v1/responses/r/cancel",
            "/api/tags",
        ] {
            assert!(all.at(path).is_none(), "{path}");
        }
        assert!(Dialects::of(&Family::Anthropic).at("/v1/chat/completions").is_none());
    }

    #[test]
    fn names_are_unique_and_families_are_known() {
        let mut names: Vec<_> =
            Dialects::of(&Family::Auto).all().map(|one| one.name().to_owned()).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
        let read = |text: &str| toml::from_str::<toml::Table>(&format!("v = \"{text}\"")).unwrap();
        for (name, family) in Family::ALL {
            let value = read(name)["v"].clone();
            assert_eq!(Family::deserialize(value).unwrap(), family);
            assert_eq!(family.name(), name);
        }
        let described = Family::deserialize(read("mine")["v"].clone()).unwrap();
        assert_eq!(described.name(), "mine");
        let all = Dialects::of(&described);
        assert_eq!(all.first().unwrap().name(), "mine");
        assert!(all.at("/v1/chat/completions").is_some());
    }
}
