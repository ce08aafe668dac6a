//! What computes a model: the CPU, or whatever else the ONNX Runtime library can drive.

use std::path::Path;

use ort::ep::{CUDA, CoreML, ExecutionProvider, ExecutionProviderDispatch, OpenVINO, TensorRT};
use serde::Deserialize;

use super::EmbedOpenError;

/// ONNX Runtime's execution providers that Reprise can ask for.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// This machine's cores.
    #[default]
    Cpu,
    /// NVIDIA GPUs.
    Cuda,
    /// NVIDIA GPUs, compiled for by TensorRT.
    TensorRt,
    /// Intel's CPUs, GPUs and NPUs.
    OpenVino,
    /// Apple's.
    CoreMl,
}

impl Provider {
    /// The stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
            Self::OpenVino => "openvino",
            Self::CoreMl => "coreml",
        }
    }

    /// What a session is given. Whoever asks for a GPU wants no silent fallback to the CPU: a library
    /// without it, and a machine without it, are errors. The library must be loaded.
    pub(super) fn dispatch(
        self,
        library: &Path,
    ) -> Result<Vec<ExecutionProviderDispatch>, EmbedOpenError> {
        match self {
            Self::Cpu => Ok(Vec::new()),
            Self::Cuda => self.of(CUDA::default(), library),
            Self::TensorRt => self.of(TensorRT::default(), library),
            Self::OpenVino => self.of(OpenVINO::default(), library),
            Self::CoreMl => self.of(CoreML::default(), library),
        }
    }

    fn of<E>(
        self,
        provider: E,
        library: &Path,
    ) -> Result<Vec<ExecutionProviderDispatch>, EmbedOpenError>
    where
        E: ExecutionProvider + Into<ExecutionProviderDispatch>,
    {
        if E::is_available().unwrap_or(false) {
            return Ok(vec![provider.into().error_on_failure()]);
        }
        let reason = format!(
            "it has no {}: embed.provider = \"{}\" needs an ONNX Runtime that was built with it, \
             named by embed.ort_dylib (for CUDA: the one in PyPI's onnxruntime-gpu)",
            E::NAME,
            self.name()
        );
        Err(EmbedOpenError::BadRuntime { path: library.to_owned(), reason })
    }
}
