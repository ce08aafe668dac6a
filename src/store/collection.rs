//! What a collection is called: whatever changes the meaning of a vector or the shape of a record
//! changes the name, so that those of two models never meet and both can be served side by side.

use crate::embed::Identity;

/// Grows when stored records change their shape: an older collection is then left beside the new.
pub const SCHEMA: u32 = 2;

/// The same for the small records that replicas share: what is in there is worth keeping.
const META_SCHEMA: u32 = 1;

/// The name of one collection, and what its vectors look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collection {
    /// `v2-all-minilm-l6-v2-0123456789abcdef-384`, behind the prefix and a hyphen where there is one.
    pub name: String,
    /// Length of a vector.
    pub dimension: usize,
    prefix: String,
}

impl Collection {
    /// The collection of this embedder's vectors. `prefix` keeps installations apart that share a
    /// server; it may be empty.
    pub fn of(prefix: &str, identity: &Identity) -> Self {
        let slug: String = identity.name.chars().map(plain).take(40).collect();
        let name = format!("v{SCHEMA}-{slug}-{}-{}", identity.digest, identity.dimension);
        Self::named(prefix, name, identity.dimension)
    }

    /// The collection of the small records that all replicas share, whatever their embedder.
    pub fn meta(prefix: &str) -> Self {
        Self::named(prefix, format!("v{META_SCHEMA}-meta"), META_DIMENSION)
    }

    fn named(prefix: &str, name: String, dimension: usize) -> Self {
        let prefix: String = prefix.chars().map(plain).collect();
        let name = if prefix.is_empty() { name } else { format!("{prefix}-{name}") };
        Self { name, dimension, prefix }
    }

    /// The name where only letters, digits and underscores are allowed.
    pub fn with_underscores(&self) -> String {
        self.name.replace('-', "_")
    }

    /// Of these names those that are ours but another embedder's or another schema's.
    pub fn others<'n>(&self, names: &'n [String]) -> Vec<&'n str> {
        let ours = |name: &str| {
            let name = name.replace('_', "-");
            let rest = match self.prefix.as_str() {
                "" => Some(name.as_str()),
                prefix => name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('-')),
            };
            let version = rest.and_then(|rest| rest.strip_prefix('v'));
            let digits = version.and_then(|rest| rest.split_once('-'));
            digits.is_some_and(|(version, rest)| version.parse::<u32>().is_ok() && rest != "meta")
                && name != self.name
        };
        names.iter().map(String::as_str).filter(|name| ours(name)).collect()
    }

    /// Says that a changed model begins a new collection beside the old one.
    pub fn tell_of_others(&self, names: &[String]) {
        for other in self.others(names) {
            tracing::info!(
                other,
                using = self.name,
                "the store also holds a collection of another embedder or an older schema, which is left alone"
            );
        }
    }
}

/// Some databases want a vector of each record, and one number has no direction.
const META_DIMENSION: usize = 2;

fn plain(letter: char) -> char {
    if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(name: &str) -> Identity {
        Identity {
            name: name.into(),
            digest: "0123456789abcdef".into(),
            dimension: 384,
            window_tokens: 256,
        }
    }

    #[test]
    fn the_name_tells_the_embedder_and_is_a_plain_file_name() {
        let collection = Collection::of("", &identity("org/All MiniLM.L6..v2"));
        assert_eq!(collection.name, "v2-org-all-minilm-l6--v2-0123456789abcdef-384");
        assert_eq!(Collection::meta("").name, "v1-meta");
        let collection = Collection::of("Team_A", &identity("m"));
        assert_eq!(collection.with_underscores(), "team_a_v2_m_0123456789abcdef_384");
    }

    #[test]
    fn others_are_ours_but_not_this_one() {
        let collection = Collection::of("reprise", &identity("new"));
        let names = [
            "reprise_v1_old_0123456789abcdef_384",
            "reprise-v0-new-0123456789abcdef-384",
            "reprise_v1_meta",
            "someone_elses",
            "reprise_v2_new_0123456789abcdef_384",
        ];
        let names = names.map(str::to_owned);
        assert_eq!(collection.others(&names), [&names[0], &names[1]]);
    }
}
