//! The hash that every answer carries, and the only source of "randomness" in one.

use serde_json::Value;

/// Top-level fields that cannot change an answer. They stay out of the stamp so that a streamed and
/// a whole form of one request, or two end users of one credential, may share an answer. Kept apart
/// from the proxy's own list on purpose: the stamp is an independent witness.
const SILENT: [&str; 8] = [
    "metadata",
    "prompt_cache_key",
    "safety_identifier",
    "service_tier",
    "store",
    "stream",
    "stream_options",
    "user",
];

/// BLAKE3 of the canonical request, a newline, and the credential.
#[derive(Clone, Copy)]
pub(crate) struct Stamp(blake3::Hash);

impl Stamp {
    /// The stamp of `body` asked with `credential` (the raw header value, empty if none was sent).
    pub(crate) fn of(body: &Value, credential: &str) -> Self {
        let mut canonical = String::new();
        write_object(body, &SILENT, &mut canonical);
        canonical.push('\n');
        canonical.push_str(credential);
        Self(blake3::hash(canonical.as_bytes()))
    }

    /// The first 16 hex digits: what `[sim:...]` shows.
    pub(crate) fn short(&self) -> String {
        self.0.to_hex().chars().take(16).collect()
    }

    /// The `position`-th number of choice `choice`: the same for the same request, always.
    pub(crate) fn draw(&self, choice: usize, position: usize) -> u64 {
        let mut hasher = blake3::Hasher::new_keyed(self.0.as_bytes());
        hasher.update(&(choice as u64).to_le_bytes());
        hasher.update(&(position as u64).to_le_bytes());
        let mut number = [0; 8];
        hasher.finalize_xof().fill(&mut number);
        u64::from_le_bytes(number)
    }
}

/// Appends `value` as JSON without spaces and with object keys in byte order, which is what Python's
/// `json.dumps(sort_keys=True, separators=(",", ":"), ensure_ascii=False)` writes too.
fn write(value: &Value, out: &mut String) {
    match value {
        Value::Object(_) => write_object(value, &[], out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

fn write_object(value: &Value, skipped: &[&str], out: &mut String) {
    let Value::Object(fields) = value else {
        return write(value, out);
    };
    let mut fields: Vec<_> =
        fields.iter().filter(|(name, _)| !skipped.contains(&name.as_str())).collect();
    fields.sort_unstable_by_key(|(name, _)| name.as_str());
    out.push('{');
    for (index, (name, field)) in fields.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str(&Value::String(name.clone()).to_string());
        out.push(':');
        write(field, out);
    }
    out.push('}');
}
