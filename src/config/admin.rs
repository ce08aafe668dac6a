//! `[admin]`: who may change something.

use serde::Deserialize;

use super::units;

/// The admin listener's rights.
#[derive(Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Bearer token for everything that writes.
    #[serde(deserialize_with = "units::optional")]
    pub token: Option<String>,
}

impl std::fmt::Debug for Admin {
    /// Never prints the token.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Admin").field("token", &self.token.as_ref().map(|_| "***")).finish()
    }
}
