//! The files under test, by the names that they have in the house.

/// What reads answers and requests.
#[path = "../../src/wire"]
pub mod wire {
    pub mod json;
    pub mod refusal;
    pub mod sse;
}

/// What reads connections.
#[path = "../../src/front"]
pub mod front {
    pub mod proxy_protocol;
}
