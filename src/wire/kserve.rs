//! KServe's open inference protocol (v2) as Triton and ONNX Runtime servers speak it, with Triton's
//! binary tensors and its generate extension, over HTTP and gRPC.
//!
//! Tensors are repeated exactly, by their content: classification, detection and embedding models
//! are cached that way. A BYTES input that `cache.text_inputs` names is a question in words. What
//! the request does not hold itself (a sequence's state, shared memory) cannot be in a key: such
//! requests are forwarded (`stateful`).
//!
//! Source: KServe "Open Inference Protocol (V2)"; Triton `protocol/extension_binary_data.md`,
//! `extension_sequence.md`, `extension_shared_memory.md`, `extension_generate.md`.

mod generate;
mod grpc;
mod infer;

use bytes::Bytes;
use serde_json::json;

pub use self::{
    generate::Generate,
    grpc::{ModelInfer, ModelStreamInfer},
    infer::Infer,
};
use super::oneshot::OneShot;
use crate::fault::Fault;

/// KServe's first protocol, which TensorFlow Serving and older ONNX Runtime servers speak.
pub(super) const PREDICT: OneShot =
    OneShot { name: "kserve_predict", ends: &[":predict"], said: "predictions", error };

/// `{"error": "message"}`.
fn error(fault: &Fault) -> Bytes {
    Bytes::from(json!({"error": fault.to_string()}).to_string())
}

/// The model of `/v2/models/M[/versions/V]/METHOD`, if this is such a path.
fn model<'p>(path: &'p str, method: &str) -> Option<&'p str> {
    let (_, rest) = path.split_once("/v2/models/")?;
    let place = rest.strip_suffix(method)?.strip_suffix('/')?;
    let (model, version) = place.split_once("/versions/").unwrap_or((place, "1"));
    let plain = |name: &str| !name.is_empty() && !name.contains('/');
    (plain(model) && plain(version)).then_some(model)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_in_full() {
        assert_eq!(model("/v2/models/m/infer", "infer"), Some("m"));
        assert_eq!(model("/x/v2/models/m/versions/3/infer", "infer"), Some("m"));
        for other in ["/v2/models/m/ready", "/v2/models//infer", "/v2/models/a/b/infer", "/infer"] {
            assert_eq!(model(other, "infer"), None, "{other}");
        }
    }
}
