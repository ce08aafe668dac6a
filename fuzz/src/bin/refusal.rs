//! Whatever a server says is an error with a sensible status, or none.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reprise_fuzz::wire::refusal::Refusal;

fuzz_target!(|said: &[u8]| {
    if let Some(refusal) = Refusal::of(said) {
        assert!(serde_json::from_slice::<serde_json::Value>(&refusal.words).is_ok());
        assert!(refusal.status.is_none_or(|it| it.is_client_error() || it.is_server_error()));
    }
});
