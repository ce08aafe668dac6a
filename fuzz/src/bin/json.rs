//! What our parser takes, serde_json takes too; names are sorted and unique.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reprise_fuzz::wire::json::Json;

fn check(json: &Json<'_>) {
    match json {
        Json::List(items) => items.iter().for_each(check),
        Json::Object(members) => {
            assert!(members.windows(2).all(|two| two[0].0 < two[1].0));
            members.iter().for_each(|(_, value)| check(value));
        }
        _ => {}
    }
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(json) = Json::parse(bytes) {
        check(&json);
        assert!(serde_json::from_slice::<serde_json::Value>(bytes).is_ok());
    }
});
